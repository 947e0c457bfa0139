"""The record of a request that has had its answer: one count, and one line of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flyby.log import AccessRecord
from flyby.policy import Outcome, Reason
from flyby.wire import RequestHead

if TYPE_CHECKING:
    from flyby.proxy.road._downstream import Downstream
    from flyby.proxy.road.context import Context


class Story(Protocol):
    """What became of one request: an `Exchange`, or what stands in its place in the lane."""

    @property
    def context(self) -> Context: ...
    @property
    def downstream(self) -> Downstream: ...
    @property
    def request(self) -> RequestHead: ...
    @property
    def identity(self) -> bytes: ...
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
    def first_byte_ms(self) -> int: ...


def record(story: Story) -> None:
    """Count it, and log it if there is a log."""
    context = story.context
    # `_value_` is `value` without a call; this is done for every request.
    outcome: str = story.outcome._value_
    reason: str = story.reason._value_ if story.reason is not None else ""
    context.metrics.count(outcome, reason)
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
            bytes_sent=story.downstream.bytes_sent,
            duration_ms=(context.clock.monotonic() - story.started) * 1000,
            client=story.downstream.address_text,
            request_id=story.identity,
            outcome=outcome,
            reason=reason,
            backend=story.backend_name,
            connect_ms=-1.0,
            first_byte_ms=float(story.first_byte_ms),
            user_agent=request.fields.get(b"user-agent") or b"",
            referer=request.fields.get(b"referer") or b"",
        )
    )
