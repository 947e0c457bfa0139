# cython: language_level=3
"""Room for a new block, by S3-FIFO (Yang et al., SOSP 2023).

New objects enter the small queue, or the main one when the ghosts remember them. Once the small queue has more than a
tenth of what is stored, its oldest object goes: to the main queue if it was hit, else out, leaving a ghost. Otherwise
the main queue's oldest goes, or goes round once more with half of its hits. A hit is a two-bit counter and nothing
else. (The paper asks for two hits in the small queue, and takes one hit away for a round. This keeps a little less of
what never changes, and a point more of what does, since what was hot leaves sooner: see `benchmarks.store ratio`.)
An object that was held plain because it was hot goes round once more when its turn comes; `_packing` may pack it again
meanwhile. Nothing is packed here.

What has expired goes before anything that has not. A hand goes over the blocks of the arena in the order in which
they lie, when room is needed and there may be something for it (`soonest` is a bound on that), and frees what it
finds; between two laps an eighth of the arena has to be allocated, so that a lap costs each allocation a few looks.

An object must lie in one piece. When twice its size has been evicted and there is still no hole for it, a window is
cleared instead: the oldest object and its neighbours in the arena, which are mostly of its age. Blocks that are
pinned or held are passed over.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

from flyby.store._arena cimport arena_after, arena_before, arena_first, arena_give, arena_grow, arena_take
from flyby.store._candidates cimport improvable, propose
from flyby.store._guard cimport pin
from flyby.store._index cimport ghost_add
from flyby.store._layout cimport (
    END, FREE, GONE_EXPIRED, GONE_MAIN, GONE_SMALL, LIVE, LOOSE, MAIN, PLAIN, PROMOTED, SMALL, UNIT, Block, Map, Shard,
    block_at, ends_of, holder_of, place_of, shard_holding, shard_of, step, store32, swap32, unit_of,
)
from flyby.store._queues cimport queue_drop, queue_push
from flyby.store._shard cimport evictable, shard_lock, shard_clear, shard_reap, shard_remove, shard_unlock

cdef enum:
    REAPED = 16  # loose blocks looked at for each allocation
    STEPS = 4096  # of eviction between two releases of the lock, so that nobody waits long for a large object's room
    TURNS = 256  # of that for one allocation
    WINDOWS = 64  # places tried for a window
    LAPS = 8
    ROUNDS = 4  # of an object through the queues until it is evicted, if it can be
    WANTED = 1  # hit that leads from the small queue to the main one

cdef int64_t NEVER = (<int64_t>1 << 62) - 1


cdef Block* oldest(Map* m, Shard* s) noexcept nogil:
    """Whose turn it is."""
    cdef uint64_t small = s.queues[SMALL].units
    cdef uint64_t whole = small + s.queues[MAIN].units + s.apart_units
    if s.queues[SMALL].count and (small * 10 > whole or not s.queues[MAIN].count):
        return block_at(m, s, s.queues[SMALL].tail)
    if s.queues[MAIN].count:
        return block_at(m, s, s.queues[MAIN].tail)
    return NULL


cdef int64_t told_ms(Map* m) noexcept with gil:
    """By the clock that the store was given; 0, when that raises: then nothing has expired."""
    return (<object>m.clock).wall_ms()


cdef int64_t now_ms(Map* m) noexcept nogil:
    """The wall clock of whoever tells the store its objects' times."""
    cdef timespec now
    if m.clock != NULL:
        return told_ms(m)
    clock_gettime(CLOCK_REALTIME, &now)
    return <int64_t>now.tv_sec * 1000 + now.tv_nsec // 1_000_000


cdef Block* reclaim(Map* m, Shard* s, uint32_t units, uint32_t* steps) noexcept nogil:
    """A block where expired objects were; NULL when the hand has done its lap, or `steps` are used up."""
    cdef int64_t now = now_ms(m)
    cdef Block* b
    cdef Block* found
    if not s.hand:
        if now < s.soonest or s.since_lap < m.header.arena_units // LAPS:
            return NULL
        s.since_lap = 0
        s.soonest_seen = NEVER
        s.hand = place_of(m, s, arena_first(m, s))
    while steps[0]:
        steps[0] -= 1
        b = block_at(m, s, s.hand)
        if b.state == END:
            s.hand = 0
            s.soonest = s.soonest_seen
            return NULL
        if b.state == LIVE and ends_of(b) <= now and evictable(m, b):
            shard_remove(m, s, b, GONE_EXPIRED)
            found = arena_take(m, s, units)
            if found != NULL:
                return found
            b = block_at(m, s, s.hand)
        elif b.state == LIVE:
            s.soonest_seen = min(s.soonest_seen, ends_of(b))
        s.hand = place_of(m, s, arena_after(b))
    return NULL


cdef void cool(Map* m, Shard* s, Block* b) noexcept nogil:
    """An object that was held plain because it was hot is hot no more: plain, it is to be packed."""
    b.codec = PLAIN
    s.promoted_units -= holder_of(b).units
    s.demotions += 1
    step(m)
    propose(m, b)


