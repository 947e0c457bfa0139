"""Which origin takes the next request: power of two choices, and origins that fail are left alone for a while.

Of two origins drawn at random the cheaper one is taken; an origin costs (requests in flight + 1) times its latency,
an exponentially weighted mean that fades while nothing is heard, so that a slow origin is asked again. One that has
not answered yet gets one request at a time.

          failures in a row reach the limit                    the pause is over
    TAKES ────────────────────────────────▶ EJECTED ────────────────────────────▶ ON TRIAL ── success ──▶ TAKES
                                               ▲──────────── one failure ────────────┘
                                                 (twice as long, up to a limit)

Active checks (`health`) take an origin out by `healthy`. When nobody is left, all are asked as if all were well
(panic): an origin that may fail is better than an answer that surely does. Pure: `now` and the draw are arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

MEMORY_S = 10.0  # the latency's mean has forgotten two thirds of what it knew after this
UNKNOWN_S = 1.0  # what an origin that never answered is taken to need while it is busy


class EjectSettings(Protocol):
    """`config.Eject`."""

    @property
    def failures(self) -> int: ...
    @property
    def backoff_s(self) -> float: ...
    @property
    def max_backoff_s(self) -> float: ...


class Member:
    """What is known of one origin. `in_flight` counts requests that wait, dial or run; their holder keeps the count."""

    __slots__ = (
        "_heard",
        "_latency",
        "_settings",
        "address",
        "ejected_until",
        "ejections",
        "failures",
        "failures_total",
        "healthy",
        "in_flight",
    )

    def __init__(self, address: str, settings: EjectSettings) -> None:
        self.address = address
        self.in_flight = 0
        self.healthy = True
        self.failures = 0
        self.failures_total = 0
        self.ejections = 0
        self.ejected_until = -math.inf
        self._latency = 0.0
        self._heard = -math.inf
        self._settings = settings

    def __repr__(self) -> str:
        health = "healthy" if self.healthy else "unhealthy"
        return f"<Member {self.address} {health} in_flight={self.in_flight} failures={self.failures}>"

    def ejected(self, now: float) -> bool:
        """Whether it is left alone because it kept failing."""
        return now < self.ejected_until

    def takes(self, now: float) -> bool:
        """Whether requests should go there."""
        return self.healthy and now >= self.ejected_until

    def latency(self, now: float) -> float:
        """Seconds that an answer takes there, as far as that is still known; 0 when nothing is."""
        return self._latency * math.exp((self._heard - now) / MEMORY_S)

    def cost(self, now: float) -> float:
        """What one more request there costs."""
        latency = self.latency(now)
        if latency == 0.0:
            return self.in_flight * UNKNOWN_S
        return (self.in_flight + 1) * latency

    def succeeded(self, latency_s: float, now: float) -> None:
        """An answer came; `latency_s` from the request to its head."""
        share = math.exp((self._heard - now) / MEMORY_S)
        self._latency = self._latency * share + latency_s * (1.0 - share)
        self._heard = now
        self.failures = 0
        if now >= self.ejected_until:
            self.ejections = 0

    def failed(self, now: float) -> None:
        """No answer, or one that says the origin is not there. A quick failure must not look like a quick origin."""
        self.failures += 1
        self.failures_total += 1
        if now < self.ejected_until:
            return
        if self.failures >= self._settings.failures or self.ejections:
            # ldexp overflows long after the limit has been passed.
            pause = math.ldexp(self._settings.backoff_s, min(self.ejections, 32))
            self.ejected_until = now + min(pause, self._settings.max_backoff_s)
            self.ejections += 1
            self.failures = 0


def choose(members: Sequence[Member], now: float, draw: Callable[[int], int], exclude: Collection[str] = ()) -> Member:
    """The origin for the next request; `draw(n)` is a random number below n.

    `exclude` holds addresses that have just failed this request; they are asked again when no other origin is known.
    """
    if len(members) == 1:
        return members[0]
    others = [member for member in members if member.address not in exclude] or members
    candidates = [member for member in others if member.takes(now)] or others
    if len(candidates) == 1:
        return candidates[0]
    first = draw(len(candidates))
    second = draw(len(candidates) - 1)
    if second >= first:
        second += 1
    one, other = candidates[first], candidates[second]
    return one if one.cost(now) <= other.cost(now) else other
