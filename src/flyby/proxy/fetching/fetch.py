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

from flyby.clock import Clock
from flyby.errors import Retry, UpstreamError
from flyby.proxy.fetching._answer import Answer, refuses, relay_interim
from flyby.proxy.road.downstream import Downstream
from flyby.proxy.fetching.sending import Sending
from flyby.upstream import Backend, Lease
from flyby.wire import BodyKind, Fields, RequestHead, serialise_request

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
ATTEMPTS = 3
REFUSALS = 8  # agents that may hand one request back


class Attempts:
    """What has been tried for one request, and what may be tried still."""

    __slots__ = ("_backend", "_left", "_method", "_refusals", "fresh", "tried")

    def __init__(self, backend: Backend, method: bytes) -> None:
        self._backend = backend
        self._method = method
        self._left = ATTEMPTS
        self._refusals = REFUSALS
        self.tried: list[str] = []  # addresses that are to be avoided
        self.fresh = False  # a kept connection will not do

    def failed(self, error: UpstreamError, lease: Lease, repeatable: bool) -> bool:
        """Whether the request may be sent again after `error`; `repeatable` tells of its content."""
        self._left -= 1
        if not self._left or not repeatable:
            return False
        if error.retry is Retry.ALWAYS:
            self.tried.append(lease.origin.address)
        elif error.retry is Retry.NEVER or self._method not in IDEMPOTENT or self.fresh:
            return False
        elif lease.donated:
            self.tried.append(lease.origin.address)
        else:
            self.fresh = True
        return self._backend.retries.spend()

    def refused(self, lease: Lease, repeatable: bool) -> bool:
        """Whether another agent may be asked since this one has handed the request back."""
        self._refusals -= 1
        self.tried.append(lease.origin.address)
        return repeatable and self._refusals > 0


async def fetch(
    backend: Backend,
    request: RequestHead,
    method: bytes,
    path: bytes,
    fields_for: Callable[[bytes], Fields],
    downstream: Downstream,
    clock: Clock,
    attempts: Attempts | None = None,
) -> Answer:
    """Send the request until an origin answers.

    `fields_for(authority)` gives the upstream request's fields for an origin; `attempts` were made before. Raises
    `UpstreamError` when no origin answers, `WireError` when the client's content is at fault.
    """
    content = None if request.body is BodyKind.NONE else Sending(request, downstream)
    if attempts is None:
        backend.retries.earn()
        attempts = Attempts(backend, method)
    while True:
        lease = await backend.lease(fresh=attempts.fresh, exclude=attempts.tried)
        started = clock.monotonic()
        request_ms = clock.wall_ms()
        connection = lease.connection
        sender: asyncio.Task[None] | None = None
        try:
            connection.send(serialise_request(method, path, fields_for(lease.origin.authority)))
            if content is not None:
                sender = content.start(connection)
            head = await connection.read_head(method, lambda interim: relay_interim(downstream, interim))
        except UpstreamError as error:
            lease.observe(clock.monotonic() - started, failed=True)
            lease.discard()
            blame = await content.stop() if content is not None else None
            if blame is not None:
                raise blame from error
            if not attempts.failed(error, lease, content is None or content.whole):
                raise
        except BaseException:
            if sender is not None:
                sender.cancel()
            lease.discard()
            raise
        else:
            if lease.donated and refuses(head):
                await _take_back(backend, lease, content)
                if attempts.refused(lease, content is None or content.whole):
                    continue
                raise nobody()
            if content is not None:
                content.answered()
            return Answer(lease, head, started, request_ms, clock, sender)


def nobody() -> UpstreamError:
    """Every agent that was asked has handed the request back."""
    return UpstreamError(503, "refused", "destination_unavailable", "no dyno takes requests at the moment")


def take_back(backend: Backend, lease: Lease) -> None:
    """An agent has handed a request back that is all sent; its connection is good for the next one."""
    if backend.donors is not None:
        backend.donors.refused(lease)
    lease.connection.stream(_Nothing())
    lease.release()


async def _take_back(backend: Backend, lease: Lease, content: Sending | None) -> None:
    if content is None or content.sent:
        take_back(backend, lease)
        return
    if backend.donors is not None:
        backend.donors.refused(lease)
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
