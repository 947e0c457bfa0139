# cython: language_level=3
"""Room for a new block, by S3-FIFO."""

from libc.stdint cimport int64_t, uint64_t

from flyby.store._layout cimport Block, Map


cdef int64_t now_ms(Map* m) noexcept nogil
cdef Block* allocate(Map* m, uint64_t hash, uint64_t units, bint may_evict) noexcept nogil
cdef bint grow(Map* m, Block* b, uint64_t units, bint may_evict) noexcept nogil
