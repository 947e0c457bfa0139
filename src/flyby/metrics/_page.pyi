"""Types of `_page.pyx`."""

from typing import Final, final

from typing_extensions import Buffer

from flyby.metrics.snapshot import MetricsSnapshot

STRIDE: Final[int]
SIZE: Final[int]
NO_ROUTE: Final[int]
NAMED_ROUTES: Final[int]

@final
class Metrics:
    def __new__(cls, memory: Buffer | None = None) -> Metrics: ...
    def outcome(self, word: str) -> int: ...
    def reason(self, word: str) -> int: ...
    def route(self, name: str) -> int: ...
    def count(
        self,
        outcome: str,
        reason: str,
        route: int = ...,
        status: int = 0,
        sent: int = 0,
        seconds: float = -1,
        stored: bool = False,
        origin_s: float = -1,
    ) -> None: ...
    def refuse(self, reason: str) -> None: ...
    def opened(self) -> None: ...
    def closed(self) -> None: ...
    def snapshot(self) -> MetricsSnapshot: ...

def bucket(us: int) -> int: ...
def snapshot_of(memory: Buffer) -> MetricsSnapshot: ...
