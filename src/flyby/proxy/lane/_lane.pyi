"""Types of `_lane.pyx`."""

from collections.abc import Callable, Sequence
from typing import Final, final

from flyby.clock import Clock
from flyby.config import Limits
from flyby.log import AccessLog, AccessRecord
from flyby.metrics import Metrics
from flyby.policy import CacheRules
from flyby.proxy.fetching._flat import Forwarder
from flyby.proxy.lane._crowd import Crowds
from flyby.proxy.road._downstream import ShortCut
from flyby.proxy.routing.router import Sign
from flyby.store import Store

READ_BUFFER: Final[int]

@final
class Lane(ShortCut):
    def __new__(cls) -> Lane: ...
    @property
    def hits(self) -> int: ...
    @property
    def passed(self) -> int: ...
    def use(
        self,
        store: Store,
        signs: Sequence[tuple[Sign, CacheRules]],
        forwarders: Sequence[Forwarder | None],
        crowds: Crowds,
        reserved: bytes,
        limits: Limits,
        clock: Clock,
        idle_s: float,
        log: AccessLog | Callable[[AccessRecord], None] | None,
        metrics: Metrics | None = None,
        rows: Sequence[int] | None = None,
    ) -> None: ...
