# cython: language_level=3
"""The table of fetches under way."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from flyby.store._hash cimport Digest
from flyby.store._layout cimport Block, FillSlot, Map


cdef void fills_format(Map* m) noexcept nogil
cdef bint fills_lock(Map* m) noexcept nogil
cdef bint fills_insist(Map* m) noexcept nogil
cdef void fills_unlock(Map* m) noexcept nogil
cdef int64_t fills_claim(
    Map* m, const char* key, uint32_t length, Digest digest, uint64_t since, bint* owner
) noexcept nogil
cdef int64_t fills_join(Map* m, const char* key, uint32_t length, Digest digest) noexcept nogil
cdef bint fills_leave(Map* m, uint32_t number) noexcept nogil
cdef bint fill_outdated(Map* m, FillSlot* slot, Block* b) noexcept nogil
cdef bint fills_sweep(Map* m, uint32_t worker) noexcept nogil
cdef void drop_block(Map* m, uint64_t unit) noexcept nogil
cdef void fills_call(Map* m, uint64_t number, uint32_t worker) noexcept nogil
cdef void fills_ring(Map* m, FillSlot* slot, bint ourselves) noexcept nogil
