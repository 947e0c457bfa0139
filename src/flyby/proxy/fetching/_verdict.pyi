"""Types of `_verdict.pyx`."""

from flyby.metrics import Metrics
from flyby.policy import CacheRules, Reason
from flyby.wire import WireLimits

class Verdict:
    def __init__(self, reason: Reason, metrics: Metrics) -> None: ...
    @property
    def reason(self) -> Reason: ...

class Verdicts:
    def __init__(self, rules: CacheRules, limits: WireLimits, metrics: Metrics) -> None: ...
    def passed_head(self, data: bytes, now_ms: int) -> tuple[Reason, bytes] | None: ...
