"""The heads of one response: up to 16 interim ones (RFC 9110 15.2), then the final one or a 101.

Interim heads are handed on as they come; what remains is the head that counts, with the framing of what follows it.
"""

from __future__ import annotations

from collections.abc import Callable

from flyby.errors import WireError
from flyby.upstream import faults
from flyby.wire import BodyKind, HeadReader, ResponseHead, WireLimits

INTERIM_LIMIT = 16

OnInterim = Callable[[ResponseHead], None]


class ResponseHeads:
    """Reads one response's heads after another; `begin` says what the next one answers."""

    __slots__ = ("_interims", "_method", "_on_interim", "_reader", "final", "framing")

    def __init__(self, limits: WireLimits) -> None:
        self._reader = HeadReader(limits, "response")
        self._method = b""
        self._on_interim: OnInterim | None = None
        self._interims = 0
        self.final: ResponseHead | None = None
        self.framing = (BodyKind.NONE, -1)

    @property
    def between(self) -> bool:
        """Whether no byte of the next head has come."""
        return self._reader.empty

    def begin(self, method: bytes, on_interim: OnInterim | None) -> None:
        """The request has been sent."""
        self._method = method
        self._on_interim = on_interim
        self._interims = 0
        self.final = None

    def end(self) -> None:
        """No head is awaited any more: keep nothing of the exchange alive."""
        self._on_interim = None

    def feed(self, view: memoryview) -> memoryview:
        """Read; what lies behind the final head is returned. Raises `UpstreamError`."""
        try:
            while view:
                view = view[self._reader.feed(view) :]
                if not self._reader.complete:
                    break
                head = self._reader.take_response()
                if head.status >= 200 or head.status == 101:
                    self.framing = head.framing(self._method)
                    self.final = head
                    break
                self._interims += 1
                if self._interims > INTERIM_LIMIT:
                    raise faults.malformed("too many interim heads")
                if self._on_interim is not None:
                    self._on_interim(head)
        except WireError as error:
            raise faults.malformed_head(error) from error
        return view
