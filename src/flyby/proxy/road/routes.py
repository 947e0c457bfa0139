"""What an exchange asks of the routes: `routing.router` answers."""

from __future__ import annotations

from typing import Any, Protocol

from flyby.wire import RequestHead


class RouteTable(Protocol):
    """The compiled routes of one configuration."""

    def match(self, request: RequestHead, /) -> Any:
        """The match of the first route that fits, or None."""
