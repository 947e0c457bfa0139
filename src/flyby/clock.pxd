# cython: language_level=3
"""The machine's clocks, read from C without a call into Python; `clock.SystemClock` tells the same."""

from libc.stdint cimport int64_t

cdef extern from "<time.h>" nogil:
    struct timespec:
        int64_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *time)
    int CLOCK_REALTIME, CLOCK_MONOTONIC


cdef inline double monotonic() noexcept nogil:
    """Seconds since an arbitrary instant; never goes back."""
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return <double>time.tv_sec + <double>time.tv_nsec * 1e-9


cdef inline int64_t wall_ms() noexcept nogil:
    """Milliseconds since 1970-01-01T00:00:00Z."""
    cdef timespec time
    clock_gettime(CLOCK_REALTIME, &time)
    return time.tv_sec * 1000 + time.tv_nsec // 1_000_000
