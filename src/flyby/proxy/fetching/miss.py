"""A request that the store cannot answer alone: fetch, decide, stream; one fetch for a crowd.

The first to claim a key owns its fetch; the others follow the owner's Fill. When the response turns out to be nobody
else's business, each follower fetches for itself, and a mark under the key (hit-for-miss) spares the next crowd the
wait. A stored response that is stale is validated with its own validators (RFC 9111 4.3), and is what is left to send
when the origin fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flyby.config import Route
from flyby.errors import UpstreamError
from flyby.log import AccessLog
from flyby.policy import UNKEYED, EntryFlag, Outcome, Plan, Reason, Reuse, drop_unkeyed, validators_for
from flyby.proxy.stored import hit, partial, renewal
from flyby.proxy.fetching._answer import Answer, Asking
from flyby.proxy.fetching._passing import send, status_field
from flyby.proxy.fetching._relay import Passage, Relay
from flyby.proxy.fetching.ask import (
    CLIENT_CONDITIONS,
    SHARED_LEFT_OUT,
    after_refusal,
    arrived,
    ask,
    ask_at_once,
    may_share,
)
from flyby.proxy.fetching.fetch import Attempts
from flyby.proxy.fetching.follow import failed_too, follow
from flyby.proxy.fetching.nobody import Nobody
from flyby.proxy.routing.router import Match, Sign
from flyby.proxy.fetching.sinks import Ended
from flyby.proxy.fetching.storing import open_fill, stream_stored
from flyby.store import COMPLETE, Entry, Fill
from flyby.wire import BodyKind, Fields, WireLimits

if TYPE_CHECKING:
    from flyby.proxy.road.context import Context
    from flyby.proxy.decision.exchange import Exchange

HIT_FOR_MISS_MS = 2_000  # how long an uncacheable answer keeps requests from waiting for one another
ELECTIONS = 3  # how often a follower whose owner vanished stands for owner before it goes alone


def start(exchange: Exchange, stale: Entry | None, why: Reason, collapse: bool = True) -> None:
    """Answer with the origin's help: on a kept connection at once, else in a coroutine, which can wait."""
    if stale is not None or not _fetch_at_once(exchange, why, collapse):
        # Claimed before the coroutine begins, so that who comes in between finds something to follow.
        exchange.run(_run(exchange, stale, why, collapse, _claim(exchange)))


def after(exchange: Exchange, ended: Ended) -> None:
    """Answer a request that waited for another's fetch, which gave it no answer."""
    if ended is Ended.UPSTREAM:
        raise failed_too()
    entry = exchange.find()
    why = Reason.URI_MISS if exchange.claim_key == exchange.primary else Reason.VARY_MISS
    if ended is Ended.UNCACHEABLE or ended is Ended.UNSTORABLE:
        start(exchange, None, why, collapse=False)
    elif entry is None or not hit.usable(entry) or (verdict := exchange.judge(entry)) is Reuse.MISS:
        start(exchange, None, why)
    elif verdict is Reuse.FRESH:
        hit.serve(exchange, entry, Outcome.MISS, why)
    else:
        start(exchange, entry, why)


def start_forward(exchange: Exchange, why: Reason) -> None:
    """Pass a request on that is not cached."""
    lease = exchange.backend().lease_now() if exchange.request.body is BodyKind.NONE else None
    if lease is not None:
        ask_at_once(Asking(exchange, None, why, lease, _PASSING), None)
    else:
        exchange.run(_forward(exchange, why))


# ---- without a Task --------------------------------------------------------------------------------------------------


def _fetch_at_once(exchange: Exchange, why: Reason, collapse: bool) -> bool:
    """Send the request now, if a connection lies ready and no other fetch is to be followed, nor a part completed."""
    store = exchange.context.store
    lease = exchange.backend().lease_now()
    if lease is None or store is None:
        return False
    fill = None
    shared = may_share(exchange.request)
    if shared and collapse:
        fill = store.claim(exchange.claim_key)
        if fill is not None and (not fill.owner or partial.find(exchange) is not None):
            _give_up(fill)
            lease.release()
            return False
        if fill is not None and _came_meanwhile(exchange, fill):
            lease.release()
            return True
    try:
        ask_at_once(Asking(exchange, fill, why, lease, _FETCHING), SHARED_LEFT_OUT if shared else UNKEYED)
    except BaseException:
        _give_up(fill)
        raise
    return True


