"""The map of what is known of one origin."""


cdef class Member:
    cdef readonly str address
    cdef public long long in_flight      # requests that wait, dial or run; their holder keeps the count
    cdef public bint healthy             # so say the active checks
    cdef readonly int failures           # in a row
    cdef readonly long long failures_total
    cdef readonly int ejections          # in a row
    cdef public double ejected_until   # monotonic
    cdef double _latency                 # seconds, as of `_heard`
    cdef double _heard
    cdef object _settings                # EjectSettings

    cpdef double latency(self, double now)
    cpdef succeeded(self, double latency_s, double now)
    cpdef failed(self, double now)
