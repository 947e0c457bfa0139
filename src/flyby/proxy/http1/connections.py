"""All client connections of one worker: what they share, the sweep of their deadlines, and the drain.

A connection's time limits are plain floats; twice a second one pass compares them with the clock, which costs less
than a timer handle a request and is exact enough for limits of seconds.

At `most` connections the ones that have been idle for longest make room, a share of them at once, so that a crowd of
newcomers does not cost a look at everybody each; a newcomer that finds none idle is turned away. Requests under way,
origins and dynos thus never want for a descriptor.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from typing import Protocol

from flyby.clock import Clock
from flyby.config import Limits, Timeouts
from flyby.errors import WireError
from flyby.metrics import Metrics
from flyby.policy import Outcome, Reason
from flyby.proxy.http1.connection import Connection
from flyby.proxy.road._downstream import ShortCut
from flyby.proxy.road._exchange import Exchange
from flyby.wire import RequestHead
from flyby.wire.forwarded import Trusted, parse_address

SWEEP_SECONDS = 0.5
ROOM_SHARE = 64  # at the limit one idle connection in so many is closed
TOLD_SECONDS = 10.0  # between two lines in the log about it

NOBODY = Trusted()

logger = logging.getLogger("flyby.proxy")


class ExchangeFactory(Protocol):
    def __call__(self, connection: Connection, request: RequestHead) -> Exchange: ...


class Connections:
    """The registry of one worker's client connections."""

    refusal_words: tuple[Outcome, Reason | None] = (Outcome.ERROR, None)  # of a request that could not be read

    __slots__ = (
        "_clock",
        "_connections",
        "_empty",
        "_full_at",
        "_handle",
        "_metrics",
        "_told_at",
        "draining",
        "exchange",
        "lane",
        "limits",
        "most",
        "now",
        "refused",
        "timeouts",
        "total",
        "trusted",
        "turned_away",
    )

    def __init__(
        self,
        limits: Limits,
        timeouts: Timeouts,
        clock: Clock,
        exchange: ExchangeFactory,
        refused: Callable[[Connection, WireError], None],
        most: int,
        lane: ShortCut,
        metrics: Metrics,
        trusted: Trusted = NOBODY,
    ) -> None:
        self.limits = limits
        self.timeouts = timeouts
        self.exchange = exchange
        self.refused = refused
        self.lane = lane
        self.now = clock.monotonic()
        self.draining = False
        self.most = most
        self.trusted = trusted
        self.total = 0
        self.turned_away = 0
        self._full_at = self._told_at = -TOLD_SECONDS
        self._clock = clock
        self._metrics = metrics
        self._connections: set[Connection] = set()
        self._handle: asyncio.TimerHandle | None = None
        self._empty: asyncio.Event = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._connections)

    def __repr__(self) -> str:
        return f"<Connections open={len(self._connections)} total={self.total} draining={self.draining}>"

    @property
    def buffered(self) -> int:
        """Bytes that wait in this process for clients to read them or for origins to take them."""
        return sum(connection.buffered for connection in self._connections)

    def add(self, connection: Connection) -> None:
        if len(self._connections) >= self.most and not self._make_room():
            self.turned_away += 1
            connection.reset()
        self._connections.add(connection)
        self.total += 1
        self._metrics.opened()
        self._empty.clear()

    def monotonic(self) -> float:
        """The clock's monotonic time; `now` is that of the last sweep."""
        return self._clock.monotonic()

    def trusts(self, address: bytes) -> bool:
        """Whether the peer with this address (none: over a Unix socket) is a proxy whose word is believed."""
        if self.trusted == NOBODY:
            return False
        return self.trusted.trusts(parse_address(address) if address else None)

    def date_ms(self) -> int:
        """What the wall clock shows."""
        return self._clock.date_ms()

    def _make_room(self) -> bool:
        """Close those that have been idle for longest; False when nobody is."""
        if self._full_at == self.now:  # nobody was, since the last sweep
            return False
        idle = [connection for connection in self._connections if connection.idle]
        if self.now - self._told_at >= TOLD_SECONDS:
            self._told_at = self.now
            logger.warning(
                "%d client connections are open, as many as server.limits.connections allows: %s",
                len(self._connections),
                "the longest idle are closed" if idle else "new ones are turned away",
            )
        if not idle:
            self._full_at = self.now
            return False
        for connection in heapq.nsmallest(len(idle) // ROOM_SHARE + 1, idle, key=Connection.idle_until):
            connection.drain()
        return True

    def discard(self, connection: Connection) -> None:
        if connection in self._connections:  # it may be discarded twice: by itself, and at its end
            self._connections.remove(connection)
            self._metrics.closed()
        if not self._connections:
            self._empty.set()

    def start(self) -> None:
        """Begin to sweep; call in the running loop."""
        self._handle = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._tick)

    def _tick(self) -> None:
        self.sweep()
        self.lane.skew_ms = self._clock.wall_ms() - self._clock.date_ms()
        self.start()

    def sweep(self) -> None:
        """Act on every deadline that has passed."""
        self.now = now = self._clock.monotonic()
        for connection in list(self._connections):
            connection.check_deadlines(now)

    async def drain(self, seconds: float) -> int:
        """Let what is in flight finish for at most `seconds`; returns how many connections had to be broken off."""
        self.draining = self.lane.closed = True
        for connection in list(self._connections):
            connection.drain()
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            pass
        left = list(self._connections)
        for connection in left:
            connection.reset()
        if self._handle is not None:
            self._handle.cancel()
        return len(left)
