# cython: language_level=3
"""How a request gets a connection: at once where one lies ready, else by a call.

    lease_now   a kept connection, or None
    want        ──▶ a `Wait`; its `Waiter` is called once, in a later turn of the loop: `leased` or `no_lease`

                 donors: none lies ready      none came, the origins are asked
    want ──┬──────────▶ DONATED ────────────────────┐
           │ no donors                              ▼        all places are taken
           └──────────────────────────────▶ an origin is chosen ──────────────▶ QUEUED
                                              │     ▲      │ a place is free      │ one came free
                            a kept connection │     │      ▼                      ▼
                                              │     └── DIALLING ◀────────────────┤ (or: a kept connection)
                                              ▼  it failed │ connected            ▼
                                              └────────────┴──────────────▶ `leased` | `no_lease`

An origin that cannot be reached is passed over for another, so that a request fails only when every origin that it may
try has failed. No coroutine waits: a queue holds the `Wait` itself, and only a dial, or a wait for a donor, is a Task.
`Wait.cancel` gives up whatever has been got so far: a place goes to the next in the queue, a dial is cancelled, and a
connection that was granted in the same turn goes back to its pool.
"""

from asyncio import get_running_loop

cimport cython

from flyby.clock import SystemClock
from flyby.errors import Retry, UpstreamError
from flyby.upstream import faults
from flyby.upstream._pool import DIAL, FULL, WAIT

from flyby.upstream._member cimport choose
from flyby.upstream._pool cimport Lease, Place, Pool, moment

ORIGIN_ATTEMPTS = 3  # origins that are dialled for one request before it fails
cdef object _DIAL = DIAL, _FULL = FULL, _WAIT = WAIT
cdef object ALWAYS = Retry.ALWAYS


cdef class Waiter:
    """Whoever wants a connection: one of these is called once, by the loop, unless the wait is cancelled before."""

    cpdef leased(self, Lease lease):
        """Here is a connection; the lease is the waiter's now, to be released or discarded."""

    cpdef no_lease(self, error):
        """There is none: no origin can be reached, or none had a place in time. `error` is an `UpstreamError`."""


@cython.final
cdef class Wait(Place):
    """A wait for a connection; see the module's text."""

    def __repr__(self):
        return f"<Wait {('settled', 'donated', 'queued', 'dialling', 'over')[self._stage]}>"

    @property
    def over(self):
        """Whether the waiter was told, or the wait was cancelled."""
        return self._waiter is None

    cpdef cancel(self):
        """Give up. The waiter is not called any more; nothing happens after it was called."""
        cdef Lease lease = self._lease
        cdef Stage stage = self._stage
        if self._waiter is None:
            return
        self._waiter = self._lease = None
        self._stage = OVER
        if lease is not None:
            lease.release()
        elif stage == QUEUED:
            self._pool.leave(self)
            self._pool.member.in_flight -= 1
        elif self._task is not None:
            # Its callback gives back what it has got.
            self._task.cancel()

    cdef int _begin(self) except -1:
        cdef Lease lease
        donors = self._source.donors
        if donors is None:
            return self._ask_origin()
        lease = donors.checkout(self._tried)
        if lease is not None:
            return self._settle(lease, None)
        self._stage = DONATED
        self._source._for_donors += 1
        self._source._press()
        waiting = donors.wait(tuple(self._tried), fallback=bool(self._source._members))
        self._task = get_running_loop().create_task(waiting)
        self._task.add_done_callback(self._donated)
        return 0

    def _donated(self, task):
        """The wait for a donor is over."""
        cdef Lease lease
        self._source._for_donors -= 1
        self._task = None
        error = outcome(task)
        lease = task.result() if error is None else None
        if self._waiter is None:
            if lease is not None:
                lease.release()
        elif lease is None and error is None:
            self._ask_origin()
        else:
            self._tell(lease, error)

    cdef int _ask_origin(self) except -1:
        """Choose an origin and do what its pool says."""
        cdef LeaseSource source = self._source
        cdef Pool pool
        if not source._origins:
            name = source.name
            error = UpstreamError(503, "no-origin", "destination_unavailable", f"backend {name} has no origin")
            return self._settle(None, error)
        self._attempts -= 1
        pool = self._pool = source._choose(self._tried, moment(source.clock, source._systems))
        grant = pool.checkout(self._fresh)
        if grant is _FULL:
            return self._settle(None, no_place("too many requests wait for a connection to", pool))
        pool.member.in_flight += 1
        if grant is _DIAL:
            self.dial()
        elif grant is _WAIT:
            self._stage = QUEUED
            pool.join(self)
        else:
            self._settle(<Lease?>grant, None)
        return 0

    # ---- what the pool grants ----------------------------------------------------------------------------------------

    cpdef granted(self, Lease lease):
        if self._fresh and lease.reused:
            # A used connection came free while we waited for a place; the place is what we need.
            self._pool.trade_for_dial(lease)
            self.dial()
        else:
            self._tell(lease, None)

    cpdef dial(self):
        self._stage = DIALLING
        self._task = get_running_loop().create_task(self._source.dial(self._pool))
        self._task.add_done_callback(self._dialled)

    cpdef expired(self):
        self._pool.member.in_flight -= 1
        self._tell(None, no_place("no connection came free in time to", self._pool))

    def _dialled(self, task):
        """The dial is over. What it has got is accounted for here, since a Task may be cancelled before it begins."""
        cdef Pool pool = self._pool
        cdef Lease lease
        self._task = None
        error = outcome(task)
        if error is None:
            lease = pool.dialled(task.result())
            if self._waiter is None:
                lease.release()
            else:
                self._tell(lease, None)
            return
        known = isinstance(error, UpstreamError) and not task.cancelled()
        if known and error.proxy_error != "proxy_internal_error":
            pool.member.failed(moment(pool.clock, self._source._systems))
        pool.member.in_flight -= 1
        pool.dial_failed()
        if self._waiter is None:
            return
        self._tried.add(pool.member.address)
        if known and error.retry is ALWAYS and self._attempts > 0 and self._source._untried(self._tried):
            self._ask_origin()
        else:
            self._tell(None, error)

    # ---- the outcome -------------------------------------------------------------------------------------------------

    cdef int _settle(self, Lease lease, error) except -1:
        """Tell the outcome in the next turn: it was known at once, and the waiter may not be called within `want`."""
        self._stage = SETTLED
        self._lease = lease
        self._error = error
        get_running_loop().call_soon(self._tell_settled)
        return 0

    def _tell_settled(self):
        cdef Lease lease = self._lease
        if self._waiter is not None:
            self._lease = None
            self._tell(lease, self._error)

    cdef int _tell(self, Lease lease, error) except -1:
        cdef Waiter waiter = self._waiter
        self._stage = OVER
        self._waiter = None
        if lease is not None:
            waiter.leased(lease)
        else:
            waiter.no_lease(error)
        return 0


