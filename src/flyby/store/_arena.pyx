# cython: language_level=3
"""Memory for blocks of any size: two-level segregated fit (TLSF), with sizes kept at both ends of every boundary.

Taking and giving back are a few bit operations whatever the arena holds. A free block lies in the list of its size
class: the power of two below its units, divided in sixteen. A request looks in the first class whose every block is
large enough, then at a few blocks of the class just below. Neighbouring free blocks are always joined, so two of them
never touch.

The units of an allocated block and its seal are each one store, and only ever describe memory that belongs to it:
that is what `arena_rebuild` relies on, which makes an arena anew around the blocks that must stay when its shard was
left half changed.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from flyby.store._layout cimport (
    END, FILLING, FIRST_LEVELS, FREE, HEADER_UNITS, NO_FILL, NOWHERE, SECOND_LEVELS, UNIT, Block, Map, Shard,
    arena_of, block_at, floor_log2, lowest32, place_of, step, unit_of,
)

cdef enum:
    FIRST_PLACE = 4  # place 0 means nobody; blocks begin a cache line after the arena
    CLASS_WALK = 8  # blocks looked at in a class where not every one is large enough


cdef inline int class_of(uint32_t units) noexcept nogil:
    cdef int first = floor_log2(units)
    cdef uint32_t second = (units >> (first - 4)) if first >= 4 else (units << (4 - first))
    return first * SECOND_LEVELS + <int>(second & (SECOND_LEVELS - 1))


cdef inline Block* arena_after(Block* b) noexcept nogil:
    return <Block*>(<char*>b + <uint64_t>b.units * UNIT)


cdef inline Block* arena_before(Block* b) noexcept nogil:
    return <Block*>(<char*>b - <uint64_t>b.before * UNIT) if b.before else NULL


cdef Block* arena_first(Map* m, Shard* s) noexcept nogil:
    return block_at(m, s, FIRST_PLACE)


cdef uint32_t arena_seal(Map* m, Block* b) noexcept nogil:
    cdef uint64_t mixed = (unit_of(m, b) ^ m.header.nonce) * <uint64_t>0x9E3779B97F4A7C15
    return <uint32_t>(mixed >> 32) | 1


cdef void put_free(Map* m, Shard* s, Block* b) noexcept nogil:
    cdef int number = class_of(b.units)
    cdef uint32_t place = place_of(m, s, b)
    b.state = FREE
    b.seal = 0
    b.queue = NOWHERE
    b.previous = 0
    b.next = s.free_lists[number]
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


cdef void split(Map* m, Shard* s, Block* b, uint32_t units) noexcept nogil:
    """Leave `units` to b, an allocated block, and free the rest where that makes a block."""
    cdef uint32_t rest = b.units - units
    cdef Block* other
    cdef Block* after
    if rest < HEADER_UNITS:
        return
    after = arena_after(b)
    b.units = units
    step(m)
    other = arena_after(b)
    if after.state == FREE:
        drop_free(m, s, after)
        rest += after.units
        after = arena_after(after)
    other.units = rest
    other.before = units
    step(m)
    after.before = rest
    step(m)
    put_free(m, s, other)


cdef Block* arena_take(Map* m, Shard* s, uint32_t units) noexcept nogil:
    """A block of at least `units`, FILLING; NULL when no free block is large enough."""
    cdef Block* b = find_free(m, s, units)
    if b == NULL:
        return NULL
    drop_free(m, s, b)
    step(m)
    b.state = FILLING
    split(m, s, b, units)
    b.fill = NO_FILL
    b.held = 0
    b.hits = 0
    b.seal = arena_seal(m, b)
    step(m)
    return b


cdef void arena_give(Map* m, Shard* s, Block* b) noexcept nogil:
    """Free a block that nobody refers to, and join it with free neighbours."""
    cdef Block* other = arena_after(b)
    b.seal = 0
    if other.state == FREE:
        drop_free(m, s, other)
        b.units += other.units
        step(m)
    other = arena_before(b)
    if other != NULL and other.state == FREE:
        drop_free(m, s, other)
        other.units += b.units
        step(m)
        b = other
    arena_after(b).before = b.units
    step(m)
    put_free(m, s, b)


cdef void arena_trim(Map* m, Shard* s, Block* b, uint32_t units) noexcept nogil:
    split(m, s, b, units if units > HEADER_UNITS else <uint32_t>HEADER_UNITS)


cdef bint arena_grow(Map* m, Shard* s, Block* b, uint32_t units) noexcept nogil:
    """Make b larger where it lies, when the block after it is free and large enough."""
    cdef Block* after = arena_after(b)
    if after.state != FREE or b.units + after.units < units:
        return False
    drop_free(m, s, after)
    b.units += after.units
    step(m)
    arena_after(b).before = b.units
    step(m)
    split(m, s, b, units)
    return True


cdef void arena_gap(Map* m, Shard* s, Block* b, uint32_t units, uint32_t before) noexcept nogil:
    b.units = units
    b.before = before
    put_free(m, s, b)


cdef void arena_rebuild(Map* m, Shard* s, uint64_t* keep, size_t count) noexcept nogil:
    """Make the arena anew: the blocks at `keep` (units in the mapping, sorted) stay, all else is free.

    What lies between two of them was whole blocks, so a gap is never too small to be one.
    """
    cdef uint32_t place = FIRST_PLACE, before = 0, here
    cdef uint32_t last = m.header.arena_units - HEADER_UNITS
    cdef size_t number
    cdef uint64_t base = <uint64_t>(arena_of(m, s) - m.base) // UNIT
    cdef Block* b
    s.first_map = 0
    s.free_units = 0
    memset(s.second_map, 0, sizeof(s.second_map))
    memset(s.free_lists, 0, sizeof(s.free_lists))
    for number in range(count):
        here = <uint32_t>(keep[number] - base)
        b = block_at(m, s, here)
        if here > place:
            arena_gap(m, s, block_at(m, s, place), here - place, before)
            before = here - place
        b.before = before
        step(m)
        before = b.units
        place = here + b.units
    if last > place:
        arena_gap(m, s, block_at(m, s, place), last - place, before)
        before = last - place
    b = block_at(m, s, last)
    b.units = 0
    b.before = before
    b.seal = 0
    b.state = END
    b.queue = NOWHERE


cdef void arena_format(Map* m, Shard* s) noexcept nogil:
    arena_rebuild(m, s, NULL, 0)
