"""A response that is passed on as it comes, and not stored."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from flyby.config import HeaderRules
from flyby.policy import TAG_FIELDS, Outcome, Reason, cache_status
from flyby.proxy import forwarding
from flyby.proxy._answer import Answer
from flyby.proxy._upstream_fields import VIA
from flyby.wire import HOP_BY_HOP, BodyKind, Fields, ResponseHead, open_response, strip_hop_by_hop

if TYPE_CHECKING:
    from flyby.proxy.exchange import Exchange

# Our connection's own affair, and framing, which the client's side writes.
_LEFT_OUT = HOP_BY_HOP | {b"content-length"}
_TAGS_LEFT_OUT = _LEFT_OUT.union(TAG_FIELDS)


@lru_cache(maxsize=1024)
def status_field(
    outcome: Outcome, why: Reason, fwd_status: int, stored: bool = False, detail: str | None = None
) -> bytes:
    """Our member of Cache-Status on a response that was fetched; there are few, and all are made once."""
    return cache_status(outcome, why, fwd_status=fwd_status, stored=stored, detail=detail)


def send(exchange: Exchange, answer: Answer, status: bytes) -> None:
    """Pass the response on as it comes; `status` is our member of Cache-Status."""
    head = answer.head
    code = head.status
    kind, length = head.framing(exchange.request.method)
    if kind is not BodyKind.LENGTH:
        bodiless = exchange.request.method == b"HEAD" or code == 204 or code == 304
        length = 0 if kind is BodyKind.NONE and not bodiless else -1
    rules = exchange.match.route.response_headers
    fields = head.fields
    ruled = rules.remove or rules.set or rules.add
    if ruled or kind is BodyKind.NONE or b"connection" in fields or b"via" in fields:
        fields = _changed(exchange, head, rules)
        opened = open_response(code, head.reason, fields, (), b"Cache-Status: %b\r\n" % status)
    else:
        left_out = _TAGS_LEFT_OUT if exchange.rules.strip_tags else _LEFT_OUT
        opened = open_response(code, head.reason, fields, left_out, b"Via: %b\r\nCache-Status: %b\r\n" % (VIA, status))
    exchange.downstream.begin_ready(opened, length, code)
    answer.lease.connection.stream(answer.to_client(exchange))
    exchange.downstream.flush()


def _changed(exchange: Exchange, head: ResponseHead, rules: HeaderRules) -> Fields:
    """The fields of a response that cannot be passed on as they are."""
    fields = strip_hop_by_hop(head.fields)
    fields.remove(b"content-length")
    if exchange.request.method == b"HEAD" or head.status == 304:
        given = head.fields.get(b"content-length")
        if given is not None and head.fields.get(b"transfer-encoding") is None:
            fields.set(b"Content-Length", given)
    forwarding.add_via(fields)
    if exchange.rules.strip_tags:
        fields = fields.without(TAG_FIELDS)
    forwarding.apply_rules(fields, rules)
    return fields
