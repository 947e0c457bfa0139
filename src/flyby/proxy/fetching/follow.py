"""The followers' side of a shared fetch: wait for the owner's response, judge whether it is ours too, read along.

For plain requests `_crowd.pyx` does the same many at a time; here are those with conditions, with directives, with
something stale to fall back on, and those that had to look again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from flyby.errors import UpstreamError
from flyby.policy import Outcome, Reason, allowed_for, cache_status, evaluate, vary_names
from flyby.proxy.stored import hit, variants
from flyby.proxy.fetching.delivery import Delivery
from flyby.proxy.fetching.sinks import Ended
from flyby.store import EMPTY, FAILED, Entry, Fill

if TYPE_CHECKING:
    from flyby.proxy.decision.exchange import Exchange


def failed_too() -> UpstreamError:
    """The owner's failure is its followers'."""
    return UpstreamError(502, "collapsed-failure", "connection_terminated", "the fetch that was shared failed")


async def follow(exchange: Exchange, fill: Fill, stale: Entry | None) -> Ended | None:
    """Share the owner's response. None when the client has been answered, else how the fetch ended."""
    store = exchange.context.store
    assert store is not None
    settings = exchange.backend().settings
    changed = asyncio.Event()
    fill.subscribe(changed.set)
    try:
        # The owner's own time limits end its fetch; ours is for an owner that was stopped in its tracks.
        async with asyncio.timeout(settings.connect_s + settings.first_byte_s):
            while fill.state == EMPTY:
                changed.clear()
                await changed.wait()
    except TimeoutError:
        fill.unsubscribe(changed.set)
        fill.release()
        return Ended.UNCACHEABLE
    except BaseException:
        fill.unsubscribe(changed.set)
        fill.release()
        raise
    fill.unsubscribe(changed.set)
    if fill.state == FAILED:
        reason = Ended(fill.reason)
        fill.release()
        if reason is Ended.UPSTREAM:
            if stale is not None and hit.stale_allowed(exchange, stale, 502):
                hit.serve(exchange, stale, Outcome.STALE, Reason.ORIGIN_FAILED)
                return None
            raise failed_too()
        return reason
    if fill.outdated:
        # Purged after the owner had asked the origin, and before we came.
        fill.release()
        return Ended.LOST
    fields = hit.stored_fields(fill.head)
    names = vary_names(fields) or ()
    if variants.key_of(store, exchange.primary, names, exchange.request.fields) != fill.key:
        fill.release()
        exchange.find()
        return Ended.LOST
    if not allowed_for(exchange.request, fill.flags, exchange.rules):
        fill.release()
        return Ended.UNCACHEABLE
    exchange.note(Outcome.MISS, Reason.COLLAPSED, fill.status)
    verdict = evaluate(exchange.request, fields, fill.status)
    if verdict is not None:
        fill.release()
        status = cache_status(Outcome.MISS, Reason.COLLAPSED, collapsed=True)
        hit.send_verdict(exchange, verdict, fields, status)
        return None
    head = hit.collapsed_head(fill, exchange.context.clock.wall_ms())
    exchange.downstream.begin_ready(head, fill.length, fill.status)

    def ended() -> None:
        exchange.stop = None

    delivery = Delivery(fill, exchange.downstream, ended, lambda reason: False)
    exchange.stop = delivery.stop
    delivery.start()
    exchange.downstream.flush()
    return None