cdef bint evict(Map* m, Shard* s, uint32_t* steps, uint64_t* freed) noexcept nogil:
    """Evict one object; False when `steps` are used up, or there is nothing to evict."""
    cdef Block* b
    while steps[0]:
        steps[0] -= 1
        b = oldest(m, s)
        if b == NULL:
            return False
        if not evictable(m, b):
            queue_drop(m, s, b)
            queue_push(m, s, b, MAIN)
        elif b.queue == SMALL and b.hits >= WANTED:
            queue_drop(m, s, b)
            b.hits = 0
            queue_push(m, s, b, MAIN)
            if b.codec == PLAIN and improvable(m, b):
                propose(m, b)
        elif b.queue == MAIN and b.hits:
            queue_drop(m, s, b)
            b.hits //= 2
            queue_push(m, s, b, MAIN)
        elif b.codec == PROMOTED:
            queue_drop(m, s, b)
            cool(m, s, b)
            queue_push(m, s, b, MAIN)
        else:
            freed[0] += b.units + (holder_of(b).units if b.apart else 0)
            if b.queue == SMALL:
                ghost_add(m, s, b.hash)
            shard_remove(m, s, b, GONE_SMALL if b.queue == SMALL else GONE_MAIN)
            return True
    return False


cdef Block* window_from(Map* m, Block* b, uint32_t units, Block** beyond) noexcept nogil:
    """b, or the free block before it, when enough room begins there; else NULL, and the block that is in the way."""
    cdef Block* first = b
    cdef uint64_t width = 0
    if b.after_free:
        first = arena_before(b)
        width = first.units
    while width < units and (b.state == FREE or evictable(m, b)):
        width += b.units
        b = arena_after(b)
    beyond[0] = b
    return first if width >= units else NULL


cdef bint clear_window(Map* m, Shard* s, uint32_t units) noexcept nogil:
    """Make one hole of that size, best where the oldest objects lie."""
    cdef Block* b
    cdef Block* first
    cdef Block* beyond
    cdef int turn
    for turn in range(WINDOWS):
        b = oldest(m, s)
        if b == NULL:
            return False
        first = window_from(m, b, units, &beyond)
        if first != NULL:
            clear_from(m, s, first, units)
            return True
        queue_drop(m, s, b)
        queue_push(m, s, b, MAIN)
    b = arena_first(m, s)
    while b.state != END:
        first = window_from(m, b, units, &beyond)
        if first != NULL:
            clear_from(m, s, first, units)
            return True
        b = arena_after(beyond) if beyond.state != END else beyond
    return False


cdef void clear_from(Map* m, Shard* s, Block* first, uint32_t units) noexcept nogil:
    cdef Block* b = first
    cdef Block* after
    cdef Block* end = <Block*>(<char*>first + <uint64_t>units * UNIT)
    while b < end:
        # A free block may be joined to the hole before its turn comes; its size stays legible in what is the hole then.
        after = arena_after(b)
        shard_clear(m, s, b)
        b = after


cdef Block* obtain(Map* m, Shard* s, uint32_t units, bint may_evict, bint* again) noexcept nogil:
    cdef Block* b
    cdef uint32_t steps = STEPS
    cdef uint64_t freed = 0
    again[0] = False
    shard_reap(m, s, REAPED)
    b = arena_take(m, s, units)
    if b != NULL or not may_evict:
        return b
    b = reclaim(m, s, units, &steps)
    if b != NULL:
        return b
    while freed < 2 * <uint64_t>units and evict(m, s, &steps, &freed):
        b = arena_take(m, s, units)
        if b != NULL:
            return b
    if not steps:
        again[0] = True
        return NULL
    if clear_window(m, s, units):
        return arena_take(m, s, units)
    return NULL


cdef Block* allocate(Map* m, uint64_t hash, uint64_t units, bint may_evict) noexcept nogil:
    """A block for an object of that hash: loose, FILLING, pinned by this worker; NULL when there is no room for it."""
    cdef Shard* s = shard_of(m, hash)
    cdef Block* b
    cdef bint again
    cdef int turn, turns
    if units > m.header.arena_units // 4 * 3:
        return NULL
    turns = 2 + <int>min((s.queues[SMALL].count + <uint64_t>s.queues[MAIN].count) * ROUNDS // STEPS, <uint64_t>TURNS)
    for turn in range(turns):
        if not shard_lock(m, s):
            return NULL
        swap32(&s.dirty, 1)
        step(m)
        b = obtain(m, s, <uint32_t>units, may_evict, &again)
        if b != NULL:
            s.since_lap += b.units
            b.hits = <unsigned char>m.worker  # until it is LIVE
            step(m)
            if pin(m, unit_of(m, b)):
                queue_push(m, s, b, LOOSE)
                step(m)
            else:
                arena_give(m, s, b)
                b = NULL
        store32(&s.dirty, 0)
        step(m)
        shard_unlock(m, s)
        if b != NULL or not again:
            return b
    return NULL


cdef void clear_after(Map* m, Shard* s, Block* b, uint32_t units) noexcept nogil:
    """Evict the neighbours that are in the way of b's growth, if all of them can go."""
    cdef Block* other = arena_after(b)
    cdef uint64_t width = b.units
    while width < units and (other.state == FREE or evictable(m, other)):
        width += other.units
        other = arena_after(other)
    if width >= units:
        clear_from(m, s, arena_after(b), units - b.units)


cdef bint grow(Map* m, Block* b, uint64_t units, bint may_evict) noexcept nogil:
    """Make a block that this worker fills larger where it lies, at its neighbours' cost if they may be evicted."""
    cdef Shard* s = shard_holding(m, b)
    cdef bint grown
    if units > m.header.arena_units or not shard_lock(m, s):
        return False
    swap32(&s.dirty, 1)
    queue_drop(m, s, b)
    grown = arena_grow(m, s, b, <uint32_t>units)
    if not grown and may_evict:
        clear_after(m, s, b, <uint32_t>units)
        grown = arena_grow(m, s, b, <uint32_t>units)
    queue_push(m, s, b, LOOSE)
    store32(&s.dirty, 0)
    shard_unlock(m, s)
    return grown
