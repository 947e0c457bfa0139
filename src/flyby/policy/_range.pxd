# cython: language_level=3
"""The grammar of Range and its arithmetic, for callers in C."""

from libc.stdint cimport int64_t, uint64_t

cdef enum:
    OPEN_END = -1  # as an unsigned number beyond every position: the last byte of a range without one

cdef struct RangeSpec:
    bint suffix  # the last `last` bytes are asked for
    uint64_t first
    uint64_t last

cdef int range_specs(const unsigned char *value, Py_ssize_t length, RangeSpec *to, int most) noexcept nogil
cdef bint range_within(const RangeSpec *spec, int64_t length, int64_t *first, int64_t *last) noexcept nogil
