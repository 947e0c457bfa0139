"""One dyno as one worker sees it: its idle links, what is known of its health, and what may still be asked of it.

                registered              ready            drain, or its control connection ends
    (agent) ───────────────▶ NOT READY ───────▶ READY ─────────────────────────────────────────▶ GONE
                                 ▲───────────────┘ │ ▲
                                     not ready     ▼ │ a second later
                                                 RESTING: its agent has handed a request back

A link is the dyno's from its 101 to its end: idle, leased, or a pipe after a switch of protocols, so that all of them
can be closed with it. Links that are leased when the dyno leaves end with their exchanges; when it was lost or its
token revoked, at once. Which dyno is asked, and which of its links takes the request, is decided in `_links`.
"""

from __future__ import annotations

import asyncio

from flyby.clock import Clock
from flyby.tunnel._links import Choice, Links
from flyby.tunnel.messages import Ping, Register, printable
from flyby.upstream import DonorStatistics, Origin, UpstreamExchange
from flyby.upstream.balance import EjectSettings

REST_S = 1.0  # how long a dyno that handed a request back gets none
SPARE = 8  # idle links that an agent is asked to keep, at least
SPARE_MOST = 64  # and at most


class Dyno(Links):
    """See the module's text. `key` is the agent's random id."""

    __slots__ = (
        "donated",
        "joined",
        "links",
        "origin",
        "pipes",
        "refused",
        "register",
        "reported",
        "spare",
        "tags",
    )

    def __init__(
        self,
        key: str,
        register: Register,
        authority: bytes,
        tags: tuple[bytes, ...],
        eject: EjectSettings,
        clock: Clock,
        choice: Choice,
    ) -> None:
        super().__init__(key, eject, clock, choice, register.ready, register.capacity)
        self.register = register
        self.origin = Origin("http", register.dyno, 0, authority, key)
        self.tags = tags
        self.links: dict[UpstreamExchange, asyncio.Transport] = {}
        self.pipes: set[asyncio.Transport] = set()
        self.donated = 0
        self.refused = 0
        self.reported = Ping(0)
        self.spare = min(SPARE, register.capacity)
        self.joined = clock.wall_ms()

    def __repr__(self) -> str:
        counts = f"leased={self.leased} idle={len(self.idle)} pipes={len(self.pipes)}"
        return f"<Dyno {self.name} {self.state(self.clock.monotonic())} {counts}>"

    @property
    def name(self) -> str:
        """For people: the dyno's name, and enough of the id to tell two lives of it apart."""
        return f"{printable(self.register.dyno)} ({self.key[:8]})"

    @property
    def in_flight(self) -> int:
        """Exchanges and pipes under way."""
        return self.leased + len(self.pipes)

    def state(self, now: float) -> str:
        """In a word."""
        if self.leaving:
            return "draining"
        if not self.ready:
            return "not-ready"
        if now < self.resting_until:
            return "resting"
        return "ejected" if self.member.ejected(now) else "ready"

    def registered(self, register: Register) -> None:
        """Its agent has registered again."""
        self.register = register
        self.capacity = register.capacity

    def rest(self) -> None:
        """Its agent has handed a request back: leave it alone for a moment."""
        self.refused += 1
        self.resting_until = self.clock.monotonic() + REST_S

    # ---- links -------------------------------------------------------------------------------------------------------

    def add(self, connection: UpstreamExchange, transport: asyncio.Transport) -> None:
        """A link has been donated."""
        connection.donated = True
        connection.on_closed = self._closed
        self.links[connection] = transport
        self.donated += 1
        self.put(connection)

    def dropped(self, link: UpstreamExchange) -> None:
        """It is not used again: close it."""
        link.on_closed = None
        self.links.pop(link, None)
        link.close()

    def _closed(self, connection: UpstreamExchange) -> None:
        """A link closed by itself, or has become a pipe."""
        transport = self.links.pop(connection, None)
        if connection in self.idle:
            self.idle.remove(connection)
        elif connection.detached and transport is not None:
            self.pipes.add(transport)
            self.give_back(connection)

    def settle(self) -> bool:
        """Look back on the time since the last call; whether `spare` is another one now.

        Half as many spare links as were in use: enough for the next burst. Idle links that were never needed beyond
        twice as many are closed.
        """
        most_leased, least_idle = self.window()
        self.surplus(max(least_idle - 2 * self.spare, 0))
        wanted = self._bounded((most_leased + 1) // 2)
        wanted, self.spare = self.spare, wanted
        return wanted != self.spare

    def want(self, more: int) -> bool:
        """So many requests wait for links; whether `spare` has grown."""
        wanted = self._bounded(SPARE + more)
        if wanted <= self.spare:
            return False
        self.spare = wanted
        return True

    def _bounded(self, spare: int) -> int:
        return min(max(spare, SPARE), SPARE_MOST, self.register.capacity)

    def forget_closed_pipes(self) -> None:
        """Pipes end without a word to us."""
        self.pipes = {transport for transport in self.pipes if not transport.is_closing()}

    # ---- ends --------------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Close everything, whatever it is doing; requests that are under way there fail."""
        self.leave()
        for transport in [*self.links.values(), *self.pipes]:
            transport.abort()

    def statistics(self) -> DonorStatistics:
        """A snapshot."""
        now = self.clock.monotonic()
        return DonorStatistics(
            name=self.register.dyno,
            id=self.key,
            release=self.register.release.id,
            region=self.register.region,
            state=self.state(now),
            capacity=self.register.capacity,
            in_flight=self.in_flight,
            idle=len(self.idle),
            pipes=len(self.pipes),
            donated_total=self.donated,
            failures_total=self.member.failures_total,
            refused_total=self.refused,
            latency_s=self.member.latency_s,
            reported_in_flight=self.reported.in_flight,
            reported_latency_s=(self.reported.latency_ms or 0.0) / 1000,
        )
