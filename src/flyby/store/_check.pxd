# cython: language_level=3
"""The audit of a store."""

from flyby.store._layout cimport Map, Shard


cdef int check_shard(Map* m, Shard* s, list problems) except -1
cdef int verify_shard(Map* m, Shard* s, list problems) except -1
cdef int check_fills(Map* m, list problems) except -1
