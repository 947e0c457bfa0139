# cython: language_level=3
"""A fetch that outgrew the store: its readers go on in a window."""

from libc.stdint cimport uint32_t, uint64_t

from flyby.store._attachment cimport Attachment
from flyby.store._layout cimport FillSlot, Map


cdef struct Reader:  # of a fill, in this process
    Reader* next  # those that read the same slot
    Reader* previous
    uint64_t passed  # how much of the body it has done with
    bint listed  # whether it is one of them


cdef void reader_enter(Attachment attachment, uint32_t number, Reader* reader) noexcept
cdef void reader_leave(Attachment attachment, uint32_t number, Reader* reader, bint tell) noexcept
cdef void reader_pass(Attachment attachment, uint32_t number, Reader* reader, uint64_t offset) noexcept
cdef void readers_report(Attachment attachment, uint32_t number) noexcept
cdef uint64_t readers_of(Map* m, uint32_t number) noexcept nogil
cdef uint64_t floor_of(Map* m, FillSlot* slot, uint32_t number) noexcept nogil
cdef bint window_begin(Attachment attachment, uint32_t number) noexcept
cdef uint64_t window_put(
    Map* m, FillSlot* slot, uint32_t number, const unsigned char* data, uint64_t length
) noexcept nogil
cdef void window_cut(Map* m, FillSlot* slot) noexcept nogil
cdef object window_read(Map* m, FillSlot* slot, uint64_t offset, uint64_t limit)
