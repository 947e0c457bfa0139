# cython: language_level=3
"""What the store counts, read without a lock."""

from libc.stdint cimport uint64_t

from flyby.store._layout cimport Map


cdef object statistics_of(Map* m)
cdef uint64_t objects_of(Map* m) noexcept nogil
