"""What a worker does when requests wait for a connection to an origin: connections that serve little are given up.

In this order: clients that are half-closed and may be gone, those with the longest silence first; so many as requests
wait.
"""

from __future__ import annotations

import asyncio
from weakref import WeakSet

from flyby.proxy.fetching._fetch import Fetch
from flyby.upstream.pool import Pool


class Pressure:
    """The fetches of one worker that would be given up first."""

    __slots__ = ("_half_closed",)

    def __init__(self) -> None:
        self._half_closed: WeakSet[Fetch] = WeakSet()

    def watch(self, fetch: Fetch) -> None:
        """The client of `fetch` is half-closed. Requests may wait for its connection already."""
        self._half_closed.add(fetch)
        if fetch.lease is not None and isinstance(fetch.lease.pool, Pool) and fetch.lease.pool.waiting:
            asyncio.get_running_loop().call_soon(self.relieve, fetch.lease.pool)

    def relieve(self, pool: Pool) -> None:
        """Requests wait for a connection of `pool`."""
        silent = [
            (fetch.silence, fetch)
            for fetch in self._half_closed
            if fetch.silence is not None and fetch.lease is not None and fetch.lease.held and fetch.lease.pool is pool
        ]
        for _, fetch in sorted(silent, key=lambda each: each[0])[: pool.waiting]:
            fetch.give_up_client()
