"""Types of `_verdict.pyx`."""

from flyby.metrics import Metrics
from flyby.metrics._page import Counter
from flyby.policy import CacheRules, Outcome, Reason
from flyby.policy.template import Template
from flyby.proxy.road._exchange import Exchange
from flyby.wire import WireLimits

OWN_LIFETIMES: frozenset[object]

class Words:
    def __init__(self, outcome: Outcome, reason: Reason | None, member: bytes, metrics: Metrics) -> None: ...
    @property
    def outcome(self) -> Outcome: ...
    @property
    def reason(self) -> Reason | None: ...
    @property
    def count(self) -> Counter: ...

class Verdict:
    def __init__(self, reason: Reason | None, template: Template | None, packable: bool) -> None: ...
    @property
    def reason(self) -> Reason | None: ...

class Verdicts:
    def __init__(self, rules: CacheRules, limits: WireLimits, metrics: Metrics) -> None: ...
    def passed_head(
        self, data: bytes, exchange: Exchange, why: Reason, now_ms: int
    ) -> tuple[Reason | None, bytes] | None: ...
