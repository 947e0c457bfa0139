# cython: language_level=3
"""The audit of a store: what the tests, after every kill, hold it to, and what a kept store must pass.

In each shard the blocks fill the arena without gap or overlap, no two free ones touch, free and allocated units make
up the whole; every word of the index names one live block whose tag agrees and whose key has its place in that
bucket; every live block is named once and stands in one queue; what is loose is on that list; the sums are right. In
the fill table, slots, chains, free list and held blocks agree. Reading all that takes the locks, so it is not for a
server at work.

Nothing is believed before it has been looked at: a store that comes from a file may hold anything, and reading it must
not lead beyond its shard. So the words of the index are looked at first, then the chain of blocks, then the rest.
"""

from libc.stdint cimport uint32_t, uint64_t

from flyby.store._arena cimport arena_after, arena_first, arena_seal
from flyby.store._hash cimport Digest, siphash
from flyby.store._inflight cimport fills_lock, fills_unlock
from flyby.store._layout cimport (
    BUCKET_WORDS, END, FILL_UNUSED, FIRST_LEVELS, FREE, HEADER_UNITS, LIVE, LOOSE, LZ4, MAIN, PROMOTED, SECOND_LEVELS,
    SMALL, UNIT, Block, FillSlot, Map, Shard, block_at, block_of, fill_buckets, index_of, key_of, place_of, room_of, shard_of, slot_at,
    stored_of,
)
from flyby.store._shard cimport shard_lock, shard_reap, shard_unlock, shard_word


cdef enum:
    ENOUGH = 50  # problems; more would tell no more


cdef int check_shard(Map* m, Shard* s, list problems) except -1:
    if not shard_lock(m, s):
        problems.append(f"shard {s.number}: its lock was not to be had")
        return 0
    try:
        shard_reap(m, s, s.queues[LOOSE].count)
        verify_shard(m, s, problems)
    finally:
        shard_unlock(m, s)
    return 0


cdef int verify_shard(Map* m, Shard* s, list problems) except -1:
    """The same under a lock that is had, and without a write."""
    if check_words(m, s, problems):
        check_blocks(m, s, problems)
        check_free(m, s, problems)
        check_index(m, s, problems)
    return 0


cdef int check_words(Map* m, Shard* s, list problems) except -1:
    """Whether every word of the index names a block within the arena."""
    cdef uint64_t* index = index_of(m, s)
    cdef uint64_t number
    cdef Block* b
    for number in range(<uint64_t>m.header.buckets * BUCKET_WORDS):
        if not index[number]:
            continue
        b = block_at(m, s, <uint32_t>index[number])
        if <uint32_t>index[number] >= m.header.arena_units - HEADER_UNITS or not whole(m, s, b):
            problems.append(f"shard {s.number}: word {number} names no block")
            return 0
    return 1


cdef bint whole(Map* m, Shard* s, Block* b) noexcept:
    """Whether an allocated block lies there, with its key and head within it. Its place is within the arena."""
    return (
        b.seal == arena_seal(m, b)
        and b.units >= HEADER_UNITS
        and place_of(m, s, b) + <uint64_t>b.units <= m.header.arena_units - HEADER_UNITS
        and HEADER_UNITS * UNIT + <uint64_t>b.key_length + b.head_length <= <uint64_t>b.units * UNIT
    )


cdef int check_blocks(Map* m, Shard* s, list problems) except -1:
    cdef Block* b = arena_first(m, s)
    cdef uint64_t units = place_of(m, s, b), free_units = 0, plain = 0, stored = 0, promoted = 0
    cdef uint32_t before = 0, place
    cdef uint64_t queued
    cdef int queue
    cdef bint was_free = False
    cdef Digest digest
    cdef uint64_t live = 0, loose = 0, packed = 0
    name = f"shard {s.number}"
    while b.state != END and len(problems) < ENOUGH:
        place = place_of(m, s, b)
        if (
            b.units < HEADER_UNITS or b.before != before or b.state > END
            or place + <uint64_t>b.units > m.header.arena_units - HEADER_UNITS
        ):
            problems.append(f"{name}: block {place} of {b.units} units after one of {before} breaks the chain")
            return 0
        if b.state == FREE:
            free_units += b.units
            if was_free:
                problems.append(f"{name}: free block {place} touches another")
        else:
            if b.seal != arena_seal(m, b):
                problems.append(f"{name}: block {place} is not sealed")
            if b.state == LIVE:
                live += 1
                plain += b.length
                stored += stored_of(b)
                packed += b.codec == LZ4
                promoted += b.units if b.codec == PROMOTED else 0
                if b.queue != SMALL and b.queue != MAIN:
                    problems.append(f"{name}: live block {place} is in no queue")
                if not whole(m, s, b):
                    problems.append(f"{name}: the lengths of block {place} cannot be")
                    return 0
                digest = siphash(m.header.key0, m.header.key1, <const unsigned char*>key_of(b), b.key_length)
                if digest.low != b.hash:
                    problems.append(f"{name}: block {place} has another key's hash")
                if stored_of(b) > room_of(b):
                    problems.append(f"{name}: block {place} is smaller than its object")
                if shard_of(m, b.hash) != s or shard_word(m, s, b.hash, key_of(b), b.key_length) == NULL:
                    problems.append(f"{name}: live block {place} is not in the index")
            else:
                loose += 1
                if b.queue != LOOSE:
                    problems.append(f"{name}: loose block {place} is not on the list")
        was_free = b.state == FREE
        before = b.units
        units += b.units
        b = arena_after(b)
    if place_of(m, s, b) + HEADER_UNITS != m.header.arena_units or b.before != before:
        problems.append(f"{name}: the arena ends at {place_of(m, s, b)}")
    if free_units != s.free_units:
        problems.append(f"{name}: {free_units} units are free, {s.free_units} are counted")
    if (plain, stored, packed, promoted) != (s.plain_bytes, s.stored_bytes, s.compressed, s.promoted_units):
        problems.append(f"{name}: the sums {(plain, stored, packed, promoted)} are not what is counted")
    if s.queues[SMALL].count + s.queues[MAIN].count != live or s.queues[LOOSE].count != loose:
        problems.append(f"{name}: {live} live and {loose} loose blocks are not what the queues count")
    for queue in (SMALL, MAIN, LOOSE):
        check_queue(m, s, queue, problems)
    return 0


