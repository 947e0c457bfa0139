"""A request that the store cannot answer alone: fetch, decide, stream; one fetch for a crowd.

The first to claim a key owns its fetch; the others follow the owner's Fill. When the response turns out to be nobody
else's business, each follower fetches for itself, and a mark under the key (hit-for-miss) spares the next crowd the
wait. A stored response that is stale is validated with its own validators (RFC 9111 4.3), and is what is left to send
when the origin fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flyby.errors import UpstreamError
from flyby.policy import (
    TAG_FIELDS,
    EntryFlag,
    Outcome,
    Plan,
    Reason,
    Reuse,
    cache_status,
    drop_unkeyed,
    evaluate,
    validators_for,
)
from flyby.proxy import forwarding, hit, partial, renewal, variants
from flyby.proxy.delivery import Delivery
from flyby.proxy.fetch import Answer, fetch
from flyby.proxy.follow import follow
from flyby.proxy.nobody import Nobody
from flyby.proxy.sinks import Ended, ToClient, ToFill
from flyby.store import COMPLETE, Entry, Fill, Store
from flyby.wire import REASONS, BodyKind, Fields, RequestHead, ResponseHead, serialise_response, strip_hop_by_hop

if TYPE_CHECKING:
    from flyby.proxy.exchange import Exchange

HIT_FOR_MISS_MS = 2_000  # how long an uncacheable answer keeps requests from waiting for one another
ELECTIONS = 3  # how often a follower whose owner vanished stands for owner before it goes alone

# Conditions of the client's that are answered from the stored response, so the fetch that fills the store is whole.
_CLIENT_CONDITIONS = (b"if-none-match", b"if-modified-since")


def start(exchange: Exchange, stale: Entry | None, why: Reason, collapse: bool = True) -> None:
    """Answer with the origin's help."""
    exchange.run(_run(exchange, stale, why, collapse))


def start_forward(exchange: Exchange, why: Reason) -> None:
    """Pass a request on that is not cached."""
    exchange.run(_forward(exchange, why))


async def _run(exchange: Exchange, stale: Entry | None, why: Reason, collapse: bool) -> None:
    store = exchange.context.store
    assert store is not None
    if not _may_share(exchange.request):
        await _fetch(exchange, None, stale, why)
        return
    for _ in range(ELECTIONS):
        fill = store.claim(exchange.claim_key)
        if fill is None:
            break
        if fill.owner:
            # Another fetch may have ended between our lookup and our claim.
            entry = exchange.find()
            if entry is not None and hit.usable(entry) and exchange.judge(entry) is Reuse.FRESH:
                fill.abort(Ended.REVALIDATED)
                fill.release()
                hit.serve(exchange, entry, Outcome.HIT)
                return
            await _fetch(exchange, fill, stale, why)
            return
        if not collapse:
            fill.release()
            break
        ended = await follow(exchange, fill, stale)
        if ended is None:
            return
        if ended is Ended.UNCACHEABLE or ended is Ended.UNSTORABLE:
            break
        entry = exchange.find()
        if entry is not None and hit.usable(entry) and exchange.judge(entry) is Reuse.FRESH:
            hit.serve(exchange, entry, Outcome.MISS if stale is None else Outcome.REVALIDATED, why)
            return
        stale = entry if entry is not None and hit.usable(entry) else None
    await _fetch(exchange, None, stale, why)


def _may_share(request: RequestHead) -> bool:
    """Whether one response may serve several such requests while it arrives."""
    fields = request.fields
    return request.method == b"GET" and b"range" not in fields and b"authorization" not in fields


