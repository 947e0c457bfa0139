"""What a request is before any rule is asked: for whom it was sent, and what of it its origin may see.

    certificate · method · client

From here on `exchange.request` is the effective request (`policy.effective`): fields that are not sent on are absent
from it, so that key, Vary, conditions, Range and the onward head all read the same. Framing, Upgrade, Expect and TE are
the connection's affair, and were read before.
"""

from __future__ import annotations

from flyby.errors import WireError
from flyby.proxy.road._exchange import Exchange
from flyby.proxy.road.client import arrival_of
from flyby.wire import RequestHead, effective_fields


def check_certificate(exchange: Exchange) -> bool:
    """RFC 9110 7.4: an https request must have come under a certificate that is valid for its host."""
    covers = exchange.downstream.client.covers
    host = exchange.request.host
    if covers is not None and host:
        if not covers(host):
            raise WireError(421, "misdirected", "the certificate of this connection is not valid for this host")
        exchange.downstream.approved = host
    return False


def check_method(exchange: Exchange) -> bool:
    request = exchange.request
    if request.method in (b"CONNECT", b"TRACE"):
        raise WireError(405, "method-refused", "CONNECT and TRACE are not offered")
    expect = request.fields.combined(b"expect")
    if expect is not None and not request.expect_continue and expect.lower() != b"100-continue":
        raise WireError(417, "expectation-failed", "only 100-continue can be expected")
    return False


def read_client(exchange: Exchange) -> bool:
    """Set who asks, and put the effective request in the place of what came."""
    context, near, came = exchange.context, exchange.downstream.client, exchange.request
    arrival = arrival_of(near, came.fields, context.trusted, context.config.server.forwarded == "append")
    exchange.client = client = arrival.client
    if arrival.keeps_addresses:
        # A connection of a trusted proxy carries the requests of many.
        exchange.downstream.known_as(client.address)
    fields = effective_fields(came.fields)
    if not arrival.keeps_addresses:
        fields.remove(b"x-forwarded-for")
    if not arrival.keeps_forwarded:
        fields.remove(b"forwarded")
    exchange.request = RequestHead(
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
    return False
