"""Types of `_front.pyx`."""

from typing import Any

from flyby.proxy.road._outbox import Outbox
from flyby.proxy.road.downstream import Client
from flyby.wire import HeadReader

class Answerer:
    closed: bool
    @property
    def read_buffer(self) -> memoryview: ...

class Onward: ...

class Front:
    _outbox: Outbox
    _reader: HeadReader | None
    _exchange: Any
    _pipe: Any
    _pending: bytearray | None
    _stage: str
    _deadline: float
    _closing: bool
    paused: bool
    client: Client
    approved: bytes
    @property
    def _lane(self) -> Answerer: ...
    def get_buffer(self, sizehint: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...
    def known_as(self, address: str) -> None: ...
