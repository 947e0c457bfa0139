"""Where a response's content goes: the one interface between a connection and whoever wants what it brings."""

from __future__ import annotations

from typing import Protocol

from flyby.errors import UpstreamError
from flyby.wire import Fields


class Sink(Protocol):
    """Called from the loop: `data` any number of times, then `end` once or `fail` once.

    A view is valid only during the call. A sink may pause, resume or abort the connection from within.
    """

    def data(self, view: memoryview, /) -> None: ...

    def end(self, trailers: Fields | None, /) -> None: ...

    def fail(self, error: UpstreamError, /) -> None: ...
