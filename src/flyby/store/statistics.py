"""What the store can tell about itself; counted in shared memory, read without disturbing anybody."""

from __future__ import annotations

from dataclasses import dataclass

SIZE_LIMITS = (1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 23)


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """What one worker has counted."""

    hits: int
    misses: int
    hit_bytes: int
    inserts: int
    insert_bytes: int
    refused: int  # objects that found no room
    fills: int
    collapsed: int
    committed: int
    failed: int
    busy: int  # locks that were waited for and not had in time
    pin_overflows: int
    purges: int
    outdated: int  # objects that they made stale
    purge_steps: int  # tags that they looked at for that


@dataclass(frozen=True, slots=True)
class FillStates:
    """The fetches under way, by how far they have come."""

    empty: int
    head: int
    streaming: int
    complete: int  # ended, and still held by a reader
    failed: int


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Totals over all workers since the store was made, and what it holds now."""

    size: int  # bytes of the whole mapping
    capacity: int  # bytes of it that hold objects and their index
    free: int  # bytes that hold nothing
    index_bytes: int  # of the index, which grows with the number of objects
    shards: int
    max_object: int
    objects: int
    plain_bytes: int  # of the stored bodies, as readers see them
    stored_bytes: int  # of the stored bodies, as they lie in memory
    by_size: tuple[int, ...]  # objects by the length of their bodies: below each of SIZE_LIMITS, and above
    compressed: int  # objects held as lz4
    loose: int  # blocks being filled, or waiting for their last reader
    hits: int
    misses: int
    hit_bytes: int
    inserts: int
    insert_bytes: int
    refused: int  # objects that found no room
    evicted_small: int
    evicted_main: int
    evicted_room: int  # for a large object's sake, or because of a full bucket
    evicted_expired: int  # of no use to anybody any more
    purged: int
    replaced: int
    recovered: int  # lost with the process that changed them
    ghost_hits: int
    promotions: int  # objects made plain because they were hot
    demotions: int  # and, hot no more, left to be packed again
    fills: int
    fills_open: int
    fill_states: FillStates
    collapsed: int
    committed: int
    failed: int
    rebuilds: int  # shards made anew, with what they hold, because a process died while it changed them
    resets: int  # shards whose memory was found damaged, and of which nothing was kept
    recoveries: int  # of the fill table, for the same reason
    busy: int  # locks that were not had in time
    pin_overflows: int
    purges: int
    outdated: int
    purge_steps: int
    workers: tuple[WorkerStatistics, ...]  # the last one is the process that made the store

    @property
    def hit_ratio(self) -> float:
        looked = self.hits + self.misses
        return self.hits / looked if looked else 0.0

    @property
    def used(self) -> int:
        """Bytes of the blocks that hold something; a shard's arena has 128 bytes at its ends that never do."""
        return self.capacity - self.index_bytes - self.free - self.shards * 128

    @property
    def evictions(self) -> int:
        return self.evicted_small + self.evicted_main + self.evicted_room + self.evicted_expired
