"""The values of a request's fields as its origin gets them: what Vary's key is made of (RFC 9111 4.1).

Most are those of the effective request. Others flyby writes itself, whatever came:

    X-Forwarded-For                        what a trusted proxy said, and the peer's address
    X-Forwarded-Port                       the port
    X-Request-Id, X-Request-Start          this request's own, so that no other request selects the same
    Host, X-Forwarded-Host and -Proto      told by the primary key already: no further word
    the others that flyby writes or drops  the same for all requests: no further word

A written value stands in the key behind a NUL, which no field of a message can hold: so the fast lane, which compares
what came, never takes a value that came for one that was written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flyby.policy import UNKEYED
from flyby.proxy.routing import forwarding
from flyby.proxy.routing._upstream_fields import OURS

if TYPE_CHECKING:
    from flyby.proxy.road._exchange import Exchange

_WRITTEN = frozenset((b"x-forwarded-for", b"x-forwarded-port", b"x-request-id", b"x-request-start"))
_SAME = UNKEYED.union(OURS) - _WRITTEN


class Sent:
    """The fields of one request as they are sent on."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def combined(self, lname: bytes) -> bytes | None:
        """The values of all lines of that lower-case name, as one; None when none is sent, or the key says it."""
        if lname in _SAME:
            return None
        if lname in _WRITTEN:
            return b"\0" + self._written(lname)
        value: bytes | None = self._exchange.request.fields.combined(lname)
        return value

    def _written(self, lname: bytes) -> bytes:
        exchange = self._exchange
        if lname == b"x-forwarded-for":
            came = exchange.request.fields.combined(lname)
            peer = exchange.downstream.client.address.encode("ascii", "replace")
            return peer if came is None else came + b", " + peer
        if lname == b"x-forwarded-port":
            request = exchange.request
            return forwarding.port_of(request.host, request.scheme, exchange.client.server_port)
        return exchange.identity
