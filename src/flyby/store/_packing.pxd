# cython: language_level=3
"""Objects take another form, a slice at a time."""

from libc.stdint cimport uint32_t, uint64_t

from flyby.store._attachment cimport Attachment
from flyby.store._layout cimport Block, Map
from flyby.store._pack cimport Cursor


cdef class Packer:
    cdef Attachment _attachment
    cdef uint32_t _serial
    cdef Block* _source  # the object that is changed, pinned; NULL between two
    cdef Block* _target  # its new form, pinned; NULL before the first slice
    cdef uint64_t _done  # bytes of the plain body
    cdef uint64_t _stored  # bytes of the packed one
    cdef Cursor _cursor

    cdef bint busy(self) noexcept
    cdef bint step(self) except -1
    cdef bint begin(self) noexcept
    cdef int pack_slice(self) except -1
    cdef int unpack_slice(self) except -1
    cdef bint room_for(self, uint64_t size) noexcept
    cdef void publish(self, uint64_t stored) noexcept
    cdef void drop(self) noexcept


cdef Packer packer_of(Attachment attachment)
