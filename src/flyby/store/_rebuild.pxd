# cython: language_level=3
"""A shard made anew from its arena."""

from flyby.store._layout cimport Block, Map, Shard


cdef bint shard_rebuild(Map* m, Shard* s, bint keep) noexcept nogil
cdef bint filled(Map* m, Block* b) noexcept nogil
cdef bint whole(Map* m, Shard* s, Block* b) noexcept nogil
cdef void reset_sums(Shard* s) noexcept nogil
