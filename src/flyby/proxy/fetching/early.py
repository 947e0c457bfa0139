"""How many requests of a backend may go ahead of their content (`pool.early`), in one worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from flyby.upstream import Backend


class EarlyShare:
    """Places by backend; what is taken must be given back."""

    __slots__ = ("_backends", "_taken")

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        self._backends = backends
        self._taken: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<EarlyShare {dict(+self._taken)}>"

    @property
    def taken(self) -> int:
        """Places in use, of all backends."""
        return self._taken.total()

    def take(self, backend: str) -> bool:
        """Take a place; False when all are in use."""
        settings = self._backends[backend].settings
        if self._taken[backend] >= settings.pool.early * max(1, len(settings.origins)):
            return False
        self._taken[backend] += 1
        return True

    def give_back(self, backend: str) -> None:
        """Give a place back."""
        self._taken[backend] -= 1
