"""A request as the origin gets it: written afresh, for the origin that a lease leads to, and sent.

`ask` waits for a connection and for the answer, and asks again where that is safe. `ask_at_once` sends on a connection
that lies ready and leaves; the answer comes to its `Asking`. Both end in an `Answer`, looked over by `arrived`.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Protocol

from flyby.errors import UpstreamError
from flyby.policy import UNKEYED
from flyby.proxy.routing import forwarding
from flyby.proxy.fetching._answer import Answer, Asking
from flyby.proxy.fetching.fetch import Attempts, fetch, take_back
from flyby.wire import Fields, RequestHead, serialise_request

if TYPE_CHECKING:
    from flyby.proxy.decision.exchange import Exchange

# Conditions of the client's that are answered from the stored response, so the fetch that fills the store is whole.
CLIENT_CONDITIONS = (b"if-none-match", b"if-modified-since")
SHARED_LEFT_OUT = UNKEYED.union(CLIENT_CONDITIONS)


def may_share(request: RequestHead) -> bool:
    """Whether one response may serve several such requests while it arrives."""
    fields = request.fields
    return request.method == b"GET" and b"range" not in fields and b"authorization" not in fields


class Road(Protocol):
    """What becomes of a request that was sent at once; an error that is raised becomes the response."""

    def answered(self, asking: Asking, answer: Answer, /) -> None: ...

    def failed(self, asking: Asking, error: UpstreamError, /) -> None:
        """The connection was lost, or the limit is reached."""

    def refused(self, asking: Asking, /) -> None:
        """An agent could not pass it on."""


async def ask(
    exchange: Exchange, fields: Fields, *, upgrade: bytes | None = None, attempts: Attempts | None = None
) -> Answer:
    """Send the request, with `fields` in place of the client's, to the route's backend."""
    request = exchange.request
    _mark(exchange)

    def fields_for(authority: bytes) -> Fields:
        return _fields_for(exchange, fields, authority, None, upgrade)

    answer = await fetch(
        exchange.backend(),
        request,
        request.method,
        exchange.path,
        fields_for,
        exchange.downstream,
        exchange.context.clock,
        attempts,
    )
    answer.ranged = fields.get(b"range") if answer.head.status == 206 else None
    arrived(exchange, answer, upgrade is not None)
    return answer


def ask_at_once(asking: Asking, left_out: Container[bytes] | None) -> None:
    """Send the client's request, but for the fields in `left_out`, on the connection that `asking` has."""
    exchange, lease = asking.exchange, asking.lease
    method = exchange.request.method
    exchange.backend().retries.earn()
    _mark(exchange)
    try:
        fields = _fields_for(exchange, exchange.request.fields, lease.origin.authority, left_out)
        lease.connection.send(serialise_request(method, exchange.path, fields))
    except BaseException:
        lease.discard()
        raise
    if asking.fill is None:
        # Nobody else waits for it.
        exchange.stop = lease.discard
    lease.connection.expect(method, asking)


def _mark(exchange: Exchange) -> None:
    """Remember what had been purged when the origin was asked."""
    if exchange.context.store is not None:
        exchange.since = exchange.context.store.mark()


def after_refusal(asking: Asking) -> Attempts:
    """The agent has handed the request back: its connection is kept, and another is to be asked."""
    backend = asking.exchange.backend()
    take_back(backend, asking.lease)
    attempts = Attempts(backend, asking.exchange.request.method)
    attempts.refused(asking.lease, repeatable=True)
    return attempts


def arrived(exchange: Exchange, answer: Answer, upgrading: bool = False) -> None:
    """Note when the head came, and make it fit for a client. Raises `UpstreamError` for a switch nobody asked for."""
    head = answer.head
    exchange.first_byte_ms = answer.first_byte_ms
    if head.status == 101 and not upgrading:
        answer.discard()
        raise UpstreamError(502, "upgrade", "http_upgrade_failed", "the origin switched protocols unasked")
    forwarding.map_location(head.fields, exchange.request, answer.lease.origin.authority)


def _fields_for(
    exchange: Exchange,
    given: Fields,
    authority: bytes,
    left_out: Container[bytes] | None,
    upgrade: bytes | None = None,
) -> Fields:
    request = exchange.request
    setting = exchange.backend().settings.host
    # A dyno of a backend without an origin of its own has no name but the client's.
    clients = setting == "client" or (setting == "origin" and not authority)
    host = request.host if clients else authority if setting == "origin" else setting.encode()
    out = forwarding.upstream_fields(
        request,
        given,
        exchange.downstream.client,
        exchange.identity,
        host,
        exchange.context.clock.wall_ms(),
        left_out,
    )
    if upgrade is not None:
        out.set(b"Upgrade", upgrade)
        out.set(b"Connection", b"Upgrade")
    forwarding.apply_rules(out, exchange.match.route.request_headers)
    return out
