"""One upstream request: lease a connection, send, read the response's head; again elsewhere where that is safe.

Retried are: a dial that failed (nothing was passed on), on another origin or once more; and an idempotent request
without content, once, on a fresh connection, when a kept connection died before the first byte of a response (RFC
9112 9.3.1). A request whose content has begun to flow is never repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from flyby.clock import Clock
from flyby.errors import Retry, UpstreamError, WireError
from flyby.policy import format_http_date
from flyby.proxy.downstream import Downstream
from flyby.proxy.forwarding import safe_trailers
from flyby.upstream import Backend, Lease, UpstreamConnection
from flyby.wire import CHUNK_END, BodyKind, Fields, RequestHead, ResponseHead, chunk_head, last_chunk, serialise_request

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
ATTEMPTS = 3


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
    for attempt in range(ATTEMPTS):
        lease = await backend.lease(fresh=fresh, exclude=tuple(tried))
        started = clock.monotonic()
        request_ms = clock.wall_ms()
        connection = lease.connection
        sender: asyncio.Task[None] | None = None
        try:
            connection.send(serialise_request(method, path, fields_for(lease.origin.authority)))
            if request.body is not BodyKind.NONE:
                sender = asyncio.create_task(_send_content(connection, request, downstream))
            head = await connection.read_head(method, lambda interim: _relay(downstream, interim))
        except UpstreamError as error:
            lease.observe(clock.monotonic() - started, failed=True)
            lease.discard()
            blame = await _client_fault(sender)
            if blame is not None:
                raise blame from error
            again = attempt + 1 < ATTEMPTS and sender is None
            if again and error.retry is Retry.ALWAYS:
                tried.append(lease.origin.address)
            elif again and error.retry is Retry.IF_REUSED and not fresh and method in IDEMPOTENT:
                fresh = True
            else:
                raise
        except BaseException:
            if sender is not None:
                sender.cancel()
            lease.discard()
            raise
        else:
            now = clock.monotonic()
            lease.observe(now - started, failed=head.status in (502, 503, 504))
            if not head.fields.get(b"date"):
                head.fields.set(b"Date", format_http_date(clock.wall_ms() // 1000))
            return Answer(lease, head, request_ms, clock.wall_ms(), round((now - started) * 1000), sender)
    raise UpstreamError(502, "no-origin", "destination_unavailable", "no origin took the request")


def _relay(downstream: Downstream, interim: ResponseHead) -> None:
    # 100 and 101 are each hop's own affair; what else is interim belongs to the client (RFC 9110 15.2).
    if interim.status > 101:
        downstream.interim(interim.status, interim.reason, interim.fields)


async def _send_content(connection: UpstreamConnection, request: RequestHead, downstream: Downstream) -> None:
    downstream.expect_satisfied()
    chunked = request.body is BodyKind.CHUNKED
    try:
        while part := await downstream.read_content():
            connection.send([chunk_head(len(part)), part, CHUNK_END] if chunked else part)
            await connection.drain()
        if chunked:
            connection.send(last_chunk(safe_trailers(downstream.request_trailers())))
    except WireError:
        connection.abort()
        raise
    except UpstreamError:
        # Whoever reads the response learns of it there, and may have read an early answer already.
        return


async def _client_fault(sender: asyncio.Task[None] | None) -> WireError | None:
    if sender is None:
        return None
    if not sender.done():
        sender.cancel()
    result = (await asyncio.gather(sender, return_exceptions=True))[0]
    return result if isinstance(result, WireError) else None
