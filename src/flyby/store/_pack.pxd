# cython: language_level=3
"""Bodies as lz4, in pieces."""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    PIECE = 65536  # bytes of a body that are packed, and unpacked, at a time

cdef struct Cursor:
    uint64_t number  # of a piece
    uint64_t at  # where its size stands in the packed body


cdef bint promising(char* start, uint64_t length) except -1
cdef int pack_piece(list pieces, char* start, uint32_t length, int packing) except -1
cdef object worth(list pieces, uint64_t length)
cdef object pack(char* start, uint64_t length, int packing)
cdef bint find_piece(const char* start, uint64_t stored, Cursor* cursor, uint64_t number) noexcept nogil
cdef bint piece_to(
    const char* start, uint64_t stored, uint64_t length, Cursor* cursor, uint64_t number, char* to
) noexcept nogil
cdef object unpack(char* start, uint64_t stored, uint64_t length, Cursor* cursor, uint64_t number)
