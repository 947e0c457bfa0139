"""An `access_log` callback of the embedding program, made safe to call in the middle of a response.

It is called when the last byte of a response is on its way, from code that has more to do: end the connection, give
back what the request held. So nothing of the callback's may come out of it. What it raises is logged with its
traceback, at most every 10 s; an `async def`, whose coroutine nobody would await, is told in the same way.
"""

from __future__ import annotations

import logging
import time
from asyncio import CancelledError
from collections.abc import Callable, Coroutine

from flyby.log.formats import AccessRecord

TELL_S = 10.0  # between two lines about the same fault: every request may have it

logger = logging.getLogger("flyby.log")


class Guarded:
    """Calls `callback` with a record; returns nothing and raises nothing."""

    __slots__ = ("_callback", "_monotonic", "_silent_until", "_untold")

    def __init__(
        self, callback: Callable[[AccessRecord], object], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._callback = callback
        self._monotonic = monotonic
        self._silent_until = 0.0
        self._untold = 0

    def __repr__(self) -> str:
        return f"<Guarded {self._callback!r}>"

    def __call__(self, record: AccessRecord) -> None:
        try:
            result = self._callback(record)
        except (Exception, CancelledError):
            self._tell("the access_log callback failed", traceback=True)
            return
        if isinstance(result, Coroutine):
            result.close()  # else Python warns of each one, too
            self._tell(
                "the access_log callback is async, so nothing of it runs: give a plain function", traceback=False
            )

    def _tell(self, what: str, *, traceback: bool) -> None:
        now = self._monotonic()
        if now < self._silent_until:
            self._untold += 1
            return
        before = f" ({self._untold} more since the last line)" if self._untold else ""
        logger.error("%s%s", what, before, exc_info=traceback)
        self._silent_until, self._untold = now + TELL_S, 0
