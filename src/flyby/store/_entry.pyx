# cython: language_level=3
"""Views of blocks that hold them in place: an `Entry` is what a lookup finds, a `Piece` is what has come of a fetch so
far.

Both are buffers over the mapping itself. The block is pinned while the object or any memoryview of it lives, so a
transport may keep a view for as long as its client takes; an object that was replaced or purged meanwhile is freed
after that.

A body that is stored as lz4 is read a piece at a time, into private memory: an Entry keeps the last piece that was
read, and of a body of at most 256 KiB the whole, if that was asked for. When such an object is hot its plain form takes
its place in the store (`_packing`), as long as the plain forms of a shard stay under an eighth of its arena.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from flyby.errors import StoreError

from flyby.store._eviction cimport allocate
from flyby.store._guard cimport unpin
from flyby.store._layout cimport (
    LZ4, PLAIN, Block, Map, Tag, add64, body_of, born_of, fence, head_of, key_of, load64,
    sie_of, stored_of, swr_of, tags_of, unit_of,
)
from flyby.store._pack cimport PIECE, unpack
from flyby.store._purged cimport freshness_of
from flyby.store._shard cimport units_for
from flyby.store._tags cimport Labels, tags_set

cdef enum:
    UNPACKED = 262144  # bytes of a packed body that are unpacked in one go


@cython.final
@cython.no_gc_clear
@cython.freelist(64)
cdef class Piece:
    def __dealloc__(self):
        if self._attachment is not None and self._serial == self._attachment.serial:
            unpin(&self._attachment.m, self._unit)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self._start, self._length, 1, flags)


cdef Piece piece_of(Attachment attachment, Block* b, char* start, Py_ssize_t length):
    """Takes over the caller's pin."""
    cdef Piece piece = Piece.__new__(Piece)
    piece._attachment = attachment
    piece._serial = attachment.serial
    piece._unit = unit_of(&attachment.m, b)
    piece._start = start
    piece._length = length
    return piece


