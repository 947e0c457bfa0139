# cython: language_level=3
"""The store as the rest of flyby sees it: keys to objects, shared by all workers, whatever happens to one of them.

    store = Store.create(size, workers=4)     in the supervisor
    store.join(2)                             in worker 2, after the fork
    store.sweep(2)                            in the supervisor, when worker 2 is dead

The process that creates a store may use it without joining (it has a worker area of its own), so an embedding needs
none of this. Times of objects are the caller's and are kept as they are; the store reads a clock for `expire` alone.
An object that cannot be had at once (its lock is held by a process that was stopped) is an object that is not there.
"""

import os
import time

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from flyby.store.segment import anonymous, checked_size

from flyby.store._attachment cimport attach, from_file
from flyby.store._check cimport check_fills, check_shard
from flyby.store._entry cimport Entry, copied, entry_of
from flyby.store._eviction cimport allocate
from flyby.store._fill cimport fill_of, lay_out
from flyby.store._guard cimport unpin
from flyby.store._hash cimport Digest
from flyby.store._inflight cimport fills_claim, fills_sweep, fills_taint
from flyby.store._index cimport index_find
from flyby.store._layout cimport (
    DOOMED, GONE_PURGED, HOT, LONGEST_HEAD, LONGEST_KEY, LZ4, MAIN, PIN_WAYS, SMALL, Block, Map, Shard, Worker, add64,
    block_at, body_of, ends_of, fence, fresh_of, load64, lowest64, pending_at, pins_at, set_fresh, set_times, shard_at, shard_of,
    store32, stored_of, swap32, swap64, unit_of, worker_at,
)
from flyby.store._pack cimport pack
from flyby.store._queues cimport ends_at
from flyby.store._rebuild cimport shard_rebuild
from flyby.store._shard cimport (
    shard_lock, shard_lookup, shard_publish, shard_remove, shard_sweep, shard_unlock, units_for,
)
from flyby.store._statistics cimport statistics_of

cdef enum:
    PATIENCE = 40  # attempts of 50 ms for what must be done: purges and sweeps
    SHARE = 8  # an object may take one part in so many of the store


