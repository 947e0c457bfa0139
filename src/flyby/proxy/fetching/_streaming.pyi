"""Types of `_streaming.pyx`."""

from flyby.proxy.fetching._asking import Asking
from flyby.wire import Fields, ResponseHead

class Streaming(Asking):
    @property
    def response(self) -> ResponseHead: ...
    def data(self, view: bytes | memoryview) -> None: ...
    def end(self, trailers: Fields | None) -> None: ...
