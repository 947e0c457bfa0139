"""Types of `_exchange.pyx`."""

import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from flyby.errors import UpstreamError, WireError
from flyby.policy import CacheRules, Outcome, Reason
from flyby.proxy.road._downstream import Downstream, Occupant
from flyby.proxy.road.context import Context, Seams
from flyby.proxy.road.source import Source
from flyby.upstream import Backend
from flyby.wire import Fields, RequestHead

CLIENT_LEFT: Final[int]
logger: Final[logging.Logger]

class Exchange(Occupant):
    context: Context
    downstream: Downstream
    started: float
    match: Any  # a routing.router.Match
    rules: CacheRules
    seams: Seams | None
    backend_name: str
    path: bytes
    primary: bytes
    claim_key: bytes
    since: int
    extra_tags: tuple[bytes, ...]
    source: Source | None
    outcome: Outcome
    reason: Reason | None
    status: int
    first_byte_ms: int
    broken: UpstreamError | None
    def __init__(self, context: Context, downstream: Downstream, request: RequestHead) -> None: ...
    @property
    def gone(self) -> bool: ...
    @property
    def request(self) -> RequestHead: ...
    @property
    def identity(self) -> bytes: ...
    @property
    def scheme(self) -> bytes: ...
    def start(self) -> None: ...
    def run_step(self, step: Callable[..., object], *given: object) -> None: ...
    def run(self, story: Coroutine[Any, Any, None]) -> None: ...
    def behind(self) -> Exchange: ...
    def backend(self) -> Backend: ...
    def refuse(self, error: WireError) -> None: ...
    def fail(self, error: UpstreamError) -> None: ...
    def cut_off(self, error: UpstreamError) -> None: ...
    def redirect(self, location: bytes, status: int) -> None: ...
    def reply(self, status: int, detail: str, extra: Iterable[tuple[bytes, bytes]] = ()) -> None: ...
    def answer(self, outcome: Outcome, reason: Reason | None, status: int, fields: Fields, content: bytes) -> None: ...
    def note(self, outcome: Outcome, reason: Reason | None, status: int) -> None: ...
