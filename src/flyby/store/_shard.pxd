# cython: language_level=3
"""One shard: how objects are found, published, and go."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from flyby.store._hash cimport Digest
from flyby.store._layout cimport Block, FillSlot, Map, Shard

cdef enum:
    ALWAYS = -1  # of `vacant_ms`: whatever lies there


cdef int shard_format(Map* m, uint32_t number) noexcept nogil
cdef bint shard_lock(Map* m, Shard* s) noexcept nogil
cdef bint shard_insist(Map* m, Shard* s) noexcept nogil
cdef void shard_unlock(Map* m, Shard* s) noexcept nogil
cdef Block* shard_lookup(Map* m, Digest digest, const char* key, uint32_t length) noexcept nogil
cdef Block* shard_hold(Map* m, uint64_t hash, uint64_t unit) noexcept nogil
cdef bint shard_publish(
    Map* m, Block* b, uint64_t stored, uint64_t replaced, uint64_t since, int64_t vacant_ms, FillSlot* slot
) noexcept nogil
cdef bint evictable(Map* m, Block* b) noexcept nogil
cdef bint shard_renew(Map* m, Block* b, Block* holder, uint64_t replaced) noexcept nogil
cdef void shard_clear(Map* m, Shard* s, Block* b) noexcept nogil
cdef void shard_remove(Map* m, Shard* s, Block* b, int reason) noexcept nogil
cdef void shard_outdate(Map* m, Shard* s, Block* b, int64_t now_ms) noexcept nogil
cdef bint shard_sweep(Map* m, Shard* s, uint32_t worker) noexcept nogil
cdef void shard_reap(Map* m, Shard* s, uint32_t limit) noexcept nogil
cdef uint64_t units_for(uint64_t key_length, uint64_t head_length, uint64_t body_length, uint32_t tags) noexcept nogil
