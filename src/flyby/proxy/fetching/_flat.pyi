"""Types of `_flat.pyx`."""

from typing import final

from flyby.log import AccessLog
from flyby.policy import CacheRules
from flyby.proxy.fetching._fetch import Fetch
from flyby.proxy.road._downstream import Onward
from flyby.proxy.road.context import Context
from flyby.proxy.routing.router import Match
from flyby.wire import WireLimits

@final
class Forwarder(Onward):
    def __init__(
        self, context: Context, match: Match, rules: CacheRules, limits: WireLimits, log: AccessLog | None
    ) -> None: ...
    @property
    def context(self) -> Context: ...

@final
class FlatFetch(Fetch):
    def record(self) -> None: ...
