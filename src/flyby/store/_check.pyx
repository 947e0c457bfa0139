# cython: language_level=3
"""The audit of a store: what the tests, after every kill, hold it to, and what a kept store must pass.

In each shard the blocks fill the arena without gap or overlap, no two free ones touch, free and allocated units make
up the whole; every word of the index names one live block whose tag agrees and whose key has its place in that
bucket; every live block is named once and stands in one queue, and each of its tags in one list; what is loose is on
that list; the sums are right. In the fill table, slots, chains, free list and held blocks agree. Reading all that takes
the locks, so it is not for a server at work.

Nothing is believed before it has been looked at: a store that comes from a file may hold anything, and reading it must
not lead beyond its shard. So the extent of the index is looked at first, then its words, then the chain of blocks,
then the rest.
"""

from libc.stdint cimport uint32_t, uint64_t

from flyby.store._arena cimport arena_after, arena_first
from flyby.store._index cimport index_find
from flyby.store._inflight cimport fills_lock, fills_unlock
from flyby.store._layout cimport (
    APART, BUCKET_WORDS, DOOMED, END, FILL_UNUSED, FILLING, FIRST_LEVELS, FREE, HEADER_UNITS, LIVE, LOOSE, LZ4, MAIN,
    PROMOTED, SECOND_LEVELS, SEGMENT_BUCKETS, SEGMENT_UNITS, SMALL, Block, FillSlot, Map, Shard, block_at, block_of,
    bucket_at, fill_buckets, holder_of, key_of, place_of, reads_at, slot_at, stored_of,
)
from flyby.store._queues cimport size_class
from flyby.store._rebuild cimport whole
from flyby.store._shard cimport shard_lock, shard_reap, shard_unlock
from flyby.store._tags cimport check_tags


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
        check_lists(m, s, problems)
    return 0


cdef int check_lists(Map* m, Shard* s, list problems) except -1:
    """Every tag of every live block is in its list once, and nothing else is there."""
    cdef Block* b = arena_first(m, s)
    cdef uint64_t borne = 0
    while b.state != END and not problems:
        borne += b.tags if b.state == LIVE else 0
        b = arena_after(b)
    if not problems and check_tags(m, s, borne, problems) != borne:
        problems.append(f"shard {s.number}: the lists of tags do not lead to all {borne} that live blocks bear")
    return 0


