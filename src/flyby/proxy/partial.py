"""A stored part of a representation answers the ranges that lie in it (RFC 9111 3.3).

A 206 is kept beside the whole, under the resource's key with a suffix, and never takes the whole's place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flyby.policy import (
    EntryFlag,
    Outcome,
    Plan,
    Reuse,
    cache_status,
    if_range_matches,
    parse_content_range,
    serve_partial,
)
from flyby.proxy import hit
from flyby.wire import REASONS, serialise_response

if TYPE_CHECKING:
    from flyby.proxy.exchange import Exchange

_SUFFIX = b"\0part"


def suffix(plan: Plan) -> bytes:
    """What is added to the key under which a response is stored."""
    return _SUFFIX if plan.flags & EntryFlag.PARTIAL else b""


def serve(exchange: Exchange) -> bool:
    """Answer a range request from a stored part; False when none holds what is asked for."""
    store = exchange.context.store
    request = exchange.request
    wanted = request.fields.combined(b"range")
    if store is None or wanted is None or request.method != b"GET":
        return False
    entry = store.lookup(exchange.claim_key + _SUFFIX)
    if entry is None or exchange.judge(entry) is not Reuse.FRESH:
        return False
    fields = hit.stored_fields(entry.head)
    held = parse_content_range(fields.get(b"content-range"))
    if held is None or not if_range_matches(request.fields.get(b"if-range"), fields):
        return False
    part = serve_partial(wanted, held, entry.length, lenient=not exchange.rules.points.strict_partial)
    if part is None:
        return False
    now_ms = exchange.context.clock.wall_ms()
    view = entry.body(part.first - held.first, part.length)
    fields.set(b"Content-Range", bytes(part))
    status = cache_status(Outcome.HIT, ttl_s=(entry.fresh_ms - now_ms) // 1000)
    extra = hit.age_fields(max(0, (now_ms - entry.born_ms) // 1000), status)
    exchange.note(Outcome.HIT, None, 206)
    head = serialise_response(206, REASONS[206], fields)[:-2] + extra
    exchange.downstream.send_stored(head, len(view), (view,), 206)
    return True
