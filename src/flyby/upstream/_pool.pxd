"""The map of the kept connections of one origin."""

from flyby.upstream._exchange cimport UpstreamExchange
from flyby.upstream._member cimport Member


cdef double moment(clock, bint systems) except -1


cdef class Lease:
    cdef object _pool            # a Pool, or another `pool.Home`
    cdef long long _generation   # of the connection, while it is ours
    cdef readonly UpstreamExchange connection
    cdef readonly bint reused    # it has had an exchange before

    cdef bint _held(self) noexcept
    cpdef release(self)
    cpdef discard(self)
    cpdef observe(self, double latency_s, bint failed)
    cdef int answered(self, double latency_s, double now) except -1
    cdef int returned(self, double now) except -1


cdef class Place:
    cpdef granted(self, Lease lease)
    cpdef dial(self)
    cpdef expired(self)


cdef class Pool:
    cdef readonly object origin
    cdef readonly Member member
    cdef readonly object clock
    cdef public tuple tags
    cdef readonly int leased
    cdef readonly int dialling
    cdef readonly long long opened
    cdef readonly bint closed
    cdef readonly int waiting    # requests in the queue
    cdef public object on_pressure  # called with the pool, soon after requests have begun to wait; or None
    cdef public object loop      # whose clock and turns the queue lives by; None until it is needed
    cdef int _most               # connections
    cdef int _most_waiting
    cdef double _wait_s
    cdef double _idle_s
    cdef double _lifetime_s
    cdef bint _systems           # the clock is the machine's
    cdef list _idle              # (connection, since when), the one used last at the end
    cdef int _resting            # connections that go to the queue after one turn of the loop, if they stay at rest
    cdef double _wary_until      # an origin that has sent surplus is given time to send more, until then
    cdef object _queue           # an OrderedDict: place → until when it may stay, on the loop's clock
    cdef object _timer           # for the first place in the queue, or None
    cdef bint _pressed           # `on_pressure` is about to be called

    cdef double _now(self) except -1
    cpdef Lease take(self)
    cpdef give_back(self, UpstreamExchange connection)
    cdef int take_back(self, UpstreamExchange connection, double now) except -1
    cdef Lease take_at(self, double now)
    cdef bint _good(self, UpstreamExchange connection, double since, double now) except -1
    cdef Lease _lease(self, UpstreamExchange connection, bint reused)
    cpdef join(self, Place place)
    cpdef leave(self, Place place)
    cdef Place _next(self)
    cdef bint _is_full(self) noexcept
    cdef object _loop(self)
    cdef int _watch(self) except -1
    cdef int _place_free(self) except -1
    cdef int _look_at_surplus(self, UpstreamExchange connection) except -1
    cdef int _throw_away(self, UpstreamExchange connection) except -1
