"""Answers that flyby makes itself: what stands in each, ready for an exchange to send.

Each function returns (status, fields, content). `own_fields` adds what every response of ours says: Date (RFC 9110
6.6.1), Via and Cache-Status.
"""

from __future__ import annotations

from collections.abc import Iterable

from flyby.errors import UpstreamError, WireError
from flyby.policy import Outcome, Reason, cache_status, format_http_date
from flyby.proxy.road import pages
from flyby.proxy.road._identity import VIA
from flyby.wire import REASONS, Fields, RequestHead

ALLOWED = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

Reply = tuple[int, Fields, bytes]


def reason_of(status: int) -> bytes:
    """The reason phrase of a status."""
    return REASONS.get(status, b"Error")


def page(status: int, request: RequestHead | None, detail: str, extra: Iterable[tuple[bytes, bytes]] = ()) -> Reply:
    """A page that says `detail`, with `extra` fields."""
    fields, content = pages.page(status, request, detail)
    for name, value in extra:
        fields.add(name, value)
    return status, fields, content


def refusal(error: WireError, request: RequestHead | None) -> Reply:
    """The page of a request that breaks the rules."""
    return page(error.status, request, error.detail, ((b"Allow", ALLOWED),) if error.status == 405 else ())


def upstream_failure(error: UpstreamError, request: RequestHead, identity: bytes) -> Reply:
    """The page of an origin that has no answer, with Proxy-Status (RFC 9209)."""
    fields, content = pages.upstream_error(error, request, identity)
    return error.status, fields, content


def redirect(location: bytes, status: int) -> Reply:
    """Another address."""
    return status, Fields([(b"Location", location), (b"Cache-Control", b"no-store")]), b""


def own_fields(fields: Fields, outcome: Outcome, reason: Reason | None, now_ms: int) -> Fields:
    """`fields` with the Date, Via and Cache-Status of a response that was made here, where they are not there yet."""
    if b"date" not in fields:
        fields.add(b"Date", format_http_date(now_ms // 1000))
    if b"via" not in fields:
        fields.add(b"Via", VIA)
    if b"cache-status" not in fields:
        fields.add(b"Cache-Status", cache_status(outcome, reason))
    return fields
