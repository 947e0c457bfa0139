# cython: language_level=3
"""Bodies as lz4, in pieces."""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    PIECE = 262144


cdef bint promising(char* start, uint64_t length) except -1
cdef int pack_piece(list pieces, char* start, uint32_t length, int packing) except -1
cdef object worth(list pieces, uint64_t length)
cdef object pack(char* start, uint64_t length, int packing)
cdef object unpack(char* start, uint64_t stored, uint64_t length, uint64_t first, uint64_t last)
cdef bint unpack_to(char* start, uint64_t stored, char* to, uint64_t length) noexcept nogil
