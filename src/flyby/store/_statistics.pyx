# cython: language_level=3
"""What the store counts, read without a lock and without a write: a mapping that only may be read will do.

Every count has one writer (a worker its area, the holder of a shard's lock that shard), so each is right by itself;
together they are of nearly the same moment.
"""

from libc.stdint cimport uint32_t, uint64_t

from flyby.store.statistics import FillStates, StoreStatistics, WorkerStatistics

from flyby.store._layout cimport (
    FILL_UNUSED, FIRST_PLACE, GONE_EXPIRED, GONE_MAIN, GONE_PURGED, GONE_RECOVERED, GONE_REPLACED, GONE_ROOM,
    GONE_SMALL, LOOSE, MAIN, SEGMENT_UNITS, SIZE_CLASSES, SMALL, UNIT, Header, Map, Shard, Worker, load32, load64,
    shard_at, slot_at, worker_at,
)


cdef inline bint current(Map* m, Shard* s) noexcept nogil:
    """Whether the shard was written to since everything was purged."""
    return load64(&s.epoch) == load64(&m.header.cleared)


cdef uint64_t objects_of(Map* m) noexcept nogil:
    cdef uint64_t count = 0
    cdef uint32_t number
    cdef Shard* s
    for number in range(m.header.shards):
        s = shard_at(m, number)
        if current(m, s):
            count += s.queues[SMALL].count + s.queues[MAIN].count
    return count


cdef object statistics_of(Map* m):
    cdef Header* h = m.header
    cdef Shard* s
    cdef uint32_t number
    cdef int size
    cdef list sizes = [0] * SIZE_CLASSES
    cdef dict total = dict.fromkeys(StoreStatistics.__dataclass_fields__, 0)
    workers = tuple(worker_statistics(worker_at(m, number)) for number in range(h.workers))
    for name in WorkerStatistics.__dataclass_fields__:
        total[name] = sum(getattr(worker, name) for worker in workers)
    for number in range(h.shards):
        s = shard_at(m, number)
        total["evicted_small"] += s.gone[GONE_SMALL]
        total["evicted_main"] += s.gone[GONE_MAIN]
        total["evicted_room"] += s.gone[GONE_ROOM]
        total["evicted_expired"] += s.gone[GONE_EXPIRED]
        total["purged"] += s.gone[GONE_PURGED]
        total["replaced"] += s.gone[GONE_REPLACED]
        total["recovered"] += s.gone[GONE_RECOVERED]
        total["index_bytes"] += <uint64_t>s.segments * SEGMENT_UNITS * UNIT
        total["ghost_hits"] += s.ghost_hits
        total["promotions"] += s.promotions
        total["demotions"] += s.demotions
        total["rebuilds"] += s.rebuilds
        total["resets"] += s.resets
        total["loose"] += s.queues[LOOSE].count
        if not current(m, s):
            # Its objects are gone, and whoever wants their memory has it.
            total["purged"] += s.queues[SMALL].count + s.queues[MAIN].count
            total["free"] += (<uint64_t>s.end - FIRST_PLACE - s.queues[LOOSE].units) * UNIT
            continue
        total["free"] += s.free_units * UNIT
        for size in range(SIZE_CLASSES):
            sizes[size] += s.by_size[size]
        total["objects"] += s.queues[SMALL].count + s.queues[MAIN].count
        total["plain_bytes"] += s.plain_bytes
        total["stored_bytes"] += s.stored_bytes
        total["compressed"] += s.compressed
    total["size"] = h.size
    total["capacity"] = <uint64_t>h.arena_units * UNIT * h.shards
    total["shards"] = h.shards
    total["max_object"] = h.max_object
    total["fills_open"] = m.fills.used
    total["fill_states"] = fill_states(m)
    total["recoveries"] = m.fills.recoveries
    total["workers"] = workers
    total["by_size"] = tuple(sizes)
    return StoreStatistics(**total)


cdef object worker_statistics(Worker* w):
    return WorkerStatistics(
        hits=w.hits,
        misses=w.misses,
        hit_bytes=w.hit_bytes,
        inserts=w.inserts,
        insert_bytes=w.insert_bytes,
        refused=w.refused,
        fills=w.fills,
        collapsed=w.collapsed,
        committed=w.committed,
        failed=w.failed,
        busy=w.busy,
        pin_overflows=w.pin_overflows,
        purges=w.purges,
        outdated=w.outdated,
        purge_steps=w.purge_steps,
    )


cdef object fill_states(Map* m):
    """Slots are taken from the low end, so a look at as many as are in use rarely goes far."""
    cdef uint32_t number, state, seen = 0
    cdef list counts = [0, 0, 0, 0, 0]
    for number in range(m.header.fill_slots):
        if seen >= m.fills.used:
            break
        state = load32(&slot_at(m, number).state)
        if state < FILL_UNUSED:
            seen += 1
            counts[state] += 1
    return FillStates(*counts)
