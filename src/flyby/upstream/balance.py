"""Which origin takes the next request: power of two choices, and origins that fail are left alone for a while.

Of two origins drawn at random the cheaper one is taken; an origin costs (requests in flight + 1) times its latency,
an exponentially weighted mean that fades while nothing is heard. After a second of silence nothing is known any more,
as of an origin that has not answered yet: it is asked next if it is idle, and gets one request at a time. So an origin
with one slow answer, such as the first of an app that has just started, has its share again about a second later.

          failures in a row reach the limit                    the pause is over
    TAKES ────────────────────────────────▶ EJECTED ────────────────────────────▶ ON TRIAL ── success ──▶ TAKES
                                               ▲──────────── one failure ────────────┘
                                                 (twice as long, up to a limit)

Active checks (`health`) take an origin out by `healthy`. When nobody is left, all are asked as if all were well
(panic): an origin that may fail is better than an answer that surely does. Pure: `now` and the draw are arguments.
"""

from __future__ import annotations

from typing import Protocol

from flyby.upstream._member import MEMORY_S, Member, choose

__all__ = ["MEMORY_S", "EjectSettings", "Member", "choose"]


class EjectSettings(Protocol):
    """`config.Eject`."""

    @property
    def failures(self) -> int: ...
    @property
    def backoff_s(self) -> float: ...
    @property
    def max_backoff_s(self) -> float: ...
