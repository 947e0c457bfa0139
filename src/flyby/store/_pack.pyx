# cython: language_level=3
"""Bodies as lz4: in pieces of 256 KiB, so that a body of any size is packed as it arrives and a part of it is read
without the rest.

    ┌───────────┬──────────────────────┬───────────┬─────────┐     size: of the packed piece, or with the top bit
    │ size 32   │ piece as lz4         │ size 32   │ ...     │     set of one that lies plain because it is no smaller
    └───────────┴──────────────────────┴───────────┴─────────┘

A body is worth it from 1 KiB on, when that saves an eighth. A look at the first 16 KiB of a longer one tells early.
"""

from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from lz4.block import compress, decompress

from flyby.errors import StoreError

cdef enum:
    PACK_FROM = 1024
    SAMPLE = 16384

cdef uint32_t AS_IT_IS = 0x80000000


cdef bint promising(char* start, uint64_t length) except -1:
    """Whether packing is worth a try: by its length, and by what its beginning shows."""
    if length < PACK_FROM:
        return False
    if length <= 2 * SAMPLE:
        return True
    return len(compress(PyMemoryView_FromMemory(start, SAMPLE, PyBUF_READ), store_size=False)) <= SAMPLE // 8 * 7


cdef int pack_piece(list pieces, char* start, uint32_t length) except -1:
    """Append one piece, with its size before it."""
    cdef uint32_t size
    packed = compress(PyMemoryView_FromMemory(start, length, PyBUF_READ), store_size=False)
    size = <uint32_t>len(packed)
    if size >= length:
        packed = PyBytes_FromStringAndSize(start, length)
        size = length | AS_IT_IS
    pieces.append(PyBytes_FromStringAndSize(<char*>&size, sizeof(size)))
    pieces.append(packed)
    return 0


cdef object worth(list pieces, uint64_t length):
    """The packed body when it saves an eighth, else None."""
    cdef bytes whole = b"".join(pieces)
    return whole if <uint64_t>len(whole) <= length - length // 8 else None


cdef object pack(char* start, uint64_t length):
    """The body packed, when that pays, else None."""
    cdef list pieces = []
    cdef uint64_t at = 0
    if not promising(start, length):
        return None
    while at < length:
        pack_piece(pieces, start + at, <uint32_t>min(length - at, PIECE))
        at += PIECE
    return worth(pieces, length)


cdef object unpack(char* start, uint64_t stored, uint64_t length, uint64_t first, uint64_t last):
    """The pieces from number `first` to before `last`, plain; raises `StoreError` when they are not what they should be."""
    cdef list pieces = []
    cdef uint64_t at = 0, number = 0, expected
    cdef uint32_t size
    while number < last:
        if at + sizeof(size) > stored:
            raise StoreError("a stored body is shorter than it says")
        memcpy(&size, start + at, sizeof(size))
        at += sizeof(size)
        expected = min(length - number * PIECE, PIECE)
        if (size & ~AS_IT_IS) > stored - at:
            raise StoreError("a stored body is shorter than it says")
        if number >= first:
            view = PyMemoryView_FromMemory(start + at, size & ~AS_IT_IS, PyBUF_READ)
            piece = bytes(view) if size & AS_IT_IS else decompress(view, uncompressed_size=expected)
            if <uint64_t>len(piece) != expected:
                raise StoreError("a stored body does not decompress to its length")
            pieces.append(piece)
        at += size & ~AS_IT_IS
        number += 1
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