@cython.final
@cython.no_gc_clear
@cython.freelist(64)
cdef class Entry:
    def __init__(self):
        raise TypeError("entries come from Store.lookup")

    def __dealloc__(self):
        self.drop()

    def __repr__(self):
        state = "" if self._block else ", released"
        return f"<Entry {self.status} {self.length} bytes, generation {self.generation}{state}>"

    cdef void drop(self) noexcept:
        # In a forked child, or after a close, the pin is no longer ours to take back.
        if self._block != NULL and self._serial == self._attachment.serial:
            unpin(&self._attachment.m, unit_of(&self._attachment.m, self._block))
        self._block = NULL

    cdef Block* block(self) except NULL:
        if self._block == NULL:
            raise ValueError("the entry has been released")
        return self._block

    @property
    def key(self):
        cdef Block* b
        if self._key is None:
            b = self.block()
            self._key = PyBytes_FromStringAndSize(key_of(b), b.key_length)
        return self._key

    @property
    def head(self):
        cdef Block* b
        if self._head is None:
            b = self.block()
            self._head = PyBytes_FromStringAndSize(head_of(b), b.head_length)
        return self._head

    @property
    def compressed(self):
        """Whether the body lies in the store as lz4."""
        return self.block().codec == LZ4

    def read(self, Py_ssize_t offset, Py_ssize_t most):
        """At most `most` bytes of the body from `offset` on, and at least one where the body has not ended.

        Of a plain body a view into the store; of a packed one what is asked for of the piece that `offset` lies in. The
        entry keeps that piece, of at most 64 KiB, until another is read. Raises `StoreError` when the body is damaged.
        """
        cdef Block* b = self.block()
        cdef Py_ssize_t start, end
        if offset < 0 or most < 0:
            raise ValueError("offset and most count forward")
        end = offset + min(most, max(self.length - offset, 0))
        if offset == end:
            return PyMemoryView_FromObject(b"")
        if b.codec != LZ4:
            whole = PyMemoryView_FromObject(self)
            return whole if end - offset == self.length else whole[offset:end]
        start = offset // PIECE * PIECE
        whole = PyMemoryView_FromObject(self.piece(offset // PIECE))
        return whole[offset - start : end - start]  # what lies beyond the piece is cut off

    def body(self, Py_ssize_t offset=0, Py_ssize_t length=-1):
        """The body, or a part of it; what lies beyond its end is cut off.

        A plain one is a view into the store. Of a packed one at most 256 KiB are unpacked, into private memory: raises
        `StoreError` when more is asked for, or when the body is damaged. `read` reads a body of any size.
        """
        cdef Block* b = self.block()
        cdef Py_ssize_t end = self.length, start
        if offset < 0:
            raise ValueError("an offset counts from the start")
        if 0 <= length < end - offset:
            end = offset + length
        if b.codec != LZ4:
            whole = PyMemoryView_FromObject(self)
        elif self.length <= UNPACKED:
            self.decompress()
            whole = PyMemoryView_FromObject(self._plain)
        elif offset >= end:
            return PyMemoryView_FromObject(b"")
        else:
            start = offset // PIECE * PIECE
            if end - start > UNPACKED:
                raise StoreError("so much of a packed body is to be read in pieces")
            pieces = [self.piece(number) for number in range(start // PIECE, (end - 1) // PIECE + 1)]
            whole = PyMemoryView_FromObject(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            return whole[offset - start : end - start]
        return whole if offset == 0 and end == self.length else whole[offset:end]

    cdef bytes piece(self, uint64_t number):
        """One piece of the packed body, plain: the last one is kept."""
        cdef Block* b = self._block
        if self._piece is None or self._piece_number != number:
            self._piece = None
            self._piece = unpack(body_of(b), stored_of(b), b.length, &self._cursor, number)
            self._piece_number = number
        return self._piece

    def release(self):
        """Let the block go, at once or with the last view of it."""
        if self._views:
            self._releasing = True
        else:
            self.drop()

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        cdef Block* b = self.block()
        if b.codec == LZ4:
            raise BufferError("a body that is stored as lz4 is to be read")
        PyBuffer_FillInfo(buffer, self, body_of(b), self.length, 1, flags)
        self._views += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self._views -= 1
        if not self._views and self._releasing:
            self.drop()

    cdef int decompress(self) except -1:
        """Keep the whole body, plain."""
        cdef Block* b = self._block
        cdef uint64_t number, count = (b.length + PIECE - 1) // PIECE
        if self._plain is not None:
            return 0
        if b.length > UNPACKED:
            raise StoreError("so much of a packed body is to be read in pieces")
        self._plain = b"".join([self.piece(number) for number in range(count)]) if count > 1 else self.piece(0)
        self._piece = None
        return 0


cdef Entry entry_of(Attachment attachment, Block* b):
    """Takes over the caller's pin."""
    cdef Entry entry = Entry.__new__(Entry)
    entry._attachment = attachment
    entry._serial = attachment.serial
    entry._block = b
    entry._since = load64(&attachment.m.header.epoch)  # first: a purge that comes now is younger than the entry
    entry.status = b.status
    entry.flags = b.flags
    entry.born_ms = born_of(b)
    entry.fresh_ms = freshness_of(&attachment.m, b)
    entry.swr_s = swr_of(b)
    entry.sie_s = sie_of(b)
    entry.length = b.length
    entry.generation = b.generation
    return entry


cdef void lay_out(
    Map* m, Block* b, uint64_t hash, bytes key, bytes head, int status, uint32_t flags, const Labels* labels
) noexcept:
    """Describe a new object in its block; its times, its length and its body are still to come."""
    b.hash = hash
    b.generation = add64(&m.header.generation, 1) + 1
    b.apart = 0
    b.codec = PLAIN
    b.status = status
    b.length = 0
    b.tags = labels.count
    b.flags = flags
    b.key_length = len(key)
    b.head_length = len(head)
    tags_set(b, labels)
    memcpy(key_of(b), <const char*>key, len(key))
    memcpy(head_of(b), <const char*>head, len(head))


cdef Block* copied(
    Attachment attachment, Block* b, const char* head, uint32_t head_length, uint64_t stored, const Labels* labels,
    bint may_evict,
) noexcept:
    """A new block for the object of b, with that head and room for `stored` bytes; its body is still to be written.

    It has the tags of b unless other labels are given.
    """
    cdef uint32_t tags = b.tags if labels == NULL else labels.count
    cdef uint64_t units = units_for(b.key_length, head_length, stored, tags)
    cdef Block* other = allocate(&attachment.m, b.hash, units, may_evict)
    if other == NULL:
        return NULL
    other.hash = b.hash
    # The words with the generation first: a purge changes the times, and that after them.
    other.generation = b.generation
    fence()
    other.codec = b.codec
    other.status = b.status
    other.apart = 0
    other.born = b.born
    other.key_length = b.key_length
    other.freshness = load64(&b.freshness)
    other.length = b.length
    other.head_length = head_length
    other.tags = tags
    other.flags = b.flags
    other.swr_low = b.swr_low
    other.sie_low = b.sie_low
    if labels == NULL:
        memcpy(tags_of(other), tags_of(b), tags * sizeof(Tag))
    else:
        tags_set(other, labels)
    memcpy(key_of(other), key_of(b), b.key_length)
    memcpy(head_of(other), head, head_length)
    return other
