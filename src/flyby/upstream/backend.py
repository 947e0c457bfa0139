"""A backend as the proxy sees it: a lease on a connection to one of its origins, and what there is to know about them.

Connections that peers have donated (`donors`: the tunnel) come first; the origins are what is left without them.

For each request an origin is chosen (`balance`), then its pool decides (`pool`), and this file acts on the decision:
it dials, or waits in the queue within `pool.wait_s`. An origin that cannot be reached is passed over for another, so
that a request fails only when every origin that it may try has failed; one whose pool is full is passed over while
another has a place.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from flyby.clock import Clock
from flyby.errors import ConfigError, Problem, Retry, UpstreamError
from flyby.upstream.balance import EjectSettings, Member, choose
from flyby.upstream.budget import RetryBudget
from flyby.upstream.connection import UpstreamConnection
from flyby.upstream.dial import Dialler, Origin
from flyby.upstream.donors import Donors, DonorStatistics
from flyby.upstream.health import Checks, HealthSettings, probe
from flyby.upstream.pool import DIAL, FULL, Decision, Lease, Pool, PoolSettings
from flyby.upstream.resolver import Resolver
from flyby.upstream.tls import client_context
from flyby.wire import STANDARD_LIMITS, WireLimits

RELEASE_LENGTH = 128  # characters of a release's id that count, here as in the control state
ORIGIN_ATTEMPTS = 3  # origins that are dialled for one request before it fails
SWEEP_MIN_S = 0.1  # the least time between two looks for idle connections to close


class BackendSettings(Protocol):
    """`config.Backend`."""

    @property
    def origins(self) -> Sequence[str]: ...
    @property
    def tunnel(self) -> bool: ...
    @property
    def purge_on_release(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def tls_name(self) -> str | None: ...
    @property
    def ca_file(self) -> str | None: ...
    @property
    def verify(self) -> bool: ...
    @property
    def connect_s(self) -> float: ...
    @property
    def first_byte_s(self) -> float: ...
    @property
    def between_bytes_s(self) -> float: ...
    @property
    def pool(self) -> PoolSettings: ...
    @property
    def health(self) -> HealthSettings | None: ...
    @property
    def eject(self) -> EjectSettings: ...


@dataclass(frozen=True, slots=True)
class OriginStatistics:
    """A snapshot of one origin, as this process sees it."""

    address: str
    healthy: bool
    ejected: bool
    in_flight: int
    leased: int
    idle: int
    dialling: int
    waiting: int
    opened_total: int
    failures_total: int
    latency_s: float


@dataclass(frozen=True, slots=True)
class BackendStatistics:
    """A snapshot of one backend."""

    name: str
    origins: tuple[OriginStatistics, ...]
    donors: tuple[DonorStatistics, ...] = ()


class Backend:
    """See the module's text. `settings` is a `config.Backend`; `ConfigError` when it cannot be used."""

    def __init__(
        self,
        name: str,
        settings: BackendSettings,
        *,
        clock: Clock,
        limits: WireLimits = STANDARD_LIMITS,
        resolver: Resolver | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.donors: Donors | None = None
        self.retries = RetryBudget()
        self._clock = clock
        self._limits = limits
        try:
            parsed = [Origin.parse(url) for url in settings.origins]
        except ValueError as error:
            raise ConfigError([Problem("", 0, 0, f"backend {name}: {error}")]) from error
        origins = list({origin.address: origin for origin in parsed}.values())
        if not origins and not settings.tunnel:
            raise ConfigError([Problem("", 0, 0, f"backend {name} has no origins", "origins = [URL, ...]")])
        secure = any(origin.scheme == "https" for origin in origins)
        tls = client_context(settings.ca_file, settings.verify) if secure else None
        self._dialler = Dialler(resolver or Resolver(clock), settings.connect_s, tls, settings.tls_name)
        self._members = [Member(origin.address, settings.eject) for origin in origins]
        self._pools = {
            member.address: Pool(origin, settings.pool, member, clock)
            for origin, member in zip(origins, self._members, strict=True)
        }
        for pool in self._pools.values():
            pool.tags = self.release_tags("")
        # The pool when there is no choice.
        self.only = next(iter(self._pools.values())) if len(self._pools) == 1 else None
        self._checks = [
            self._checks_of(origin, member, settings.health)
            for origin, member in zip(origins, self._members, strict=True)
            if settings.health is not None
        ]
        self.sweeper: asyncio.TimerHandle | None = None  # what looks after idle connections, while there may be any
        self._closed = False

    def __repr__(self) -> str:
        return f"<Backend {self.name} {list(self._pools.values())}>"

    async def start(self) -> None:
        """Begin the active checks."""
        for checks in self._checks:
            checks.start()

    async def close(self) -> None:
        """End the checks and close idle connections; those that are leased end with their leases."""
        self._closed = True
        if self.sweeper is not None:
            self.sweeper.cancel()
            self.sweeper = None
        for pool in self._pools.values():
            pool.close()
        for checks in self._checks:
            await checks.stop()

    def lease_now(self) -> Lease | None:
        """A connection that lies ready; None when one would have to be waited for, or dialled."""
        if self.donors is not None:
            return self.donors.checkout()
        if not self._members:
            return None
        pool = self.only
        if pool is None:
            pool = self._pools[self._choose(()).address]
        lease = pool.take()
        if lease is not None:
            pool.member.in_flight += 1
            if self.sweeper is None and not self._closed:
                self._sweep_in(self.settings.pool.idle_s)
        return lease

    async def lease(self, *, fresh: bool = False, exclude: Collection[str] = ()) -> Lease:
        """A connection for one exchange; `fresh` asks for a new one, `exclude` names origins' addresses to avoid.

        Raises `UpstreamError` when no origin can be reached (its `retry` is ALWAYS), or no place comes free in time.
        """
        donors = self.donors
        if donors is not None:
            lease = donors.checkout(exclude) or await donors.wait(exclude, fallback=bool(self._members))
            if lease is not None:
                return lease
        tried = set(exclude)
        attempts = min(ORIGIN_ATTEMPTS, len(self._members))
        while True:
            attempts -= 1
            member = self._choose(tried)
            member.in_flight += 1
            try:
                lease = await self._lease_from(self._pools[member.address], fresh)
            except UpstreamError as error:
                member.in_flight -= 1
                tried.add(member.address)
                if attempts == 0 or error.retry is not Retry.ALWAYS or tried.issuperset(self._pools):
                    raise
            except BaseException:
                member.in_flight -= 1
                raise
            else:
                if self.sweeper is None and not self._closed:
                    self._sweep_in(self.settings.pool.idle_s)
                return lease

    def statistics(self) -> BackendStatistics:
        """A snapshot."""
        now = self._clock.monotonic()
        return BackendStatistics(
            self.name,
            tuple(
                OriginStatistics(
                    address=member.address,
                    healthy=member.healthy,
                    ejected=member.ejected(now),
                    in_flight=member.in_flight,
                    leased=pool.leased,
                    idle=pool.idle,
                    dialling=pool.dialling,
                    waiting=pool.waiting,
                    opened_total=pool.opened,
                    failures_total=member.failures_total,
                    latency_s=member.latency_s,
                )
                for member, pool in ((member, self._pools[member.address]) for member in self._members)
            ),
            self.donors.statistics() if self.donors is not None else (),
        )

    def release_tags(self, release: str) -> tuple[bytes, ...]:
        """The tag of what a release has made, where a new one purges that; "" is a release that nobody has named."""
        if self.settings.purge_on_release == "off":
            return ()
        return (f"flyby-release:{self.name}:{release[:RELEASE_LENGTH]}".encode(),)

    def adopt(self, transport: asyncio.Transport) -> UpstreamConnection:
        """A connection on a transport that a peer has opened and given to us; `donors` lease it out."""
        settings = self.settings
        loop, now = asyncio.get_running_loop(), self._clock.monotonic()
        connection = UpstreamConnection(loop, self._limits, settings.first_byte_s, settings.between_bytes_s, now)
        connection.connection_made(transport)
        transport.set_protocol(connection)
        return connection

    def _choose(self, exclude: Collection[str]) -> Member:
        members = self._members
        if not members:
            raise UpstreamError(503, "no-origin", "destination_unavailable", f"backend {self.name} has no origin")
        if len(members) == 1:
            return members[0]
        now = self._clock.monotonic()
        full = {address for address, pool in self._pools.items() if pool.full}
        if full:
            avoid = full.union(exclude)
            # Waiting behind a good origin beats a free place at one that fails.
            if any(member.takes(now) and member.address not in avoid for member in members):
                exclude = avoid
        return choose(members, now, random.randrange, exclude)

    async def _lease_from(self, pool: Pool, fresh: bool) -> Lease:
        grant: Lease | Decision = pool.checkout(fresh)
        if grant is FULL:
            raise self._no_place("too many requests wait for a connection to", pool)
        if grant is not DIAL and not isinstance(grant, Lease):
            grant = await self._wait(pool)
        if isinstance(grant, Lease):
            if not fresh or not grant.reused:
                return grant
            # A used connection came free while we waited for a place; the place is what we need.
            grant = pool.trade_for_dial(grant)
        return await self._dial(pool)

    async def _wait(self, pool: Pool) -> Lease | Decision:
        loop = asyncio.get_running_loop()
        place: asyncio.Future[Lease | Decision] = loop.create_future()
        pool.join(place)
        try:
            async with asyncio.timeout(self.settings.pool.wait_s):
                return await place
        except TimeoutError as error:
            self._leave(pool, place)
            raise self._no_place("no connection came free in time to", pool) from error
        except BaseException:
            self._leave(pool, place)
            raise

    @staticmethod
    def _leave(pool: Pool, place: asyncio.Future[Lease | Decision]) -> None:
        """Leave the queue; what was granted in the very moment goes to the next."""
        pool.leave(place)
        if place.done() and not place.cancelled():
            grant = place.result()
            # The caller takes back the request from the origin's count; giving the lease back does so too.
            if isinstance(grant, Lease):
                pool.member.in_flight += 1
                grant.release()
            else:
                pool.dial_failed()

    async def _dial(self, pool: Pool) -> Lease:
        loop = asyncio.get_running_loop()
        settings = self.settings
        make = partial(
            UpstreamConnection,
            loop,
            self._limits,
            settings.first_byte_s,
            settings.between_bytes_s,
            self._clock.monotonic(),
        )
        try:
            connection = await self._dialler.dial(pool.origin, make)
        except UpstreamError as error:
            if error.proxy_error != "proxy_internal_error":
                pool.member.failed(self._clock.monotonic())
            pool.dial_failed()
            raise
        except BaseException:
            pool.dial_failed()
            raise
        return pool.dialled(connection)

    def _no_place(self, what: str, pool: Pool) -> UpstreamError:
        return UpstreamError(503, "connection-limit", "connection_limit_reached", f"{what} {pool.origin.address}")

    def _checks_of(self, origin: Origin, member: Member, settings: HealthSettings) -> Checks:
        host = origin.authority if self.settings.host in ("origin", "client") else self.settings.host.encode()

        async def dial() -> UpstreamConnection:
            loop = asyncio.get_running_loop()
            make = partial(
                UpstreamConnection, loop, self._limits, settings.timeout_s, settings.timeout_s, self._clock.monotonic()
            )
            return await self._dialler.dial(origin, make)

        return Checks(member, settings, partial(probe, dial, host, settings.path.encode(), settings.timeout_s))

    # ---- idle connections --------------------------------------------------------------------------------------------

    def _sweep_in(self, seconds: float) -> None:
        self.sweeper = asyncio.get_running_loop().call_later(max(seconds, SWEEP_MIN_S), self._sweep)

    def _sweep(self) -> None:
        self.sweeper = None
        due = [left for left in (pool.expire() for pool in self._pools.values()) if left is not None]
        if due:
            self._sweep_in(min(due))
        elif any(pool.leased or pool.dialling for pool in self._pools.values()):
            self._sweep_in(self.settings.pool.idle_s)
