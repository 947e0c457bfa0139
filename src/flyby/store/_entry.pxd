# cython: language_level=3
"""Views of blocks that hold them in place."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from flyby.store._attachment cimport Attachment
from flyby.store._layout cimport Block, Map
from flyby.store._pack cimport Cursor
from flyby.store._tags cimport Labels


cdef class Piece:
    """Some bytes of a pinned block, as a buffer."""
    cdef Attachment _attachment
    cdef uint32_t _serial
    cdef uint64_t _unit  # of the pinned block
    cdef char* _start
    cdef Py_ssize_t _length


cdef class Entry:
    """A stored object, pinned for as long as this or a view of its body lives."""
    cdef Attachment _attachment
    cdef uint32_t _serial
    cdef Block* _block  # NULL once released
    cdef uint32_t _views
    cdef bint _releasing
    cdef bytes _key
    cdef bytes _head
    cdef object _plain  # the body, when it is stored as lz4 and was asked for as a whole
    cdef bytes _piece  # of a packed body, the last that was read
    cdef uint64_t _piece_number
    cdef Cursor _cursor
    cdef readonly int status
    cdef readonly uint32_t flags
    cdef readonly int64_t born_ms
    cdef readonly int64_t fresh_ms
    cdef readonly uint32_t swr_s
    cdef readonly uint32_t sie_s
    cdef readonly int64_t length
    cdef readonly uint64_t generation
    cdef uint64_t _since  # what had been purged when it was found

    cdef void drop(self) noexcept
    cdef Block* block(self) except NULL
    cdef int decompress(self) except -1
    cdef bytes piece(self, uint64_t number)


cdef Entry entry_of(Attachment attachment, Block* b)
cdef Piece piece_of(Attachment attachment, Block* b, char* start, Py_ssize_t length)
cdef void lay_out(
    Map* m, Block* b, uint64_t hash, bytes key, bytes head, int status, uint32_t flags, const Labels* labels
) noexcept
cdef Block* copied(
    Attachment attachment, Block* b, const char* head, uint32_t head_length, uint64_t stored, const Labels* labels,
    bint may_evict,
) noexcept
