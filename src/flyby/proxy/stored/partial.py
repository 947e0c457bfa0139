"""Stored parts of a representation (RFC 9111 3.3, 3.4): they answer ranges within them, grow, and become the whole.

A 206 is kept beside the whole, under the resource's key with a suffix. A later part with the same strong validator that
touches it is joined to it; when nothing lacks any more, the whole is stored as a 200 in its own place. A request for
the whole asks the origin only for what is lacking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flyby.policy import (
    ContentRange,
    Outcome,
    Reuse,
    cache_status,
    combine,
    completion_fields,
    if_range_matches,
    parse_content_range,
    serve_partial,
)
from flyby.proxy.stored import hit, lookup, variants
from flyby.store import Entry
from flyby.wire import REASONS, BodyKind, Fields, ResponseHead, serialise_response

if TYPE_CHECKING:
    from flyby.proxy.road._exchange import Exchange


@dataclass(frozen=True, slots=True)
class Part:
    """A stored part: its entry (pinned while this lives), its fields, and which bytes it holds."""

    entry: Entry
    fields: Fields
    held: ContentRange


@dataclass(frozen=True, slots=True)
class Joined:
    """What a new part becomes together with a stored one: the bytes before and after it, and the range of all."""

    before: memoryview
    after: memoryview
    held: ContentRange


def find(exchange: Exchange) -> Part | None:
    """The part that is stored of what the request asks for."""
    store = exchange.context.store
    entry = store.lookup(exchange.claim_key + variants.PART) if store is not None else None
    if entry is None:
        return None
    fields = hit.stored_fields(entry.head)
    held = parse_content_range(fields.get(b"content-range"))
    return Part(entry, fields, held) if held is not None else None


def lacking(exchange: Exchange, part: Part) -> list[tuple[bytes, bytes]]:
    """The request fields that ask the origin for the rest of `part`."""
    return completion_fields(part.held, part.fields, lenient=not exchange.rules.points.strict_partial)


def join(part: Part, head: ResponseHead) -> Joined | None:
    """`part` and a 206 that has just begun, as one; None when they do not belong together (RFC 9111 3.4)."""
    new = parse_content_range(head.fields.get(b"content-range"))
    if new is None or head.framing(b"GET") != (BodyKind.LENGTH, new.length) or part.entry.length != part.held.length:
        return None
    both = combine(part.held, part.fields, new, head.fields)
    if both is None:
        return None
    empty = memoryview(b"")
    around = [empty, empty]
    seen = 0
    for is_new, offset, length in both.slices:
        if is_new:
            seen = 1
        else:
            around[seen] = part.entry.body(offset, length)
    return Joined(around[0], around[1], both.held)


def serve(exchange: Exchange, stored: Part) -> bool:
    """Answer a range request from a stored part; False when that does not hold what is asked for."""
    request = exchange.request
    wanted = request.fields.combined(b"range")
    if wanted is None or request.method != b"GET" or lookup.judge(exchange, stored.entry) is not Reuse.FRESH:
        return False
    entry, fields, held = stored.entry, stored.fields, stored.held
    if not if_range_matches(request.fields.get(b"if-range"), fields):
        return False
    part = serve_partial(wanted, held, entry.length, lenient=not exchange.rules.points.strict_partial)
    if part is None:
        return False
    now_ms = exchange.context.clock.wall_ms()
    view = hit.content(entry, part.first - held.first, part.length)
    fields.set(b"Content-Range", bytes(part))
    status = cache_status(Outcome.HIT, ttl_s=(entry.fresh_ms - now_ms) // 1000)
    extra = hit.age_fields(max(0, (now_ms - entry.born_ms) // 1000), status) + exchange.own_lines
    exchange.note(Outcome.HIT, None, 206)
    head = serialise_response(206, REASONS[206], fields)[:-2] + extra
    exchange.downstream.send_stored(head, len(view), (view,), 206)
    return True