class _Fetching:
    """What becomes of a request that was sent at once, and whose response may be stored."""

    @staticmethod
    def answered(asking: Asking, answer: Answer) -> None:
        try:
            arrived(asking.exchange, answer)
        except BaseException:
            _give_up(asking.fill)
            raise
        _settle(asking.exchange, asking.fill, None, asking.why, answer)

    @staticmethod
    def failed(asking: Asking, error: UpstreamError) -> None:
        attempts = Attempts(asking.exchange.backend(), asking.exchange.request.method)
        if attempts.failed(error, asking.lease, repeatable=True):
            asking.exchange.run(_fetch(asking.exchange, asking.fill, None, asking.why, attempts))
            return
        _give_up(asking.fill, Ended.UPSTREAM)
        raise error

    @staticmethod
    def refused(asking: Asking) -> None:
        asking.exchange.run(_fetch(asking.exchange, asking.fill, None, asking.why, after_refusal(asking)))


class _Passing:
    """The same of a request that is not cached."""

    @staticmethod
    def answered(asking: Asking, answer: Answer) -> None:
        arrived(asking.exchange, answer)
        _forwarded(asking.exchange, asking.why, answer)

    @staticmethod
    def failed(asking: Asking, error: UpstreamError) -> None:
        attempts = Attempts(asking.exchange.backend(), asking.exchange.request.method)
        if not attempts.failed(error, asking.lease, repeatable=True):
            raise error
        asking.exchange.run(_forward(asking.exchange, asking.why, attempts))

    @staticmethod
    def refused(asking: Asking) -> None:
        asking.exchange.run(_forward(asking.exchange, asking.why, after_refusal(asking)))


_FETCHING, _PASSING = _Fetching(), _Passing()


# ---- without an exchange: see `_relay.pyx` ---------------------------------------------------------------------------


def passages(context: Context, limits: WireLimits, log: AccessLog | None) -> list[Passage | None]:
    """For each route, how the pass lane sends a request on; None where it must be sent on otherwise.

    `log` is the one that takes the context's records, if it takes lines too.
    """
    return [_passage(context, limits, log, sign, route) for sign, route in context.router.signs()]


def _passage(context: Context, limits: WireLimits, log: AccessLog | None, sign: Sign, route: Route) -> Passage | None:
    rules = route.request_headers
    if not sign.serves or route.rewrite is not None or rules.set or rules.add or rules.remove:
        return None
    return Passage(context, Match(route, sign.backend, b""), context.rules[id(route)], limits, log, _take_up)


def _take_up(relay: Relay) -> Asking:
    """Put an exchange in the place of a relay that has come to the end of its lane, with the request under way."""
    from flyby.proxy.decision.exchange import Exchange as Another

    exchange = Another(relay.context, relay.downstream, relay.request)
    exchange.identity, exchange.started, exchange.since = relay.identity, relay.started, relay.since
    exchange.match, exchange.rules, exchange.backend_name = relay.match, relay.rules, relay.backend_name
    exchange.find()
    relay.downstream.answered_by(exchange)
    return Asking(exchange, None, Reason.HIT_FOR_MISS, relay.lease, _FETCHING, relay.started, relay.request_ms)


# ---- with one, which can wait ----------------------------------------------------------------------------------------


def _claim(exchange: Exchange) -> Fill | None:
    assert exchange.context.store is not None
    return exchange.context.store.claim(exchange.claim_key) if may_share(exchange.request) else None


async def _run(exchange: Exchange, stale: Entry | None, why: Reason, collapse: bool, fill: Fill | None) -> None:
    for turn in range(ELECTIONS):
        if turn:
            fill = _claim(exchange)
        if fill is None:
            break
        if fill.owner:
            if not _came_meanwhile(exchange, fill):
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


def _came_meanwhile(exchange: Exchange, fill: Fill) -> bool:
    """Whether another fetch has ended between our lookup and our claim, and answered this request too."""
    entry = exchange.find()
    if entry is None or not hit.usable(entry) or exchange.judge(entry) is not Reuse.FRESH:
        return False
    _give_up(fill, Ended.REVALIDATED)
    hit.serve(exchange, entry, Outcome.HIT)
    return True


def _give_up(fill: Fill | None, why: Ended = Ended.LOST) -> None:
    """Release `fill`; its followers, if it is ours, learn `why`."""
    if fill is not None:
        if fill.owner and fill.state < COMPLETE:
            fill.abort(why)
        fill.release()


async def refresh(exchange: Exchange, stale: Entry) -> None:
    """Bring a stale response up to date behind the client's back (RFC 5861 3); one fetch at a time."""
    from flyby.proxy.decision.exchange import Exchange as Another

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


async def _forward(exchange: Exchange, why: Reason, attempts: Attempts | None = None) -> None:
    _forwarded(exchange, why, await ask(exchange, exchange.request.fields, attempts=attempts))


