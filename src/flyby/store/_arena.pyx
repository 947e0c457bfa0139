# cython: language_level=3
"""Memory for blocks of any size: two-level segregated fit (TLSF), with the sizes of free blocks kept at both ends.

Taking and giving back are a few bit operations whatever the arena holds. A free block lies in the list of its size
class: the power of two below its units, divided in sixteen. A request looks in the first class whose every block is
large enough, then at a few blocks of the class just below. Neighbouring free blocks are always joined, so two of them
never touch.

A walk from the first block to END finds the arena as it is, at every instant: what is cut off has a header of its own
before the store to `units` that cuts it, what is joined is joined by that one store. `arena_sound` makes that walk,
and `arena_relink` tells all else (lists, tags at the ends, sums) anew from it.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from flyby.store._layout cimport (
    APART, END, FILLING, FIRST_LEVELS, FIRST_PLACE, FREE, HEADER_UNITS, NOWHERE, SECOND_LEVELS, SEGMENT_UNITS, UNIT,
    Block, Map, Shard, block_at, floor_log2, lowest32, place_of, step, store32,
)

cdef enum:
    CLASS_WALK = 8  # blocks looked at in a class where not every one is large enough


cdef inline int class_of(uint32_t units) noexcept nogil:
    cdef int first = floor_log2(units)
    cdef uint32_t second = (units >> (first - 4)) if first >= 4 else (units << (4 - first))
    return first * SECOND_LEVELS + <int>(second & (SECOND_LEVELS - 1))


cdef inline Block* arena_after(Block* b) noexcept nogil:
    return <Block*>(<char*>b + <uint64_t>b.units * UNIT)


cdef inline Block* arena_before(Block* b) noexcept nogil:
    """The block before b when that one is free, else NULL: only free blocks can be told from their end."""
    return <Block*>(<char*>b - <uint64_t>(<uint32_t*>b - 1)[0] * UNIT) if b.after_free else NULL


cdef Block* arena_first(Map* m, Shard* s) noexcept nogil:
    return block_at(m, s, FIRST_PLACE)


cdef void put_free(Map* m, Shard* s, Block* b) noexcept nogil:
    cdef int number = class_of(b.units)
    cdef uint32_t place = place_of(m, s, b)
    cdef Block* after = arena_after(b)
    b.state = FREE
    b.queue = NOWHERE
    b.after_free = 0
    b.previous = 0
    b.next = s.free_lists[number]
    (<uint32_t*>after - 1)[0] = b.units
    after.after_free = 1
    step(m)
    if b.next:
        block_at(m, s, b.next).previous = place
    s.free_lists[number] = place
    step(m)
    s.second_map[number // SECOND_LEVELS] |= <uint32_t>1 << (number % SECOND_LEVELS)
    s.first_map |= <uint32_t>1 << (number // SECOND_LEVELS)
    s.free_units += b.units
    step(m)


cdef void drop_free(Map* m, Shard* s, Block* b) noexcept nogil:
    cdef int number = class_of(b.units)
    cdef int first = number // SECOND_LEVELS
    if b.next:
        block_at(m, s, b.next).previous = b.previous
    if b.previous:
        block_at(m, s, b.previous).next = b.next
    else:
        s.free_lists[number] = b.next
        if not b.next:
            s.second_map[first] &= ~(<uint32_t>1 << (number % SECOND_LEVELS))
            if not s.second_map[first]:
                s.first_map &= ~(<uint32_t>1 << first)
    s.free_units -= b.units
    step(m)


cdef Block* find_free(Map* m, Shard* s, uint32_t units) noexcept nogil:
    cdef uint32_t rounded = units
    cdef int first = floor_log2(units)
    cdef int number, walked = 0
    cdef uint32_t bits, place
    cdef Block* b
    if first > 4:
        rounded += (<uint32_t>1 << (first - 4)) - 1
    number = class_of(rounded)
    first = number // SECOND_LEVELS
    bits = s.second_map[first] & (<uint32_t>0xFFFFFFFF << (number % SECOND_LEVELS))
    if not bits:
        bits = s.first_map & (<uint32_t>0xFFFFFFFE << first) if first < FIRST_LEVELS - 1 else 0
        if bits:
            first = lowest32(bits)
            bits = s.second_map[first]
    if bits:
        return block_at(m, s, s.free_lists[first * SECOND_LEVELS + lowest32(bits)])
    place = s.free_lists[class_of(units)]
    while place and walked < CLASS_WALK:
        b = block_at(m, s, place)
        if b.units >= units:
            return b
        place = b.next
        walked += 1
    return NULL


cdef inline void passed(Map* m, Shard* s, Block* b, Block* into) noexcept nogil:
    """b has become a part of another block: the hand must stand at the beginning of one."""
    if s.hand == place_of(m, s, b):
        s.hand = place_of(m, s, into)


cdef void settle(Map* m, Shard* s, Block* b, uint32_t units) noexcept nogil:
    """b is allocated: leave it `units`, and free the rest where that makes a block."""
    cdef uint32_t rest = b.units - units
    cdef Block* after = arena_after(b)
    cdef Block* other
    if rest < HEADER_UNITS:
        after.after_free = 0
        return
    if after.state == FREE:
        drop_free(m, s, after)
        rest += after.units
    other = <Block*>(<char*>b + <uint64_t>units * UNIT)
    other.units = rest
    other.state = FREE
    step(m)
    store32(&b.units, units)
    step(m)
    passed(m, s, after, other)
    put_free(m, s, other)


cdef Block* arena_take(Map* m, Shard* s, uint32_t units) noexcept nogil:
    """A block of at least `units`, FILLING; NULL when no free block is large enough."""
    cdef Block* b = find_free(m, s, units)
    if b == NULL:
        return NULL
    drop_free(m, s, b)
    step(m)
    b.held = 0
    b.hits = 0
    b.apart = 0
    b.state = FILLING
    step(m)
    settle(m, s, b, units)
    return b


cdef void arena_give(Map* m, Shard* s, Block* b) noexcept nogil:
    """Free a block that nobody refers to, and join it with free neighbours."""
    cdef Block* other = arena_after(b)
    cdef Block* before = arena_before(b)
    b.state = FREE
    step(m)
    if other.state == FREE:
        drop_free(m, s, other)
        store32(&b.units, b.units + other.units)
        step(m)
        passed(m, s, other, b)
    if before != NULL:
        drop_free(m, s, before)
        store32(&before.units, before.units + b.units)
        step(m)
        passed(m, s, b, before)
        b = before
    put_free(m, s, b)


cdef void arena_trim(Map* m, Shard* s, Block* b, uint32_t units) noexcept nogil:
    if b.units - units >= HEADER_UNITS:
        settle(m, s, b, units)


cdef bint arena_grow(Map* m, Shard* s, Block* b, uint32_t units) noexcept nogil:
    """Make b larger where it lies, when the block after it is free and large enough."""
    cdef Block* after = arena_after(b)
    if after.state != FREE or b.units + after.units < units:
        return False
    drop_free(m, s, after)
    store32(&b.units, b.units + after.units)
    step(m)
    passed(m, s, after, b)
    settle(m, s, b, units)
    return True


cdef bint arena_cede(Map* m, Shard* s) noexcept nogil:
    """Give the index another segment at the arena's end, when the last block is free and large enough."""
    cdef Block* last = arena_before(block_at(m, s, s.end))
    cdef Block* end
    if last == NULL or last.units < SEGMENT_UNITS + HEADER_UNITS:
        return False
    drop_free(m, s, last)
    end = block_at(m, s, s.end - SEGMENT_UNITS)
    end.units = 0
    end.queue = NOWHERE
    end.state = END
    step(m)
    store32(&last.units, last.units - SEGMENT_UNITS)
    step(m)
    s.end -= SEGMENT_UNITS
    put_free(m, s, last)
    return True


