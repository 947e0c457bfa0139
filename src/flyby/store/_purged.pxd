# cython: language_level=3
"""What was purged, and when."""

from libc.stdint cimport int64_t, uint64_t

from flyby.store._layout cimport Block, Map


cdef uint64_t stem_name(Map* m, const char* key, size_t length) noexcept nogil
cdef void purged_names(Map* m, const uint64_t* names, int count) noexcept nogil
cdef uint64_t purged_everything(Map* m) noexcept nogil
cdef void purged_hard(Map* m) noexcept nogil
cdef void purged_soft(Map* m, int64_t now_ms) noexcept nogil
cdef int64_t freshness_of(Map* m, Block* b) noexcept nogil
cdef bint purged_since(Map* m, uint64_t name, uint64_t since) noexcept nogil
cdef bint outdated(Map* m, Block* b, uint64_t since) noexcept nogil
