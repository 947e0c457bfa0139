"""One upstream request: lease a connection, send, read the response's head; again elsewhere where that is safe.

    what failed                                          may be sent again
    a dial; the connection closed before the request     any request: nothing was passed on
    the agent in a dyno refused it (`Flyby-Refused`)     any request: nothing was passed on; another dyno is asked
    no byte of a response on a kept or donated           an idempotent one (RFC 9110 9.2.2, RFC 9112 9.3.1); a kept
    connection                                           connection's, on a fresh one; a dyno's, at another dyno
    anything else, or content that is not kept whole     none

All but refusals spend from the backend's retry budget. The answer of an agent that refuses is never shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from flyby.clock import Clock
from flyby.errors import Retry, UpstreamError
from flyby.policy import format_http_date
from flyby.proxy.downstream import Downstream
from flyby.proxy.sending import Sending
from flyby.upstream import Backend, Lease
from flyby.wire import BodyKind, Fields, RequestHead, ResponseHead, serialise_request

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
ATTEMPTS = 3
REFUSALS = 8  # agents that may hand one request back


@dataclass(slots=True)
class Answer:
    """A response whose head is here and whose content waits on `lease.connection`."""

    lease: Lease
    head: ResponseHead
    request_ms: int
    response_ms: int
    first_byte_ms: int
    sender: asyncio.Task[None] | None = None
    ranged: bytes | None = None  # the Range that a 206 answers

    def finish(self) -> None:
        """The content has wholly arrived: give the connection back, unless the request is still being sent on it."""
        if self.sender is not None and not self.sender.done():
            self.sender.cancel()
            self.lease.discard()
        else:
            self.lease.release()

    def discard(self) -> None:
        """Break the response off."""
        if self.sender is not None and not self.sender.done():
            self.sender.cancel()
        self.lease.discard()


async def fetch(
    backend: Backend,
    request: RequestHead,
    method: bytes,
    path: bytes,
    fields_for: Callable[[bytes], Fields],
    downstream: Downstream,
    clock: Clock,
) -> Answer:
    """Send the request until an origin answers.

    `fields_for(authority)` gives the upstream request's fields for an origin. Raises `UpstreamError` when no origin
    answers, `WireError` when the client's content is at fault.
    """
    tried: list[str] = []
    fresh = False
    attempts, refusals = ATTEMPTS, REFUSALS
    content = None if request.body is BodyKind.NONE else Sending(request, downstream)
    backend.retries.earn()
    while True:
        lease = await backend.lease(fresh=fresh, exclude=tried)
        started = clock.monotonic()
        request_ms = clock.wall_ms()
        connection = lease.connection
        sender: asyncio.Task[None] | None = None
        try:
            connection.send(serialise_request(method, path, fields_for(lease.origin.authority)))
            if content is not None:
                sender = content.start(connection)
            head = await connection.read_head(method, lambda interim: _relay(downstream, interim))
        except UpstreamError as error:
            lease.observe(clock.monotonic() - started, failed=True)
            lease.discard()
            blame = await content.stop() if content is not None else None
            if blame is not None:
                raise blame from error
            attempts -= 1
            if not attempts or (content is not None and not content.whole):
                raise
            if error.retry is Retry.ALWAYS:
                tried.append(lease.origin.address)
            elif error.retry is Retry.NEVER or method not in IDEMPOTENT or fresh:
                raise
            elif lease.donated:
                tried.append(lease.origin.address)
            else:
                fresh = True
            if not backend.retries.spend():
                raise
        except BaseException:
            if sender is not None:
                sender.cancel()
            lease.discard()
            raise
        else:
            if lease.donated and head.status == 503 and head.fields.get(b"flyby-refused") is not None:
                refusals -= 1
                await _take_back(backend, lease, content)
                if refusals and (content is None or content.whole):
                    tried.append(lease.origin.address)
                    continue
                raise UpstreamError(503, "refused", "destination_unavailable", "no dyno takes requests at the moment")
            now = clock.monotonic()
            lease.observe(now - started, failed=head.status in (502, 503, 504))
            if content is not None:
                content.answered()
            if not head.fields.get(b"date"):
                head.fields.set(b"Date", format_http_date(clock.wall_ms() // 1000))
            return Answer(lease, head, request_ms, clock.wall_ms(), round((now - started) * 1000), sender)


async def _take_back(backend: Backend, lease: Lease, content: Sending | None) -> None:
    """An agent has handed the request back; its connection is good for the next one when nothing is left on it."""
    if backend.donors is not None:
        backend.donors.refused(lease)
    if content is None or content.sent:
        lease.connection.stream(_Nothing())
        lease.release()
        return
    lease.discard()
    blame = await content.stop()
    if blame is not None:
        raise blame


class _Nothing:
    """The sink of a response that has no content."""

    __slots__ = ()

    def data(self, view: memoryview) -> None:
        return

    def end(self, trailers: Fields | None) -> None:
        return

    def fail(self, error: UpstreamError) -> None:
        return


def _relay(downstream: Downstream, interim: ResponseHead) -> None:
    # 100 and 101 are each hop's own affair; what else is interim belongs to the client (RFC 9110 15.2).
    if interim.status > 101:
        downstream.interim(interim.status, interim.reason, interim.fields)
