# cython: language_level=3
"""The queues of one shard. All of it runs under the shard's lock."""

from libc.stdint cimport int64_t, uint64_t

from flyby.store._layout cimport Block, Map, Shard


cdef void queue_push(Map* m, Shard* s, Block* b, int queue) noexcept nogil
cdef void queue_drop(Map* m, Shard* s, Block* b) noexcept nogil
cdef int size_class(uint64_t length) noexcept nogil
cdef void count_in(Map* m, Shard* s, Block* b) noexcept nogil
cdef void count_out(Map* m, Shard* s, Block* b) noexcept nogil
cdef void ends_at(Shard* s, int64_t ends) noexcept nogil
