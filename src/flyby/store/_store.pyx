# cython: language_level=3
"""The store as the rest of flyby sees it: keys to objects, shared by all workers, whatever happens to one of them.

    store = Store.create(size, workers=4)     in the supervisor
    store.join(2)                             in worker 2, after the fork
    store.sweep(2)                            in the supervisor, when worker 2 is dead

The process that creates a store may use it without joining (it has a worker area of its own), so an embedding needs
none of this. Times of objects are the caller's and are kept as they are; the store reads a clock (the caller's, if it
is given one) to find what has expired, and for purges that name no time.
An object that cannot be had at once (its lock is held by a process that was stopped) is an object that is not there.
"""

import os

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from flyby.clock import SystemClock
from flyby.errors import StoreError
from flyby.store.segment import anonymous, checked_size

from flyby.store._attachment cimport attach, from_file
from flyby.store._candidates cimport count_hit
from flyby.store._check cimport check_fills, check_shard
from flyby.store._claim cimport fill_claimed
from flyby.store._entry cimport Entry, entry_of, lay_out
from flyby.store._eviction cimport allocate
from flyby.store._eviction cimport now_ms as wall_ms
from flyby.store._hash cimport Digest
from flyby.store._index cimport index_find
from flyby.store._inflight cimport fills_insist, fills_sweep, fills_unlock
from flyby.store._layout cimport (
    GONE_PURGED, KEPT, LONGEST_HEAD, LONGEST_KEY, LOOSE, LZ4, MAIN, PACK_FAST, PACK_HIGH, PACK_OFF, PIN_WAYS, SMALL,
    Block, Map, Shard, Worker, add64, block_at, body_of, ends_of, fence, load64, lowest64, pending_at, pins_at,
    set_fresh, set_times, shard_at, shard_of, slot_at, store32, swap32, swap64, worker_at,
)
from flyby.store._pack cimport PIECE, pack
from flyby.store._packing cimport packer_of
from flyby.store._purge cimport Hunt, announce, hunt
from flyby.store._purged cimport freshness_of, purged_hard, purged_soft, stem_name
from flyby.store._queues cimport ends_at
from flyby.store._refresh cimport refreshed, renewed, settle_block
from flyby.store._shard cimport (
    ALWAYS, shard_insist, shard_lock, shard_lookup, shard_outdate, shard_publish, shard_remove, shard_sweep,
    shard_unlock, units_for,
)
from flyby.store._statistics cimport objects_of, statistics_of
from flyby.store._tags cimport BRANCHES, Labels, group_mask, group_name, place_hash
from flyby.store._window cimport readers_report

cdef enum:
    WALKED = 1 << 15  # blocks that a purge of everything frees itself
    SHARE = 8  # an object may take one part in so many of the store

_COMPRESSIONS = {"high": PACK_HIGH, "fast": PACK_FAST, "off": PACK_OFF}


