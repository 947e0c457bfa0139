"""Fields on their way through: what the origin is told of the client, and what the client is not told of the origin.

A request reaches the dyno as Heroku's router would have sent it: X-Forwarded-For (what a trusted proxy said, and the
peer's address), -Proto, -Port, -Host, X-Request-Id (the client's is kept only where it fits Heroku's rule),
X-Request-Start, Via; and CDN-Loop (RFC 8586), by which a request that comes round again is seen. Field names with an
underscore are dropped: to CGI, WSGI and Rack they are aliases of the names with a hyphen, behind the back of every
check.
"""

from __future__ import annotations

import re
from collections.abc import Container
from functools import lru_cache

from flyby.config import HeaderRules
from flyby.errors import UpstreamError
from flyby.policy import is_unsafe
from flyby.proxy.road._identity import CDN_ID, VIA
from flyby.proxy.road.client import Client
from flyby.proxy.routing._upstream_fields import upstream_fields as _upstream_fields
from flyby.wire import Fields, RequestHead

_HOPS = re.compile(rb"[0-9]{1,9}\Z")
_PORT = re.compile(rb"[0-9]{1,5}\Z")


def refuse_loop(request: RequestHead) -> None:
    """Raise `UpstreamError` 508 when the request has been through flyby before (RFC 8586 2)."""
    value = request.fields.combined(b"cdn-loop")
    if value is None:
        return
    for member in value.split(b","):
        if member.split(b";")[0].strip(b" \t").lower() == CDN_ID:
            raise UpstreamError(508, "loop", "proxy_loop_detected", "this request has already passed through flyby")


def upstream_fields(
    request: RequestHead,
    given: Fields,
    client: Client,
    peer: str,
    identity: bytes,
    host: bytes,
    now_ms: int,
    left_out: Container[bytes] | None = None,
) -> Fields:
    """The fields of the upstream request (RFC 9110 7.6): those `given`, but for the names in `left_out`, less what is
    this hop's affair, plus what we say. `peer` is the address of who is connected: `client`'s, or a trusted proxy's."""
    port = port_of(request.host, request.scheme, client.server_port)
    return _upstream_fields(request, given, peer, port, identity, host, now_ms, left_out)


def ends_here(request: RequestHead) -> bool:
    """Whether Max-Forwards says that the request goes no further (RFC 9110 7.6.2); else it may go one hop less far."""
    value = request.fields.combined(b"max-forwards")
    if value is None or _HOPS.match(value) is None:
        return False
    left = int(value)
    if left == 0:
        return True
    request.fields.set(b"Max-Forwards", b"%d" % (left - 1))
    return False


@lru_cache(maxsize=256)
def port_of(host: bytes, scheme: bytes, server_port: int) -> bytes:
    """The port that the client used, as X-Forwarded-Port says it."""
    _, colon, port = host.rpartition(b":")
    if colon and _PORT.match(port):
        return port
    if server_port in (80, 443, 0):
        return b"443" if scheme == b"https" else b"80"
    return b"%d" % server_port


def map_location(fields: Fields, request: RequestHead, upstream_host: bytes) -> None:
    """Point `Location` and `Content-Location` at the name that the client knows, where they name the origin itself."""
    if not upstream_host or upstream_host == request.host:
        return
    for name in (b"location", b"content-location"):
        value = fields.get(name)
        if value is None:
            continue
        for scheme in (b"http://", b"https://", b"//"):
            prefix = scheme + upstream_host
            if value.lower().startswith(prefix) and value[len(prefix) : len(prefix) + 1] in (b"", b"/", b"?", b"#"):
                start = scheme if scheme == b"//" else request.scheme + b"://"
                fields.set(_title(name), start + request.host + value[len(prefix) :])
                break


def map_origin(fields: Fields, request: RequestHead, host: bytes) -> None:
    """Let an Origin that is exactly what the client addressed name the origin's `host` in its place (RFC 6454 7).

    X-Forwarded-Host is not sent beside it: frameworks that compare Origin with that field would refuse the mapped one.
    """
    fields.remove(b"x-forwarded-host")
    if fields.get_all(b"origin") == [own_origin(request)]:
        fields.set(b"Origin", request.scheme + b"://" + host)


def own_origin(request: RequestHead) -> bytes:
    """The Origin of pages that came from where the client sent this request."""
    return request.scheme + b"://" + request.host


def refuses_form(request: RequestHead, status: int) -> bool:
    """Whether an origin has refused an unsafe request of a page of its own (403): it may not know its public name."""
    return status == 403 and is_unsafe(request.method) and request.fields.get_all(b"origin") == [own_origin(request)]


def _title(name: bytes) -> bytes:
    return b"-".join(part.capitalize() for part in name.split(b"-"))


def add_via(fields: Fields) -> None:
    """Say that the message passed through here (RFC 9110 7.6.3)."""
    via = fields.combined(b"via")
    fields.set(b"Via", via + b", " + VIA if via else VIA)


def apply_rules(fields: Fields, rules: HeaderRules) -> None:
    """Carry out a route's header rules: remove, then set, then add."""
    for name in rules.remove:
        fields.remove(name.lower().encode("latin-1"))
    for name, value in rules.set.items():
        fields.set(name.encode("latin-1"), value.encode("latin-1"))
    for name, value in rules.add.items():
        fields.add(name.encode("latin-1"), value.encode("latin-1"))


# Fields that mean something only before the content, or that would change who is asked for what (RFC 9110 6.5.1).
_NOT_IN_TRAILERS = frozenset(
    b"""
    ""age authorization cache-control cdn-cache-control connection content-encoding content-length
    content-range content-type cookie date expect expires host if-match if-modified-since if-none-match
    if-range if-unmodified-since keep-alive location max-forwards pragma proxy-authenticate
    proxy-authorization range retry-after set-cookie surrogate-control te trailer transfer-encoding upgrade
    vary via warning www-authenticate
    """.split()
)


def safe_trailers(trailers: Fields | None) -> Fields | None:
    """The trailer fields that may be passed on; None when there are none."""
    if trailers is None:
        return None
    kept = Fields(
        [(name, value) for name, value in trailers if name.lower() not in _NOT_IN_TRAILERS and b"_" not in name]
    )
    return kept if len(kept) else None
