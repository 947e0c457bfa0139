"""The record of a request that has had its answer: one count in the worker's page, and one line of the log.

A follower of the lane was never shown to the router; its route is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from flyby.clock import Clock
from flyby.log import AccessRecord
from flyby.metrics import NO_ROUTE, Metrics
from flyby.policy import Outcome, Reason
from flyby.proxy.road.routes import RouteTable
from flyby.wire import RequestHead

if TYPE_CHECKING:
    from flyby.proxy.road._downstream import Downstream


class Recorder(Protocol):
    """Where records go: a `Context`."""

    @property
    def clock(self) -> Clock: ...
    @property
    def metrics(self) -> Metrics: ...
    @property
    def log(self) -> Callable[[AccessRecord], None] | None: ...
    @property
    def router(self) -> RouteTable: ...
    @property
    def counted(self) -> Mapping[int, int]: ...


class Story(Protocol):
    """What became of one request: an `Exchange`, or what stands in its place in the lane."""

    @property
    def context(self) -> Recorder: ...
    @property
    def downstream(self) -> Downstream: ...
    @property
    def request(self) -> RequestHead: ...
    @property
    def identity(self) -> bytes: ...
    @property
    def match(self) -> Any: ...
    @property
    def started(self) -> float: ...
    @property
    def outcome(self) -> Outcome: ...
    @property
    def reason(self) -> Reason | None: ...
    @property
    def status(self) -> int: ...
    @property
    def backend_name(self) -> str: ...
    @property
    def first_byte_ms(self) -> float: ...


FROM_STORE = (Outcome.HIT, Outcome.STALE)
OWN = (Outcome.LOCAL, Outcome.ERROR)


def record(story: Story) -> None:
    """Count it, and log it if there is a log."""
    context = story.context
    # `_value_` is `value` without a call; this is done for every request.
    outcome: str = story.outcome._value_
    reason: str = story.reason._value_ if story.reason is not None else ""
    sent = story.downstream.bytes_sent
    seconds = context.clock.monotonic() - story.started
    context.metrics.count(
        outcome,
        reason,
        _row(story),
        story.status,
        sent,
        # A switched connection ends when its user goes: that is no response time.
        -1.0 if story.outcome is Outcome.PIPE else seconds,
        story.outcome in FROM_STORE,
        story.first_byte_ms / 1000,
    )
    if context.log is None:
        return
    request = story.request
    context.log(
        AccessRecord(
            time_ms=context.clock.date_ms(),
            method=request.method,
            scheme=request.scheme,
            host=request.host,
            path=request.path,
            version=request.version,
            status=story.status,
            bytes_sent=sent,
            duration_ms=seconds * 1000,
            client=story.downstream.address_text,
            request_id=story.identity,
            outcome=outcome,
            reason=reason,
            backend=story.backend_name,
            connect_ms=-1.0,
            first_byte_ms=story.first_byte_ms,
            user_agent=request.fields.get(b"user-agent") or b"",
            referer=request.fields.get(b"referer") or b"",
        )
    )


def _row(story: Story) -> int:
    """The route's row in the page."""
    match = story.match
    if match is None and story.outcome not in OWN:
        match = story.context.router.match(story.request)
    return NO_ROUTE if match is None else story.context.counted.get(id(match.route), NO_ROUTE)
