# cython: language_level=3
"""The walk of a purge through the lists of tags."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from flyby.store._layout cimport Map


cdef struct Hunt:
    uint64_t name  # what a tag's hash is compared with,
    uint64_t mask  # in these bits
    uint32_t lists  # how many lists it may stand in, from its own on
    const char* prefix  # of the keys that are meant; NULL: of all
    uint32_t prefix_length
    const char* after  # the bytes one of which must come after the prefix, unless the key ends there
    uint32_t after_length  # 0: any
    bint soft
    int64_t now_ms  # from when a soft purge makes things stale
    uint64_t newest  # the last generation that is meant: what is younger came after the purge
    uint64_t visited  # tags looked at
    uint64_t found  # objects purged


cdef void announce(Map* m, const uint64_t* names, int count) noexcept nogil
cdef bint hunt(Map* m, Hunt* h) noexcept nogil