def _forwarded(exchange: Exchange, why: Reason, answer: Answer) -> None:
    """Pass on, and drop what the request makes untrue (RFC 9111 4.4)."""
    renewal.invalidate(exchange, answer.head)
    if exchange.request.method == b"POST" and exchange.context.store is not None and not exchange.match.route.cache.off:
        # RFC 9110 9.3.3: a POST's response that says where it can be had again serves later GETs.
        plan = renewal.plan_for(exchange, answer, answer.head)
        if isinstance(plan, Plan):
            exchange.find()
            # What has just been made untrue is what was stored before, not this.
            exchange.since = exchange.context.store.mark()
            _decide(exchange, None, None, why, answer)
            return
    exchange.note(Outcome.PASS, why, answer.head.status)
    send(exchange, answer, status_field(Outcome.PASS, why, fwd_status=answer.head.status))


# ---- the owner's side ------------------------------------------------------------------------------------------------


async def _fetch(
    exchange: Exchange, fill: Fill | None, stale: Entry | None, why: Reason, attempts: Attempts | None = None
) -> None:
    """Fetch, decide, stream. `fill` is released on every way out that does not hand it to the stream."""
    try:
        part = partial.find(exchange) if stale is None and may_share(exchange.request) else None
        answer = await _ask_for_store(exchange, stale, part, attempts)
        if part is not None and not _completes(part, answer):
            part = None
            answer.discard()
            answer = await _ask_for_store(exchange, stale, None)
    except UpstreamError as error:
        _give_up(fill, Ended.UPSTREAM)
        if stale is not None and hit.stale_allowed(exchange, stale, error.status):
            hit.serve(exchange, stale, Outcome.STALE, Reason.ORIGIN_FAILED)
            return
        raise
    except BaseException:
        _give_up(fill)
        raise
    _settle(exchange, fill, stale, why, answer)


def _settle(exchange: Exchange, fill: Fill | None, stale: Entry | None, why: Reason, answer: Answer) -> None:
    """The head is here: freshen what is stored, stand in for a failure, or decide on the response."""
    handed_over = False
    head = answer.head
    try:
        if stale is not None and head.status == 304:
            _freshen(exchange, stale, answer)
            _give_up(fill, Ended.REVALIDATED)
            handed_over = True
        elif stale is not None and head.status >= 500 and hit.stale_allowed(exchange, stale, head.status):
            answer.discard()
            _give_up(fill, Ended.REVALIDATED)
            handed_over = True
            hit.serve(exchange, stale, Outcome.STALE, Reason.ORIGIN_FAILED, fwd_status=head.status)
        else:
            handed_over = _decide(exchange, fill, stale, why, answer)
    except BaseException:
        answer.discard()
        raise
    finally:
        if not handed_over:
            _give_up(fill)


def _completes(part: partial.Part, answer: Answer) -> bool:
    """Whether the answer to a request for the rest of `part` can be used: the rest, or the whole instead."""
    if answer.head.status == 206:
        joined = partial.join(part, answer.head)
        return joined is not None and joined.held.complete
    return answer.head.status != 416


async def _ask_for_store(
    exchange: Exchange, stale: Entry | None, part: partial.Part | None, attempts: Attempts | None = None
) -> Answer:
    """The request as it is sent to fill the store: unkeyed fields dropped, conditions ours."""
    fields = drop_unkeyed(exchange.request.fields)
    if may_share(exchange.request) or (stale is not None and not stale.flags & EntryFlag.PARTIAL):
        for name in CLIENT_CONDITIONS:
            fields.remove(name)
    if stale is not None and not stale.flags & EntryFlag.PARTIAL:
        for name, value in validators_for(hit.stored_fields(stale.head)):
            fields.set(name, value)
    for name, value in partial.lacking(exchange, part) if part is not None else ():
        fields.set(name, value)
    return await ask(exchange, fields, attempts=attempts)


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
            fill = store.claim(exchange.claim_key + b"\0alone", exchange.since)
            if fill is not None and not fill.owner:
                fill.release()
                fill = None
        stored = partial.find(exchange) if head.status == 206 else None
        joined = partial.join(stored, head) if stored is not None else None
        length = length if kind is BodyKind.LENGTH else -1
        reason = Reason.TOO_LARGE
        if fill is not None:
            reason = open_fill(exchange, store, fill, plan, answer, length, joined)
        if fill is not None and reason is None:
            exchange.note(Outcome.MISS, why, head.status)
            status = status_field(Outcome.MISS, why, fwd_status=head.status, stored=True)
            stream_stored(exchange, fill, plan, answer, status, joined)
            return True
        if joined is not None and b"range" not in request.fields:
            answer.discard()
            raise UpstreamError(503, "no-room", "proxy_internal_error", "the rest of a stored part cannot be stored")
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
        status_field(Outcome.MISS, why, fwd_status=head.status, detail=reason.value if reason else None),
    )
    return True


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
