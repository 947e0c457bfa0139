# cython: language_level=3
"""An object's head and times change, and its body stays: what a validation brings.

    refreshed   a new block with the new head takes the object's place. A body of 16 KiB or more stays where it is
                (`_layout`: apart), a shorter one is copied
    renewed     where only the times change, they are stored into the block that is there: each is one word, and readers
                may find the one new and the other not yet. A stale object is fresh a moment later, or its age is that
                of before the validation: both have been true

The head of a block never changes under its readers, so a new Date means a new block.

What was purged since the entry was found stays purged: hard, because the object is gone; soft, because its generation
is another, or, when everything was, because `everything` says so. The new generation is drawn before that is looked at:
a purge that comes later finds the object older than itself.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from flyby.store._attachment cimport Attachment
from flyby.store._entry cimport Entry, copied
from flyby.store._guard cimport unpin
from flyby.store._index cimport index_find
from flyby.store._layout cimport (
    DOOMED, KEPT_APART, LONGEST_HEAD, Block, Map, Shard, add64, block_at, body_of, ends_of, fence, head_of, holder_of,
    key_of, load64, set_born, set_fresh, set_times, shard_holding, sie_of, step, stored_of, swr_of, tags_of, unit_of,
    window_code, window_of, worker_at,
)
from flyby.store._queues cimport ends_at
from flyby.store._shard cimport ALWAYS, shard_lock, shard_publish, shard_renew, shard_unlock
from flyby.store._tags cimport Labels, is_place


cdef void settle_block(Map* m, Block* b, bint done, uint64_t length) noexcept:
    """Count a block that was to be published, and let go of it."""
    if done:
        worker_at(m, m.worker).inserts += 1
        worker_at(m, m.worker).insert_bytes += length
    else:
        b.state = DOOMED
        worker_at(m, m.worker).refused += 1
    unpin(m, unit_of(m, b))


cdef bint refreshed(
    Attachment attachment, Entry entry, bytes head, uint32_t flags, int64_t born_ms, int64_t fresh_ms, uint32_t swr_s,
    uint32_t sie_s, object tags,
) except -1:
    """`Store.refresh`."""
    cdef Map* m = &attachment.m
    cdef Block* b
    cdef Block* old = entry.block()
    cdef uint64_t stored = stored_of(old)
    cdef Labels labels
    cdef int number
    cdef bint done, apart = stored >= KEPT_APART
    if not attachment.usable:
        return False
    labels.count = 0
    if tags is not None:
        for number in range(old.tags):
            if is_place(tags_of(old)[number].hash):
                labels.hashes[labels.count] = tags_of(old)[number].hash
                labels.count += 1
        attachment.label(&labels, b"", tags, None)
    while True:
        b = copied(
            attachment, old, head, <uint32_t>len(head), sizeof(int64_t) if apart else stored,
            NULL if tags is None else &labels, True,
        ) if len(head) <= LONGEST_HEAD else NULL
        if b == NULL:
            worker_at(m, m.worker).refused += 1
            return False
        b.generation = add64(&m.header.generation, 1) + 1
        b.flags = flags
        set_times(b, born_ms, fresh_ms, swr_s, sie_s)
        if load64(&m.header.everything) > entry._since:
            done = False
        elif apart:
            done = shard_renew(m, b, holder_of(old), entry.generation)
        else:
            memcpy(body_of(b), body_of(old), stored)
            done = shard_publish(m, b, stored, entry.generation, 0, ALWAYS, NULL)
        settle_block(m, b, done, 0)
        if done or not apart:
            return done
        apart = False  # it may only lie in another form now


cdef bint renewed(
    Attachment attachment, Entry entry, int64_t born_ms, int64_t fresh_ms, uint32_t swr_s, uint32_t sie_s, object date,
    Py_ssize_t at,
) except -1:
    """`Store.renew`."""
    cdef Map* m = &attachment.m
    cdef Block* b = entry.block()
    cdef bytes head, dated = date
    if not attachment.usable:
        return False
    if dated is not None:
        if not 0 <= at <= <Py_ssize_t>b.head_length - len(dated):
            raise ValueError(f"the head has {b.head_length} bytes, and none from {at} on for {len(dated)}")
        if memcmp(head_of(b) + at, <const char*>dated, len(dated)):
            head = entry.head[:at] + dated + entry.head[at + len(dated) :]
            return refreshed(attachment, entry, head, entry.flags, born_ms, fresh_ms, swr_s, sie_s, None)
    if window_of(window_code(swr_s)) != swr_of(b) or window_of(window_code(sie_s)) != sie_of(b):
        return refreshed(attachment, entry, entry.head, entry.flags, born_ms, fresh_ms, swr_s, sie_s, None)
    return renewed_in_place(attachment, entry, born_ms, fresh_ms)


cdef bint renewed_in_place(Attachment attachment, Entry entry, int64_t born_ms, int64_t fresh_ms) noexcept:
    """Whether the object that is there now is the entry's, or that in another form, and has these times from now on."""
    cdef Map* m = &attachment.m
    cdef Block* b = entry._block
    cdef Shard* s = shard_holding(m, b)
    cdef uint64_t generation
    cdef uint64_t* place
    cdef bint found
    if not shard_lock(m, s):
        return False
    place = index_find(m, s, b.hash, key_of(b), b.key_length)
    generation = add64(&m.header.generation, 1) + 1
    fence()
    found = place != NULL and load64(&m.header.everything) <= entry._since
    if found:
        b = block_at(m, s, <uint32_t>place[0])
        found = b.generation == entry.generation
    if found:
        set_born(b, born_ms)
        step(m)
        set_fresh(b, fresh_ms)
        ends_at(s, ends_of(b))
        fence()
        step(m)
        b.generation = generation
        step(m)
        entry.born_ms = born_ms
        entry.fresh_ms = fresh_ms
        entry.generation = generation
    shard_unlock(m, s)
    return found
