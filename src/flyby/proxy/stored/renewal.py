"""What a response from the origin says of those that are stored: that they are still good, changed, or untrue.

A validation brings a stored response up to date (RFC 9111 3.2, 4.3.4), a HEAD may (4.3.5), an unsafe request that
succeeded makes what is stored of its target untrue (4.4). Whatever is stored anew is judged anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from flyby.policy import (
    UNSAFE_METHODS,
    HeadEffect,
    Plan,
    Reason,
    Response,
    freshen,
    head_effect,
    invalidation_targets,
    primary_key,
    storable,
    validates,
)
from flyby.proxy.routing.resource import stem_key
from flyby.proxy.stored import hit, lookup, variants
from flyby.store import Entry, Store
from flyby.wire import REASONS, Fields, RequestHead, ResponseHead, serialise_response

if TYPE_CHECKING:
    from flyby.proxy.road._exchange import Exchange


class Answered(Protocol):
    """A fetch whose response's head is here."""

    @property
    def response(self) -> ResponseHead: ...
    @property
    def request_ms(self) -> int: ...
    @property
    def response_ms(self) -> int: ...
    @property
    def ranged(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Updated:
    """A stored response with the fields of its validation: what `storable` judges again."""

    status: int
    fields: Fields


def plan_for(exchange: Exchange, answer: Answered, response: Response) -> Plan | Reason:
    """How `response`, which is the answer's or what is stored with its fields, is to be stored; or why it is not."""
    request, clock = exchange.request, exchange.context.clock
    method, fields = request.method, request.fields
    if response.status == 304:
        # It stands for a whole whose fields these are (RFC 9110 15.4.5): what is asked is whether that may be stored.
        response = Updated(200, response.fields)
    elif isinstance(response, Updated):
        # What a validation brings up to date is a GET's response, though a HEAD may have asked.
        method = b"GET"
    if answer.ranged is not None and b"range" not in fields:
        # We asked for the rest of a stored part in the client's name.
        fields = fields.copy()
        fields.set(b"Range", answer.ranged)
    if method != request.method or fields is not request.fields:
        request = RequestHead(
            method,
            request.target,
            request.version,
            fields,
            scheme=request.scheme,
            host=request.host,
            path=request.path,
        )
    return storable(
        request,
        response,
        request_ms=answer.request_ms,
        response_ms=answer.response_ms,
        rules=exchange.rules,
        skew_ms=clock.wall_ms() - clock.date_ms(),
    )


def speaks_of(entry: Entry, answer: Answered) -> bool:
    """Whether a 304 to our validators is about this stored response (RFC 9111 4.3.4); else it updates nothing."""
    return validates(hit.stored_fields(entry.head), answer.response.fields)


def cookies_for_client(exchange: Exchange, answer: Answered) -> bytes:
    """The Set-Cookie lines of a 304 that are for the client alone whose own request was the validation."""
    if exchange.rules.keeps_set_cookie:
        return b""  # they are stored, and so sent with the rest
    return b"".join(b"Set-Cookie: %b\r\n" % value for value in answer.response.fields.get_all(b"set-cookie"))


def renew(exchange: Exchange, store: Store, entry: Entry, answer: Answered) -> Entry | None:
    """Store `entry` with the fields of `answer` laid over its own (RFC 9111 3.2), or drop it if they forbid storing."""
    keeps_cookie = exchange.rules.keeps_set_cookie
    fields = freshen(hit.stored_fields(entry.head), answer.response.fields, set_cookie=keeps_cookie)
    plan = plan_for(exchange, answer, Updated(entry.status, fields))
    if isinstance(plan, Reason):
        store.delete(entry.key)
        return None
    times = plan.times
    blob = serialise_response(entry.status, REASONS.get(entry.status, b""), plan.head)[:-2]
    # A 304 need not repeat the tags.
    tags = plan.tags + exchange.extra_tags if plan.tags else None
    if store.refresh(entry, blob, int(plan.flags), times.born_ms, times.fresh_ms, times.swr_s, times.sie_s, tags=tags):
        return store.lookup(entry.key)
    return entry


def learn_from_head(exchange: Exchange, store: Store, answer: Answered) -> None:
    """RFC 9111 4.3.5: a HEAD's response brings the stored GET response up to date, or shows that it is outdated."""
    entry = lookup.find(exchange)
    if entry is None or not hit.usable(entry):
        return
    stored = hit.stored_fields(entry.head)
    effect = head_effect(stored, entry.length, entry.status, answer.response.status, answer.response.fields)
    if effect is HeadEffect.INVALIDATE:
        store.expire(entry.key)
    elif effect is HeadEffect.UPDATE:
        renew(exchange, store, entry, answer)


def invalidate(exchange: Exchange, head: ResponseHead) -> None:
    """RFC 9111 4.4: after an unsafe request that was not refused, what is stored of its target is not to be trusted."""
    store = exchange.context.store
    if store is None or exchange.request.method not in UNSAFE_METHODS or not 200 <= head.status < 400:
        return
    for scheme, host, path in invalidation_targets(exchange.request, head):
        stem, _ = primary_key(scheme, host, path, exchange.rules)
        # What one of a route's backends has changed, the others may show.
        for name in exchange.match.route.shares:
            variants.purge(store, stem_key(stem, exchange.rules.owner or name.encode()), soft=False)
