"""What of a request its origin may see, and for whom it was sent: read once, before any rule is asked.

From then on `exchange.request` is the effective request (`policy.effective`): fields that are not sent on are absent
from it, so that key, Vary, conditions, Range and the onward head all read the same. Framing, Upgrade, Expect and TE are
the connection's affair, and were read before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flyby.proxy.road.client import arrival_of
from flyby.wire import RequestHead, effective_fields

if TYPE_CHECKING:
    from flyby.proxy.road._exchange import Exchange


def read_arrival(exchange: Exchange) -> None:
    """Set who asks, and put the effective request in the place of what came."""
    context, near, came = exchange.context, exchange.downstream.client, exchange.request
    arrival = arrival_of(near, came.fields, context.trusted, context.config.server.forwarded == "append")
    client = arrival.client
    if arrival.keeps_addresses:
        # A connection of a trusted proxy carries the requests of many.
        exchange.downstream.known_as(client.address)
    fields = effective_fields(came.fields)
    if not arrival.keeps_addresses:
        fields.remove(b"x-forwarded-for")
    if not arrival.keeps_forwarded:
        fields.remove(b"forwarded")
    request = RequestHead(
        came.method,
        came.target,
        came.version,
        fields,
        scheme=client.scheme,
        host=came.host if arrival.host is None else arrival.host,
        path=came.path,
        body=came.body,
        length=came.length,
        keep_alive=came.keep_alive,
        expect_continue=came.expect_continue,
        upgrade=came.upgrade,
    )
    exchange.arrived(client, request)
