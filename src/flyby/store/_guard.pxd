# cython: language_level=3
"""Robust locks and pins: the two ways to keep memory from changing under one's feet."""

from libc.stdint cimport uint32_t, uint64_t

from flyby.store._layout cimport Map, pthread_mutex_t


cdef enum:
    PATIENCE = 40  # attempts of 50 ms for what must be done: purges and sweeps
    TABLE_LOCK = 64  # the number of the fill table's lock; a shard's is the shard's


cdef int guard_format(pthread_mutex_t* lock) noexcept nogil
cdef bint guard_take(Map* m, pthread_mutex_t* lock, uint32_t number, bint insist) noexcept nogil
cdef void guard_give(pthread_mutex_t* lock) noexcept nogil
cdef bint pin(Map* m, uint64_t unit) noexcept nogil
cdef void unpin(Map* m, uint64_t unit) noexcept nogil
cdef bint pinned(Map* m, uint64_t unit) noexcept nogil
