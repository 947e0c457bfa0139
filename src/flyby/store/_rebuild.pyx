# cython: language_level=3
"""A shard made anew from its arena: after a death inside a change, and at the start on a mapping that was used before.

Size and state of every block are true at every instant, so a walk over the arena tells what there is:

    LIVE      stays, if it is whole: its lengths fit its block, and its key has the hash that it says. Of two with one
              key the younger generation stays (the death fell between a replacement and the end of what it replaced)
    FILLING   stays while a worker pins it or a fetch under way refers to it
    DOOMED    stays while somebody reads it
    APART     stays with the object whose body it is

Everything else is free. Index, queues (oldest first), free lists and sums are told from that. A rebuild may die like
anything else; the next one begins again. When even the walk is broken the memory has been damaged from outside, and
nothing of the shard is kept but what is in somebody's hands.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort

from flyby.store._arena cimport arena_after, arena_first, arena_relink, arena_sound
from flyby.store._guard cimport pinned
from flyby.store._hash cimport siphash
from flyby.store._index cimport index_clear, index_find, index_room, index_segment, word_for
from flyby.store._inflight cimport fills_lock, fills_unlock
from flyby.store._layout cimport (
    APART, DOOMED, END, FILL_UNUSED, FILLING, FIRST_PLACE, FREE, GONE_RECOVERED, HEADER_UNITS, LIVE, LOOSE, LZ4, MAIN,
    PIN_WAYS, SEGMENT_UNITS, SMALL, UNIT, Block, FillSlot, Map, Shard, arena_of, block_at, block_of, fence, holder_of,
    key_of, load64, pins_at, place_of, room_of, shard_of, slot_at, step, store32, store64, swap32, tail_of, unit_of,
)
from flyby.store._queues cimport count_in, count_out, queue_drop, queue_push
from flyby.store._tags cimport tags_forget


cdef struct Found:
    uint64_t generation
    uint32_t place


cdef int by_generation(const void* left, const void* right) noexcept nogil:
    cdef uint64_t a = (<Found*>left).generation
    cdef uint64_t b = (<Found*>right).generation
    return (a > b) - (a < b)


cdef bint filled(Map* m, Block* b) noexcept nogil:
    """Whether a fetch under way refers to the block."""
    cdef uint32_t number
    cdef FillSlot* slot
    for number in range(m.header.fill_slots):
        slot = slot_at(m, number)
        if slot.state != FILL_UNUSED and (
            load64(&slot.object) == unit_of(m, b) or load64(&slot.ring) == unit_of(m, b)
        ):
            return True
    return False


cdef bint whole(Map* m, Shard* s, Block* b) noexcept nogil:
    """Whether what a LIVE block says of itself can be true."""
    cdef Block* holder
    cdef uint64_t place
    if <uint64_t>(tail_of(b) - <char*>b) + b.slack + 8 * b.apart > <uint64_t>b.units * UNIT:
        return False
    if b.apart:
        holder = holder_of(b)
        place = (<char*>holder - arena_of(m, s)) // UNIT
        if not FIRST_PLACE <= place < s.end or holder.apart or holder.state not in (LIVE, APART):
            return False
        if holder.hash != b.hash or holder.length != b.length or (holder.codec == LZ4) != (b.codec == LZ4):
            return False
        return holder.units >= HEADER_UNITS and place + holder.units <= s.end and whole(m, s, holder)
    if b.codec != LZ4 and b.length != room_of(b) - b.slack:
        return False
    return shard_of(m, b.hash) == s and b.hash == siphash(
        m.header.key0, m.header.key1, <unsigned char*>key_of(b), b.key_length
    ).low


cdef bint shard_rebuild(Map* m, Shard* s, bint keep) noexcept nogil:
    """Make the shard anew with all its objects, or with none. False when memory or the fill table was not to be had."""
    cdef uint64_t count = 0, number
    cdef uint32_t end, segments
    cdef Found* found
    cdef Block* b
    if not fills_lock(m):
        return False
    swap32(&s.dirty, 1)
    step(m)
    end = arena_sound(m, s)
    segments = (m.header.arena_units - HEADER_UNITS - end) // SEGMENT_UNITS
    if not end or not segments or end + segments * SEGMENT_UNITS + HEADER_UNITS != m.header.arena_units:
        salvage(m, s)
    elif segments != s.segments:
        # The arena had ceded one.
        s.segments = segments - 1
        index_segment(m, s)
    index_clear(m, s)
    step(m)
    b = arena_first(m, s)
    while b.state != END:
        if b.state == FILLING:
            b.apart = 0  # not yet
        elif b.state == APART:
            b.next = 0
            b.previous = 0
        if b.state == FILLING and not pinned(m, unit_of(m, b)) and not filled(m, b):
            b.held = 0
            b.state = DOOMED
            step(m)
        elif b.state == LIVE and not (keep and whole(m, s, b)):
            b.state = DOOMED
            step(m)
        count += b.state == LIVE
        b = arena_after(b)
    found = <Found*>malloc((count + 1) * sizeof(Found))
    if found != NULL:
        count = 0
        b = arena_first(m, s)
        while b.state != END:
            if b.state == LIVE:
                found[count].generation = b.generation
                found[count].place = place_of(m, s, b)
                count += 1
            b = arena_after(b)
        qsort(found, count, sizeof(Found), by_generation)
        reset_sums(s)
        tags_forget(m, s)
        for number in range(count):
            adopt(m, s, block_at(m, s, found[number].place))
        free(found)
        sort_out(m, s)
        arena_relink(m, s)
        store32(&s.dirty, 0)
        step(m)
    fills_unlock(m)
    return found != NULL


cdef void reset_sums(Shard* s) noexcept nogil:
    cdef int number
    for number in range(3):
        s.queues[number].head = 0
        s.queues[number].tail = 0
        s.queues[number].count = 0
        s.queues[number].units = 0
    for number in range(8):
        s.by_size[number] = 0
    s.hand = 0
    s.soonest = (<int64_t>1 << 62) - 1
    s.soonest_seen = s.soonest
    s.promoted_units = 0
    s.apart_units = 0
    s.plain_bytes = 0
    s.stored_bytes = 0
    s.compressed = 0


cdef void adopt(Map* m, Shard* s, Block* b) noexcept nogil:
    """Name a LIVE block in the index, in the place of an older one of its key."""
    cdef uint64_t* at = index_find(m, s, b.hash, key_of(b), b.key_length)
    cdef Block* holder = holder_of(b)
    cdef Block* old
    if holder.state == DOOMED:  # it found no place in the index, as the object that it was
        holder.next = 0
        holder.previous = 0
        holder.state = APART
    if at != NULL:
        old = block_at(m, s, <uint32_t>at[0])
        store64(at, word_for(m, s, b))
        count_out(m, s, old)
        queue_drop(m, s, old)
        old.next = 0
        old.previous = 0
        old.state = APART if holder_of(b) == old else DOOMED
    else:
        at = index_room(m, s, b.hash)
        if at == NULL:
            s.gone[GONE_RECOVERED] += 1
            b.state = DOOMED
            step(m)
            return
        store64(at, word_for(m, s, b))
    step(m)
    queue_push(m, s, b, MAIN if b.queue == MAIN else SMALL)
    count_in(m, s, b)
    step(m)


cdef void sort_out(Map* m, Shard* s) noexcept nogil:
    """Nobody finds a DOOMED block any more: free those that nobody holds; the others are loose."""
    cdef Block* b = arena_first(m, s)
    cdef Block* holder
    fence()
    while b.state != END:
        holder = holder_of(b) if b.state == LIVE or b.state == DOOMED else b
        if holder != b and (b.state == LIVE or b.held or pinned(m, unit_of(m, b))):
            holder.next += 1
            if b.state == LIVE:
                holder.previous = place_of(m, s, b)
        b = arena_after(b)
    b = arena_first(m, s)
    while b.state != END:
        if b.state == APART and b.next:
            s.apart_units += b.units
        elif b.state == APART:
            b.state = DOOMED
            step(m)
        if b.state == FILLING or (b.state == DOOMED and (b.held or pinned(m, unit_of(m, b)))):
            queue_push(m, s, b, LOOSE)
        elif b.state == DOOMED:
            b.state = FREE
            step(m)
        b = arena_after(b)


# ---- when the walk is broken -----------------------------------------------------------------------------------------


cdef int by_value(const void* left, const void* right) noexcept nogil:
    cdef uint64_t a = (<uint64_t*>left)[0]
    cdef uint64_t b = (<uint64_t*>right)[0]
    return (a > b) - (a < b)


cdef void salvage(Map* m, Shard* s) noexcept nogil:
    """Lay free blocks around what is pinned or filled; nothing else can be told from a broken walk."""
    cdef uint64_t base = <uint64_t>(arena_of(m, s) - m.base) // UNIT
    cdef uint32_t place = FIRST_PLACE, end
    cdef uint64_t room = 2 * m.header.fill_slots + <uint64_t>m.header.workers * m.header.pin_sets * PIN_WAYS
    cdef uint64_t* keep = <uint64_t*>malloc(room * sizeof(uint64_t))
    cdef uint64_t unit, count = 0, number
    cdef uint32_t worker, here
    cdef Block* b
    s.resets += 1
    if not 0 < s.segments < m.header.arena_units // SEGMENT_UNITS // 2:
        s.segments = 1
    end = m.header.arena_units - s.segments * SEGMENT_UNITS - HEADER_UNITS
    if keep != NULL:
        for worker in range(m.header.workers):
            for number in range(m.header.pin_sets * PIN_WAYS):
                unit = load64(&pins_at(m, worker)[number])
                if unit >> 48:
                    keep[count] = unit & ((<uint64_t>1 << 48) - 1)
                    count += 1
        for number in range(m.header.fill_slots):
            keep[count] = load64(&slot_at(m, <uint32_t>number).object)
            keep[count + 1] = load64(&slot_at(m, <uint32_t>number).ring)
            count += 2
        qsort(keep, count, sizeof(uint64_t), by_value)
    for number in range(count):
        unit = keep[number]
        if unit < base + place or unit + HEADER_UNITS > base + end:
            continue
        here = <uint32_t>(unit - base)
        b = block_of(m, unit)
        # What a reader pinned for an instant need not be a block: a block has a state, and its key its hash.
        if not FILLING <= b.state <= DOOMED or b.units < HEADER_UNITS or b.units > end - here:
            continue
        if 0 < here - place < HEADER_UNITS or 0 < end - here - b.units < HEADER_UNITS:
            continue
        if <uint64_t>(key_of(b) - <char*>b) + b.key_length > <uint64_t>b.units * UNIT or b.hash != siphash(
            m.header.key0, m.header.key1, <unsigned char*>key_of(b), b.key_length
        ).low:
            continue
        if b.state == LIVE:
            b.state = DOOMED
        cover(m, s, place, here)
        place = here + b.units
    free(keep)
    cover(m, s, place, end)
    b = block_at(m, s, end)
    b.units = 0
    b.state = END


cdef void cover(Map* m, Shard* s, uint32_t place, uint32_t end) noexcept nogil:
    cdef Block* b = block_at(m, s, place)
    if end > place:
        b.state = FREE
        b.units = end - place
