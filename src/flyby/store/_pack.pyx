# cython: language_level=3
"""Bodies as lz4: in pieces of 64 KiB, so that a body of any size is packed and unpacked a piece at a time, and a part
of it is read without the rest.

    ┌───────────┬──────────────────────┬───────────┬─────────┐     size: of the packed piece, or with the top bit
    │ size 32   │ piece as lz4         │ size 32   │ ...     │     set of one that lies plain because it is no smaller
    └───────────┴──────────────────────┴───────────┴─────────┘

A body is worth it from 1 KiB on, when that saves an eighth. A look at the first 16 KiB of a longer one tells early.

A piece is the most that is packed or unpacked in one turn of an event loop: 64 KiB of text take 20 µs to unpack,
150 µs to pack the fast way and 700 µs the high way. Pieces of 256 KiB would be 3 % (fast) and 8 % (high) smaller, and
take four times as long. The high way makes an eighth to a quarter less of a piece than the fast one.

A packed body has no table of its pieces: a `Cursor` remembers where the last piece ended, so that who reads in order
looks at each size once.

The lz4 package carries liblz4 and exports its functions. `piece_to` calls the one for unpacking itself,
without an object and with the GIL held, for on a small body that costs more than the work. Where it is not found, or
does not undo what the package packed, they say so each time, and bodies are unpacked through Python.
"""

from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from lz4 import block as lz4_block
from lz4.block import LZ4BlockError, compress, decompress

from flyby.errors import StoreError

from flyby.store._candidates cimport PACK_FROM
from flyby.store._layout cimport PACK_FAST, PACK_HIGH, PACK_OFF

cdef extern from "<dlfcn.h>" nogil:
    void* dlopen(const char* path, int mode)
    void* dlsym(void* library, const char* name)
    int RTLD_NOW, RTLD_NOLOAD

ctypedef int (*Decompress)(const char* start, char* to, int length, int room) noexcept nogil

cdef Decompress liblz4_decompress = NULL

cdef enum:
    SAMPLE = 16384
    HIGH_LEVEL = 3  # the higher ones save another hundredth

cdef uint32_t AS_IT_IS = 0x80000000


cdef bint promising(char* start, uint64_t length) except -1:
    """Whether packing is worth a try: by its length, and by what its beginning shows."""
    if length < PACK_FROM:
        return False
    if length <= 2 * SAMPLE:
        return True
    return len(compress(PyMemoryView_FromMemory(start, SAMPLE, PyBUF_READ), store_size=False)) <= SAMPLE // 8 * 7


cdef int pack_piece(list pieces, char* start, uint32_t length, int packing) except -1:
    """Append one piece, with its size before it."""
    cdef uint32_t size
    plain = PyMemoryView_FromMemory(start, length, PyBUF_READ)
    if packing == PACK_HIGH:
        packed = compress(plain, mode="high_compression", compression=HIGH_LEVEL, store_size=False)
    else:
        packed = compress(plain, store_size=False)
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


cdef object pack(char* start, uint64_t length, int packing):
    """The body packed, when that pays, else None."""
    cdef list pieces = []
    cdef uint64_t at = 0
    if packing == PACK_OFF or not promising(start, length):
        return None
    while at < length:
        pack_piece(pieces, start + at, <uint32_t>min(length - at, PIECE), packing)
        at += PIECE
    return worth(pieces, length)


cdef bint find_piece(const char* start, uint64_t stored, Cursor* cursor, uint64_t number) noexcept nogil:
    """Move the cursor to the piece of that number; False when the body ends before it."""
    cdef uint32_t size
    if number < cursor.number:
        cursor.number = 0
        cursor.at = 0
    while cursor.number < number:
        if cursor.at + sizeof(size) > stored:
            return False
        memcpy(&size, start + cursor.at, sizeof(size))
        cursor.at += sizeof(size) + (size & ~AS_IT_IS)
        cursor.number += 1
    return cursor.at + sizeof(size) <= stored


cdef bint piece_to(
    const char* start, uint64_t stored, uint64_t length, Cursor* cursor, uint64_t number, char* to
) noexcept nogil:
    """Unpack one piece of a body to where it is wanted, PIECE bytes or the rest; False where `unpack` must do it."""
    cdef uint64_t expected = min(length - number * PIECE, <uint64_t>PIECE)
    cdef uint32_t size
    if number * PIECE >= length or not find_piece(start, stored, cursor, number):
        return False
    memcpy(&size, start + cursor.at, sizeof(size))
    start += cursor.at + sizeof(size)
    if (size & ~AS_IT_IS) > stored - cursor.at - sizeof(size):
        return False
    if size & AS_IT_IS:
        if (size & ~AS_IT_IS) != expected:
            return False
        memcpy(to, start, expected)
        return True
    if liblz4_decompress == NULL:
        return False
    return <uint64_t>liblz4_decompress(start, to, <int>size, <int>expected) == expected


cdef object unpack(char* start, uint64_t stored, uint64_t length, Cursor* cursor, uint64_t number):
    """One piece, plain; raises `StoreError` when it is not what it should be."""
    cdef uint64_t expected = min(length - number * PIECE, <uint64_t>PIECE)
    cdef uint32_t size
    cdef bytes piece = PyBytes_FromStringAndSize(NULL, expected)
    if piece_to(start, stored, length, cursor, number, PyBytes_AS_STRING(piece)):
        return piece
    if not find_piece(start, stored, cursor, number):
        raise StoreError("a stored body is shorter than it says")
    memcpy(&size, start + cursor.at, sizeof(size))
    if (size & ~AS_IT_IS) > stored - cursor.at - sizeof(size):
        raise StoreError("a stored body is shorter than it says")
    view = PyMemoryView_FromMemory(start + cursor.at + sizeof(size), size & ~AS_IT_IS, PyBUF_READ)
    try:
        piece = bytes(view) if size & AS_IT_IS else decompress(view, uncompressed_size=expected)
    except LZ4BlockError as error:
        raise StoreError("a stored body does not decompress") from error
    if <uint64_t>len(piece) != expected:
        raise StoreError("a stored body does not decompress to its length")
    return piece


cdef Decompress find_decompress():
    """LZ4_decompress_safe of the lz4 package, if it is there and does what it should."""
    cdef bytes path = lz4_block._block.__file__.encode()
    cdef bytes plain = b"to and fro, to and fro, to and fro, to and fro"
    cdef bytes packed = compress(plain, store_size=False)
    cdef char found[64]
    cdef Decompress function
    cdef void* library = dlopen(path, RTLD_NOW | RTLD_NOLOAD)
    if library == NULL:
        return NULL
    function = <Decompress>dlsym(library, "LZ4_decompress_safe")
    if function == NULL or function(packed, found, <int>len(packed), 64) != len(plain) or found[: len(plain)] != plain:
        return NULL
    return function


liblz4_decompress = find_decompress()


def unpacked(bytes body not None, uint64_t length):
    """The whole of a packed body by `piece_to`, for the tests; None where a piece is not what it should be."""
    cdef Cursor cursor = Cursor(number=0, at=0)
    cdef bytearray to = bytearray(length + 1)
    cdef char* start = to
    cdef uint64_t number
    for number in range((length + PIECE - 1) // PIECE):
        if not piece_to(body, len(body), length, &cursor, number, start + number * PIECE):
            return None
    return bytes(to[:length])


def packed(bytes body not None, bint high=False):
    """`pack` for the tests."""
    return pack(body, len(body), PACK_HIGH if high else PACK_FAST)
