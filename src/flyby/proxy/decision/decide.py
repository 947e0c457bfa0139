"""The steps of a request, in their order: each answers it, or leaves it to the next.

    certificate · methods · client · purges · flyby's own paths · route · loops · OPTIONS · cookies · the route's own
    steps · upgrade · store or origin

A step returns True when the request has its answer, or when something is at work that will answer. What a route has of
its own (`Context.seams`) comes when the request is what the cache and the origin will see, and before either does.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from flyby.errors import StoreError, WireError
from flyby.policy import EntryFlag, Outcome, Reason, Reuse, cache_status, filter_cookies, only_if_cached
from flyby.proxy.decision import upgrade
from flyby.proxy.fetching import start
from flyby.proxy.fetching.ended import Ended
from flyby.proxy.road import pages
from flyby.proxy.road._exchange import Exchange
from flyby.proxy.road.replies import ALLOWED
from flyby.proxy.routing import forwarding
from flyby.proxy.routing.shares import Shares
from flyby.proxy.stored import hit, lookup, partial, purge
from flyby.store import Entry
from flyby.wire import BodyKind, Fields

ARRIVED = 3  # steps that a request takes once, whether or not it waits for another's fetch
LOOKED_UP = frozenset((b"GET", b"HEAD"))

logger = logging.getLogger("flyby.proxy")


def decide(exchange: Exchange) -> None:
    """Take the steps. Raises `WireError` or `UpstreamError`, which become the response."""
    for _, step in STEPS:
        if step(exchange):
            return


def resume(exchange: Exchange, ended: Ended) -> None:
    """Take the steps for a request that has waited in vain for another's fetch, which has `ended` so."""
    for _, step in STEPS[ARRIVED:-1]:
        if step(exchange):
            return
    lookup.find(exchange)
    start.go_on(exchange, ended, None)


def _check_certificate(exchange: Exchange) -> bool:
    """RFC 9110 7.4: an https request must have come under a certificate that is valid for its host."""
    covers = exchange.downstream.client.covers
    host = exchange.request.host
    if covers is not None and host:
        if not covers(host):
            raise WireError(421, "misdirected", "the certificate of this connection is not valid for this host")
        exchange.downstream.approved = host
    return False


def _check_method(exchange: Exchange) -> bool:
    request = exchange.request
    if request.method in (b"CONNECT", b"TRACE"):
        raise WireError(405, "method-refused", "CONNECT and TRACE are not offered")
    expect = request.fields.combined(b"expect")
    if expect is not None and not request.expect_continue and expect.lower() != b"100-continue":
        raise WireError(417, "expectation-failed", "only 100-continue can be expected")
    return False


def _read_client(exchange: Exchange) -> bool:
    """RFC 9110 7.6.1: what is not sent on is absent for every rule, too."""
    return exchange.client is None


def _purge(exchange: Exchange) -> bool:
    if exchange.request.method != b"PURGE":
        return False
    purge.run(exchange)
    return True


def _answer_locally(exchange: Exchange) -> bool:
    """The paths that are flyby's own, under any host: never passed on, never stored."""
    local = exchange.context.local
    if not exchange.request.path.startswith(local.prefix):
        return False
    answer = local.answers.get(exchange.request.path.split(b"?", 1)[0])
    if answer is None:
        raise WireError(404, "no-such-path", "")
    answer(exchange)
    return True


def _route(exchange: Exchange) -> bool:
    context = exchange.context
    match = context.router.match(exchange.request)
    if match is None:
        raise WireError(404, "no-route", "")
    before, exchange.match = exchange.match, match
    if match.redirect is not None:
        exchange.redirect(match.redirect.location, match.redirect.status)
        return True
    if match.shares is not None:
        # One that has waited for another's fetch has been assigned already.
        match.backend = before.backend if before is not None else _assigned(exchange, match.shares)
    exchange.backend_name = match.backend
    exchange.rules = context.rules[id(match.route)]
    exchange.seams = context.seams.get(id(match.route))
    exchange.path = match.path
    return False


def _assigned(exchange: Exchange, shares: Shares) -> str:
    """The backend that the visitor was given before, or is given now and keeps."""
    fields = exchange.request.fields
    backend = shares.of_visitor(fields)
    shares.left_out(fields)
    if backend is None:
        backend = shares.drawn(random.random())
        exchange.own_lines += shares.cookie_line(backend, exchange.request.scheme == b"https")
    return backend


def _refuse_loop(exchange: Exchange) -> bool:
    forwarding.refuse_loop(exchange.request)
    return False


def _answer_options(exchange: Exchange) -> bool:
    """RFC 9110 7.6.2: a request that was not to go further is answered by what is here."""
    if exchange.request.method != b"OPTIONS" or not forwarding.ends_here(exchange.request):
        return False
    exchange.answer(Outcome.LOCAL, None, 204, Fields([(b"Allow", ALLOWED)]), b"")
    return True