@cython.final
cdef class Store:
    def __init__(self):
        raise TypeError("a store is made by Store.create")

    @classmethod
    def create(cls, size, *, path=None, max_object=None, workers=1, meaning=b"", compression="high", clock=None):
        """A store of `size` bytes in all, for that many workers. Raises `StoreError`.

        With a path, what an earlier process left there is kept if it can be relied on: then everything is found again
        that was stored. `meaning` names how the caller reads keys, heads and flags; what was stored under another one
        is dropped. `compression` is how hard bodies are packed: "high", "fast" or "off"; what is there stays as it is.
        `clock` is the wall clock that objects' times are told by, the machine's if none is given.
        """
        cdef Store store = Store.__new__(Store)
        cdef uint64_t whole = checked_size(size)
        cdef uint64_t largest = whole // SHARE if max_object is None else max_object
        if compression not in _COMPRESSIONS:
            raise StoreError(f"there is no compression {compression!r}: it is one of {', '.join(_COMPRESSIONS)}")
        if path is None:
            store._attachment = attach(anonymous(whole), whole, largest, workers, meaning)
        else:
            store._attachment = from_file(path, whole, largest, workers, meaning)
        store._attachment.m.packing = _COMPRESSIONS[compression]
        if clock is not None and type(clock) is not SystemClock:
            store._attachment._clock = clock
            store._attachment.m.clock = <void*>clock
        store._packer = packer_of(store._attachment)
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
        if worker >= self.workers:
            raise ValueError(f"there are {self.workers} workers")
        memset(pins_at(m, worker), 0, <size_t>m.header.pin_sets * PIN_WAYS * sizeof(uint64_t))
        store32(&worker_at(m, worker).rung, 0)
        fills_sweep(m, worker)
        for number in range(m.header.shards):
            shard_sweep(m, shard_at(m, number), worker)

    def fileno(self):
        """Readable when a fetch that this process follows has moved in another one: then call `dispatch`."""
        return self._attachment.bell()

    def dispatch(self):
        """Call the subscribers of every fetch that has moved."""
        cdef Map* m = &self._attachment.m
        cdef uint64_t* words = pending_at(m, m.worker)
        cdef uint64_t bits
        cdef uint32_t number, fill
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
                    fill = number * 64 + lowest64(bits)
                    bits &= bits - 1
                    if slot_at(m, fill).ring and self._attachment._readers[fill] != NULL:
                        readers_report(self._attachment, fill)  # what was read before it was a window
                    self._attachment.call_watchers(fill)

    def close(self):
        """Use the store no more; views that are out stay good. Who made it comes last: then a file counts as closed."""
        if self._packer.busy():
            self._packer.drop()
        self._attachment.close()

    # ---- objects -----------------------------------------------------------------------------------------------------

    def lookup(self, bytes key, *, bint counted=True):
        """The object of that key, held until it is released; None when there is none.

        It counts as a hit or a miss, unless it is not `counted`; the object is hit in any case.
        """
        cdef Map* m = &self._attachment.m
        cdef Worker* counts
        cdef Block* b
        if not self._attachment.usable or len(key) > LONGEST_KEY:
            return None
        counts = worker_at(m, m.worker)
        b = shard_lookup(m, self._attachment.digest(key, len(key)), key, len(key))
        if b == NULL:
            counts.misses += counted
            return None
        count_hit(m, b)
        self._attachment.tell_work()
        if counted:
            counts.hits += 1
            counts.hit_bytes += b.length
        return entry_of(self._attachment, b)

    def put(
        self, bytes key, bytes head, body, int status, uint32_t flags, int64_t born_ms, int64_t fresh_ms,
        uint32_t swr_s, uint32_t sie_s, *, bint compress=True, tags=(), place=None, since=None, unless_fresh_at=None
    ):
        """Store a whole object; False when there is no room for it. Up to 64 KiB are packed at once, if that pays.

        It bears `tags`, and lies at `place`: how many bytes of its key name its group, and how many its branch there;
        by either it can be purged. `since` is what `mark` told when its content was asked for: False when it was purged
        since. With `unless_fresh_at` it is only stored if there is no object of that key that is fresh at that time.
        """
        cdef Map* m = &self._attachment.m
        cdef const unsigned char[::1] view
        cdef uint64_t length = len(body), began
        cdef uint64_t stored
        cdef Digest digest
        cdef Labels labels
        cdef Block* b = NULL
        cdef bint done = False
        if not self._attachment.usable:
            return False
        began = load64(&m.header.epoch) if since is None else since
        labels.count = 0
        self._attachment.label(&labels, key, tags, place)
        digest = self._attachment.digest(key, len(key))
        if length:
            view = body
        packed = pack(<char*>&view[0], length, m.packing) if compress and 0 < length <= PIECE else None
        stored = length if packed is None else len(packed)
        if len(key) <= LONGEST_KEY and len(head) <= LONGEST_HEAD and length <= self.max_object:
            b = allocate(m, digest.low, units_for(len(key), len(head), stored, labels.count), True)
        if b == NULL:
            worker_at(m, m.worker).refused += 1
            return False
        lay_out(m, b, digest.low, key, head, status, flags, &labels)
        set_times(b, born_ms, fresh_ms, swr_s, sie_s)
        b.length = length
        if packed is not None:
            b.codec = LZ4
            memcpy(body_of(b), <const char*><bytes>packed, stored)
        else:
            if not compress or m.packing != PACK_OFF and length <= PIECE:
                b.codec = KEPT
            if length:
                memcpy(body_of(b), &view[0], length)
        done = shard_publish(m, b, stored, 0, began, ALWAYS if unless_fresh_at is None else unless_fresh_at, NULL)
        settle_block(m, b, done, length)
        self._attachment.tell_work()
        return done

    def refresh(
        self, Entry entry, bytes head, uint32_t flags, int64_t born_ms, int64_t fresh_ms, uint32_t swr_s,
        uint32_t sie_s, *, tags=None
    ):
        """Give the object a new head, times, and tags if given. False if it is not stored any more, or was outdated."""
        return refreshed(self._attachment, entry, head, flags, born_ms, fresh_ms, swr_s, sie_s, tags)

    def renew(self, Entry entry, int64_t born_ms, int64_t fresh_ms, uint32_t swr_s, uint32_t sie_s, *, date=None, at=0):
        """Give the object new times, and change nothing else. False as `refresh`. The entry has the new times, too.

        With `date` the bytes of the head from `at` on are these. Where they are already, and the windows are what they
        were, the object is changed where it lies; else it is refreshed.
        """
        return renewed(self._attachment, entry, born_ms, fresh_ms, swr_s, sie_s, date, at)

    cdef Shard* _locked(self, bytes key, Block** b) noexcept:
        """The shard of that key, locked, and the object there, or NULL; NULL itself when the lock is not to be had."""
        cdef Map* m = &self._attachment.m
        cdef Digest digest = self._attachment.digest(key, len(key))
        cdef Shard* s = shard_of(m, digest.low)
        cdef uint64_t* at
        # Requests of clients come here too: they insist once, not again and again.
        if not (shard_lock(m, s) if m.stands[s.number] else shard_insist(m, s)):
            return NULL
        at = index_find(m, s, digest.low, key, len(key))
        b[0] = block_at(m, s, <uint32_t>at[0]) if at != NULL else NULL
        return s

    def delete(self, bytes key, generation=None):
        """Remove the object of that key (of that generation only, if one is given). True when there was one.

        Without a generation this is a purge of the key's stem, its bytes up to the first NUL: a fetch of such a key
        that is under way is not going to be stored either.
        """
        cdef Map* m = &self._attachment.m
        cdef Shard* s
        cdef Block* b
        cdef bint found
        if not self._attachment.usable or len(key) > LONGEST_KEY:
            return False
        if generation is None:
            self._announce_stem(key)
        s = self._locked(key, &b)
        if s == NULL:
            return False
        found = b != NULL and (generation is None or b.generation == generation)
        if found:
            swap32(&s.dirty, 1)
            shard_remove(m, s, b, GONE_PURGED)
            store32(&s.dirty, 0)
        shard_unlock(m, s)
        return found

    def expire(self, bytes key, now_ms=None):
        """Make the object of that key stale from now on, which is `now_ms` if given. True when there was one."""
        cdef Map* m = &self._attachment.m
        cdef Shard* s
        cdef Block* b
        cdef bint found
        cdef int64_t now = wall_ms(&self._attachment.m) if now_ms is None else now_ms
        if not self._attachment.usable or len(key) > LONGEST_KEY:
            return False
        self._announce_stem(key)
        s = self._locked(key, &b)
        if s == NULL:
            return False
        found = b != NULL
        if found:
            shard_outdate(m, s, b, now)
        shard_unlock(m, s)
        return found

    def retime(self, bytes key, int64_t now_ms, int64_t fresh_ms):
        """Let the object of that key be fresh until then, if it is now. True when it is."""
        cdef Map* m = &self._attachment.m
        cdef Shard* s
        cdef Block* b
        cdef bint found
        if not self._attachment.usable or len(key) > LONGEST_KEY:
            return False
        s = self._locked(key, &b)
        if s == NULL:
            return False
        found = b != NULL and freshness_of(m, b) > now_ms
        if found:
            set_fresh(b, fresh_ms)
            ends_at(s, ends_of(b))
            fence()
            b.generation = add64(&m.header.generation, 1) + 1
        shard_unlock(m, s)
        return found

    # ---- packing -----------------------------------------------------------------------------------------------------

    @property
    def has_work(self):
        """Whether an object waits to be packed, or unpacked because it is hot."""
        return self._packer.busy()

    def on_work(self, callback):
        """Call `callback`, which must only take note, when there is work for `pack_some`, once until that has no more.

        It does not outlive a fork or `join`."""
        self._attachment._on_work = callback
        self._attachment._told = False
        self._attachment.tell_work()

    def pack_some(self):
        """Pack or unpack one slice of at most 64 KiB of what has proved worth it; whether there is more to do."""
        cdef bint more = self._packer.step()
        self._attachment._told = more
        return more

    # ---- purges of many ----------------------------------------------------------------------------------------------

    def mark(self):
        """What has been purged so far: to be remembered when content is asked for that may be stored later."""
        return load64(&self._attachment.m.header.epoch)

    cdef void _announce_stem(self, bytes key) noexcept:
        cdef uint64_t name = stem_name(&self._attachment.m, key, len(key))
        announce(&self._attachment.m, &name, 1)

    cdef uint64_t _hunt(self, Hunt* h) except? 0:
        h.visited = 0
        h.found = 0
        if not hunt(&self._attachment.m, h):
            raise StoreError("a part of the cache was not to be had, and is not purged: a process that uses it stands")
        return h.found

    def purge_tag(self, bytes tag, soft=False, now_ms=None):
        """Remove what bears the tag, or make it stale from `now_ms` on; returns how many objects that were.

        In time proportional to that number, and to how many other tags share its list. Raises `StoreError` when a part
        of the store could not be had.
        """
        return self.purge_tags((tag,), soft, now_ms)[0]

    def purge_tags(self, tags, soft=False, now_ms=None):
        """The same for several tags at once: how many objects for each, of which none is counted twice."""
        cdef Hunt h
        cdef Labels labels
        cdef int number
        labels.count = 0
        self._attachment.label(&labels, b"", tags, None)
        if not self._attachment.usable:
            return [0] * labels.count
        memset(&h, 0, sizeof(h))
        h.mask = ~<uint64_t>0xFF
        h.lists = 1
        h.soft = soft
        h.now_ms = wall_ms(&self._attachment.m) if now_ms is None else now_ms
        announce(&self._attachment.m, labels.hashes, labels.count)
        h.newest = load64(&self._attachment.m.header.generation)
        counts = []
        for number in range(labels.count):
            h.name = labels.hashes[number]
            counts.append(self._hunt(&h))
        return counts

    def purge_prefix(self, bytes prefix, place, soft=False, now_ms=None, bytes after=b""):
        """Remove, or make stale, the objects whose keys begin so, among those of a place; returns how many.

        `place` tells how much of the prefix names the group, and how much the branch: 0 for all branches. With `after`,
        the prefix must be followed by one of these bytes or by nothing. In time proportional to the number of objects
        of the branch, or of the group. Raises `StoreError` as `purge_tag`.
        """
        cdef Hunt h
        cdef Py_ssize_t group, branch
        cdef uint64_t name
        group, branch = place
        if not 0 <= group <= len(prefix) or not (branch == 0 or group <= branch <= len(prefix)):
            raise ValueError(f"no place: {group} and {branch} of {len(prefix)} bytes")
        if not self._attachment.usable:
            return 0
        memset(&h, 0, sizeof(h))
        h.name = place_hash(&self._attachment.m, prefix, group, branch if branch else group)
        h.mask = ~<uint64_t>0xFF
        h.lists = 1
        name = h.name
        if not branch:
            name = group_name(h.name)
            h.name = name ^ 1
            h.mask = group_mask()
            h.lists = BRANCHES
        h.prefix = prefix
        h.prefix_length = len(prefix)
        h.after = after
        h.after_length = len(after)
        h.soft = soft
        h.now_ms = wall_ms(&self._attachment.m) if now_ms is None else now_ms
        announce(&self._attachment.m, &name, 1)
        h.newest = load64(&self._attachment.m.header.generation)
        return self._hunt(&h)

    def clear(self, soft=False, now_ms=None):
        """Remove everything, or make all of it stale, in constant time; returns how many objects that were.

        Nothing is stored that was asked for before. The memory of a few objects is free at once, that of more when
        their shard is written to.
        """
        cdef Map* m = &self._attachment.m
        cdef Shard* s
        cdef uint64_t count, blocks, walked = 0
        cdef uint32_t number
        if not self._attachment.usable:
            return 0
        count = objects_of(m)
        worker_at(m, m.worker).purges += 1
        worker_at(m, m.worker).outdated += count if soft else 0
        if not soft:
            purged_hard(m)
            for number in range(m.header.shards):
                s = shard_at(m, number)
                blocks = s.queues[SMALL].count + s.queues[MAIN].count + s.queues[LOOSE].count
                if walked + blocks > WALKED or not shard_lock(m, s):
                    break
                shard_unlock(m, s)
                walked += blocks
            return count
        if not fills_insist(m):
            raise StoreError("the cache was not to be had, and nothing is purged: a process that uses it is stopped")
        purged_soft(m, wall_ms(&self._attachment.m) if now_ms is None else now_ms)
        fills_unlock(m)
        return count

    # ---- fetches under way -------------------------------------------------------------------------------------------

    def claim(self, bytes key, since=None):
        """Join the fetch of that name, or begin one as its owner; None when no more can be begun.

        `since` is what `mark` told when the origin was asked, if that was before. A fetch that is known to have been
        purged since it began is not joined.

        Between a lookup that found nothing and a claim that became the owner, another owner may have finished: who must
        not fetch twice looks again.
        """
        cdef uint64_t began = load64(&self._attachment.m.header.epoch) if since is None else since
        if not self._attachment.usable or len(key) > LONGEST_KEY:
            return None
        return fill_claimed(self._attachment, key, len(key), self._attachment.digest(key, len(key)), began)

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
