"""The map of what is known of one origin, and of the choice among several."""


cdef class Member:
    cdef readonly str address
    cdef public long long in_flight      # requests that wait, dial or run; their holder keeps the count
    cdef public bint healthy             # so say the active checks
    cdef readonly int failures           # in a row
    cdef readonly long long failures_total
    cdef readonly int ejections          # in a row
    cdef public double ejected_until   # monotonic
    cdef readonly double latency_s       # an answer's, as a mean, when it was last heard of
    cdef double _heard                   # the last answer's time, monotonic
    cdef object _settings                # EjectSettings

    cpdef bint takes(self, double now)
    cpdef double cost(self, double now)
    cpdef succeeded(self, double latency_s, double now)
    cpdef failed(self, double now)


cpdef Member choose(list members, double now, draw=*, exclude=*)
