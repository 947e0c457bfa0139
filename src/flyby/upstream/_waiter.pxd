"""The map of how a request gets a connection."""

from flyby.upstream._member cimport Member
from flyby.upstream._pool cimport Lease, Place, Pool


cdef class Waiter:
    cpdef leased(self, Lease lease)
    cpdef no_lease(self, error)


cdef enum Stage:
    SETTLED = 0   # the outcome is known, and is told in the loop's next turn
    DONATED = 1   # `_task` waits for a donated connection
    QUEUED = 2    # in the queue of `_pool`
    DIALLING = 3  # `_task` dials for `_pool`
    OVER = 4


cdef class Wait(Place):
    cdef LeaseSource _source
    cdef Waiter _waiter       # None when it was told, or does not want to know
    cdef Stage _stage
    cdef bint _fresh
    cdef set _tried           # addresses to avoid
    cdef int _attempts        # origins that may still be asked
    cdef Pool _pool           # of the origin that is asked
    cdef object _task
    cdef Lease _lease         # of SETTLED
    cdef object _error

    cdef int _begin(self) except -1
    cdef int _ask_origin(self) except -1
    cdef int _settle(self, Lease lease, error) except -1
    cdef int _tell(self, Lease lease, error) except -1
    cpdef cancel(self)


cdef class LeaseSource:
    cdef readonly str name
    cdef public object donors    # `donors.Donors`, or None
    cdef readonly Pool only      # the pool when there is no choice
    cdef public object sweeper   # the timer that looks after idle connections; None while there are none
    cdef public bint closed   
    cdef readonly object clock
    cdef bint _systems           # it is the machine's
    cdef object _on_pressure     # called with this, soon after requests have begun to wait; or None
    cdef bint _pressed           # it is about to be called
    cdef int _for_donors         # requests that wait for a donor
    cdef list _origins           # their pools
    cdef list _members           # of the pools, in the same order

    cpdef Lease lease_now(self)
    cdef Lease lease_at(self, double now)
    cpdef Wait want(self, Waiter waiter, bint fresh=*, exclude=*)
    cpdef int waiting(self) except -1
    cdef int _press(self) except -1
    cdef Pool _choose(self, exclude, double now)
