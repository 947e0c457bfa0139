# cython: language_level=3
"""The queues of one shard, and what is counted and listed of the objects that stand in them."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from flyby.store._layout cimport (
    LZ4, NOWHERE, PROMOTED, SIZE_CLASSES, Block, Map, QueueEnds, Shard, block_at, ends_of, floor_log2, holder_of,
    place_of, step, stored_of,
)
from flyby.store._tags cimport tags_link, tags_unlink


cdef void queue_push(Map* m, Shard* s, Block* b, int queue) noexcept nogil:
    cdef QueueEnds* ends = &s.queues[queue]
    cdef uint32_t place = place_of(m, s, b)
    b.queue = queue
    b.previous = 0
    b.next = ends.head
    if ends.head:
        block_at(m, s, ends.head).previous = place
    else:
        ends.tail = place
    ends.head = place
    step(m)
    ends.count += 1
    ends.units += b.units
    step(m)


cdef void queue_drop(Map* m, Shard* s, Block* b) noexcept nogil:
    cdef QueueEnds* ends = &s.queues[b.queue]
    if b.previous:
        block_at(m, s, b.previous).next = b.next
    else:
        ends.head = b.next
    if b.next:
        block_at(m, s, b.next).previous = b.previous
    else:
        ends.tail = b.previous
    ends.count -= 1
    step(m)
    ends.units -= b.units
    step(m)
    b.queue = NOWHERE


cdef inline int size_class(uint64_t length) noexcept nogil:
    """Below 1 KiB, 4, 16, 64 and 256 KiB, 1 MiB and 8 MiB, and above."""
    if length >> 20:
        return SIZE_CLASSES - 1 if length >> 23 else SIZE_CLASSES - 2
    return (floor_log2(<uint32_t>length >> 10) >> 1) + 1 if length >> 10 else 0


cdef void count_in(Map* m, Shard* s, Block* b) noexcept nogil:
    if b.tags:
        tags_link(m, s, b)
    s.plain_bytes += b.length
    s.stored_bytes += stored_of(b)
    s.by_size[size_class(b.length)] += 1
    s.compressed += b.codec == LZ4
    if b.codec == PROMOTED:
        s.promoted_units += holder_of(b).units
    ends_at(s, ends_of(b))


cdef void ends_at(Shard* s, int64_t ends) noexcept nogil:
    """The hand that looks for what has expired learns of an object."""
    if ends < s.soonest:
        s.soonest = ends
    if ends < s.soonest_seen:
        s.soonest_seen = ends


cdef void count_out(Map* m, Shard* s, Block* b) noexcept nogil:
    if b.tags:
        tags_unlink(m, s, b)
    s.plain_bytes -= b.length
    s.stored_bytes -= stored_of(b)
    s.by_size[size_class(b.length)] -= 1
    s.compressed -= b.codec == LZ4
    if b.codec == PROMOTED:
        s.promoted_units -= holder_of(b).units
