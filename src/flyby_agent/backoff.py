"""How long to wait before trying again: exponential, full jitter, forgotten after a time of health.

    ceiling:  100 ms, 200 ms, 400 ms … 5 s      the wait is anything from 0 to the ceiling

Full jitter spreads the dynos of an app, which all lost the same edge in the same instant. A connection that held for 30
seconds was good: what follows its loss is a new story, and begins again at 100 ms. One that broke earlier was not, so
that an edge which accepts and drops is not hammered.
"""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_S = 0.1
MOST_S = 5.0
HEALTHY_S = 30.0


class Backoff:
    """One series of tries. `clock` and `uniform` are arguments so that tests own them."""

    __slots__ = ("_clock", "_first", "_most", "_since", "_uniform", "tries")

    def __init__(
        self,
        clock: Callable[[], float],
        uniform: Callable[[float, float], float] = random.uniform,
        first_s: float = FIRST_S,
        most_s: float = MOST_S,
    ) -> None:
        self._clock = clock
        self._uniform = uniform
        self._first = first_s
        self._most = most_s
        self._since: float | None = None  # since when it is healthy
        self.tries = 0

    def healthy(self) -> None:
        """A try succeeded."""
        if self._since is None:
            self._since = self._clock()

    def reset(self) -> None:
        self.tries = 0
        self._since = None

    def next(self) -> float:
        """What was healthy is lost, or a try failed: seconds to wait before the next."""
        if self._since is not None and self._clock() - self._since >= HEALTHY_S:
            self.tries = 0
        self._since = None
        ceiling = min(self._most, self._first * 2 ** min(self.tries, 16))
        self.tries += 1
        return self._uniform(0, ceiling)
