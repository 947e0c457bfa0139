# cython: language_level=3
"""The store's C face; `_serve.pxd` says how it is used."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flyby.errors import StoreError

from flyby.store._attachment cimport Attachment
from flyby.store._candidates cimport count_hit
from flyby.store._claim cimport fill_claimed, fill_joined
from flyby.store._entry cimport Entry, Piece, entry_of, piece_of
from flyby.store._fill cimport Fill
from flyby.store._guard cimport unpin
from flyby.store._hash cimport Digest
from flyby.store._inflight cimport fill_outdated
from flyby.store._layout cimport (
    FILL_FAILED, LZ4, Block, Worker, body_of, born_of, head_of, load32, load64, sie_of, stored_of, swr_of, unit_of,
    worker_at,
)
from flyby.store._pack cimport PIECE, Cursor, piece_to, unpack
from flyby.store._purged cimport freshness_of
from flyby.store._refresh cimport renewed
from flyby.store._shard cimport shard_lookup
from flyby.store._store cimport Store


# ---- objects ---------------------------------------------------------------------------------------------------------


cdef Attachment serve_store(Store store):
    return store._attachment


cdef Digest serve_digest(Attachment store, const char* key, size_t length) noexcept:
    return store.digest(key, length)


cdef bint serve_find(Attachment store, Digest digest, const char* key, uint32_t length, Found* found) noexcept:
    """Find the object of that key, and pin it; neither a hit nor a miss is counted. `serve_done` lets it go."""
    cdef Block* b = shard_lookup(&store.m, digest, key, length)
    found.block = b
    if b == NULL:
        return False
    found.head = head_of(b)
    found.head_length = b.head_length
    found.flags = b.flags
    found.status = b.status
    found.swr_s = swr_of(b)
    found.sie_s = sie_of(b)
    found.born_ms = born_of(b)
    found.fresh_ms = freshness_of(&store.m, b)
    found.length = b.length
    found.body = NULL if b.codec == LZ4 else body_of(b)
    found.generation = b.generation
    return True


cdef void serve_hit(Attachment store, Found* found, bint counted) noexcept:
    """A response is made from the object: the eviction is told, and the packing; counted or not, as `Store.lookup`."""
    cdef Worker* counts = worker_at(&store.m, store.m.worker)
    count_hit(&store.m, found.block)
    store.tell_work()
    if counted:
        counts.hits += 1
        counts.hit_bytes += found.length


cdef void serve_missed(Attachment store, bint collapsed) noexcept:
    """Count a request that the store could not answer, and that it joined a fetch under way."""
    cdef Worker* counts = worker_at(&store.m, store.m.worker)
    counts.misses += 1
    counts.collapsed += collapsed


cdef int64_t serve_read(Attachment store, Found* found, Cursor* cursor, int64_t offset, char* to) noexcept:
    """Unpack the piece of a packed body that begins at `offset`, a multiple of PIECE; returns how many bytes that are.

    `to` has room for PIECE bytes, or for the rest of the body. 0 at its end, -1 when it is damaged. The cursor begins
    as zeros, and is the reader's own.
    """
    cdef Block* b = found.block
    cdef uint64_t number = offset // PIECE
    cdef int64_t length = min(found.length - offset, <int64_t>PIECE)
    if length <= 0:
        return 0
    if not piece_to(body_of(b), stored_of(b), b.length, cursor, number, to):
        try:
            piece = unpack(body_of(b), stored_of(b), b.length, cursor, number)
        except (StoreError, MemoryError):
            return -1
        memcpy(to, <const char*><bytes>piece, length)
    return length


cdef void serve_done(Attachment store, Found* found) noexcept:
    """Let the object go; nothing, where it is let go already."""
    if found.block != NULL:
        unpin(&store.m, unit_of(&store.m, found.block))
        found.block = NULL


cdef Piece serve_piece(Attachment store, Found* found, const char* start, Py_ssize_t length):
    """Bytes of the head or of a plain body as a buffer, which has the pin from now on; on MemoryError it has not."""
    cdef Piece piece = piece_of(store, found.block, <char*>start, length)
    found.block = NULL
    return piece


cdef Entry serve_entry(Attachment store, Found* found):
    """The object for Python; it has the pin from now on. On MemoryError it has not."""
    cdef Entry entry = entry_of(store, found.block)
    found.block = NULL
    return entry


cdef bint serve_renew(
    Attachment store, Entry entry, int64_t born_ms, int64_t fresh_ms, uint32_t swr_s, uint32_t sie_s, bytes date,
    Py_ssize_t at,
) except -1:
    """`Store.renew`."""
    return renewed(store, entry, born_ms, fresh_ms, swr_s, sie_s, date, at)


cdef uint64_t serve_mark(Attachment store) noexcept:
    """`Store.mark`: what has been purged so far."""
    return load64(&store.m.header.epoch)


# ---- fetches under way -----------------------------------------------------------------------------------------------


cdef Fill serve_join(Attachment store, const char* key, uint32_t length, Digest digest):
    """A reader's handle on the fetch of that name; None where none is under way."""
    return fill_joined(store, key, length, digest)