async def refresh(exchange: Exchange, stale: Entry) -> None:
    """Bring a stale response up to date behind the client's back (RFC 5861 3); one fetch at a time."""
    from flyby.proxy.exchange import Exchange as Another

    store = exchange.context.store
    assert store is not None
    fill = store.claim(exchange.claim_key)
    if fill is None:
        return
    if not fill.owner:
        fill.release()
        return
    behind = Another(exchange.context, Nobody(exchange.downstream.client), exchange.request)
    behind.match, behind.rules, behind.backend_name = exchange.match, exchange.rules, exchange.backend_name
    behind.path, behind.primary, behind.claim_key = exchange.path, exchange.primary, exchange.claim_key
    try:
        await _fetch(behind, fill, stale, Reason.STALE)
    except UpstreamError:
        # The stale response goes on being served for as long as its window lasts; the origin's failure is in its
        # statistics.
        return


async def _forward(exchange: Exchange, why: Reason) -> None:
    """Pass on, and drop what the request makes untrue (RFC 9111 4.4)."""
    answer = await ask(exchange, exchange.request.method, exchange.request.fields)
    renewal.invalidate(exchange, answer.head)
    if exchange.request.method == b"POST" and exchange.context.store is not None and not exchange.match.route.cache.off:
        # RFC 9110 9.3.3: a POST's response that says where it can be had again serves later GETs.
        plan = renewal.plan_for(exchange, answer, answer.head)
        if isinstance(plan, Plan):
            exchange.find()
            _decide(exchange, None, None, why, answer)
            return
    exchange.note(Outcome.PASS, why, answer.head.status)
    send(exchange, answer, cache_status(Outcome.PASS, why, fwd_status=answer.head.status))


# ---- the owner's side ------------------------------------------------------------------------------------------------


async def _fetch(exchange: Exchange, fill: Fill | None, stale: Entry | None, why: Reason) -> None:
    """Fetch, decide, stream. `fill` is released on every way out that does not hand it to the stream."""
    handed_over = False
    try:
        part = partial.find(exchange) if stale is None and _may_share(exchange.request) else None
        try:
            answer = await _ask_for_store(exchange, stale, part)
            if part is not None and not _completes(part, answer):
                part = None
                answer.discard()
                answer = await _ask_for_store(exchange, stale, None)
        except UpstreamError as error:
            if fill is not None:
                fill.abort(Ended.UPSTREAM)
            if stale is not None and hit.stale_allowed(exchange, stale, error.status):
                hit.serve(exchange, stale, Outcome.STALE, Reason.ORIGIN_FAILED)
                return
            raise
        head = answer.head
        if stale is not None and head.status == 304:
            _freshen(exchange, stale, answer)
            if fill is not None:
                fill.abort(Ended.REVALIDATED)
            return
        if stale is not None and head.status >= 500 and hit.stale_allowed(exchange, stale, head.status):
            answer.discard()
            if fill is not None:
                fill.abort(Ended.REVALIDATED)
            hit.serve(exchange, stale, Outcome.STALE, Reason.ORIGIN_FAILED, fwd_status=head.status)
            return
        handed_over = _decide(exchange, fill, stale, why, answer)
    finally:
        if fill is not None and not handed_over:
            if fill.state < COMPLETE:
                fill.abort(Ended.LOST)
            fill.release()


def _completes(part: partial.Part, answer: Answer) -> bool:
    """Whether the answer to a request for the rest of `part` can be used: the rest, or the whole instead."""
    if answer.head.status == 206:
        joined = partial.join(part, answer.head)
        return joined is not None and joined.held.complete
    return answer.head.status != 416


async def _ask_for_store(exchange: Exchange, stale: Entry | None, part: partial.Part | None) -> Answer:
    """The request as it is sent to fill the store: unkeyed fields dropped, conditions ours."""
    fields = drop_unkeyed(exchange.request.fields)
    if _may_share(exchange.request):
        for name in _CLIENT_CONDITIONS:
            fields.remove(name)
    if stale is not None and not stale.flags & EntryFlag.PARTIAL:
        for name in _CLIENT_CONDITIONS:
            fields.remove(name)
        for name, value in validators_for(hit.stored_fields(stale.head)):
            fields.set(name, value)
    for name, value in partial.lacking(exchange, part) if part is not None else ():
        fields.set(name, value)
    return await ask(exchange, exchange.request.method, fields)


