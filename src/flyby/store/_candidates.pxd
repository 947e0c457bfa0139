# cython: language_level=3
"""Objects that are to lie in the store in another form: noted where they are hit, changed by `_packing` later.

An object is stored as it came. It is to be packed when it has proved worth it: when it is hit, when it leaves the small
queue alive, or when it comes again (the ghosts remember it, or it replaces another). A packed one that is hot is to lie
plain. A candidate is noted by its block and generation, and not held: it may be gone when its turn comes.
"""

from libc.stdint cimport uint32_t, uint64_t

from flyby.store._layout cimport HOT, LZ4, PACK_OFF, PLAIN, Block, Map, Shard, shard_holding, unit_of
from flyby.store._shard cimport units_for

cdef enum:
    CANDIDATES = 64  # of a process; what finds no room is noted at another hit
    PACK_FROM = 1024  # bytes of a body


cdef inline bint promotable(Map* m, Block* b) noexcept nogil:
    """Whether the plain form of b may have its room: all of them together an eighth of the arena."""
    cdef Shard* s = shard_holding(m, b)
    return s.promoted_units + units_for(b.key_length, b.head_length, b.length, b.tags) <= m.header.arena_units // 8


cdef inline bint improvable(Map* m, Block* b) noexcept nogil:
    """Whether another form of the object may be worth its while."""
    if b.codec == PLAIN:
        return b.length >= PACK_FROM and m.packing != PACK_OFF
    return b.codec == LZ4 and b.hits >= HOT and promotable(m, b)


cdef inline void propose(Map* m, Block* b) noexcept nogil:
    """Note a live object, if there is room, and if it is not noted already."""
    cdef uint64_t unit = unit_of(m, b)
    cdef uint32_t number
    if m.candidate_count == CANDIDATES:
        return
    for number in range(m.candidate_count):
        if m.candidates[(m.first_candidate + number) % CANDIDATES].unit == unit:
            return
    number = (m.first_candidate + m.candidate_count) % CANDIDATES
    m.candidates[number].unit = unit
    m.candidates[number].hash = b.hash
    m.candidates[number].generation = b.generation
    m.candidate_count += 1


cdef inline void count_hit(Map* m, Block* b) noexcept nogil:
    """A live, pinned object is hit."""
    if b.hits < HOT:
        b.hits += 1
        if b.codec == PLAIN and improvable(m, b):
            propose(m, b)
    if b.codec == LZ4 and b.hits == HOT and promotable(m, b):
        propose(m, b)