cdef class LeaseSource:
    """What a request gets its connection from: pools, one for each origin, and before them `donors`, if there are any.

    A subclass dials, and looks after idle connections.
    """

    def __init__(self, str name, list pools, clock):
        cdef Pool pool
        self.name = name
        self.clock = clock
        self._systems = type(clock) is SystemClock
        self._origins = pools
        self._members = [pool.member for pool in pools]
        self.only = pools[0] if len(pools) == 1 else None

    async def dial(self, pool):
        """A new connection to the origin of `pool`. Raises `UpstreamError`."""

    def sweep(self):
        """Begin to look after idle connections: there will be one. Sets `sweeper`."""

    @property
    def on_pressure(self):
        """Called with this in the next turn of the loop after requests have begun to wait for a connection, once for
        each queue; or None. Whoever holds connections for slow clients may give some up then."""
        return self._on_pressure

    @on_pressure.setter
    def on_pressure(self, told):
        cdef Pool pool
        self._on_pressure = told
        for pool in self._origins:
            pool.on_pressure = None if told is None else self._pressed_in

    def _pressed_in(self, pool):
        self._tell_pressure()

    cdef int _press(self) except -1:
        """A request waits for a donor."""
        if self._on_pressure is not None and not self._pressed:
            self._pressed = True
            get_running_loop().call_soon(self._tell_pressure)
        return 0

    def _tell_pressure(self):
        self._pressed = False
        if self._on_pressure is not None and self.waiting():
            self._on_pressure(self)

    cpdef int waiting(self) except -1:
        """Requests that wait for a connection to come free, not those whose connection is being dialled."""
        cdef Pool pool
        cdef int count = self._for_donors
        for pool in self._origins:
            count += pool.waiting
        return count

    cpdef Lease lease_now(self):
        """A connection that lies ready; None when one would have to be waited for, or dialled."""
        return self.lease_at(moment(self.clock, self._systems))

    cdef Lease lease_at(self, double now):
        """The same, for who knows the time."""
        cdef Pool pool
        cdef Lease lease
        if self.donors is not None:
            return self.donors.checkout()
        pool = self.only
        if pool is None:
            if not self._origins:
                return None
            pool = self._choose((), now)
        lease = pool.take_at(now)
        if lease is not None:
            pool.member.in_flight += 1
            if self.sweeper is None and not self.closed:
                self.sweep()
        return lease

    cpdef Wait want(self, Waiter waiter, bint fresh=False, exclude=()):
        """Get a connection for one exchange, and call `waiter`, but never before this has returned.

        `fresh` asks for one that was never used; `exclude` names origins' addresses to avoid. How it may end otherwise:
        no origin can be reached (the error's `retry` is ALWAYS), or no place comes free within `pool.wait_s`.
        """
        cdef Wait wait = Wait.__new__(Wait)
        wait._source = self
        wait._waiter = waiter
        wait._fresh = fresh
        wait._tried = set(exclude)
        wait._attempts = ORIGIN_ATTEMPTS
        if self.sweeper is None and not self.closed and self._origins:
            self.sweep()
        wait._begin()
        return wait

    cdef Pool _choose(self, exclude, double now):
        """The pool of the origin for the next request."""
        cdef Pool pool
        cdef set full = None
        cdef bint better = False
        if self.only is not None:
            return self.only
        for pool in self._origins:
            if pool._is_full():
                if full is None:
                    full = set(exclude)
                full.add(pool.member.address)
        if full is not None:
            # Waiting behind a good origin beats a free place at one that fails.
            for pool in self._origins:
                better = better or (pool.member.takes(now) and pool.member.address not in full)
            if better:
                exclude = full
        return <Pool?>self._origins[self._members.index(choose(self._members, now, None, exclude))]

    def _untried(self, set tried):
        """Whether there is an origin that is not in `tried`."""
        return not tried.issuperset([member.address for member in self._members])


cdef object outcome(task):
    """The error that ended a Task, or None; an `UpstreamError` too when somebody has cancelled it."""
    if task.cancelled():
        return faults.terminated("the attempt to connect was given up")
    return task.exception()


cdef object no_place(str what, Pool pool):
    return UpstreamError(503, "connection-limit", "connection_limit_reached", f"{what} {pool.origin.address}")
