"""A backend as the proxy sees it: a lease on a connection to one of its origins, and what there is to know about them.

Connections that peers have donated (`donors`: the tunnel) come first; the origins are what is left without them.

For each request an origin is chosen (`balance`), then its pool decides (`pool`), and the decision is acted on
(`_waiter.pyx`): a lease, a dial, or a wait in the queue within `pool.wait_s`. This file makes the parts from the
configuration, dials, and looks after checks and idle connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from flyby.clock import Clock
from flyby.errors import ConfigError, Problem, UpstreamError
from flyby.upstream._waiter import LeaseSource, Waiter
from flyby.upstream.balance import EjectSettings, Member
from flyby.upstream.budget import RetryBudget
from flyby.upstream.connection import UpstreamConnection
from flyby.upstream.dial import Dialler, Origin
from flyby.upstream.donors import DonorStatistics
from flyby.upstream.health import Checks, HealthSettings, probe
from flyby.upstream.pool import Lease, Pool, PoolSettings
from flyby.upstream.resolver import Resolver
from flyby.upstream.tls import client_context
from flyby.wire import STANDARD_LIMITS, WireLimits

RELEASE_LENGTH = 128  # characters of a release's id that count, here as in the control state
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
    def map_origin(self) -> bool: ...
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


class Backend(LeaseSource):
    """See the module's text. `settings` is a `config.Backend`; `ConfigError` when it cannot be used.

    `bound` is how many connections to one address the process can open, whatever `settings` allow.
    """

    def __init__(
        self,
        name: str,
        settings: BackendSettings,
        *,
        clock: Clock,
        limits: WireLimits = STANDARD_LIMITS,
        resolver: Resolver | None = None,
        bound: int | None = None,
    ) -> None:
        self.settings = settings
        self.retries = RetryBudget()
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
        self._pools = [
            Pool(origin, settings.pool, Member(origin.address, settings.eject), clock, bound) for origin in origins
        ]
        for pool in self._pools:
            pool.tags = self.release_tags("")
        super().__init__(name, self._pools, clock)
        self._checks = [
            self._checks_of(pool.origin, pool.member, settings.health)
            for pool in self._pools
            if settings.health is not None
        ]

    def __repr__(self) -> str:
        return f"<Backend {self.name} {self._pools}>"

    def on_pressure(self, relieve: Callable[[Pool], None]) -> None:
        """Call `relieve` with a pool soon after requests have begun to wait for its connections."""
        for pool in self._pools:
            pool.on_pressure = relieve

    async def start(self) -> None:
        """Begin the active checks."""
        for checks in self._checks:
            checks.start()

    async def close(self) -> None:
        """End the checks and close idle connections; those that are leased end with their leases."""
        self.closed = True
        if self.sweeper is not None:
            self.sweeper.cancel()
            self.sweeper = None
        for pool in self._pools:
            pool.close()
        for checks in self._checks:
            await checks.stop()

    async def lease(self, *, fresh: bool = False, exclude: Collection[str] = ()) -> Lease:
        """`want`, for who can wait: returns the lease, or raises `UpstreamError`."""
        waiter = _Awaited(asyncio.get_running_loop().create_future())
        wait = self.want(waiter, fresh, exclude)
        try:
            return await waiter.answer
        except BaseException:
            wait.cancel()
            waiter.give_up()
            raise

    def statistics(self) -> BackendStatistics:
        """A snapshot."""
        now = self.clock.monotonic()
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
                for member, pool in ((pool.member, pool) for pool in self._pools)
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
        loop, now = asyncio.get_running_loop(), self.clock.monotonic()
        connection = UpstreamConnection(loop, self._limits, settings.first_byte_s, settings.between_bytes_s, now)
        connection.connection_made(transport)
        transport.set_protocol(connection)
        return connection

    async def dial(self, pool: Pool) -> UpstreamConnection:
        """A new connection to the origin of `pool`. Raises `UpstreamError`."""
        settings = self.settings
        make = partial(
            UpstreamConnection,
            asyncio.get_running_loop(),
            self._limits,
            settings.first_byte_s,
            settings.between_bytes_s,
            self.clock.monotonic(),
        )
        return await self._dialler.dial(pool.origin, make)

    def _checks_of(self, origin: Origin, member: Member, settings: HealthSettings) -> Checks:
        host = origin.authority if self.settings.host in ("origin", "client") else self.settings.host.encode()

        async def dial() -> UpstreamConnection:
            loop = asyncio.get_running_loop()
            make = partial(
                UpstreamConnection, loop, self._limits, settings.timeout_s, settings.timeout_s, self.clock.monotonic()
            )
            return await self._dialler.dial(origin, make)

        return Checks(member, settings, partial(probe, dial, host, settings.path.encode(), settings.timeout_s))

    # ---- idle connections --------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Look for connections that were idle for too long from now on."""
        self._sweep_in(self.settings.pool.idle_s)

    def _sweep_in(self, seconds: float) -> None:
        self.sweeper = asyncio.get_running_loop().call_later(max(seconds, SWEEP_MIN_S), self._sweep)

    def _sweep(self) -> None:
        self.sweeper = None
        due = [left for left in (pool.expire() for pool in self._pools) if left is not None]
        if due:
            self._sweep_in(min(due))
        elif any(pool.leased or pool.dialling for pool in self._pools):
            self._sweep_in(self.settings.pool.idle_s)


class _Awaited(Waiter):
    """The waiter of who waits for a connection in a coroutine: a future."""

    def __init__(self, answer: asyncio.Future[Lease]) -> None:
        self.answer = answer

    def leased(self, lease: Lease) -> None:
        if self.answer.done():
            lease.release()
        else:
            self.answer.set_result(lease)

    def no_lease(self, error: UpstreamError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def give_up(self) -> None:
        """Give back what came in the very moment."""
        if self.answer.done() and not self.answer.cancelled() and self.answer.exception() is None:
            self.answer.result().release()
