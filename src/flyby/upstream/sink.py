"""What a connection tells whoever wants its response: first its head, then its content."""

from __future__ import annotations

from typing import Protocol

from flyby.errors import UpstreamError
from flyby.wire import Fields, ResponseHead


class Receiver(Protocol):
    """Called from the loop: `interim` any number of times, then `head` once or `fail` once."""

    def interim(self, head: ResponseHead, /) -> None: ...

    def head(self, head: ResponseHead, /) -> None:
        """The final head, or that of a 101. `stream` called from within spares the content behind it a copy."""

    def fail(self, error: UpstreamError, /) -> None: ...


class Sink(Protocol):
    """Called from the loop: `data` any number of times, then `end` once or `fail` once.

    A view is valid only during the call. A sink may pause, resume or abort the connection from within.
    """

    def data(self, view: memoryview, /) -> None: ...

    def end(self, trailers: Fields | None, /) -> None: ...

    def fail(self, error: UpstreamError, /) -> None: ...
