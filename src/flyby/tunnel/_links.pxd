"""The map of the links that the dynos of one backend have donated."""

from flyby.upstream._member cimport Member
from flyby.upstream._pool cimport Lease


cdef class Links:
    cdef readonly str key        # the agent's random id
    cdef readonly Member member
    cdef readonly object clock
    cdef readonly list idle      # links at rest, the one used last at the end
    cdef readonly long long leased
    cdef public bint ready       # its app takes requests
    cdef readonly bint leaving   # no request is sent there any more
    cdef public double resting_until
    cdef public long long capacity
    cdef bint _systems           # the clock is the machine's
    cdef Choice _choice          # is told that a link is free
    cdef long long _most_leased  # since the last `settle`
    cdef long long _least_idle

    cdef double _now(self) except -1
    cdef bint _takes(self, double now) noexcept
    cdef Lease _take(self, double now)
    cdef int _ended(self) except -1


cdef class Choice:
    cdef readonly list dynos     # Links
    cdef public long long waiting    # requests in the queue, which a free link is given to
    cdef unsigned long long _seed
    cdef object _clock
    cdef bint _systems

    cdef Py_ssize_t _draw(self, Py_ssize_t below) noexcept
    cdef list _taking(self, double now)
    cdef Links _choose(self, list dynos, double now)
    cpdef Lease checkout(self, exclude=*)
