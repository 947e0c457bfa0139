"""The map of `Deadline`."""


cdef class Deadline:
    cdef object _loop
    cdef object _time        # the loop's clock, bound
    cdef object _expired     # what to call
    cdef object _timer       # the loop's handle, or None
    cdef double _timer_at    # when it goes off
    cdef double at           # the limit; infinite when nothing is awaited
    cdef double _seconds     # how far ahead it was set

    cdef int within(self, double seconds, double latest=*) except -1
    cdef int within_from(self, double now, double seconds, double latest=*) except -1
    cdef int extend(self) except -1
    cdef void lift(self) noexcept
    cdef int stop(self) except -1
    cdef int _set(self, double at) except -1
