"""An origin's response on its way into the store: the plan, the Fill it is written to, and what a validation renews.

What is stored is what clients get: the head is serialised once, with Via and the route's rules in it. The owner of a
fetch reads its response from the Fill, as its followers do. A 206 that touches a stored part is joined to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flyby.policy import EntryFlag, Plan, Reason, evaluate, worth_packing
from flyby.proxy.routing import forwarding
from flyby.proxy.stored import hit, partial, variants
from flyby.proxy.fetching._answer import Answer
from flyby.proxy.fetching.delivery import Delivery
from flyby.proxy.routing.resource import place_of
from flyby.proxy.fetching.sinks import Ended, ToFill
from flyby.store import Fill, Store
from flyby.wire import REASONS, Fields, serialise_response

if TYPE_CHECKING:
    from flyby.proxy.decision.exchange import Exchange


def open_fill(
    exchange: Exchange,
    store: Store,
    fill: Fill,
    plan: Plan,
    answer: Answer,
    length: int,
    joined: partial.Joined | None,
) -> Reason | None:
    """Begin to store; the Reason when that cannot be."""
    key = variants.key_for_storing(
        store, exchange.primary, plan.vary, exchange.request.fields, plan.head, exchange.rules.max_variants
    )
    if key is None:
        return Reason.VARIANTS
    fields, status, flags, reason = plan.head.copy(), answer.head.status, plan.flags, answer.head.reason
    if joined is not None:
        length = joined.held.length
        fields.set(b"Content-Range", bytes(joined.held))
        if joined.held.complete:
            fields.remove(b"content-range")
            status, flags, reason = 200, plan.flags & ~EntryFlag.PARTIAL, REASONS[200]
    if flags & EntryFlag.PARTIAL:
        key += variants.PART
    blob = _stored_head(exchange, fields, status, reason)
    times = plan.times
    opened = fill.open(
        key,
        blob,
        status,
        int(flags),
        times.born_ms,
        times.fresh_ms,
        times.swr_s,
        times.sie_s,
        length,
        compress=worth_packing(fields),
        tags=plan.tags + exchange.extra_tags + answer.lease.tags,
        place=place_of(key),
    )
    if opened and (joined is None or not len(joined.before) or fill.write(joined.before)):
        return None
    return Reason.TOO_LARGE


def _stored_head(exchange: Exchange, fields: Fields, status: int, reason: bytes) -> bytes:
    fields = fields.copy()
    forwarding.add_via(fields)
    forwarding.apply_rules(fields, exchange.match.route.response_headers)
    return serialise_response(status, reason or REASONS.get(status, b""), fields)[:-2]


def stream_stored(
    exchange: Exchange, fill: Fill, plan: Plan, answer: Answer, status: bytes, joined: partial.Joined | None
) -> None:
    """The upstream fills the store; the client reads from there."""
    sink = ToFill(answer, fill, b"" if joined is None else joined.after)
    downstream = exchange.downstream
    fields = hit.stored_fields(fill.head)
    length, start, end = fill.length, 0, -1
    exchange.status = fill.status
    if joined is not None and b"range" in exchange.request.fields:
        # What is stored has grown beyond what this client asked for and the origin sent.
        fields = hit.stored_fields(_stored_head(exchange, plan.head, answer.head.status, answer.head.reason))
        start = len(joined.before)
        end = joined.held.length - len(joined.after)
        length = end - start
        exchange.status = answer.head.status
    verdict = evaluate(exchange.request, fields, exchange.status)
    if verdict is not None:
        hit.send_verdict(exchange, verdict, fields, status)
    else:
        fields.add(b"Cache-Status", status)
        age_ms = exchange.context.clock.wall_ms() - fill.born_ms
        if age_ms >= 1000 or answer.head.fields.get(b"age") is not None:
            fields.add(b"Age", b"%d" % (max(age_ms, 0) // 1000))
        downstream.begin(exchange.status, REASONS.get(exchange.status, answer.head.reason), fields, length)

        def failed(reason: int) -> bool:
            exchange.stop = None
            if reason != Ended.UNSTORABLE:
                return False
            sink.redirect(exchange)
            return True

        delivery = Delivery(fill.follow(), downstream, lambda: None, failed, start, end)
        exchange.stop = delivery.stop
        delivery.start()
        downstream.flush()
    answer.lease.connection.stream(sink)
