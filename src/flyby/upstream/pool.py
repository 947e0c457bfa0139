"""The kept connections of one origin: who gets one, who opens one, who waits.

`checkout` decides and does nothing else; its caller acts:

    a connection  it is yours: the one used last (LIFO, so that the others grow old and are closed)
    DIAL          open one and tell the outcome by `dialled` or `dial_failed`; its place is taken already
    WAIT          all places are taken: `join` the queue; a `Lease` or DIAL will be put into your future
    FULL          and the queue is full too

Places are leased + dialling + idle, never more than `max_connections`. Whatever becomes free goes to the longest
waiter at once, so that nobody overtakes the queue. A connection that is not at rest (bytes unread, a fault, closing),
that was idle for too long or is too old is never handed out.

A `Lease` holds the generation of its connection: once given back, it can do nothing to it any more, nor give it back
again. Pure but for closing what it throws away; the queue's futures are only asked whether they are `done()`.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Protocol

from flyby.clock import Clock
from flyby.upstream.balance import Member
from flyby.upstream.connection import UpstreamConnection
from flyby.upstream.dial import Origin


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


class Decision(enum.Enum):
    """What `checkout` says when it has no connection to give."""

    DIAL = "dial"
    WAIT = "wait"
    FULL = "full"


DIAL, WAIT, FULL = Decision


class Home(Protocol):
    """Where a leased connection comes from and goes back to: a `Pool`, or whoever is given connections (`donors`)."""

    origin: Origin
    member: Member
    clock: Clock
    tags: tuple[bytes, ...]  # for what is stored of the responses that come from here

    def give_back(self, connection: UpstreamConnection) -> None:
        """End the lease that holds `connection`."""


class Lease:
    """The right to one exchange on `connection`; ended by `release`, `discard` or the connection's `detach`."""

    __slots__ = ("_generation", "_pool", "connection", "reused")

    def __init__(self, pool: Home, connection: UpstreamConnection, reused: bool) -> None:
        self._pool = pool
        self._generation = connection.generation
        self.connection = connection
        self.reused = reused

    def __repr__(self) -> str:
        return f"<Lease {self.origin.address} {'held' if self.held else 'ended'} {self.connection!r}>"

    @property
    def origin(self) -> Origin:
        """Where the connection leads."""
        return self._pool.origin

    @property
    def tags(self) -> tuple[bytes, ...]:
        """What a stored response from here is tagged with, beside its own tags."""
        return self._pool.tags

    @property
    def donated(self) -> bool:
        """Whether the connection was donated by a peer that speaks for the origin."""
        return self.connection.donated

    @property
    def held(self) -> bool:
        """Whether the connection is still this lease's."""
        return self._generation == self.connection.generation

    def release(self) -> None:
        """Give the connection back; it is kept if it can be used again. Nothing happens the second time."""
        if self.held:
            self._pool.give_back(self.connection)

    def discard(self) -> None:
        """Drop the connection, whatever it is doing. Nothing happens after `release`."""
        if self.held:
            self.connection.abort()
            self._pool.give_back(self.connection)

    def observe(self, latency_s: float, failed: bool) -> None:
        """Tell how the exchange went: time to the response's head, or that the origin failed."""
        member, now = self._pool.member, self._pool.clock.monotonic()
        if not failed:
            member.succeeded(latency_s, now)
        elif not (self.reused and self.connection.died_unanswered):
            # A kept connection that had died in silence says nothing about the origin.
            member.failed(now)


class Waiter(Protocol):
    """A place in the queue: an asyncio.Future[Lease | Decision]."""

    def done(self) -> bool: ...

    def set_result(self, result: Lease | Decision, /) -> None: ...


