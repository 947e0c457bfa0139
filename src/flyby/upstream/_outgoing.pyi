"""Types of `_outgoing.pyx`."""

from typing import final

from flyby.upstream._exchange import UpstreamExchange

WRITE_HIGH_WATER: int

@final
class Outgoing: ...

class RequestSide(UpstreamExchange):
    @property
    def exchanges(self) -> int: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
