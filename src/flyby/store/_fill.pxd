# cython: language_level=3
"""One process's handle on a fetch under way."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from flyby.store._attachment cimport Attachment
from flyby.store._layout cimport Block, FillSlot
from flyby.store._window cimport Reader


cdef class Fill:
    cdef Attachment _attachment
    cdef uint32_t _serial  # of the attachment
    cdef uint32_t _number  # of the slot
    cdef uint32_t _use  # the slot's serial
    cdef FillSlot* _slot
    cdef bint _released
    cdef Reader _reader  # how far this one has read, unless it is the owner
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
    cdef int demand(self, str act) except -1
    cdef void end(self, uint32_t state, uint32_t reason) noexcept
    cdef bint make_room(self, uint64_t needed) noexcept


cdef Fill fill_of(Attachment attachment, uint32_t number, bint owner, uint64_t since)
