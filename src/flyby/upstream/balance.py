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

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from flyby.upstream._member import MEMORY_S, Member

__all__ = ["MEMORY_S", "EjectSettings", "Member", "choose"]


class EjectSettings(Protocol):
    """`config.Eject`."""

    @property
    def failures(self) -> int: ...
    @property
    def backoff_s(self) -> float: ...
    @property
    def max_backoff_s(self) -> float: ...


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
