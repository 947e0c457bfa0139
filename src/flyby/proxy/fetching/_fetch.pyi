"""Types of `_fetch.pyx`."""

from collections.abc import Callable

from flyby.errors import UpstreamError
from flyby.policy import Reason
from flyby.proxy.fetching._streaming import Streaming
from flyby.proxy.road._exchange import Exchange
from flyby.store import Entry, Fill

class Fetch(Streaming):
    def __init__(
        self,
        exchange: Exchange,
        why: Reason,
        *,
        fill: Fill | None = None,
        stale: Entry | None = None,
        purpose: int = 0,
        conditions: bool = False,
        on_switch: Callable[[Fetch], None] | None = None,
    ) -> None: ...
    @property
    def response_ms(self) -> int: ...
    @property
    def audience(self) -> str: ...
    @property
    def over(self) -> bool: ...
    @property
    def silence(self) -> float | None: ...
    def fail(self, error: UpstreamError) -> None: ...
    def client_left(self) -> None: ...
    def client_ended(self) -> None: ...
    def give_up_client(self) -> None: ...
    def changed(self) -> None: ...