cdef uint32_t arena_sound(Map* m, Shard* s) noexcept nogil:
    """The place of END at the end of an unbroken walk; 0 when there is no such thing."""
    cdef uint64_t place = FIRST_PLACE
    cdef Block* b
    while place + HEADER_UNITS <= m.header.arena_units:
        b = block_at(m, s, <uint32_t>place)
        if b.state == END:
            return <uint32_t>place if b.units == 0 else 0
        if b.state > APART or b.units < HEADER_UNITS:
            return 0
        place += b.units
    return 0


cdef void arena_relink(Map* m, Shard* s) noexcept nogil:
    """Join what is FREE, and tell lists, sums and the tags at the ends from a walk."""
    cdef Block* b = arena_first(m, s)
    cdef Block* gap = NULL
    cdef Block* after
    s.first_map = 0
    s.free_units = 0
    memset(s.second_map, 0, sizeof(s.second_map))
    memset(s.free_lists, 0, sizeof(s.free_lists))
    while True:
        after = arena_after(b)
        if b.state == FREE and gap != NULL:
            store32(&gap.units, gap.units + b.units)
            step(m)
        elif b.state == FREE:
            gap = b
        else:
            b.after_free = 0
            if gap != NULL:
                put_free(m, s, gap)
                gap = NULL
            if b.state == END:
                break
        b = after
    s.end = place_of(m, s, b)


cdef void arena_format(Map* m, Shard* s) noexcept nogil:
    """One free block, with END above it and the index's first segment above that."""
    cdef uint32_t end = m.header.arena_units - s.segments * SEGMENT_UNITS - HEADER_UNITS
    cdef Block* b = block_at(m, s, end)
    b.units = 0
    b.queue = NOWHERE
    b.state = END
    b = arena_first(m, s)
    b.state = FREE
    store32(&b.units, end - FIRST_PLACE)
    arena_relink(m, s)
