"""How a request that the store cannot answer gets its response: by a fetch of its own, or by following another's.

The first to claim a key owns its fetch; the others follow the owner's Fill. When the response turns out to be for
nobody else, each follower fetches for itself, and a mark under the key (hit-for-miss) spares the next requests the
wait. A stored response that is stale is validated with its own validators (RFC 9111 4.3), and is what is left to send
when the origin fails.

A fetch of which nothing is heard for `cache.collapse_wait_s` is not waited for any longer: one of the waiters, one over
all workers, fetches beside it, and another beside both when that stalls too. Who has waited for all three waits on: for
the first, until it ends, and looks each time whether another has brought the response meanwhile.
"""

from __future__ import annotations

from functools import partial

from flyby.policy import EntryFlag, Outcome, Reason, Reuse
from flyby.proxy.fetching._asking import Purpose
from flyby.proxy.fetching._fetch import Fetch
from flyby.proxy.fetching.ended import Ended
from flyby.proxy.fetching.following import Following, failed_too
from flyby.proxy.fetching.request import may_share
from flyby.proxy.road._exchange import Exchange
from flyby.proxy.stored import hit, lookup
from flyby.store import Entry, Fill

BESIDE = (b"\0beside 1", b"\0beside 2")  # to a key: the names of fetches beside one that stalls


def fetch(exchange: Exchange, stale: Entry | None, why: Reason) -> None:
    """Answer with the origin's help, sharing the fetch where that is possible; `stale` is validated.

    What must be validated for each use (RFC 9111 5.2.2.4) is validated by each request: waiting would gain nothing.
    """
    store = exchange.context.store
    assert store is not None
    shared = may_share(exchange.request) and (stale is None or not stale.flags & EntryFlag.NO_CACHE)
    fill = store.claim(exchange.claim_key) if shared else None
    if fill is None:
        Fetch(exchange, why, stale=stale).begin()
    elif not fill.owner:
        Following(exchange, fill, stale, go_on).begin()
    elif not _came_meanwhile(exchange, fill):
        Fetch(exchange, why, fill=fill, stale=stale).begin()


def fetch_marked(exchange: Exchange, why: Reason) -> None:
    """Answer from the origin, for this client alone: what lies under the key is known not to be for sharing."""
    store = exchange.context.store
    assert store is not None
    fill = store.claim(exchange.claim_key) if may_share(exchange.request) else None
    if fill is not None and not fill.owner:
        fill.release()
        fill = None
    Fetch(exchange, why, fill=fill, conditions=True).begin()


def forward(exchange: Exchange, why: Reason) -> None:
    """Pass a request on that is not cached."""
    Fetch(exchange, why, purpose=Purpose.TO_FORWARD).begin()


def refresh(exchange: Exchange, stale: Entry) -> None:
    """Bring a stale response up to date in the background (RFC 5861 3); one fetch at a time."""
    store = exchange.context.store
    assert store is not None
    fill = store.claim(exchange.claim_key)
    if fill is None:
        return
    if not fill.owner:
        fill.release()
        return
    behind = exchange.behind()
    behind.run_step(Fetch(behind, Reason.STALE, fill=fill, stale=stale, purpose=Purpose.TO_REFRESH).begin)


def go_on(exchange: Exchange, ended: Ended, stale: Entry | None, beside: int = 0) -> None:
    """Answer a request that has waited for another's fetch in vain; it has `ended` so.

    `beside` fetches beside the first were waited for, too.
    """
    if ended is Ended.UPSTREAM or ended is Ended.TIMEOUT:
        if stale is not None and hit.stale_allowed(exchange, stale, 504 if ended is Ended.TIMEOUT else 502):
            hit.serve(exchange, stale, Outcome.STALE, Reason.ORIGIN_FAILED)
            return
        raise failed_too(ended)
    entry = lookup.find(exchange)
    why = Reason.URI_MISS if exchange.claim_key == exchange.primary else Reason.VARY_MISS
    if ended is Ended.UNCACHEABLE or ended is Ended.UNSTORABLE:
        Fetch(exchange, why, stale=None).begin()
        return
    verdict = lookup.judge(exchange, entry) if entry is not None and hit.usable(entry) else Reuse.MISS
    if entry is not None and verdict is Reuse.FRESH:
        hit.serve(exchange, entry, Outcome.MISS if stale is None else Outcome.REVALIDATED, why)
    elif ended is Ended.STALLED:
        _fetch_beside(exchange, stale, why, beside)
    else:
        fetch(exchange, entry if verdict is Reuse.REVALIDATE else None, why)


def _fetch_beside(exchange: Exchange, stale: Entry | None, why: Reason, beside: int) -> None:
    """Fetch beside a fetch that stalls, or follow the waiter that does; there are never more than three of one key."""
    store = exchange.context.store
    assert store is not None
    name = BESIDE[beside] if beside < len(BESIDE) else b""
    fill = store.claim(exchange.claim_key + name)
    if fill is None or fill.owner:
        Fetch(exchange, why, fill=fill, stale=stale).begin()
    else:
        Following(exchange, fill, stale, partial(go_on, beside=min(beside + 1, len(BESIDE)))).begin()


def _came_meanwhile(exchange: Exchange, fill: Fill) -> bool:
    """Whether another fetch has ended between our lookup and our claim, and answered this request too."""
    entry = lookup.find(exchange)
    if entry is None or not hit.usable(entry) or lookup.judge(exchange, entry) is not Reuse.FRESH:
        return False
    fill.abort(Ended.REVALIDATED)
    fill.release()
    hit.serve(exchange, entry, Outcome.HIT)
    return True