cdef Fill serve_claim(Attachment store, const char* key, uint32_t length, Digest digest, uint64_t since):
    """`Store.claim`: a reader's handle, or the owner's of a new fetch; None where there is no room for one."""
    return fill_claimed(store, key, length, digest, since)


cdef bint serve_open(Fill fill) noexcept:
    """Whether the handle is still on its fetch: not after its release, a fork or a close."""
    return fill.ours()


cdef uint32_t serve_state(Fill fill) noexcept:
    return load32(&fill._slot.state) if fill.ours() else <uint32_t>FILL_FAILED


cdef uint64_t serve_available(Fill fill) noexcept:
    """How many bytes of the body have come."""
    return load64(&fill._slot.available) if fill.ours() else 0


cdef int64_t serve_length(Fill fill) noexcept:
    """Of the body; -1 while it is not known."""
    return fill._slot.length if fill.ours() else -1


cdef bint serve_purged(Fill fill) noexcept:
    """Whether what is fetched has been purged since the fetch began, as far as is known."""
    cdef Block* b
    cdef bint found
    if not fill.ours():
        return True
    b = fill.hold()
    found = fill_outdated(&fill._attachment.m, fill._slot, b)
    if b != NULL:
        unpin(&fill._attachment.m, unit_of(&fill._attachment.m, b))
    return found


cdef bint serve_older(Fill fill, uint64_t since) noexcept:
    """Whether the fetch began with another mark than `since`: then one that is purged is not for who came since."""
    return not fill.ours() or fill._slot.epoch != since


# ---- for the tests ---------------------------------------------------------------------------------------------------


def found_by(Store store not None, bytes key not None, bint counted=True):
    """What the face tells of the object of that key: head, status, times, and body; None where none is."""
    cdef Attachment attachment = serve_store(store)
    cdef Found found
    cdef Cursor cursor = Cursor(number=0, at=0)
    cdef char[PIECE] piece
    cdef int64_t offset = 0, length
    if not serve_find(attachment, serve_digest(attachment, key, len(key)), key, <uint32_t>len(key), &found):
        serve_missed(attachment, False)
        return None
    serve_hit(attachment, &found, counted)
    about = (
        found.head[: found.head_length], found.status, found.flags, found.born_ms, found.fresh_ms, found.swr_s,
        found.sie_s, found.generation,
    )
    if found.body != NULL:
        body = serve_piece(attachment, &found, found.body, found.length)
    else:
        body = b""
        while True:
            length = serve_read(attachment, &found, &cursor, offset, piece)
            if length <= 0:
                break
            body += piece[:length]
            offset += length
        if length < 0:
            body = None
        serve_done(attachment, &found)
    serve_done(attachment, &found)
    return about, body


def followed_by(Store store not None, bytes key not None, bint own=False):
    """A handle on the fetch of that name, and what the face tells of it; None where there is none."""
    cdef Attachment attachment = serve_store(store)
    cdef Digest digest = serve_digest(attachment, key, len(key))
    cdef uint64_t since = serve_mark(attachment)
    cdef Fill fill
    if own:
        fill = serve_claim(attachment, key, <uint32_t>len(key), digest, since)
    else:
        fill = serve_join(attachment, key, <uint32_t>len(key), digest)
    if fill is None:
        return None
    about = (serve_open(fill), serve_state(fill), serve_available(fill), serve_length(fill), serve_purged(fill))
    return fill, about, serve_older(fill, since)
