"""A time limit that is moved far more often than it is reached.

Moving it writes a field. One timer of the loop looks at the field when it goes off, and sleeps on when the limit has
moved meanwhile; it is set anew only for a limit nearer than the timer. An exchange thus costs no timer, and a chunk
no more than a look at the clock.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """Calls `expired` once when the limit is reached; it may then be set again."""

    __slots__ = ("_at", "_expired", "_loop", "_seconds", "_timer", "_timer_at")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._at = math.inf
        self._seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def __repr__(self) -> str:
        return f"<Deadline {'none' if self._at == math.inf else self._at}>"

    def within(self, seconds: float) -> None:
        """Something must happen within `seconds`."""
        self._seconds = seconds
        self._at = at = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._set(at)

    def extend(self) -> None:
        """Something has happened: count anew. Does nothing while nothing is awaited."""
        if self._at != math.inf:
            self._at = self._loop.time() + self._seconds

    def lift(self) -> None:
        """Nothing is awaited now."""
        self._at = math.inf

    def stop(self) -> None:
        """Nothing will be awaited any more."""
        self._at = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, at: float) -> None:
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._at == math.inf:
            return
        if self._loop.time() < self._at:
            self._set(self._at)
        else:
            self._at = math.inf
            self._expired()
