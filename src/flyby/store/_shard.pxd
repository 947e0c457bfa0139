# cython: language_level=3
"""One shard: its index, its queues, and what happens to them when a process dies."""

from libc.stdint cimport uint32_t, uint64_t

from flyby.store._hash cimport Digest
from flyby.store._layout cimport Block, FillSlot, Map, Shard


cdef int shard_format(Map* m, uint32_t number) noexcept nogil
cdef bint shard_lock(Map* m, Shard* s) noexcept nogil
cdef void shard_unlock(Map* m, Shard* s) noexcept nogil
cdef Block* shard_lookup(Map* m, Digest digest, const char* key, uint32_t length) noexcept nogil
cdef uint64_t* shard_word(Map* m, Shard* s, uint64_t hash, const char* key, uint32_t length) noexcept nogil
cdef bint shard_publish(Map* m, Block* b, uint64_t replaced, uint64_t epoch, FillSlot* slot) noexcept nogil
cdef void shard_remove(Map* m, Shard* s, Block* b) noexcept nogil
cdef bint shard_empty(Map* m, Shard* s) noexcept nogil
cdef bint shard_sweep(Map* m, Shard* s, uint32_t worker) noexcept nogil
cdef void shard_reap(Map* m, Shard* s, uint32_t limit) noexcept nogil
cdef void queue_push(Map* m, Shard* s, Block* b, int queue) noexcept nogil
cdef void queue_drop(Map* m, Shard* s, Block* b) noexcept nogil
cdef bint ghost_known(Map* m, Shard* s, uint64_t hash) noexcept nogil
cdef void ghost_add(Map* m, Shard* s, uint64_t hash) noexcept nogil
cdef uint32_t units_for(uint64_t key_length, uint64_t head_length, uint64_t body_length) noexcept nogil
