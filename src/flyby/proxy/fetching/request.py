"""The request as an origin gets it: written afresh, for the origin that a lease leads to."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from flyby.policy import UNKEYED
from flyby.proxy.routing import forwarding
from flyby.wire import Fields, RequestHead, serialise_request

if TYPE_CHECKING:
    from flyby.proxy.road._exchange import Exchange

# Conditions of the client's that are answered from the stored response, so the fetch that fills the store is whole.
CLIENT_CONDITIONS = (b"if-none-match", b"if-modified-since")
SHARED_LEFT_OUT = UNKEYED.union(CLIENT_CONDITIONS)


def may_share(request: RequestHead) -> bool:
    """Whether one response may serve several such requests while it arrives."""
    fields = request.fields
    return request.method == b"GET" and b"range" not in fields and b"authorization" not in fields


def request_head(
    exchange: Exchange,
    fields: Fields,
    authority: bytes,
    left_out: Container[bytes] | None = None,
    upgrade: bytes | None = None,
    head_first: bool = False,
) -> bytes:
    """The head for the origin of that name: of `fields`, but for those in `left_out`, and of what flyby says.

    `upgrade` names another protocol that is asked for; with `head_first` the origin is asked whether it wants the
    content.
    """
    request = exchange.request
    setting = exchange.backend().settings.host
    # A dyno of a backend without an origin of its own has no name but the client's.
    clients = setting == "client" or (setting == "origin" and not authority)
    host = request.host if clients else authority if setting == "origin" else setting.encode()
    out = forwarding.upstream_fields(
        request,
        fields,
        exchange.client,
        exchange.downstream.client.address,
        exchange.identity,
        host,
        exchange.context.clock.date_ms(),
        left_out,
    )
    if exchange.backend().settings.map_origin:
        forwarding.map_origin(out, request, host)
    if upgrade is not None:
        out.set(b"Upgrade", upgrade)
        out.set(b"Connection", b"Upgrade")
    if head_first:
        out.set(b"Expect", b"100-continue")  # RFC 9110 10.1.1: the client waits for the origin's word
    forwarding.apply_rules(out, exchange.match.route.request_headers)
    return serialise_request(request.method, exchange.path, out)