class Pool:
    """See the module's text."""

    __slots__ = (
        "_idle",
        "_settings",
        "_waiters",
        "clock",
        "closed",
        "dialling",
        "leased",
        "member",
        "opened",
        "origin",
        "tags",
    )

    def __init__(self, origin: Origin, settings: PoolSettings, member: Member, clock: Clock) -> None:
        self.origin = origin
        self.member = member
        self.clock = clock
        self.tags: tuple[bytes, ...] = ()
        self.leased = 0
        self.dialling = 0
        self.opened = 0
        self.closed = False
        self._settings = settings
        self._idle: list[tuple[UpstreamConnection, float]] = []
        self._waiters: deque[Waiter] = deque()

    def __repr__(self) -> str:
        counts = f"leased={self.leased} dialling={self.dialling} idle={self.idle} waiting={self.waiting}"
        return f"<Pool {self.origin.address} {counts}>"

    @property
    def idle(self) -> int:
        """Connections at rest."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiters)

    @property
    def full(self) -> bool:
        """Whether a request would have to wait."""
        return not self._idle and self.leased + self.dialling >= self._settings.max_connections

    def take(self) -> Lease | None:
        """A connection at rest, if there is one: what can be had without asking anybody to wait."""
        idle = self._idle
        if idle:
            now = self.clock.monotonic()
            while idle:
                connection, since = idle.pop()
                if self._good(connection, since, now) and connection.quiet():
                    return self._lease(connection, reused=True)
                self._throw_away(connection)
        return None

    def checkout(self, fresh: bool = False) -> Lease | Decision:
        """Decide for one request; `fresh` asks for a connection that was never used."""
        lease = self.take() if not fresh else None
        if lease is not None:
            return lease
        idle = self._idle
        places = self._settings.max_connections - self.leased - self.dialling
        if places > 0 and not self._waiters:
            if places == len(idle):
                self._throw_away(idle.pop(0)[0])
            self.dialling += 1
            return DIAL
        return WAIT if len(self._waiters) < self._settings.max_waiters else FULL

    def join(self, waiter: Waiter) -> None:
        """Queue up."""
        self._waiters.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Leave the queue without having been served."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def dialled(self, connection: UpstreamConnection) -> Lease:
        """The connection that was asked for by DIAL is open."""
        self.dialling -= 1
        self.opened += 1
        connection.on_closed = self._closed
        return self._lease(connection, reused=False)

    def dial_failed(self) -> None:
        """It could not be opened, or is not wanted any more: its place goes to the next."""
        self.dialling -= 1
        self._place_free()

    def trade_for_dial(self, lease: Lease) -> Decision:
        """A kept connection is not what was wanted: its place is, for a new one."""
        lease.connection.generation += 1
        self.leased -= 1
        self.dialling += 1
        self._throw_away(lease.connection)
        return DIAL

    def give_back(self, connection: UpstreamConnection) -> None:
        """End the lease that holds `connection`."""
        connection.generation += 1
        self.leased -= 1
        self.member.in_flight -= 1
        now = self.clock.monotonic()
        if self.closed or not self._good(connection, now, now):
            self._throw_away(connection)
            self._place_free()
            return
        waiter = self._next()
        if waiter is not None:
            waiter.set_result(self._lease(connection, reused=True))
        else:
            self._idle.append((connection, now))

    def expire(self) -> float | None:
        """Close what was idle for too long or is too old; the seconds until that may be due again."""
        now = self.clock.monotonic()
        kept = []
        due = None
        for connection, since in self._idle:
            if self._good(connection, since, now):
                kept.append((connection, since))
                left = min(since + self._settings.idle_s, connection.born + self._settings.lifetime_s) - now
                due = left if due is None or left < due else due
            else:
                self._throw_away(connection)
        self._idle = kept
        return due

    def close(self) -> None:
        """Close what is idle; what is leased is closed when it comes back."""
        self.closed = True
        while self._idle:
            self._throw_away(self._idle.pop()[0])

    def _good(self, connection: UpstreamConnection, since: float, now: float) -> bool:
        return (
            connection.reusable
            and now - since < self._settings.idle_s
            and now - connection.born < self._settings.lifetime_s
        )

    def _lease(self, connection: UpstreamConnection, reused: bool) -> Lease:
        self.leased += 1
        return Lease(self, connection, reused)

    def _next(self) -> Waiter | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None

    def _place_free(self) -> None:
        if self.leased + self.dialling + len(self._idle) >= self._settings.max_connections:
            return
        waiter = self._next()
        if waiter is not None:
            self.dialling += 1
            waiter.set_result(DIAL)

    def _throw_away(self, connection: UpstreamConnection) -> None:
        connection.on_closed = None
        connection.close()

    def _closed(self, connection: UpstreamConnection) -> None:
        """A connection closed by itself, or was detached from an exchange that switched protocols."""
        for index, (idle, _) in enumerate(self._idle):
            if idle is connection:
                del self._idle[index]
                return
        if connection.detached:
            # It is a pipe now, for as long as it lives; it takes no place from requests.
            self.give_back(connection)
