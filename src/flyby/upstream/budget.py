"""How many requests may be sent a second time: what heals one failure must not double the load on a failing origin.

Every request earns a fifth of a retry, a retry spends a whole one; a full purse lets a crowd through that lost its
origin all at once. Pure.
"""

from __future__ import annotations

EARNED = 0.2
PURSE = 256.0


class RetryBudget:
    """The retries that one backend may still cause in this process."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = PURSE

    def __repr__(self) -> str:
        return f"<RetryBudget {self._left:.0f}>"

    def earn(self) -> None:
        """A request has come."""
        if self._left < PURSE:
            self._left += EARNED

    def spend(self) -> bool:
        """Whether one more retry may be made; counts it."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
