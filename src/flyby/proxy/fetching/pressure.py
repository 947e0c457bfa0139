"""What a worker does when requests wait for a connection to an origin: connections that serve little are given up.

In this order, and so many as requests wait:

    clients that are half-closed, and may be gone     those with the longest silence first
    clients that read less than `read_rate`           the slowest first; what is stored is not theirs alone
    clients that send less than `body_rate`           the slowest first, with 408

While nobody waits, all of them have the connection as long as they like (within `write_s` and `body_s`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from weakref import WeakSet

from flyby.errors import WireError
from flyby.proxy.fetching._fetch import Fetch
from flyby.upstream.pool import Pool

READ_WINDOW_S = 30.0  # over which a reader's rate counts
SEND_WINDOW_S = 20.0  # over which a sender's rate counts


class Pressure:
    """The fetches of one worker that would be given up first."""

    __slots__ = ("_half_closed", "_readers", "_senders")

    def __init__(self) -> None:
        self._half_closed: WeakSet[Fetch] = WeakSet()
        self._readers: WeakSet[Fetch] = WeakSet()
        self._senders: WeakSet[Fetch] = WeakSet()

    def watch(self, fetch: Fetch) -> None:
        """The client of `fetch` is half-closed. Requests may wait for its connection already."""
        self._half_closed.add(fetch)
        if fetch.lease is not None and isinstance(fetch.lease.pool, Pool) and fetch.lease.pool.waiting:
            asyncio.get_running_loop().call_soon(self.relieve, fetch.lease.pool)

    def watch_reader(self, fetch: Fetch) -> None:
        """The client of `fetch` has fallen behind its response."""
        self._readers.add(fetch)

    def watch_sender(self, fetch: Fetch) -> None:
        """`fetch` has taken a connection before its content is whole."""
        self._senders.add(fetch)

    def relieve(self, pool: Pool) -> None:
        """Requests wait for a connection of `pool`."""
        wanted: int = pool.waiting
        for fetch in _first(self._half_closed, pool, lambda fetch: fetch.silence)[:wanted]:
            wanted -= 1
            fetch.give_up_client()
        for fetch in _first(self._readers, pool, _reads_too_slowly)[:wanted]:
            wanted -= 1
            fetch.give_up_client()
        for fetch in _first(self._senders, pool, _sends_too_slowly)[:wanted]:
            fetch.content_failed(
                WireError(408, "content-slow", "the content comes too slowly while other requests wait for its origin")
            )


def _first(fetches: Iterable[Fetch], pool: Pool, rank: Callable[[Fetch], float | None]) -> list[Fetch]:
    """Those that hold a connection of `pool` and have a rank, by it."""
    holding = [fetch for fetch in fetches if fetch.lease is not None and fetch.lease.held and fetch.lease.pool is pool]
    ranked = [(found, fetch) for fetch in holding if (found := rank(fetch)) is not None]
    return [fetch for _, fetch in sorted(ranked, key=lambda each: each[0])]


def _reads_too_slowly(fetch: Fetch) -> float | None:
    """The client's rate, if that is below what the configuration asks for."""
    least = fetch.exchange.context.config.server.timeouts.read_rate
    rate = fetch.reading_rate(READ_WINDOW_S) if least else None
    return rate if rate is not None and rate < least else None


def _sends_too_slowly(fetch: Fetch) -> float | None:
    exchange = fetch.exchange
    own = exchange.match.route.body_rate
    least = exchange.context.config.server.timeouts.body_rate if own is None else own
    rate = fetch.sending_rate(SEND_WINDOW_S) if least else None
    return rate if rate is not None and rate < least else None
