# cython: language_level=3
"""The kept connections of one origin: who gets one, who opens one, who waits.

`checkout` decides and does nothing else; its caller acts:

    a connection  it is yours: the one used last (LIFO, so that the others grow old and are closed)
    DIAL          open one and tell the outcome by `dialled` or `dial_failed`; its place is taken already
    WAIT          all places are taken: `join` the queue with a `Place`, which will be granted a lease or told to dial
    FULL          and the queue is full too

Connections that are leased, being dialled or at rest are never more than `max_connections`. Whatever becomes free goes
to the longest waiter, so that nobody overtakes the queue. A connection that is not at rest (bytes unread, a fault,
closing), that was idle for too long or is too old is never handed out. Where requests wait, a connection that comes
back is kept out of reach for one turn of the loop before it is looked at: what its origin sends beyond the response
(RFC 9112 9.2: such a connection is closed) must have a chance to arrive before the next request is sent on it. After
an origin has done so, its connections are kept out of reach for longer, whether requests wait or not: what comes after
the next request was sent cannot be told from its response.

A `Lease` holds the generation of its connection: once given back, it can do nothing to it any more, nor give it back
again. One timer serves the whole queue, since all wait equally long.
"""

import enum
from asyncio import get_running_loop
from collections import OrderedDict

cimport cython

from flyby.clock import SystemClock
from flyby.upstream._exchange cimport UpstreamExchange

cdef extern from "<time.h>" nogil:
    struct timespec:
        long long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *time)
    int CLOCK_MONOTONIC


class Decision(enum.Enum):
    """What `checkout` says when it has no connection to give."""

    DIAL = "dial"
    WAIT = "wait"
    FULL = "full"


DIAL, WAIT, FULL = Decision

cdef double WARY_S = 60  # how long an origin is remembered to have sent more than a response
cdef double WARY_REST_S = 0.002  # how long a connection to it rests after each response meanwhile


cdef double moment(clock, bint systems) except -1:
    """What `clock` says; without a call where it is the machine's."""
    cdef timespec time
    if not systems:
        return clock.monotonic()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return <double>time.tv_sec + <double>time.tv_nsec * 1e-9


@cython.final
@cython.freelist(64)
cdef class Lease:
    """The right to one exchange on `connection`; ended by `release`, `discard` or the connection's `detach`."""

    def __init__(self, pool, UpstreamExchange connection not None, bint reused):
        self._pool = pool
        self._generation = connection.generation
        self.connection = connection
        self.reused = reused

    def __repr__(self):
        return f"<Lease {self.origin.address} {'held' if self.held else 'ended'} {self.connection!r}>"

    @property
    def pool(self):
        """Whose connection it is."""
        return self._pool

    @property
    def origin(self):
        """Where the connection leads."""
        return self._pool.origin

    @property
    def tags(self):
        """What a stored response from here is tagged with, beside its own tags."""
        return self._pool.tags

    @property
    def donated(self):
        """Whether the connection was donated by a peer that speaks for the origin."""
        return self.connection.donated

    @property
    def pool(self):
        """Where the connection goes back to."""
        return self._pool

    @property
    def held(self):
        """Whether the connection is still this lease's."""
        return self._held()

    cdef bint _held(self) noexcept:
        return self._generation == self.connection.generation

    cpdef release(self):
        """Give the connection back; it is kept if it can be used again. Nothing happens the second time.

        After a response that came before the request was wholly sent, the lease lasts until the rest is sent: whoever
        releases it before goes on to send.
        """
        if not self._held():
            return
        if self.connection.finishing:
            self.connection._on_finished = (<object>self).release
        elif isinstance(self._pool, Pool):
            (<Pool>self._pool).give_back(self.connection)
        else:
            self._pool.give_back(self.connection)

    cpdef discard(self):
        """Drop the connection, whatever it is doing. Nothing happens after `release`."""
        if self._held():
            self.connection._on_finished = None
            self.connection.abort()
            self._pool.give_back(self.connection)

    cpdef observe(self, double latency_s, bint failed):
        """Tell how the exchange went: time to the response's head, or that the origin failed."""
        member = self._pool.member
        cdef double now = (<Pool>self._pool)._now() if isinstance(self._pool, Pool) else self._pool.clock.monotonic()
        if not failed:
            member.succeeded(latency_s, now)
        elif not (self.reused and self.connection.died_unanswered):
            # A kept connection that had died in silence says nothing about the origin.
            member.failed(now)

    cdef int answered(self, double latency_s, double now) except -1:
        """`observe` that it went well, `now`."""
        if isinstance(self._pool, Pool):
            (<Pool>self._pool).member.succeeded(latency_s, now)
        else:
            self._pool.member.succeeded(latency_s, now)
        return 0

    cdef int returned(self, double now) except -1:
        """`release`, `now`."""
        if self.connection.finishing or not isinstance(self._pool, Pool):
            self.release()
        elif self._held():
            (<Pool>self._pool).take_back(self.connection, now)
        return 0


