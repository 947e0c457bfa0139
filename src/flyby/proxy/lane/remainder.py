"""The end of what the fast lane began: answers of which the socket took a part only.

It stands where an exchange would, until the connection has sent the rest, and knows no more than to count and record,
once, the answers whose bytes lay in that write.
"""

from __future__ import annotations

from collections.abc import Callable

from flyby.clock import Clock
from flyby.log import AccessRecord
from flyby.proxy.road._downstream import Occupant
from flyby.proxy.road._outbox import Outbox


class Remainder(Occupant):
    """`answers` says of each record its route, and where its bytes begin and end in the write.

    `count` is given route, status, bytes and microseconds of each.
    """

    __slots__ = ("_answers", "_clock", "_count", "_log", "_outbox", "_started")

    def __init__(
        self,
        count: Callable[[int, int, int, int], None],
        log: Callable[[AccessRecord], None] | None,
        answers: list[tuple[AccessRecord, int, int, int]],
        outbox: Outbox,
        started: float,
        clock: Clock,
    ) -> None:
        self._count = count
        self._log = log
        self._answers = answers
        self._outbox = outbox
        self._started = started
        self._clock = clock

    def client_lost(self) -> None:
        """The client has gone before all was sent."""
        self.finished()

    def finished(self) -> None:
        """All of it is handed over, or never will be."""
        answers, self._answers = self._answers, []
        seconds = self._clock.monotonic() - self._started
        for record, route, begin, end in answers:
            record.bytes_sent = min(max(self._outbox.sent - begin, 0), end - begin)
            record.duration_ms = seconds * 1000
            self._count(route, record.status, record.bytes_sent, round(seconds * 1e6))
            if self._log is not None:
                self._log(record)
