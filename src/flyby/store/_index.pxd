# cython: language_level=3
"""The index of one shard, and its ghosts. All but `bucket_of` and `same_key` runs under the shard's lock."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp

from flyby.store._layout cimport Block, Map, Shard, floor_log2, key_of, place_of


cdef inline uint32_t reduced(uint32_t hash, uint32_t buckets) noexcept nogil:
    cdef uint32_t mask = (<uint32_t>2 << floor_log2(buckets)) - 1
    cdef uint32_t bucket = hash & mask
    return bucket if bucket < buckets else bucket & (mask >> 1)


cdef inline uint32_t bucket_of(uint64_t hash, int side, uint32_t buckets) noexcept nogil:
    return reduced(<uint32_t>(hash * <uint64_t>0x9E3779B97F4A7C15 >> 32) if side else <uint32_t>hash, buckets)


cdef inline uint64_t word_for(Map* m, Shard* s, Block* b) noexcept nogil:
    return (b.hash >> 48) << 48 | place_of(m, s, b)


cdef inline bint same_key(Block* b, uint64_t hash, const char* key, uint32_t length) noexcept nogil:
    return b.hash == hash and b.key_length == length and memcmp(key_of(b), key, length) == 0


cdef uint64_t* index_find(Map* m, Shard* s, uint64_t hash, const char* key, uint32_t length) noexcept nogil
cdef uint64_t* index_word(Map* m, Shard* s, Block* b) noexcept nogil
cdef uint64_t* index_room(Map* m, Shard* s, uint64_t hash) noexcept nogil
cdef bint index_loaded(Shard* s) noexcept nogil
cdef void index_segment(Map* m, Shard* s) noexcept nogil
cdef void index_widen(Map* m, Shard* s) noexcept nogil
cdef void index_clear(Map* m, Shard* s) noexcept nogil
cdef bint ghost_known(Map* m, Shard* s, uint64_t hash) noexcept nogil
cdef void ghost_add(Map* m, Shard* s, uint64_t hash) noexcept nogil
