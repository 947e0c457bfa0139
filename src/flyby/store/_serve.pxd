# cython: language_level=3
"""The store's C face: what answers requests calls these, and Entry, Fill and Store, and no other module of the store.

    serve_find ──▶ Found, pinned ──▶ serve_hit ──▶ head, body or serve_read ──▶ serve_done
                                └──▶ serve_piece or serve_entry: the pin goes over to an object

An `Attachment` is a process's hold on a store; nothing here may be called once it is not `usable`. Nothing waits but
for a lock, as `_guard` says. All are called with the GIL held.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from flyby.store._attachment cimport Attachment
from flyby.store._entry cimport Entry, Piece
from flyby.store._fill cimport Fill
from flyby.store._hash cimport Digest
from flyby.store._layout cimport FILL_COMPLETE, FILL_EMPTY, FILL_FAILED, FILL_HEAD, FILL_STREAMING, Block
from flyby.store._pack cimport PIECE, Cursor
from flyby.store._store cimport Store


cdef struct Found:  # an object, where it lies
    Block* block  # pinned; NULL where nothing was found
    const char* head
    uint32_t head_length
    uint32_t flags
    int status
    uint32_t swr_s
    uint32_t sie_s
    int64_t born_ms
    int64_t fresh_ms  # purges of everything considered
    int64_t length  # of the body, for its reader
    const char* body  # NULL where that is packed: then `serve_read` reads it
    uint64_t generation


# ---- objects ---------------------------------------------------------------------------------------------------------

cdef Attachment serve_store(Store store)
cdef Digest serve_digest(Attachment store, const char* key, size_t length) noexcept
cdef bint serve_find(Attachment store, Digest digest, const char* key, uint32_t length, Found* found) noexcept
cdef void serve_hit(Attachment store, Found* found, bint counted) noexcept
cdef void serve_missed(Attachment store, bint collapsed) noexcept
cdef int64_t serve_read(Attachment store, Found* found, Cursor* cursor, int64_t offset, char* to) noexcept
cdef void serve_done(Attachment store, Found* found) noexcept
cdef Piece serve_piece(Attachment store, Found* found, const char* start, Py_ssize_t length)
cdef Entry serve_entry(Attachment store, Found* found)
cdef bint serve_renew(
    Attachment store, Entry entry, int64_t born_ms, int64_t fresh_ms, uint32_t swr_s, uint32_t sie_s, bytes date,
    Py_ssize_t at,
) except -1
cdef uint64_t serve_mark(Attachment store) noexcept

# ---- fetches under way -----------------------------------------------------------------------------------------------

cdef Fill serve_join(Attachment store, const char* key, uint32_t length, Digest digest)
cdef Fill serve_claim(Attachment store, const char* key, uint32_t length, Digest digest, uint64_t since)
cdef bint serve_open(Fill fill) noexcept
cdef uint32_t serve_state(Fill fill) noexcept
cdef uint64_t serve_available(Fill fill) noexcept
cdef int64_t serve_length(Fill fill) noexcept
cdef bint serve_purged(Fill fill) noexcept
cdef bint serve_older(Fill fill, uint64_t since) noexcept
