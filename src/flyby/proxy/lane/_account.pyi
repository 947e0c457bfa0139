"""Types of `_account.pyx`."""

from collections.abc import Callable
from typing import final

from flyby.log import AccessLog, AccessRecord
from flyby.metrics import Metrics

@final
class Account:
    def __init__(
        self,
        log: AccessLog | Callable[[AccessRecord], None] | None,
        metrics: Metrics,
        rows: bytes,
        backends: list[str],
    ) -> None: ...
    def counted(self, route: int, status: int, sent: int, took_us: int) -> None: ...
