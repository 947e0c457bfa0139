# cython: language_level=3
"""A fetch that outgrew the store: its readers go on in a window."""

from libc.stdint cimport uint32_t, uint64_t

from flyby.store._layout cimport Block, FillSlot, Map


cdef uint64_t readers_of(Map* m, uint32_t number) noexcept nogil
cdef uint64_t floor_of(Map* m, FillSlot* slot, uint32_t number) noexcept nogil
cdef void window_begin(Map* m, FillSlot* slot, Block* ring, uint64_t size) noexcept nogil
cdef uint64_t window_put(
    Map* m, FillSlot* slot, uint32_t number, const unsigned char* data, uint64_t length
) noexcept nogil
cdef void window_cut(Map* m, FillSlot* slot) noexcept nogil
cdef object window_read(Map* m, FillSlot* slot, uint64_t offset, uint64_t limit)
