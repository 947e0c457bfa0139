# cython: language_level=3
"""The allocator of one shard's arena. All of it runs under the shard's lock."""

from libc.stdint cimport uint32_t

from flyby.store._layout cimport Block, Map, Shard


cdef void arena_format(Map* m, Shard* s) noexcept nogil
cdef Block* arena_take(Map* m, Shard* s, uint32_t units) noexcept nogil
cdef void arena_give(Map* m, Shard* s, Block* b) noexcept nogil
cdef void arena_trim(Map* m, Shard* s, Block* b, uint32_t units) noexcept nogil
cdef bint arena_grow(Map* m, Shard* s, Block* b, uint32_t units) noexcept nogil
cdef bint arena_cede(Map* m, Shard* s) noexcept nogil
cdef uint32_t arena_sound(Map* m, Shard* s) noexcept nogil
cdef void arena_relink(Map* m, Shard* s) noexcept nogil
cdef Block* arena_first(Map* m, Shard* s) noexcept nogil
cdef Block* arena_after(Block* b) noexcept nogil
cdef Block* arena_before(Block* b) noexcept nogil