cdef int check_free(Map* m, Shard* s, list problems) except -1:
    """The free lists: each holds free blocks and is on the maps, together they hold all that is free."""
    cdef uint32_t number, place, newer
    cdef uint64_t units = 0
    cdef bint mapped
    cdef Block* b
    for number in range(FIRST_LEVELS * SECOND_LEVELS):
        place = s.free_lists[number]
        newer = 0
        mapped = s.second_map[number // SECOND_LEVELS] >> (number % SECOND_LEVELS) & 1
        if mapped != (place != 0) or mapped and not s.first_map >> (number // SECOND_LEVELS) & 1:
            problems.append(f"shard {s.number}: the maps do not tell whether free list {number} is empty")
        while place:
            b = block_at(m, s, place)
            if (
                place >= m.header.arena_units - HEADER_UNITS or b.state != FREE or b.previous != newer
                or units + b.units > s.free_units
            ):
                problems.append(f"shard {s.number}: free list {number} is broken at block {place}")
                return 0
            units += b.units
            newer = place
            place = b.next
    if units != s.free_units:
        problems.append(f"shard {s.number}: the free lists hold {units} units of {s.free_units}")
    return 0


cdef int check_queue(Map* m, Shard* s, int queue, list problems) except -1:
    cdef uint32_t place = s.queues[queue].head, newer = 0, count = 0
    cdef uint64_t units = 0
    cdef Block* b
    while place:
        b = block_at(m, s, place)
        if (
            place >= m.header.arena_units - HEADER_UNITS or b.seal != arena_seal(m, b) or b.queue != queue
            or b.previous != newer or count >= s.queues[queue].count
        ):
            problems.append(f"shard {s.number}: queue {queue} is broken at block {place}")
            return 0
        count += 1
        units += b.units
        newer = place
        place = b.next
    if newer != s.queues[queue].tail or count != s.queues[queue].count or units != s.queues[queue].units:
        problems.append(f"shard {s.number}: queue {queue} has {count} blocks of {units} units, and counts otherwise")
    return 0


cdef int check_index(Map* m, Shard* s, list problems) except -1:
    cdef uint64_t* index = index_of(m, s)
    cdef uint64_t number, named = 0
    cdef uint32_t place
    cdef Block* b
    for number in range(<uint64_t>m.header.buckets * BUCKET_WORDS):
        if not index[number]:
            continue
        if len(problems) >= ENOUGH:
            return 0
        place = <uint32_t>index[number]
        b = block_at(m, s, place)
        if b.state != LIVE or b.hash >> 48 != index[number] >> 48 or b.seal != arena_seal(m, b):
            problems.append(f"shard {s.number}: word {number} names block {place}, which is not its")
        elif shard_word(m, s, b.hash, key_of(b), b.key_length) != &index[number]:
            problems.append(f"shard {s.number}: word {number} is not where its key is looked for")
        named += 1
    if named != s.queues[SMALL].count + s.queues[MAIN].count:
        problems.append(f"shard {s.number}: {named} words do not name all objects, or more than those")
    return 0


cdef int check_fills(Map* m, list problems) except -1:
    cdef uint32_t number, used = 0, free_count = 0, chained = 0, entry
    cdef FillSlot* slot
    cdef Block* b
    if not fills_lock(m):
        problems.append("the fill table's lock was not to be had")
        return 0
    try:
        for number in range(m.header.fill_slots):
            slot = slot_at(m, number)
            if slot.state == FILL_UNUSED:
                continue
            used += 1
            if not slot.holders:
                problems.append(f"fill {number} is in use and held by nobody")
            if slot.object:
                b = block_of(m, slot.object)
                if b.seal != arena_seal(m, b) or not b.held or b.fill != number:
                    problems.append(f"fill {number} refers to a block that is not its")
        for number in range(m.header.fill_buckets):
            entry = fill_buckets(m)[number]
            while entry and chained <= m.header.fill_slots:
                chained += 1
                entry = slot_at(m, entry - 1).next
        entry = m.fills.free_head
        while entry and free_count <= m.header.fill_slots:
            free_count += 1
            entry = slot_at(m, entry - 1).next_free
        if (chained, used, free_count) != (used, m.fills.used, m.header.fill_slots - used):
            problems.append(f"{used} fills in use, {chained} under names, {free_count} free, {m.fills.used} counted")
    finally:
        fills_unlock(m)
    return 0
