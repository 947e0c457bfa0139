"""The clocks: wall time for HTTP's dates, wall time that never steps back for ages, monotonic time for time limits.

Somebody sets the wall clock back, and what is stored would be young and fresh again for as long. So ages are measured
by the machine's uptime (CLOCK_BOOTTIME, which nobody sets and which runs while the machine sleeps), plus the most by
which the wall clock was ever ahead of that (`steady_ms`), in memory that all workers share.

Policy never reads a clock, it is given `now`; only the composition root chooses which clock that is, so that a test
can move time by hand.
"""

from __future__ import annotations

import mmap
import time
from typing import Protocol

STEP_MS = 1000  # two clocks that nobody sets differ by less

# The most by which the wall clock was ahead of the uptime, in milliseconds. Workers that write it at once write the
# same, or one of them soon writes it again.
_AHEAD = memoryview(mmap.mmap(-1, 8)).cast("q")


def steady_ms(wall_ms: int, boot_ms: int, ahead_ms: int) -> tuple[int, int]:
    """The time that ages and freshness are measured in, and the new `ahead_ms`, which is kept where all workers see it.

    `boot_ms` is a clock of the machine that nobody sets and that runs while it sleeps (CLOCK_BOOTTIME); `ahead_ms` is
    the most by which the wall clock was ever ahead of it. So the time follows the wall clock forwards and never steps
    back: when the wall clock does, nothing becomes younger or fresher than it was (RFC 9111 4.2.3 wants ages that are
    not too low). Dates in messages are still compared with the wall clock: `storable` takes the difference, `skew_ms`.
    """
    ahead_ms = max(ahead_ms, wall_ms - boot_ms)
    return boot_ms + ahead_ms, ahead_ms


class Clock(Protocol):
    """What the proxy asks the time of."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01T00:00:00Z, for ages and freshness; never goes back."""

    def date_ms(self) -> int:
        """The same as the wall clock shows it, for dates that others read."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary instant; never goes back."""


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def wall_ms(self) -> int:
        shown = time.time_ns() // 1_000_000
        now, _AHEAD[0] = steady_ms(shown, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000, _AHEAD[0])
        return now if now - shown > STEP_MS else shown

    def date_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is moved; for tests and for embedding in simulations."""

    __slots__ = ("_back_ms", "_monotonic", "_wall_ms")

    def __init__(self, wall_ms: int = 1_800_000_000_000, monotonic: float = 1000.0) -> None:
        self._wall_ms = wall_ms
        self._monotonic = monotonic
        self._back_ms = 0

    def wall_ms(self) -> int:
        return self._wall_ms

    def date_ms(self) -> int:
        return self._wall_ms - self._back_ms

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self._wall_ms += round(seconds * 1000)
        self._monotonic += seconds

    def set_back(self, seconds: float) -> None:
        """Let the wall clock step back, as when somebody sets it; ages go on."""
        self._back_ms += round(seconds * 1000)