async def ask(exchange: Exchange, method: bytes, fields: Fields, upgrade: bytes | None = None) -> Answer:
    """Send the request, with `fields` in place of the client's, to the route's backend."""
    request = exchange.request
    backend = exchange.backend()
    setting = backend.settings.host

    def fields_for(authority: bytes) -> Fields:
        # A dyno of a backend without an origin of its own has no name but the client's.
        clients = setting == "client" or (setting == "origin" and not authority)
        host = request.host if clients else authority if setting == "origin" else setting.encode()
        out = forwarding.upstream_fields(
            request, fields, exchange.downstream.client, exchange.identity, host, exchange.context.clock.wall_ms()
        )
        if upgrade is not None:
            out.set(b"Upgrade", upgrade)
            out.set(b"Connection", b"Upgrade")
        forwarding.apply_rules(out, exchange.match.route.request_headers)
        return out

    answer = await fetch(
        backend, request, method, exchange.path, fields_for, exchange.downstream, exchange.context.clock
    )
    exchange.first_byte_ms = answer.first_byte_ms
    answer.ranged = fields.get(b"range") if answer.head.status == 206 else None
    if answer.head.status == 101 and upgrade is None:
        answer.discard()
        raise UpstreamError(502, "upgrade", "http_upgrade_failed", "the origin switched protocols unasked")
    authority = answer.lease.origin.authority
    forwarding.map_location(answer.head.fields, request, authority)
    return answer


def _decide(exchange: Exchange, fill: Fill | None, stale: Entry | None, why: Reason, answer: Answer) -> bool:
    """Store or pass on. True when `fill` has been handed to the stream."""
    store = exchange.context.store
    assert store is not None
    head = answer.head
    request = exchange.request
    plan = renewal.plan_for(exchange, answer, head)
    kind, length = head.framing(request.method)
    reason = plan if isinstance(plan, Reason) else None
    if isinstance(plan, Plan) and b"range" in request.fields and head.status != 206:
        # An origin that reads Range without answering in part may have let it shape what it sent.
        plan = reason = Reason.PARTIAL
    if isinstance(plan, Plan) and request.method != b"HEAD":
        if fill is None:
            # Not one to be followed: under a key of its own nobody waits for it.
            fill = store.claim(exchange.claim_key + b"\0alone")
            if fill is not None and not fill.owner:
                fill.release()
                fill = None
        stored = partial.find(exchange) if head.status == 206 else None
        joined = partial.join(stored, head) if stored is not None else None
        length = length if kind is BodyKind.LENGTH else -1
        if fill is not None and _open(exchange, store, fill, plan, answer, length, joined):
            exchange.note(Outcome.MISS, why, head.status)
            status = cache_status(Outcome.MISS, why, fwd_status=head.status, stored=True)
            _stream_stored(exchange, fill, plan, answer, status, joined)
            return True
        if joined is not None and b"range" not in request.fields:
            answer.discard()
            raise UpstreamError(503, "no-room", "proxy_internal_error", "the rest of a stored part cannot be stored")
        reason = Reason.TOO_LARGE
    if fill is not None:
        fill.abort(Ended.UNCACHEABLE)
        fill.release()
        # A failure says nothing against what is stored: it stays, to be validated or served stale again.
        if request.method == b"GET" and (stale is None or head.status < 500):
            now_ms = exchange.context.clock.wall_ms()
            flags = int(EntryFlag.HIT_FOR_MISS)
            store.put(exchange.claim_key, b"", b"", 0, flags, now_ms, now_ms + HIT_FOR_MISS_MS, 0, 0)
    elif stale is not None and head.status < 500 and request.method == b"GET" and head.status != 304:
        store.delete(exchange.claim_key)
    if request.method == b"HEAD":
        renewal.learn_from_head(exchange, store, answer)
    exchange.note(Outcome.PASS if reason is not None else Outcome.MISS, reason or why, head.status)
    send(
        exchange,
        answer,
        cache_status(Outcome.MISS, why, fwd_status=head.status, detail=reason.value if reason else None),
    )
    return True


