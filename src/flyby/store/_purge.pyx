# cython: language_level=3
"""The walk of a purge: through the lists in which its tag may stand, in every shard, a few steps at a time.

A purge of n objects takes the lock of a shard for STEPS tags at most, then lets others have it, and goes on where it
stopped: the block that comes next is pinned, so it is there still, and is in its list still unless it is LIVE no more
or the shard was made anew meanwhile. Then the list is walked again from its start; what was outdated in the first walk
has a younger generation since, and is passed over. After RESTARTS such walks the lock is kept to the end.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp

from flyby.store._guard cimport TABLE_LOCK, pin, unpin
from flyby.store._layout cimport (
    GONE_PURGED, LIVE, Block, Map, Shard, Tag, key_of, shard_at, step, store32, swap32, unit_of,
    worker_at,
)
from flyby.store._inflight cimport fills_insist, fills_lock, fills_unlock
from flyby.store._purged cimport purged_everything, purged_names
from flyby.store._shard cimport shard_insist, shard_outdate, shard_remove, shard_unlock
from flyby.store._tags cimport bearer, list_of, lists_of, tag_at

cdef enum:
    STEPS = 1024  # tags looked at between two releases of the lock
    RESTARTS = 8


cdef void announce(Map* m, const uint64_t* names, int count) noexcept nogil:
    """Note that these names are purged: what bears one and was asked for before is not stored from now on."""
    worker_at(m, m.worker).purges += 1
    if fills_lock(m) if m.stands[TABLE_LOCK] else fills_insist(m):
        purged_names(m, names, count)
        fills_unlock(m)
    else:
        purged_everything(m)


cdef inline bint meant(Hunt* h, Tag* tag, Block* b) noexcept nogil:
    if (tag.hash ^ h.name) & h.mask or b.generation > h.newest:
        return False
    if h.prefix == NULL:
        return True
    if b.key_length < h.prefix_length or memcmp(key_of(b), h.prefix, h.prefix_length):
        return False
    return (
        not h.after_length or b.key_length == h.prefix_length
        or memchr(h.after, <unsigned char>key_of(b)[h.prefix_length], h.after_length) != NULL
    )


cdef void strike(Map* m, Shard* s, Hunt* h, Block* b) noexcept nogil:
    h.found += 1
    if h.soft:
        shard_outdate(m, s, b, h.now_ms)
        return
    swap32(&s.dirty, 1)
    step(m)
    shard_remove(m, s, b, GONE_PURGED)
    store32(&s.dirty, 0)
    step(m)


cdef bint hunt_shard(Map* m, Shard* s, Hunt* h) noexcept nogil:
    cdef uint32_t* lists = lists_of(m, s)
    cdef uint32_t number = 0, restarts = 0, steps, place, first, rebuilds
    cdef Block* b
    cdef Block* held = NULL
    cdef Tag* tag
    if not shard_insist(m, s):
        return False
    first = list_of(m, h.name)
    steps = STEPS
    while number < h.lists:
        place = lists[within(m, first, number)]
        number += 1
        while place:
            tag = tag_at(m, s, place)
            b = bearer(tag)
            place = tag.next
            h.visited += 1
            if meant(h, tag, b):
                # Two tags of one block may stand in one list; both go with it.
                while place and bearer(tag_at(m, s, place)) == b:
                    place = tag_at(m, s, place).next
                strike(m, s, h, b)
            steps -= steps > 0
            if steps or not place or restarts == RESTARTS:
                continue
            held = bearer(tag_at(m, s, place))
            if not pin(m, unit_of(m, held)):
                continue
            steps = STEPS
            rebuilds = s.rebuilds
            shard_unlock(m, s)
            if not shard_insist(m, s):
                unpin(m, unit_of(m, held))
                return False
            if held.state != LIVE or s.rebuilds != rebuilds:
                restarts += 1
                place = lists[within(m, first, number - 1)]
            unpin(m, unit_of(m, held))
    shard_unlock(m, s)
    return True


cdef inline uint32_t within(Map* m, uint32_t first, uint32_t number) noexcept nogil:
    """The list so many after the first, in the ring of the lists of places; a tag has one list alone."""
    if not number:
        return first
    return m.header.tag_lists + ((first - m.header.tag_lists + number) & (m.header.place_lists - 1))


cdef bint hunt(Map* m, Hunt* h) noexcept nogil:
    """Purge what is meant, in all shards. False when a shard could not be had: what lies there is not purged."""
    cdef uint32_t number
    cdef bint whole = True
    for number in range(m.header.shards):
        whole = hunt_shard(m, shard_at(m, number), h) and whole
    worker_at(m, m.worker).purge_steps += h.visited
    worker_at(m, m.worker).outdated += h.found if h.soft else 0
    return whole
