# cython: language_level=3
"""One shard: its index, its queues, and what happens to them when a process dies.

A key has two buckets, each the other's partner under the tag, and may lie in either. `shard_lookup` takes no lock:
word, pin, word again, then the whole key. Everything else runs under the shard's lock, with `dirty` set while the
shard is between two sound states; who takes the lock and finds it dirty empties the shard (`shard_empty`), which is
also how everything is purged.

Replacing an object is one store to its word, so that no reader ever finds a gap between the old and the new one.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcmp, memset

from flyby.store._arena cimport arena_format, arena_give, arena_rebuild, arena_seal, arena_trim
from flyby.store._guard cimport guard_format, guard_give, guard_take, pin, pinned, unpin
from flyby.store._hash cimport Digest
from flyby.store._inflight cimport fills_lock, fills_unlock
from flyby.store._layout cimport (
    BUCKET_WORDS, DOOMED, FILL_UNUSED, FILLING, HEADER_UNITS, LIVE, LOOSE, LZ4, MAIN, NO_FILL, NOWHERE, PIN_WAYS,
    PROMOTED, SMALL, UNIT, Block, FillSlot, Map, QueueEnds, Shard, arena_of, block_at, block_of, fence, ghosts_of,
    index_of, key_of, load32, load64, pins_at, place_of, shard_at, shard_holding, shard_of, slot_at, step, store32,
    store64, stored_of, swap32, unit_of,
)


cdef uint32_t units_for(uint64_t key_length, uint64_t head_length, uint64_t body_length) noexcept nogil:
    return <uint32_t>(HEADER_UNITS + (key_length + head_length + body_length + UNIT - 1) // UNIT)


cdef int shard_format(Map* m, uint32_t number) noexcept nogil:
    cdef Shard* s = shard_at(m, number)
    s.number = number
    arena_format(m, s)
    return guard_format(&s.lock)


cdef bint shard_lock(Map* m, Shard* s) noexcept nogil:
    if not guard_take(m, &s.lock):
        return False
    if load32(&s.dirty):
        # Its last owner died between two sound states.
        if not shard_empty(m, s):
            guard_give(&s.lock)
            return False
        s.resets += 1
    return True


cdef void shard_unlock(Map* m, Shard* s) noexcept nogil:
    guard_give(&s.lock)


# ---- the index -------------------------------------------------------------------------------------------------------


cdef inline uint32_t first_bucket(Map* m, uint64_t hash) noexcept nogil:
    return <uint32_t>hash & (m.header.buckets - 1)


cdef inline uint32_t partner(Map* m, uint32_t bucket, uint64_t hash) noexcept nogil:
    return (bucket ^ (<uint32_t>(hash >> 48) | 1) * <uint32_t>0x5BD1E995) & (m.header.buckets - 1)


cdef inline uint64_t word_for(Map* m, Shard* s, Block* b) noexcept nogil:
    return (b.hash >> 48) << 48 | place_of(m, s, b)


cdef inline bint same_key(Block* b, uint64_t hash, const char* key, uint32_t length) noexcept nogil:
    return b.hash == hash and b.key_length == length and memcmp(key_of(b), key, length) == 0


cdef Block* shard_lookup(Map* m, Digest digest, const char* key, uint32_t length) noexcept nogil:
    """The live block of that key, pinned for this worker; NULL when there is none."""
    cdef Shard* s = shard_of(m, digest.low)
    cdef uint64_t* index = index_of(m, s)
    cdef uint32_t bucket = first_bucket(m, digest.low)
    cdef uint64_t tag = digest.low >> 48
    cdef uint64_t word
    cdef uint64_t* at
    cdef Block* b
    cdef int side, number, turn
    for side in range(2):
        for number in range(BUCKET_WORDS):
            at = &index[<uint64_t>bucket * BUCKET_WORDS + number]
            # A word that keeps changing belongs to keys that come and go; four looks are enough.
            for turn in range(4):
                word = load64(at)
                if not word or word >> 48 != tag:
                    break
                b = block_at(m, s, <uint32_t>word)
                if not pin(m, unit_of(m, b)):
                    return NULL
                if load64(at) == word:
                    if same_key(b, digest.low, key, length):
                        return b
                    unpin(m, unit_of(m, b))
                    break
                unpin(m, unit_of(m, b))
        bucket = partner(m, bucket, digest.low)
    return NULL


cdef uint64_t* shard_word(Map* m, Shard* s, uint64_t hash, const char* key, uint32_t length) noexcept nogil:
    """Where the index names the key, under the lock."""
    cdef uint64_t* index = index_of(m, s)
    cdef uint32_t bucket = first_bucket(m, hash)
    cdef uint64_t* at
    cdef int side, number
    for side in range(2):
        for number in range(BUCKET_WORDS):
            at = &index[<uint64_t>bucket * BUCKET_WORDS + number]
            if at[0] and at[0] >> 48 == hash >> 48:
                if same_key(block_at(m, s, <uint32_t>at[0]), hash, key, length):
                    return at
        bucket = partner(m, bucket, hash)
    return NULL


cdef uint64_t* word_of_block(Map* m, Shard* s, Block* b) noexcept nogil:
    cdef uint64_t* index = index_of(m, s)
    cdef uint64_t word = word_for(m, s, b)
    cdef uint32_t bucket = first_bucket(m, b.hash)
    cdef int side, number
    for side in range(2):
        for number in range(BUCKET_WORDS):
            if index[<uint64_t>bucket * BUCKET_WORDS + number] == word:
                return &index[<uint64_t>bucket * BUCKET_WORDS + number]
        bucket = partner(m, bucket, b.hash)
    return NULL


cdef uint64_t* empty_word(Map* m, Shard* s, uint64_t hash) noexcept nogil:
    """A free place for the key, in the emptier of its buckets; when both are full the least wanted object makes room."""
    cdef uint64_t* index = index_of(m, s)
    cdef uint32_t bucket = first_bucket(m, hash)
    cdef uint64_t* at
    cdef uint64_t* best = NULL
    cdef uint64_t* found
    cdef Block* b
    cdef Block* victim = NULL
    cdef int side, number, room, most = 0
    for side in range(2):
        room = 0
        found = NULL
        for number in range(BUCKET_WORDS):
            at = &index[<uint64_t>bucket * BUCKET_WORDS + number]
            if not at[0]:
                room += 1
                found = at
                continue
            b = block_at(m, s, <uint32_t>at[0])
            if not b.held and (victim == NULL or b.hits < victim.hits) and not pinned(m, unit_of(m, b)):
                victim = b
        if room > most:
            most = room
            best = found
        bucket = partner(m, bucket, hash)
    if best == NULL and victim != NULL:
        best = word_of_block(m, s, victim)
        shard_remove(m, s, victim)
        s.evicted_room += 1
    return best


# ---- queues and ghosts -----------------------------------------------------------------------------------------------


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


cdef bint ghost_known(Map* m, Shard* s, uint64_t hash) noexcept nogil:
    cdef uint64_t word = ghosts_of(m, s)[hash & (m.header.ghosts - 1)]
    cdef uint32_t remembered = s.queues[MAIN].count + s.queues[SMALL].count
    return (
        word != 0 and word >> 32 == hash >> 32 and <uint32_t>(s.ghost_sequence - <uint32_t>word) <= remembered
    )


cdef void ghost_add(Map* m, Shard* s, uint64_t hash) noexcept nogil:
    s.ghost_sequence += 1
    ghosts_of(m, s)[hash & (m.header.ghosts - 1)] = (hash >> 32) << 32 | s.ghost_sequence


# ---- objects come and go ---------------------------------------------------------------------------------------------


cdef void count_in(Map* m, Shard* s, Block* b) noexcept nogil:
    s.plain_bytes += b.length
    s.stored_bytes += stored_of(b)
    s.compressed += b.codec == LZ4
    if b.codec == PROMOTED:
        s.promoted_units += b.units


cdef void retire(Map* m, Shard* s, Block* b) noexcept nogil:
    """A block that the index names no more: free it, or keep it until its last reader has gone."""
    s.plain_bytes -= b.length
    s.stored_bytes -= stored_of(b)
    s.compressed -= b.codec == LZ4
    if b.codec == PROMOTED:
        s.promoted_units -= b.units
    queue_drop(m, s, b)
    step(m)
    b.state = DOOMED
    step(m)
    fence()
    if b.held or pinned(m, unit_of(m, b)):
        queue_push(m, s, b, LOOSE)
    else:
        arena_give(m, s, b)


cdef void shard_remove(Map* m, Shard* s, Block* b) noexcept nogil:
    """Take a live block out; the caller has set `dirty`."""
    store64(word_of_block(m, s, b), 0)
    step(m)
    retire(m, s, b)


cdef bint shard_publish(Map* m, Block* b, uint64_t replaced, uint64_t epoch, FillSlot* slot) noexcept nogil:
    """Make a filled block visible, in place of the object of that key.

    With `replaced`, only if that is the generation of the object there. Not if everything was purged since `epoch`, nor
    if the fetch of `slot` was: purges raise those marks before they come for this lock.
    """
    cdef Shard* s = shard_holding(m, b)
    cdef uint64_t* at
    cdef Block* old = NULL
    cdef int queue
    if not shard_lock(m, s):
        return False
    if load64(&m.header.epoch) != epoch or (slot != NULL and load32(&slot.tainted)):
        shard_unlock(m, s)
        return False
    at = shard_word(m, s, b.hash, key_of(b), b.key_length)
    if at != NULL:
        old = block_at(m, s, <uint32_t>at[0])
    if replaced and (old == NULL or old.generation != replaced):
        shard_unlock(m, s)
        return False
    swap32(&s.dirty, 1)
    step(m)
    if at == NULL:
        at = empty_word(m, s, b.hash)
    if at != NULL:
        queue_drop(m, s, b)
        step(m)
        arena_trim(m, s, b, units_for(b.key_length, b.head_length, stored_of(b)))
        queue = MAIN if ghost_known(m, s, b.hash) else SMALL
        if old != NULL:
            queue = old.queue
            b.hits = old.hits
            s.promotions += b.codec == PROMOTED and old.codec == LZ4
        elif queue == MAIN:
            s.ghost_hits += 1
        b.state = LIVE
        step(m)
        store64(at, word_for(m, s, b))
        step(m)
        if old != NULL:
            retire(m, s, old)
            step(m)
        queue_push(m, s, b, queue)
        count_in(m, s, b)
        step(m)
    store32(&s.dirty, 0)
    step(m)
    shard_unlock(m, s)
    return at != NULL


cdef void shard_reap(Map* m, Shard* s, uint32_t limit) noexcept nogil:
    """Free loose blocks that nobody reads any more; at most `limit` are looked at, the oldest first."""
    cdef Block* b
    if limit > s.queues[LOOSE].count:
        limit = s.queues[LOOSE].count
    while limit:
        limit -= 1
        b = block_at(m, s, s.queues[LOOSE].tail)
        queue_drop(m, s, b)
        step(m)
        if b.state == DOOMED and not b.held and not pinned(m, unit_of(m, b)):
            arena_give(m, s, b)
        else:
            queue_push(m, s, b, LOOSE)


# ---- after a death ---------------------------------------------------------------------------------------------------


cdef int by_value(const void* left, const void* right) noexcept nogil:
    cdef uint64_t a = (<uint64_t*>left)[0]
    cdef uint64_t b = (<uint64_t*>right)[0]
    return (a > b) - (a < b)


cdef inline bint belongs(Map* m, Shard* s, uint64_t unit) noexcept nogil:
    """Whether an allocated block of this shard begins there: a pin that came too late for its block has to go again."""
    cdef uint64_t base = <uint64_t>(arena_of(m, s) - m.base) // UNIT
    cdef Block* b
    if unit < base or unit >= base + m.header.arena_units - HEADER_UNITS:
        return False
    b = block_of(m, unit)
    return b.seal == arena_seal(m, b)


cdef bint shard_empty(Map* m, Shard* s) noexcept nogil:
    """Drop all objects. Blocks that somebody reads or fills stay where they are, loose."""
    cdef uint64_t room = m.header.fill_slots + <uint64_t>m.header.workers * m.header.pin_sets * PIN_WAYS
    cdef uint64_t* keep = <uint64_t*>malloc(room * sizeof(uint64_t))
    cdef uint64_t* pins
    cdef uint64_t unit
    cdef size_t count = 0, kept = 0, number
    cdef uint32_t worker
    cdef Block* b
    if keep == NULL:
        return False
    if not fills_lock(m):
        free(keep)
        return False
    swap32(&s.dirty, 1)
    step(m)
    memset(index_of(m, s), 0, <size_t>m.header.buckets * BUCKET_WORDS * sizeof(uint64_t))
    fence()
    for worker in range(m.header.workers):
        pins = pins_at(m, worker)
        for number in range(m.header.pin_sets * PIN_WAYS):
            unit = load64(&pins[number])
            if unit >> 48:
                unit &= (<uint64_t>1 << 48) - 1
                if belongs(m, s, unit):
                    keep[count] = unit
                    count += 1
    for number in range(m.header.fill_slots):
        unit = load64(&slot_at(m, <uint32_t>number).object)
        if unit and slot_at(m, <uint32_t>number).state != FILL_UNUSED and belongs(m, s, unit):
            keep[count] = unit
            count += 1
    qsort(keep, count, sizeof(uint64_t), by_value)
    for number in range(count):
        if kept == 0 or keep[kept - 1] != keep[number]:
            keep[kept] = keep[number]
            kept += 1
    arena_rebuild(m, s, keep, kept)
    step(m)
    memset(s.queues, 0, sizeof(s.queues))
    step(m)
    s.promoted_units = 0
    s.plain_bytes = 0
    s.stored_bytes = 0
    s.compressed = 0
    for number in range(kept):
        b = block_of(m, keep[number])
        step(m)
        if b.state != FILLING:
            b.state = DOOMED
            step(m)
        queue_push(m, s, b, LOOSE)
    store32(&s.dirty, 0)
    step(m)
    fills_unlock(m)
    free(keep)
    return True


cdef bint shard_sweep(Map* m, Shard* s, uint32_t worker) noexcept nogil:
    """Give up what a dead worker was filling, but for what fetches still refer to, and free what it read."""
    cdef uint32_t place
    cdef Block* b
    if not shard_lock(m, s):
        return False
    swap32(&s.dirty, 1)
    step(m)
    place = s.queues[LOOSE].head
    while place:
        b = block_at(m, s, place)
        if b.state == FILLING and b.owner == worker:
            if b.fill == NO_FILL or load64(&slot_at(m, b.fill).object) != unit_of(m, b):
                b.held = 0
                b.state = DOOMED
                step(m)
        place = b.next
    shard_reap(m, s, s.queues[LOOSE].count)
    store32(&s.dirty, 0)
    step(m)
    shard_unlock(m, s)
    return True