def _open(
    exchange: Exchange,
    store: Store,
    fill: Fill,
    plan: Plan,
    answer: Answer,
    length: int,
    joined: partial.Joined | None,
) -> bool:
    key = variants.key_for_storing(
        store, exchange.primary, plan.vary, exchange.request.fields, plan.head, exchange.rules.max_variants
    )
    if key is None:
        return False
    fields, status, flags, reason = plan.head.copy(), answer.head.status, plan.flags, answer.head.reason
    if joined is not None:
        length = joined.held.length
        fields.set(b"Content-Range", bytes(joined.held))
        if joined.held.complete:
            fields.remove(b"content-range")
            status, flags, reason = 200, plan.flags & ~EntryFlag.PARTIAL, REASONS[200]
    if flags & EntryFlag.PARTIAL:
        key += partial.SUFFIX
    blob = _stored_head(exchange, fields, status, reason)
    times = plan.times
    opened = fill.open(key, blob, status, int(flags), times.born_ms, times.fresh_ms, times.swr_s, times.sie_s, length)
    return opened and (joined is None or not len(joined.before) or fill.write(joined.before))


def _stored_head(exchange: Exchange, fields: Fields, status: int, reason: bytes) -> bytes:
    fields = fields.copy()
    forwarding.add_via(fields)
    forwarding.apply_rules(fields, exchange.match.route.response_headers)
    return serialise_response(status, reason or REASONS.get(status, b""), fields)[:-2]


def _stream_stored(
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
            sink.redirect(downstream, lambda error: None)
            return True

        delivery = Delivery(fill.follow(), downstream, lambda: None, failed, start, end)
        exchange.stop = delivery.stop
        delivery.start()
        downstream.flush()
    answer.lease.connection.stream(sink)


def _freshen(exchange: Exchange, stale: Entry, answer: Answer) -> None:
    """RFC 9111 4.3.4: the stored response is still right; its fields are brought up to date."""
    store = exchange.context.store
    assert store is not None
    answer.lease.connection.stream(_Ignore(answer))
    entry = renewal.renew(exchange, store, stale, answer)
    hit.serve(exchange, entry or stale, Outcome.REVALIDATED, Reason.STALE, fwd_status=304)


class _Ignore:
    """The sink of a response whose content nobody needs."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def data(self, view: memoryview) -> None:
        return

    def end(self, trailers: Fields | None) -> None:
        self._answer.finish()

    def fail(self, error: UpstreamError) -> None:
        self._answer.discard()


def send(exchange: Exchange, answer: Answer, status: bytes) -> None:
    """Pass the response on as it comes."""
    head = answer.head
    kind, length = head.framing(exchange.request.method)
    fields = strip_hop_by_hop(head.fields)
    fields.remove(b"content-length")
    if exchange.request.method == b"HEAD" or head.status == 304:
        given = head.fields.get(b"content-length")
        if given is not None and head.fields.get(b"transfer-encoding") is None:
            fields.set(b"Content-Length", given)
    forwarding.add_via(fields)
    if exchange.rules.strip_tags:
        fields = fields.without(TAG_FIELDS)
    forwarding.apply_rules(fields, exchange.match.route.response_headers)
    fields.add(b"Cache-Status", status)
    length = length if kind is BodyKind.LENGTH else 0 if kind is BodyKind.NONE and not _bodiless(exchange, head) else -1
    exchange.downstream.begin(head.status, head.reason, fields, length)
    exchange.stop = answer.discard

    def done(error: UpstreamError | None) -> None:
        exchange.stop = None

    answer.lease.connection.stream(ToClient(answer, exchange.downstream, done))
    exchange.downstream.flush()


def _bodiless(exchange: Exchange, head: ResponseHead) -> bool:
    return exchange.request.method == b"HEAD" or head.status in (204, 304)
