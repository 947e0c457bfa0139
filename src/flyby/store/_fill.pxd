# cython: language_level=3
"""One process's handle on a fetch under way."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from flyby.store._attachment cimport Attachment
from flyby.store._hash cimport Digest
from flyby.store._layout cimport Block, FillSlot, Map
from flyby.store._tags cimport Labels


cdef class Fill:
    cdef Attachment _attachment
    cdef uint32_t _serial  # of the attachment
    cdef uint32_t _number  # of the slot
    cdef uint32_t _use  # the slot's serial
    cdef FillSlot* _slot
    cdef bint _released
    cdef bint _compress
    cdef list _pieces  # of the body as lz4
    cdef uint64_t _packed_to  # how much of the body they are
    cdef void* _next  # the Fills that read the same slot in this process, borrowed
    cdef void* _previous
    cdef bint _listed  # among those
    cdef uint64_t _passed  # how much of the body this reader has done with
    cdef bint _overfull  # a write did not fit: the body has a hole and is never whole
    cdef bint _known  # what the head told has been read
    cdef readonly bint owner
    cdef list _callbacks
    cdef bytes _key
    cdef bytes _head
    cdef int _status
    cdef uint32_t _flags
    cdef int64_t _born_ms
    cdef int64_t _fresh_ms
    cdef uint32_t _swr_s
    cdef uint32_t _sie_s

    cdef uint64_t _since  # what had been purged when it was claimed here

    cdef bint ours(self) noexcept
    cdef Block* hold(self) noexcept
    cdef int learn(self) except -1
    cdef void enlist(self) noexcept
    cdef void delist(self) noexcept
    cdef void pass_to(self, uint64_t offset) noexcept
    cdef void end(self, uint32_t state, uint32_t reason) noexcept
    cdef int pack_along(self, Block* b) except -1
    cdef bint make_room(self, uint64_t needed) noexcept
    cdef Block* packed(self, Block* b, uint64_t* stored) except? NULL


cdef Fill fill_of(Attachment attachment, uint32_t number, bint owner, uint64_t since)
cdef void report(Attachment attachment, uint32_t number) noexcept
cdef Fill fill_joined(Attachment attachment, const char* key, uint32_t length, Digest digest)
cdef void lay_out(
    Map* m, Block* b, uint64_t hash, bytes key, bytes head, int status, uint32_t flags, const Labels* labels
) noexcept
