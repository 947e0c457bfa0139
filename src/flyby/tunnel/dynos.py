"""The dynos of one backend in one worker: which of them is asked, who waits for a link, and when waiting is no use.

For each request two of the dynos that take requests are drawn and the cheaper is asked (`upstream.balance`: requests
in flight times latency; ejected ones are passed over). A request for which no link lies ready waits up to
`pool.wait_s`, the longest waiting first, and the agents are asked for more links. Nobody waits where no dyno is to be
expected: then the backend's own origins are asked, or the answer is 503 at once. One is to be expected while any is
connected, and for a while after the last has left and, where the control state knows a release, after the start: agents
dial again by themselves.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from flyby.clock import Clock
from flyby.errors import Retry, UpstreamError
from flyby.tunnel.dyno import REST_S, Dyno
from flyby.tunnel.messages import Register
from flyby.upstream import Backend, DonorStatistics, Lease, Origin, choose

EXPECTED_S = 15.0  # after this without a dyno none is expected any more


class _Waiter:
    """A request that waits for a link."""

    __slots__ = ("exclude", "lease")

    def __init__(self, exclude: Collection[str]) -> None:
        self.exclude = exclude
        self.lease: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()


class Dynos:
    """See the module's text; the `Donors` of `backend`.

    `expected` says that dynos have been here before this process. `ask(dyno)` is called when its agent is to keep
    another number of links, `left(dyno)` each time that a dyno which takes no more requests has one less under way.
    """

    __slots__ = ("_ask", "_asking", "_clock", "_dynos", "_left", "_seen", "_waiters", "backend")

    def __init__(
        self, backend: Backend, clock: Clock, expected: bool, ask: Callable[[Dyno], None], left: Callable[[Dyno], None]
    ) -> None:
        self.backend = backend
        self._ask = ask
        self._left = left
        self._clock = clock
        self._dynos: dict[str, Dyno] = {}
        self._waiters: deque[_Waiter] = deque()
        self._seen = clock.monotonic() if expected else -math.inf  # when a dyno was last here
        self._asking = False

    def __repr__(self) -> str:
        return f"<Dynos {self.backend.name} {list(self._dynos.values())} waiting={len(self._waiters)}>"

    def __len__(self) -> int:
        return len(self._dynos)

    def __iter__(self) -> Iterator[Dyno]:
        return iter(list(self._dynos.values()))

    # ---- who is here -------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Dyno | None:
        """The dyno of that id."""
        return self._dynos.get(key)

    def join(self, key: str, register: Register) -> Dyno:
        """A dyno has registered, for the first time or again."""
        dyno = self._dynos.get(key)
        if dyno is None:
            eject, tags = self.backend.settings.eject, self.backend.release_tags(register.release.id)
            dyno = Dyno(key, register, self._authority(), tags, eject, self._clock, self._freed)
            self._dynos[key] = dyno
        else:
            dyno.register = register
        self.set_ready(dyno, register.ready)
        return dyno

    def set_ready(self, dyno: Dyno, ready: bool) -> None:
        """Its app takes requests, or takes none."""
        dyno.ready = ready
        self.serve()

    def remove(self, dyno: Dyno) -> None:
        """It takes no more requests."""
        if self._dynos.get(dyno.key) is dyno:
            del self._dynos[dyno.key]
            self._seen = self._clock.monotonic()
        dyno.leave()

    def add_link(self, dyno: Dyno, transport: asyncio.Transport) -> None:
        """A link of `dyno` is there; nothing has been read from it."""
        dyno.add(self.backend.adopt(transport), transport)

    def attach(self, backend: Backend) -> None:
        """Work for `backend` from now on, which has taken another's place."""
        self.backend = backend
        backend.donors = self
        for dyno in self._dynos.values():
            dyno.origin = replace(dyno.origin, authority=self._authority())
            dyno.tags = backend.release_tags(dyno.register.release.id)

    def _authority(self) -> bytes:
        """The Host that the app is sent where it is to be the origin's."""
        origins = self.backend.settings.origins
        return Origin.parse(origins[0]).authority if origins else b""

    # ---- leases ------------------------------------------------------------------------------------------------------

    def checkout(self, exclude: Collection[str] = ()) -> Lease | None:
        """A link, if one lies ready."""
        dynos = self._taking()
        if exclude and len(dynos) > 1:
            dynos = [dyno for dyno in dynos if dyno.key not in exclude] or dynos
        while dynos:
            dyno = self._choose(dynos)
            if dyno is None:
                return None
            lease = dyno.take()
            if lease is not None:
                return lease
        return None

    def _taking(self) -> list[Dyno]:
        now = self._clock.monotonic()
        dynos = [dyno for dyno in self._dynos.values() if dyno.takes(now)]
        if len(dynos) > 1:
            # Waiting for a good dyno's link beats an idle one of a dyno that fails.
            return [dyno for dyno in dynos if dyno.member.takes(now)] or dynos
        return dynos

    def _choose(self, dynos: list[Dyno]) -> Dyno | None:
        free = [dyno.member for dyno in dynos if dyno.idle]
        if not free:
            return None
        if len(free) == 1:
            return self._dynos[free[0].address]
        return self._dynos[choose(free, self._clock.monotonic(), random.randrange).address]

    async def wait(self, exclude: Collection[str] = (), *, fallback: bool) -> Lease | None:
        """See the module's text."""
        if not self._taking() and (fallback or not self._expects()):
            if fallback:
                return None
            raise self._nobody("no dyno is connected to")
        pool = self.backend.settings.pool
        if len(self._waiters) >= pool.max_waiters:
            if fallback:
                return None
            raise self._no_link("too many requests wait for a dyno of")
        waiter = _Waiter(exclude)
        self._waiters.append(waiter)
        self._ask_soon()
        try:
            async with asyncio.timeout(pool.wait_s):
                return await waiter.lease
        except TimeoutError as error:
            self._leave(waiter)
            if fallback:
                return None
            if self._taking():
                raise self._no_link("no link came free in time to a dyno of") from error
            raise self._nobody("no dyno is ready of" if self._dynos else "no dyno is connected to") from error
        except BaseException:
            self._leave(waiter)
            raise

    def _leave(self, waiter: _Waiter) -> None:
        """Leave the queue; what was granted in the very moment goes to the next."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        if waiter.lease.done() and not waiter.lease.cancelled():
            waiter.lease.result().release()

    def _expects(self) -> bool:
        return bool(self._dynos) or self._clock.monotonic() - self._seen < EXPECTED_S

    def _nobody(self, what: str) -> UpstreamError:
        return UpstreamError(503, "no-dyno", "destination_unavailable", f"{what} {self.backend.name}", Retry.ALWAYS)

    def _no_link(self, what: str) -> UpstreamError:
        return UpstreamError(503, "connection-limit", "connection_limit_reached", f"{what} {self.backend.name}")

    def refused(self, lease: Lease) -> None:
        """Its agent has handed a request back."""
        dyno = self._dynos.get(lease.origin.address)
        if dyno is not None:
            dyno.rest()
            asyncio.get_running_loop().call_later(REST_S + 0.01, self._serve)

    def _freed(self, dyno: Dyno) -> None:
        self.serve()
        if dyno.leaving:
            self._left(dyno)

    def _serve(self) -> None:
        """Give links to those who wait."""
        for waiter in list(self._waiters):
            if not waiter.lease.done():
                lease = self.checkout(waiter.exclude)
                if lease is None:
                    if waiter.exclude:
                        continue
                    return
                waiter.lease.set_result(lease)
            self._waiters.remove(waiter)

    # ---- spare links -------------------------------------------------------------------------------------------------

    def _ask_soon(self) -> None:
        """Ask for links, once for all that begin to wait in this tick."""
        if not self._asking:
            self._asking = True
            asyncio.get_running_loop().call_soon(self._ask_for_links)

    def _ask_for_links(self) -> None:
        self._asking = False
        dynos = self._taking()
        for dyno in dynos:
            if dyno.want(-(-len(self._waiters) // len(dynos))):
                self._ask(dyno)

    def serve(self) -> None:
        """Give links to those who wait; for dynos whose rest or ejection is over."""
        if self._waiters:
            self._serve()

    def settle(self) -> None:
        """Look back on a heartbeat's time and adapt the number of spare links."""
        for dyno in self._dynos.values():
            if dyno.settle():
                self._ask(dyno)

    def statistics(self) -> tuple[DonorStatistics, ...]:
        """A snapshot of each dyno."""
        return tuple(dyno.statistics() for dyno in self._dynos.values())