def _leave_out_cookies(exchange: Exchange) -> bool:
    """Neither the cache nor the origin sees the cookies that the route leaves out."""
    rules = exchange.rules
    if rules.ignore_cookies is None and rules.keep_cookies is None:
        return False
    fields = exchange.request.fields
    kept = filter_cookies(fields, rules).get(b"cookie")
    if kept is None:
        fields.remove(b"cookie")
    else:
        fields.set(b"Cookie", kept)
    return False


def _ask_route(exchange: Exchange) -> bool:
    """The `request` point, for routes that have points or chains."""
    return exchange.seams is not None and exchange.seams.at_request(exchange)


def _upgrade(exchange: Exchange) -> bool:
    if exchange.request.upgrade != b"websocket":
        return False
    upgrade.run(exchange)
    return True


def _look_up(exchange: Exchange) -> bool:
    """RFC 9111 4: what is stored answers, where it may."""
    request = exchange.request
    looked_up = request.method in LOOKED_UP and request.body is BodyKind.NONE
    if exchange.context.store is None or exchange.match.route.cache.off or not looked_up:
        start.forward(exchange, Reason.BYPASS if request.method in LOOKED_UP else Reason.METHOD)
        return True
    entry = lookup.find(exchange)
    if entry is None:
        _look_for_part(exchange)
    elif entry.flags & EntryFlag.HIT_FOR_MISS:
        _look_at_mark(exchange, entry)
    else:
        _look_at(exchange, entry)
    return True


def _look_for_part(exchange: Exchange) -> None:
    """No whole response is stored; a part of it may be."""
    part = partial.find(exchange)
    if part is None:
        _miss(exchange, None, Reason.URI_MISS if exchange.claim_key == exchange.primary else Reason.VARY_MISS)
    elif not partial.serve(exchange, part):
        _miss(exchange, None, Reason.PARTIAL)


def _look_at_mark(exchange: Exchange, entry: Entry) -> None:
    """What lies under the key is not for sharing, as was seen when it was last fetched."""
    if entry.fresh_ms <= exchange.context.clock.wall_ms():
        _look_for_part(exchange)
    elif not _only_if_cached(exchange):
        too_large = entry.flags & EntryFlag.TOO_LARGE
        start.fetch_marked(exchange, Reason.TOO_LARGE if too_large else Reason.HIT_FOR_MISS)


def _look_at(exchange: Exchange, entry: Entry) -> None:
    verdict = lookup.judge(exchange, entry)
    if verdict is Reuse.FRESH:
        _hit(exchange, entry, Outcome.HIT, None)
    elif verdict is Reuse.STALE_REVALIDATE_BEHIND:
        if _hit(exchange, entry, Outcome.STALE, Reason.STALE):
            start.refresh(exchange, entry)
    elif verdict is Reuse.STALE:
        _hit(exchange, entry, Outcome.STALE, Reason.STALE)
    elif verdict is Reuse.REVALIDATE:
        _miss(exchange, entry, Reason.STALE)
    else:
        _miss(exchange, None, Reason.REQUEST)


def _hit(exchange: Exchange, entry: Entry, outcome: Outcome, reason: Reason | None) -> bool:
    """Send what is stored. False when it cannot be read (a file on a bad disk): it is dropped, and fetched."""
    try:
        hit.serve(exchange, entry, outcome, reason)
    except StoreError as error:
        logger.error("%s: %s is dropped: %s", exchange.backend_name, entry.key.decode("ascii", "replace"), error)
        assert exchange.context.store is not None
        exchange.context.store.delete(entry.key)
        _miss(exchange, None, Reason.URI_MISS)
        return False
    return True


def _miss(exchange: Exchange, entry: Entry | None, reason: Reason) -> None:
    if not _only_if_cached(exchange):
        start.fetch(exchange, entry, reason)


def _only_if_cached(exchange: Exchange) -> bool:
    """RFC 9111 5.2.1.7: a client that would rather have nothing than wait for the origin gets nothing."""
    if not only_if_cached(exchange.request):
        return False
    fields, content = pages.page(504, exchange.request, exchange.identity.decode("ascii", "replace"))
    fields.add(b"Cache-Status", cache_status(Outcome.ERROR, Reason.ONLY_IF_CACHED))
    exchange.answer(Outcome.ERROR, Reason.ONLY_IF_CACHED, 504, fields, content)
    return True


STEPS: tuple[tuple[str, Callable[[Exchange], bool]], ...] = (
    ("certificate", _check_certificate),
    ("method", _check_method),
    ("client", _read_client),
    ("purge", _purge),
    ("local", _answer_locally),
    ("route", _route),
    ("loop", _refuse_loop),
    ("options", _answer_options),
    ("cookies", _leave_out_cookies),
    ("request", _ask_route),
    ("upgrade", _upgrade),
    ("store", _look_up),
)
