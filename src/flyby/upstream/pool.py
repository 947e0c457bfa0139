"""What the pool asks of others, and what it says: see `_pool.pyx` for what it does."""

from __future__ import annotations

from typing import Protocol

from flyby.clock import Clock
from flyby.upstream._exchange import UpstreamExchange
from flyby.upstream._pool import DIAL, FULL, WAIT, Decision, Lease, Place, Pool
from flyby.upstream.balance import Member
from flyby.upstream.dial import Origin

__all__ = ["DIAL", "FULL", "WAIT", "Decision", "Home", "Lease", "Place", "Pool", "PoolSettings"]


class PoolSettings(Protocol):
    """`config.Pool`."""

    @property
    def max_connections(self) -> int: ...
    @property
    def max_waiters(self) -> int: ...
    @property
    def wait_s(self) -> float: ...
    @property
    def idle_s(self) -> float: ...
    @property
    def lifetime_s(self) -> float: ...
    @property
    def early(self) -> int: ...


class Home(Protocol):
    """Where a leased connection comes from and goes back to: a `Pool`, or whoever is given connections (`donors`)."""

    @property
    def origin(self) -> Origin: ...
    @property
    def member(self) -> Member: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def tags(self) -> tuple[bytes, ...]:
        """For what is stored of the responses that come from here."""

    def give_back(self, connection: UpstreamExchange) -> None:
        """End the lease that holds `connection`."""