@cython.final
cdef class Store:
    def __init__(self):
        raise TypeError("a store is made by Store.create")

    @classmethod
    def create(cls, size, *, path=None, max_object=None, workers=1, meaning=b""):
        """A store of `size` bytes in all, for that many workers. Raises `StoreError`.

        With a path, what an earlier process left there is kept if it can be relied on: then everything is found again
        that was stored. `meaning` names how the caller reads keys, heads and flags; what was stored under another one
        is dropped.
        """
        cdef Store store = Store.__new__(Store)
        cdef uint64_t whole = checked_size(size)
        cdef uint64_t largest = whole // SHARE if max_object is None else max_object
        if path is None:
            store._attachment = attach(anonymous(whole), whole, largest, workers, meaning)
        else:
            store._attachment = from_file(path, whole, largest, workers, meaning)
        store.size = whole
        store.max_object = store._attachment.m.header.max_object
        store.workers = workers
        return store

    def __repr__(self):
        if not self._attachment.usable:
            return f"<Store of {self.size >> 20} MiB, not in use>"
        found = self.statistics()
        return f"<Store of {self.size >> 20} MiB, {found.objects} objects, {found.fills_open} fills>"

    # ---- processes ---------------------------------------------------------------------------------------------------

    def join(self, uint32_t worker):
        """Become this worker, after a fork."""
        if worker >= self.workers:
            raise ValueError(f"there are {self.workers} workers")
        self._attachment.take_area(worker)
        self.sweep(worker)  # what an earlier life of this worker left, if nobody has seen to it

    def sweep(self, uint32_t worker):
        """Worker `worker` is dead: end its fetches, drop what it was writing, take back its pins."""
        cdef Map* m = &self._attachment.m
        cdef uint32_t number
        cdef int turn
        if worker >= self.workers:
            raise ValueError(f"there are {self.workers} workers")
        memset(pins_at(m, worker), 0, <size_t>m.header.pin_sets * PIN_WAYS * sizeof(uint64_t))
        store32(&worker_at(m, worker).rung, 0)
        for turn in range(PATIENCE):
            if fills_sweep(m, worker):
                break
        for number in range(m.header.shards):
            for turn in range(PATIENCE):
                if shard_sweep(m, shard_at(m, number), worker):
                    break

    def fileno(self):
        """Readable when a fetch that this process follows has moved in another one: then call `dispatch`."""
        return self._attachment.bell()

    def dispatch(self):
        """Call the subscribers of every fetch that has moved."""
        cdef Map* m = &self._attachment.m
        cdef uint64_t* words = pending_at(m, m.worker)
        cdef uint64_t bits
        cdef uint32_t number
        if not self._attachment.usable:
            return
        try:
            os.eventfd_read(self._attachment.bell())
        except BlockingIOError:
            pass
        swap32(&worker_at(m, m.worker).rung, 0)
        self._attachment.settle()
        for number in range(m.header.fill_slots // 64):
            if words[number]:
                bits = swap64(&words[number], 0)
                while bits:
                    self._attachment.call_watchers(number * 64 + lowest64(bits))
                    bits &= bits - 1

    def close(self):
        """Use the store no more; views that are out stay good. Who made it comes last: then a file counts as closed."""
        self._attachment.close()

    # ---- objects -----------------------------------------------------------------------------------------------------

    def lookup(self, bytes key):
        """The object of that key, held until it is released; None when there is none."""
        cdef Map* m = &self._attachment.m
        cdef Worker* counts
        cdef Block* b
        if not self._attachment.usable or len(key) > LONGEST_KEY:
            return None
        counts = worker_at(m, m.worker)
        b = shard_lookup(m, self._attachment.digest(key, len(key)), key, len(key))
        if b == NULL:
            counts.misses += 1
            return None
        if b.hits < HOT:
            b.hits += 1
        counts.hits += 1
        counts.hit_bytes += b.length
        return entry_of(self._attachment, b)

    def put(
        self, bytes key, bytes head, body, int status, uint32_t flags, int64_t born_ms, int64_t fresh_ms,
        uint32_t swr_s, uint32_t sie_s, *, bint compress=True
    ):
        """Store a whole object. False when there is no room for it."""
        cdef Map* m = &self._attachment.m
        cdef const unsigned char[::1] view
        cdef uint64_t length = len(body), epoch
        cdef uint64_t stored
        cdef Digest digest
        cdef Block* b = NULL
        cdef bint done = False
        if not self._attachment.usable:
            return False
        epoch = load64(&m.header.epoch)
        digest = self._attachment.digest(key, len(key))
        if length:
            view = body
        packed = pack(<char*>&view[0], length) if compress and 0 < length <= self.max_object else None
        stored = length if packed is None else len(packed)
        if len(key) <= LONGEST_KEY and len(head) <= LONGEST_HEAD and length <= self.max_object:
            b = allocate(m, digest.low, units_for(len(key), len(head), stored, 0), True)
        if b == NULL:
            worker_at(m, m.worker).refused += 1
            return False
        lay_out(m, b, digest.low, key, head, status, flags)
        set_times(b, born_ms, fresh_ms, swr_s, sie_s)
        b.length = length
        if packed is not None:
            b.codec = LZ4
            memcpy(body_of(b), <const char*><bytes>packed, stored)
        elif length:
            memcpy(body_of(b), &view[0], length)
        done = shard_publish(m, b, stored, 0, epoch, NULL)
        self._finish(b, done, length)
        return done

    cdef void _finish(self, Block* b, bint done, uint64_t length) noexcept:
        cdef Map* m = &self._attachment.m
        if done:
            worker_at(m, m.worker).inserts += 1
            worker_at(m, m.worker).insert_bytes += length
        else:
            b.state = DOOMED
            worker_at(m, m.worker).refused += 1
        unpin(m, unit_of(m, b))

    def refresh(
        self, Entry entry, bytes head, uint32_t flags, int64_t born_ms, int64_t fresh_ms, uint32_t swr_s, uint32_t sie_s
    ):
        """Give the object a new head and new times; its body stays. False when it is not what is stored any more."""
        cdef Map* m = &self._attachment.m
        cdef Block* b
        cdef Block* old = entry.block()
        cdef uint64_t epoch, stored = stored_of(old)
        cdef bint done
        if not self._attachment.usable:
            return False
        epoch = load64(&m.header.epoch)
        b = NULL
        if len(head) <= LONGEST_HEAD:
            b = copied(self._attachment, old, head, len(head), stored, True)
        if b == NULL:
            worker_at(m, m.worker).refused += 1
            return False
        b.generation = add64(&m.header.generation, 1) + 1
        b.flags = flags
        set_times(b, born_ms, fresh_ms, swr_s, sie_s)
        memcpy(body_of(b), body_of(old), stored)
        done = shard_publish(m, b, stored, entry.generation, epoch, NULL)
        self._finish(b, done, 0)
        return done

    def delete(self, bytes key, generation=None):
        """Remove the object of that key (of that generation only, if one is given). True when there was one.

        Without a generation this is a purge: a fetch of that name that is under way is not going to be stored either.
        """
        cdef Map* m = &self._attachment.m
        cdef Digest digest
        cdef Shard* s
        cdef uint64_t* at
        cdef Block* b
        cdef bint found = False
        cdef int turn
        if not self._attachment.usable or len(key) > LONGEST_KEY:
            return False
        digest = self._attachment.digest(key, len(key))
        if generation is None:
            self._taint(key, digest)
        s = shard_of(m, digest.low)
        for turn in range(PATIENCE):
            if shard_lock(m, s):
                at = index_find(m, s, digest.low, key, len(key))
                if at != NULL:
                    b = block_at(m, s, <uint32_t>at[0])
                    if generation is None or b.generation == generation:
                        found = True
                        swap32(&s.dirty, 1)
                        shard_remove(m, s, b, GONE_PURGED)
                        store32(&s.dirty, 0)
                shard_unlock(m, s)
                break
        return found

    def expire(self, bytes key, now_ms=None):
        """Make the object of that key stale from now on, which is `now_ms` if given. True when there was one."""
        cdef Map* m = &self._attachment.m
        cdef Digest digest
        cdef Shard* s
        cdef uint64_t* at
        cdef Block* b
        cdef bint found = False
        cdef int64_t now
        cdef int turn
        if not self._attachment.usable or len(key) > LONGEST_KEY:
            return False
        now = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        digest = self._attachment.digest(key, len(key))
        self._taint(key, digest)
        s = shard_of(m, digest.low)
        for turn in range(PATIENCE):
            if shard_lock(m, s):
                at = index_find(m, s, digest.low, key, len(key))
                if at != NULL:
                    b = block_at(m, s, <uint32_t>at[0])
                    found = True
                    if fresh_of(b) > now:
                        set_fresh(b, now)
                        ends_at(s, ends_of(b))
                    # A refresh that began before this must not make it fresh again.
                    fence()
                    b.generation = add64(&m.header.generation, 1) + 1
                shard_unlock(m, s)
                break
        return found

    cdef void _taint(self, bytes key, Digest digest) noexcept:
        cdef int turn
        for turn in range(PATIENCE):
            if fills_taint(&self._attachment.m, key, len(key), digest):
                return

    def clear(self):
        """Remove everything, and let nothing be stored that was asked for before; returns how many objects went."""
        cdef Map* m = &self._attachment.m
        cdef Shard* s
        cdef uint32_t number
        cdef uint64_t count = 0, objects
        cdef int turn
        if not self._attachment.usable:
            return 0
        add64(&m.header.epoch, 1)
        for number in range(m.header.shards):
            s = shard_at(m, number)
            for turn in range(PATIENCE):
                if shard_lock(m, s):
                    objects = s.queues[SMALL].count + s.queues[MAIN].count
                    if shard_rebuild(m, s, False):
                        count += objects
                        s.gone[GONE_PURGED] += objects
                        shard_unlock(m, s)
                        break
                    shard_unlock(m, s)
        return count

    # ---- fetches under way -------------------------------------------------------------------------------------------

    def claim(self, bytes key):
        """Join the fetch of that name, or begin one as its owner; None when no more can be begun.

        Between a lookup that found nothing and a claim that became the owner, another owner may have finished: who must
        not fetch twice looks again.
        """
        cdef Map* m = &self._attachment.m
        cdef int64_t number
        cdef bint owner = False
        cdef Worker* counts
        if not self._attachment.usable or len(key) > LONGEST_KEY:
            return None
        self._attachment.settle()
        number = fills_claim(m, key, len(key), self._attachment.digest(key, len(key)), &owner)
        if number < 0:
            return None
        counts = worker_at(m, m.worker)
        if owner:
            counts.fills += 1
        else:
            counts.collapsed += 1
        return fill_of(self._attachment, <uint32_t>number, owner)

    # ---- what it tells about itself ----------------------------------------------------------------------------------

    def statistics(self):
        """Counts and sizes, summed over workers and shards, without a lock."""
        return statistics_of(&self._attachment.m)

    def check(self):
        """Go through everything and list what is not as it should be: nothing, in a sound store."""
        cdef Map* m = &self._attachment.m
        cdef uint32_t number
        cdef list problems = []
        for number in range(m.header.shards):
            check_shard(m, shard_at(m, number), problems)
        check_fills(m, problems)
        return problems
