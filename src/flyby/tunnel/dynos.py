"""The dynos of one backend in one worker: which of them is asked, who waits for a link, and when waiting is no use.

For each request two of the dynos that take requests are drawn and the cheaper is asked (`_links`). A request for
which no link lies ready waits up to `pool.wait_s`, the longest waiting first, and the agents are asked for more
links. Nobody waits where no dyno is to be expected: then the backend's own origins are asked, or the answer is 503 at
once. One is to be expected while any is connected, here or to another worker, and for a while after the last has left
and, where the control state knows a release, after the start: agents dial again by themselves.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from flyby.clock import Clock
from flyby.errors import Retry, UpstreamError
from flyby.tunnel._links import Choice
from flyby.tunnel.dyno import REST_S, Dyno
from flyby.tunnel.messages import Register
from flyby.upstream import Backend, DonorStatistics, Lease, Origin

EXPECTED_S = 15.0  # after this without a dyno none is expected any more


class _Waiter:
    """A request that waits for a link."""

    __slots__ = ("exclude", "lease")

    def __init__(self, exclude: Collection[str]) -> None:
        self.exclude = exclude
        self.lease: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()


class Dynos(Choice):
    """See the module's text; the `Donors` of `backend`.

    `expected` says that dynos have been here before this process, `elsewhere(backend)` whether another worker has one
    now. `ask(dyno)` is called when its agent is to keep
    another number of links, `left(dyno)` each time that a dyno which takes no more requests has one less under way.
    """

    __slots__ = ("_ask", "_asking", "_by_key", "_clock", "_elsewhere", "_left", "_seen", "_waiters", "backend")

    def __init__(
        self,
        backend: Backend,
        clock: Clock,
        expected: bool,
        elsewhere: Callable[[str], bool],
        ask: Callable[[Dyno], None],
        left: Callable[[Dyno], None],
    ) -> None:
        super().__init__(clock)
        self.backend = backend
        self._elsewhere = elsewhere
        self._ask = ask
        self._left = left
        self._clock = clock
        self._by_key: dict[str, Dyno] = {}
        self._waiters: deque[_Waiter] = deque()
        self._seen = clock.monotonic() if expected else -math.inf  # when a dyno was last here
        self._asking = False

    def __repr__(self) -> str:
        return f"<Dynos {self.backend.name} {list(self._by_key.values())} waiting={len(self._waiters)}>"

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Dyno]:
        return iter(list(self._by_key.values()))

    # ---- who is here -------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Dyno | None:
        """The dyno of that id."""
        return self._by_key.get(key)

    def join(self, key: str, register: Register) -> Dyno:
        """A dyno has registered, for the first time or again."""
        dyno = self._by_key.get(key)
        if dyno is None:
            eject, tags = self.backend.settings.eject, self.backend.release_tags(register.release.id)
            dyno = Dyno(key, register, self._authority(), tags, eject, self._clock, self)
            self._by_key[key] = dyno
            self.dynos.append(dyno)
        else:
            dyno.registered(register)
        self.set_ready(dyno, register.ready)
        return dyno

    def set_ready(self, dyno: Dyno, ready: bool) -> None:
        """Its app takes requests, or takes none."""
        dyno.ready = ready
        self.serve()

    def remove(self, dyno: Dyno) -> None:
        """It takes no more requests."""
        if self._by_key.get(dyno.key) is dyno:
            del self._by_key[dyno.key]
            self.dynos.remove(dyno)
            self._seen = self._clock.monotonic()
        dyno.leave()

    def add_link(self, dyno: Dyno, transport: asyncio.Transport) -> None:
        """A link of `dyno` is there; nothing has been read from it."""
        dyno.add(self.backend.adopt(transport), transport)

    def attach(self, backend: Backend) -> None:
        """Work for `backend` from now on, which has taken another's place."""
        self.backend = backend
        backend.donors = self
        for dyno in self._by_key.values():
            dyno.origin = replace(dyno.origin, authority=self._authority())
            dyno.tags = backend.release_tags(dyno.register.release.id)

    def _authority(self) -> bytes:
        """The Host that the app is sent where it is to be the origin's."""
        origins = self.backend.settings.origins
        return Origin.parse(origins[0]).authority if origins else b""

    # ---- leases ------------------------------------------------------------------------------------------------------

    async def wait(self, exclude: Collection[str] = (), *, fallback: bool) -> Lease | None:
        """See the module's text."""
        if not self.taking() and (fallback or not self._expects()):
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
        self.waiting = len(self._waiters)
        self._ask_soon()
        try:
            async with asyncio.timeout(pool.wait_s):
                return await waiter.lease
        except TimeoutError as error:
            self._leave(waiter)
            if fallback:
                return None
            if self.taking():
                raise self._no_link("no link came free in time to a dyno of") from error
            raise self._nobody("no dyno is ready of" if self._by_key else "no dyno is connected to") from error
        except BaseException:
            self._leave(waiter)
            raise

    def _leave(self, waiter: _Waiter) -> None:
        """Leave the queue; what was granted in the very moment goes to the next."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            self.waiting = len(self._waiters)
        if waiter.lease.done() and not waiter.lease.cancelled():
            waiter.lease.result().release()

    def _expects(self) -> bool:
        if self._by_key or self._clock.monotonic() - self._seen < EXPECTED_S:
            return True
        return self._elsewhere(self.backend.name)

    def _nobody(self, what: str) -> UpstreamError:
        return UpstreamError(503, "no-dyno", "destination_unavailable", f"{what} {self.backend.name}", Retry.ALWAYS)

    def _no_link(self, what: str) -> UpstreamError:
        return UpstreamError(503, "connection-limit", "connection_limit_reached", f"{what} {self.backend.name}")

    def refused(self, lease: Lease) -> None:
        """Its agent has handed a request back."""
        dyno = self._by_key.get(lease.origin.address)
        if dyno is not None:
            dyno.rest()
            asyncio.get_running_loop().call_later(REST_S + 0.01, self._serve)

    def freed(self, dyno: Dyno) -> None:
        """A link came free, or an exchange of a dyno that is leaving ended."""
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
            self.waiting = len(self._waiters)

    # ---- spare links -------------------------------------------------------------------------------------------------

    def _ask_soon(self) -> None:
        """Ask for links, once for all that begin to wait in this tick."""
        if not self._asking:
            self._asking = True
            asyncio.get_running_loop().call_soon(self._ask_for_links)

    def _ask_for_links(self) -> None:
        self._asking = False
        dynos = self.taking()
        for dyno in dynos:
            if dyno.want(-(-len(self._waiters) // len(dynos))):
                self._ask(dyno)

    def serve(self) -> None:
        """Give links to those who wait; for dynos whose rest or ejection is over."""
        if self._waiters:
            self._serve()

    def settle(self) -> None:
        """Look back on a heartbeat's time and adapt the number of spare links."""
        for dyno in self._by_key.values():
            if dyno.settle():
                self._ask(dyno)

    def statistics(self) -> tuple[DonorStatistics, ...]:
        """A snapshot of each dyno."""
        return tuple(dyno.statistics() for dyno in self._by_key.values())