cdef int check_words(Map* m, Shard* s, list problems) except -1:
    """Whether the index lies above the arena, and every word of it names an object within the arena."""
    cdef uint32_t number
    cdef uint64_t word
    if (
        s.end + HEADER_UNITS + <uint64_t>s.segments * SEGMENT_UNITS != m.header.arena_units
        or not 0 < s.buckets <= <uint64_t>s.segments * SEGMENT_BUCKETS
    ):
        problems.append(f"shard {s.number}: an index of {s.segments} segments does not meet an arena of {s.end} units")
        return 0
    for number in range(s.buckets * BUCKET_WORDS):
        word = bucket_at(m, s, number // BUCKET_WORDS)[number % BUCKET_WORDS]
        if word and (<uint32_t>word >= s.end or not inside(m, s, block_at(m, s, <uint32_t>word))):
            problems.append(f"shard {s.number}: word {number} names no block")
            return 0
    return 1


cdef bint inside(Map* m, Shard* s, Block* b) noexcept:
    """Whether the block ends before the arena does, with its object within it. Its place is within the arena."""
    return b.units >= HEADER_UNITS and place_of(m, s, b) + <uint64_t>b.units <= s.end and whole(m, s, b)


cdef int check_blocks(Map* m, Shard* s, list problems) except -1:
    cdef Block* b = arena_first(m, s)
    cdef uint64_t units = place_of(m, s, b), free_units = 0, plain = 0, stored = 0, promoted = 0
    cdef uint32_t place, before = 0
    cdef uint64_t queued
    cdef int queue
    cdef bint was_free = False
    cdef uint64_t live = 0, loose = 0, packed = 0
    cdef uint64_t apart_units = 0, refers = 0, referred = 0
    cdef list sizes = [0] * 8
    cdef int size
    name = f"shard {s.number}"
    while b.state != END and len(problems) < ENOUGH:
        place = place_of(m, s, b)
        if b.units < HEADER_UNITS or b.state > APART or place + <uint64_t>b.units > s.end:
            problems.append(f"{name}: block {place} of {b.units} units breaks the chain")
            return 0
        if b.after_free != was_free or (was_free and (<uint32_t*>b - 1)[0] != before):
            problems.append(f"{name}: block {place} does not know the one before it")
        if b.state == FREE:
            free_units += b.units
            if was_free:
                problems.append(f"{name}: free block {place} touches another")
        else:
            if b.state == LIVE:
                if not whole(m, s, b):
                    problems.append(f"{name}: block {place} cannot hold what it says, or has another key's hash")
                    return 0
                live += 1
                sizes[size_class(b.length)] += 1
                plain += b.length
                stored += stored_of(b)
                packed += b.codec == LZ4
                promoted += holder_of(b).units if b.codec == PROMOTED else 0
                if b.queue != SMALL and b.queue != MAIN:
                    problems.append(f"{name}: live block {place} is in no queue")
                if index_find(m, s, b.hash, key_of(b), b.key_length) == NULL:
                    problems.append(f"{name}: live block {place} is not in the index")
            elif b.state == APART:
                if b.apart or not whole(m, s, b):
                    problems.append(f"{name}: block {place} cannot hold what it says, or has another key's hash")
                    return 0
                apart_units += b.units
                referred += b.next
                if not b.next or b.previous >= s.end or b.previous and holder_of(block_at(m, s, b.previous)) != b:
                    problems.append(f"{name}: the body in block {place} is no object's")
            else:
                if b.apart and not whole(m, s, b):
                    problems.append(f"{name}: block {place} cannot hold what it says, or has another key's hash")
                    return 0
                loose += 1
                if b.queue != LOOSE:
                    problems.append(f"{name}: loose block {place} is not on the list")
        refers += b.apart and b.state != FREE
        was_free = b.state == FREE
        before = b.units
        units += b.units
        b = arena_after(b)
    if place_of(m, s, b) != s.end or b.after_free != was_free:
        problems.append(f"{name}: the arena ends at {place_of(m, s, b)}")
    if free_units != s.free_units:
        problems.append(f"{name}: {free_units} units are free, {s.free_units} are counted")
    if (apart_units, refers) != (s.apart_units, referred):
        problems.append(f"{name}: {refers} bodies lie apart, {referred} are counted; they take {apart_units} units")
    if sizes != [s.by_size[size] for size in range(8)]:
        problems.append(f"{name}: the sizes are {sizes}, and counted otherwise")
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
                place >= s.end or b.state != FREE or b.previous != newer
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
            place >= s.end or not FILLING <= b.state <= DOOMED or b.queue != queue
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
    cdef uint32_t number
    cdef uint64_t* at
    cdef uint64_t named = 0
    cdef Block* b
    for number in range(s.buckets * BUCKET_WORDS):
        at = bucket_at(m, s, number // BUCKET_WORDS) + number % BUCKET_WORDS
        if not at[0]:
            continue
        if len(problems) >= ENOUGH:
            return 0
        b = block_at(m, s, <uint32_t>at[0])
        if b.state != LIVE or b.hash >> 48 != at[0] >> 48:
            problems.append(f"shard {s.number}: word {number} names block {<uint32_t>at[0]}, which is not its")
        elif index_find(m, s, b.hash, key_of(b), b.key_length) != at:
            problems.append(f"shard {s.number}: word {number} is not where its key is looked for")
        named += 1
    if named != s.queues[SMALL].count + s.queues[MAIN].count:
        problems.append(f"shard {s.number}: {named} words do not name all objects, or more than those")
    return 0


cdef int check_fills(Map* m, list problems) except -1:
    cdef uint32_t number, worker, used = 0, free_count = 0, chained = 0, entry
    cdef uint64_t unit
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
            for unit in (slot.object, slot.ring):
                b = block_of(m, unit)
                if unit and (b.state == FREE or b.state == END or not b.held):
                    problems.append(f"fill {number} refers to a block that is not its")
        for worker in range(m.header.workers):
            for number in range(m.header.fill_slots):
                slot = slot_at(m, number)
                if reads_at(m, worker)[number] and (slot.state == FILL_UNUSED or not slot.holders >> worker & 1):
                    problems.append(f"worker {worker} counts readers of fill {number}, and does not hold it")
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
