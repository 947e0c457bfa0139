# cython: language_level=3
"""An object's head and times change, and its body stays."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from flyby.store._attachment cimport Attachment
from flyby.store._entry cimport Entry
from flyby.store._layout cimport Block, Map


cdef void settle_block(Map* m, Block* b, bint done, uint64_t length) noexcept
cdef bint refreshed(
    Attachment attachment, Entry entry, bytes head, uint32_t flags, int64_t born_ms, int64_t fresh_ms, uint32_t swr_s,
    uint32_t sie_s, object tags,
) except -1
cdef bint renewed(
    Attachment attachment, Entry entry, int64_t born_ms, int64_t fresh_ms, uint32_t swr_s, uint32_t sie_s, object date,
    Py_ssize_t at,
) except -1
