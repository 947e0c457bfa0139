"""What an exchange asks of the routes: `routing.router` answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from flyby.config import Route
from flyby.wire import RequestHead


class RouteTable(Protocol):
    """The compiled routes of one configuration."""

    @property
    def routes(self) -> Iterable[Route]: ...

    def signs(self) -> Sequence[tuple[Any, Route]]:
        """The routes in their order, each with what host and path tell of it (`routing.router.Sign`)."""

    def match(self, request: RequestHead, /) -> Any:
        """The match of the first route that fits, or None."""
