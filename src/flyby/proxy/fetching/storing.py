"""An origin's response on its way into the store: the Fill that is opened, and the marks for what is not stored.

What is stored is what clients get: the head is serialised once, with Via and the route's rules in it. A 206 that
touches a stored part is joined to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flyby.policy import EntryFlag, Plan, Reason, mark_for, worth_packing
from flyby.proxy.routing import forwarding
from flyby.proxy.routing.resource import place_of
from flyby.proxy.routing.sent import Sent
from flyby.proxy.stored import hit, partial, variants
from flyby.store import Fill, Store
from flyby.upstream import Lease
from flyby.wire import REASONS, Fields, ResponseHead, serialise_response

if TYPE_CHECKING:
    from flyby.proxy.road._exchange import Exchange


class Storing(Protocol):
    """What of a fetch is asked here."""

    @property
    def exchange(self) -> Exchange: ...
    @property
    def response(self) -> ResponseHead: ...
    @property
    def lease(self) -> Lease | None: ...
    @property
    def fill(self) -> Fill | None: ...
    @property
    def why(self) -> Reason: ...


def claim_alone(exchange: Exchange, store: Store) -> Fill | None:
    """A Fill of a fetch that others do not follow: under a key of its own nobody waits for it."""
    fill = store.claim(exchange.claim_key + b"\0alone", exchange.since)
    if fill is not None and not fill.owner:
        fill.release()
        return None
    return fill


def mark(exchange: Exchange, store: Store, reason: Reason | None, status: int) -> None:
    """Remember that what lies under the key is not for sharing (hit-for-miss), or too large to be stored.

    A response that was passed on without a reason (a 304 whose like could be stored) removes the mark.
    """
    if reason is None:
        unmark(exchange, store)
        return
    now_ms = exchange.context.clock.wall_ms()
    flags = int(EntryFlag.HIT_FOR_MISS)
    if reason is Reason.TOO_LARGE:
        flags |= int(EntryFlag.TOO_LARGE)
    lasts_s = mark_for(status, reason, exchange.rules)
    store.put(exchange.claim_key, b"", b"", 0, flags, now_ms, now_ms + round(lasts_s * 1000), 0, 0)


def unmark(exchange: Exchange, store: Store) -> None:
    """Let the mark under the key end, if there is one. (To delete it would outdate what is just being stored.)"""
    entry = store.lookup(exchange.claim_key)
    if entry is not None and entry.flags & EntryFlag.HIT_FOR_MISS:
        now_ms = exchange.context.clock.wall_ms()
        store.put(exchange.claim_key, b"", b"", 0, int(EntryFlag.HIT_FOR_MISS), now_ms, now_ms, 0, 0)


def open_fill(fetch: Storing, fill: Fill, plan: Plan, length: int, joined: partial.Joined | None) -> Reason | None:
    """Begin to store; the Reason when that cannot be. `length` is -1 where only the end will tell."""
    exchange, response, lease = fetch.exchange, fetch.response, fetch.lease
    assert lease is not None
    store = exchange.context.store
    assert store is not None
    key = variants.key_for_storing(
        store, exchange.primary, plan.vary, Sent(exchange), plan.head, exchange.rules.max_variants
    )
    if key is None:
        return Reason.VARIANTS
    fields, status, flags, reason = plan.head.copy(), response.status, plan.flags, response.reason
    if joined is not None:
        length = joined.held.length
        fields.set(b"Content-Range", bytes(joined.held))
        if joined.held.complete:
            fields.remove(b"content-range")
            status, flags, reason = 200, plan.flags & ~EntryFlag.PARTIAL, REASONS[200]
    if flags & EntryFlag.PARTIAL:
        key += variants.PART
    times = plan.times
    opened = fill.open(
        key,
        stored_head(exchange, fields, status, reason),
        status,
        int(flags),
        times.born_ms,
        times.fresh_ms,
        times.swr_s,
        times.sie_s,
        length,
        compress=not flags & EntryFlag.PARTIAL and worth_packing(fields),  # a part grows, and is then read whole
        tags=plan.tags + exchange.extra_tags + lease.tags,
        place=place_of(key),
    )
    if opened and (joined is None or not len(joined.before) or fill.write(joined.before)):
        if fetch.why is Reason.HIT_FOR_MISS and key != exchange.claim_key:
            unmark(exchange, store)  # what is stored under the key itself takes its place
        return None
    return Reason.TOO_LARGE


def stored_head(exchange: Exchange, fields: Fields, status: int, reason: bytes) -> bytes:
    """The head as it is stored: with Via, and the route's rules carried out."""
    fields = fields.copy()
    forwarding.add_via(fields)
    forwarding.apply_rules(fields, exchange.match.route.response_headers)
    return serialise_response(status, reason or REASONS.get(status, b""), fields)[:-2]


def joined_view(fetch: Storing, joined: partial.Joined, plan: Plan) -> tuple[Fields, int, int, int]:
    """What the client gets of a stored part that grows: fields, where in the Fill it begins and ends, the status."""
    exchange = fetch.exchange
    assert fetch.fill is not None
    if b"range" not in exchange.request.fields:
        return hit.stored_fields(fetch.fill.head), 0, -1, fetch.fill.status
    # What is stored has grown beyond what this client asked for and the origin sent.
    fields = hit.stored_fields(stored_head(exchange, plan.head, fetch.response.status, fetch.response.reason))
    return fields, len(joined.before), joined.held.length - len(joined.after), fetch.response.status
