"""What is stored for a request, and what may be done with it now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flyby.policy import Reuse, Times, reuse
from flyby.policy.key import forwarded_path
from flyby.proxy.routing.resource import resource_key
from flyby.proxy.routing.sent import Sent
from flyby.proxy.stored import variants
from flyby.store import Entry

if TYPE_CHECKING:
    from flyby.proxy.road._exchange import Exchange


def find(exchange: Exchange) -> Entry | None:
    """The stored response that the request selects; sets the exchange's keys, and its path by the route's rules."""
    store = exchange.context.store
    assert store is not None
    if not exchange.primary:
        request = exchange.request
        exchange.primary, path = resource_key(
            exchange.match, request.scheme, request.host, request.path, exchange.rules
        )
        exchange.path = path if exchange.path == request.path else forwarded_path(exchange.path, exchange.rules)
    entry, exchange.claim_key = variants.find(store, exchange.primary, Sent(exchange))
    return entry


def judge(exchange: Exchange, entry: Entry) -> Reuse:
    """What may be done with a stored response now."""
    times = Times(entry.born_ms, entry.fresh_ms, entry.swr_s, entry.sie_s)
    now_ms = exchange.context.clock.wall_ms()
    return reuse(exchange.request, times, entry.flags, entry.status, now_ms, exchange.rules)