cdef class Place:
    """A request's place in a queue. One of these is called once, by the pool; nothing after `leave`."""

    cpdef granted(self, Lease lease):
        """A kept connection came free."""

    cpdef dial(self):
        """Room for a connection came free, and is taken: open one, as after DIAL."""

    cpdef expired(self):
        """Nothing came free within `wait_s`."""


@cython.final
cdef class Pool:
    """See the module's text."""

    def __init__(self, origin, settings, member, clock, bound=None):
        self.origin = origin
        self.member = member
        self.clock = clock
        self.tags = ()
        self._most = settings.max_connections if bound is None else min(settings.max_connections, bound)
        self._most_waiting = settings.max_waiters
        self._wait_s = settings.wait_s
        self._idle_s = settings.idle_s
        self._lifetime_s = settings.lifetime_s
        self._systems = type(clock) is SystemClock
        self._idle = []
        self._queue = OrderedDict()

    def __repr__(self):
        counts = f"leased={self.leased} dialling={self.dialling} idle={self.idle} waiting={self.waiting}"
        return f"<Pool {self.origin.address} {counts}>"

    @property
    def idle(self):
        """Connections at rest."""
        return len(self._idle) + self._resting

    @property
    def full(self):
        """Whether a request would have to wait."""
        return self._is_full()

    cdef bint _is_full(self) noexcept:
        return not self._idle and self.leased + self.dialling + self._resting >= self._most

    cdef double _now(self) except -1:
        return moment(self.clock, self._systems)

    cpdef Lease take(self):
        """A connection at rest, if there is one: what can be had without asking anybody to wait."""
        return self.take_at(self._now()) if self._idle else None

    cdef Lease take_at(self, double now):
        cdef UpstreamExchange connection
        cdef double since
        while self._idle:
            connection, since = <tuple>self._idle.pop()
            if self._good(connection, since, now) and connection.quiet():
                return self._lease(connection, True)
            self._throw_away(connection)
        return None

    def checkout(self, bint fresh=False):
        """Decide for one request; `fresh` asks for a connection that was never used."""
        lease = self.take() if not fresh else None
        if lease is not None:
            return lease
        places = self._most - self.leased - self.dialling - self._resting
        if places > 0 and not self.waiting:
            if places == len(self._idle):
                self._throw_away(self._idle.pop(0)[0])
            self.dialling += 1
            return DIAL
        return WAIT if self.waiting < self._most_waiting else FULL

    def dialled(self, UpstreamExchange connection not None):
        """The connection that was asked for by DIAL is open."""
        self.dialling -= 1
        self.opened += 1
        connection.on_closed = self._closed
        return self._lease(connection, False)

    def dial_failed(self):
        """It could not be opened, or is not wanted any more: its place goes to the next."""
        self.dialling -= 1
        self._place_free()

    def trade_for_dial(self, Lease lease not None):
        """A kept connection is not what was wanted: its place is, for a new one."""
        lease.connection.generation += 1
        self.leased -= 1
        self.dialling += 1
        self._throw_away(lease.connection)
        return DIAL

    cpdef give_back(self, UpstreamExchange connection):
        """End the lease that holds `connection`."""
        self.take_back(connection, self._now())

    cdef int take_back(self, UpstreamExchange connection, double now) except -1:
        connection.generation += 1
        self.leased -= 1
        self.member.in_flight -= 1
        if self.closed or not self._good(connection, now, now):
            self._throw_away(connection)
            self._place_free()
            return 0
        if now < self._wary_until:
            self._resting += 1
            self._loop().call_later(WARY_REST_S, self._rested, connection)
        elif self.waiting:
            self._resting += 1
            self._loop().call_soon(self._rested, connection)
        else:
            self._idle.append((connection, now))
        return 0

    def _rested(self, UpstreamExchange connection):
        """A connection came back a turn of the loop ago, or longer: it goes to the queue's first, if still at rest."""
        cdef double now = self._now()
        cdef Place place
        self._resting -= 1
        if self.closed or not self._good(connection, now, now) or not connection.quiet():
            self._throw_away(connection)
            self._place_free()
            return
        place = self._next()
        if place is None:
            self._idle.append((connection, now))
        else:
            place.granted(self._lease(connection, True))

    # ---- the queue ---------------------------------------------------------------------------------------------------

    cpdef join(self, Place place):
        """Queue up, for `wait_s` at most. `on_pressure` is called in the next turn of the loop, once for all that
        begin to wait in this one."""
        self._queue[place] = <double>self._loop().time() + self._wait_s
        self.waiting += 1
        if self._timer is None:
            self._watch()
        if self.on_pressure is not None and not self._pressed:
            self._pressed = True
            self._loop().call_soon(self._press)

    cpdef leave(self, Place place):
        """Leave the queue without having been served; nothing happens when the place is not in it."""
        if self._queue.pop(place, None) is not None:
            self.waiting -= 1

    cdef Place _next(self):
        """The place of the longest waiter, taken out of the queue; None when nobody waits."""
        if not self.waiting:
            return None
        self.waiting -= 1
        return <Place?>self._queue.popitem(False)[0]

    cdef int _place_free(self) except -1:
        cdef Place place
        if self.leased + self.dialling + self._resting + len(self._idle) >= self._most:
            return 0
        place = self._next()
        if place is not None:
            self.dialling += 1
            place.dial()
        return 0

    cdef int _watch(self) except -1:
        """Set the timer for the queue's first."""
        if self.waiting:
            self._timer = self._loop().call_at(next(iter(self._queue.values())), self._on_timer)
        return 0

    def _on_timer(self):
        """End the wait of the places whose time is over."""
        cdef Place place
        cdef double now = self._loop().time()
        self._timer = None
        while self.waiting and <double>next(iter(self._queue.values())) <= now:
            place = self._next()
            place.expired()
        if self._timer is None:
            self._watch()

    def _press(self):
        self._pressed = False
        if self.waiting and self.on_pressure is not None:
            self.on_pressure(self)

    cdef object _loop(self):
        if self.loop is None:
            self.loop = get_running_loop()
        return self.loop

    # ---- ends --------------------------------------------------------------------------------------------------------

    def expire(self):
        """Close what was idle for too long or is too old; the seconds until that may be due again."""
        cdef UpstreamExchange connection
        cdef double since
        cdef double now = self._now()
        kept = []
        due = None
        for connection, since in self._idle:
            if self._good(connection, since, now):
                kept.append((connection, since))
                left = min(since + self._idle_s, connection.born + self._lifetime_s) - now
                due = left if due is None or left < due else due
            else:
                self._throw_away(connection)
        self._idle = kept
        return due

    def close(self):
        """Close what is idle; what is leased is closed when it comes back."""
        self.closed = True
        while self._idle:
            self._throw_away(self._idle.pop()[0])

    cdef bint _good(self, UpstreamExchange connection, double since, double now) except -1:
        return connection.at_rest() and now - since < self._idle_s and now - connection.born < self._lifetime_s

    cdef Lease _lease(self, UpstreamExchange connection, bint reused):
        cdef Lease lease = Lease.__new__(Lease)
        self.leased += 1
        lease._pool = self
        lease._generation = connection.generation
        lease.connection = connection
        lease.reused = reused
        return lease

    cdef int _look_at_surplus(self, UpstreamExchange connection) except -1:
        """Remember an origin that has sent more than a response."""
        if connection.surplus:
            self._wary_until = self._now() + WARY_S
        return 0

    cdef int _throw_away(self, UpstreamExchange connection) except -1:
        self._look_at_surplus(connection)
        connection.on_closed = None
        connection.close()
        return 0

    def _closed(self, UpstreamExchange connection):
        """A connection closed by itself, or was detached from an exchange that switched protocols."""
        self._look_at_surplus(connection)
        for index, (idle, _) in enumerate(self._idle):
            if idle is connection:
                del self._idle[index]
                return
        if connection.detached:
            # It is a pipe now, for as long as it lives; it takes no place from requests.
            self.give_back(connection)
