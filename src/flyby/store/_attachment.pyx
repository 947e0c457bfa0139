# cython: language_level=3
"""One process's hold on the mapping: its worker area, its bells, and who waits for which fetch.

`attach` lays a new store out, `resume` takes over one that was kept. A process that forks leaves the child an
attachment that is not usable until it joins as a worker: two processes must never write one worker area. Whatever
belonged to the former process (entries, fills) is inert in the child.
"""

import logging
import os
import secrets
import weakref

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memset

from flyby.errors import StoreError
from flyby.store.cache_file import CacheFile, write_closed, write_open

from flyby.store._arena cimport arena_after, arena_first
from flyby.store._check cimport verify_shard
from flyby.store._guard cimport guard_format
from flyby.store._hash cimport Digest, siphash
from flyby.store._inflight cimport fills_format, fills_leave, fills_ring
from flyby.store._layout cimport (
    DOOMED, END, FILLING, LAYOUT_VERSION, LOOSE, PAGE, PIN_WAYS, UNIT, Block, FillSlot, FillTable, Header,
    Map, Shard, Worker, load32, pending_at, shard_at, slot_at, store32, swap32, worker_at,
)
from flyby.store._shard cimport shard_format, shard_lock, shard_reap, shard_unlock
from flyby.store._statistics cimport objects_of
from flyby.store._tags cimport BRANCHES, MOST, Labels, place_hash, tag_hash

MAX_WORKERS = 63  # a word has a bit for each, and one for the process that made the store
MAX_SHARDS = 64

logger = logging.getLogger("flyby.store")

_attachments = weakref.WeakSet()


def _after_fork():
    for attachment in _attachments:
        (<Attachment>attachment).fork()


os.register_at_fork(after_in_child=_after_fork)


@cython.no_gc_clear  # the mapping must outlast every view of it, also when the collector takes all of them at once
cdef class Attachment:
    def __cinit__(self):
        self._watchers = {}
        self._bells = []

    def __dealloc__(self):
        free(self._counts)
        free(self._readers)
        if self.m.base != NULL:
            PyBuffer_Release(&self._buffer)

    cdef Digest digest(self, const char* key, size_t length) noexcept:
        return siphash(self.m.header.key0, self.m.header.key1, <const unsigned char*>key, length)

    cdef int label(self, Labels* to, bytes key, object tags, object place) except -1:
        """Add to the labels those of an object of that key: its place, if it has one, and its tags."""
        cdef bytes tag
        cdef Py_ssize_t group, branch
        if place is not None:
            group, branch = place
            if not 0 <= group <= branch <= len(key):
                raise ValueError(f"no place: {group} and {branch} of {len(key)} bytes")
            if to.count < MOST:
                to.hashes[to.count] = place_hash(&self.m, key, group, branch)
            to.count += 1
        for tag in tags:
            if to.count < MOST:
                to.hashes[to.count] = tag_hash(&self.m, tag, len(tag))
            to.count += 1
        if to.count > MOST:
            raise ValueError(f"an object has at most {MOST} tags with its place, not {to.count}")
        return 0

    def take_area(self, uint32_t area):
        """Become the process that writes this worker area."""
        self.m.worker = area
        memset(self._counts, 0, self.m.header.fill_slots * sizeof(uint32_t))
        memset(self._readers, 0, self.m.header.fill_slots * sizeof(void*))
        self._watchers.clear()
        self._owing = False
        self._on_work = None
        self._told = False
        self.m.candidate_count = 0
        self.serial += 1
        self.usable = True

    def close(self):
        """Use the store no more. Views that are out keep the memory; the last one gives it back."""
        if self._bells:
            self.usable = False
            self.serial += 1
            self._watchers.clear()
            for fd in self._bells:
                os.close(fd)
            self._bells = []
            if self._maker == os.getpid():
                write_closed(self._mapping)

    def bell(self):
        return self._bells[self.m.worker]

    cdef int fork(self) except -1:
        self.usable = False
        self.serial += 1
        self._watchers.clear()
        return 0

    # ---- fills that this process has open ----------------------------------------------------------------------------

    cdef void enter(self, uint32_t number) noexcept:
        self._counts[number] += 1

    cdef void leave(self, uint32_t number) noexcept:
        self._counts[number] -= 1
        if not self._counts[number] and not fills_leave(&self.m, number):
            self._owing = True

    cdef void settle(self) noexcept:
        """Leave the slots that could not be left before."""
        cdef uint32_t number
        if not self._owing:
            return
        self._owing = False
        for number in range(self.m.header.fill_slots):
            if not self._counts[number] and slot_at(&self.m, number).holders >> self.m.worker & 1:
                if not fills_leave(&self.m, number):
                    self._owing = True
                    return

    cdef int watch(self, uint32_t number, object callback) except -1:
        self._watchers.setdefault(number, []).append(callback)
        return 0

    cdef int unwatch(self, uint32_t number, object callback) except -1:
        cdef list callbacks = self._watchers.get(number)
        if callbacks is not None and callback in callbacks:
            callbacks.remove(callback)
            if not callbacks:
                del self._watchers[number]
        return 0

    cdef void tell_work(self) noexcept:
        """Call who wants to know that there is work, once until it has been done."""
        if self.m.candidate_count and not self._told and self._on_work is not None:
            self._told = True
            call(self._on_work)

    cdef void moved(self, FillSlot* slot) noexcept:
        """A slot of ours has moved: ring the other workers, and call who waits here."""
        cdef uint32_t number = <uint32_t>((<char*>slot - <char*>slot_at(&self.m, 0)) // sizeof(FillSlot))
        fills_ring(&self.m, slot, False)
        self.call_watchers(number)

    cdef void call_watchers(self, uint32_t number) noexcept:
        callbacks = self._watchers.get(number)
        if callbacks is None:
            return
        for callback in tuple(callbacks):
            call(callback)


cdef void call(object callback) noexcept:
    """One reader's trouble is neither the owner's nor the next reader's: it goes to sys.unraisablehook."""
    callback()


cdef uint64_t aligned(uint64_t value, uint64_t to) noexcept:
    return (value + to - 1) // to * to


cdef uint32_t power_below(uint64_t value) noexcept:
    cdef uint32_t power = 1
    while <uint64_t>power * 2 <= value:
        power *= 2
    return power


cdef uint64_t divided(Header* h) noexcept:
    """How many bytes each of so many shards has, with a list of tags for each KiB, and a quarter as many of places."""
    h.tag_lists = power_below(max(h.size // 1024 // h.shards, 4 * BRANCHES))
    h.place_lists = h.tag_lists // 4
    h.at_shards = aligned(h.at_tags + <uint64_t>h.shards * (h.tag_lists + h.place_lists) * sizeof(uint32_t), PAGE)
    return (h.size - h.at_shards) // h.shards if h.at_shards < h.size else 0


cdef int plan(Header* h, uint64_t size, uint64_t max_object, uint32_t workers) except -1:
    """Divide the mapping. A shard is large enough for the largest object and half as much again."""
    cdef uint64_t each, words
    h.size = size
    h.workers = workers + 1
    h.fill_slots = power_below(min(max(size >> 14, 64), 4096))
    h.fill_buckets = h.fill_slots
    h.pin_sets = power_below(min(max(size >> 12, 512), 16384)) // PIN_WAYS
    words = aligned(h.fill_slots // 64, 8) + h.fill_slots + <uint64_t>h.pin_sets * PIN_WAYS
    h.at_workers = PAGE
    h.worker_stride = aligned(256 + words * 8, 64)
    h.at_fills = aligned(h.at_workers + h.workers * h.worker_stride, PAGE)
    h.at_purged = aligned(h.at_fills + 128 + h.fill_buckets * 4 + h.fill_slots * <uint64_t>sizeof(FillSlot), PAGE)
    h.purged_sets = power_below(min(max(size >> 16, 64), 4096))
    h.at_tags = h.at_purged + <uint64_t>h.purged_sets * 64
    h.shards = MAX_SHARDS
    each = divided(h)
    while h.shards > 1 and each < max(max_object // 2 * 3, <uint64_t>256 * 1024):
        h.shards //= 2
        each = divided(h)
    if h.at_shards + size // 2 > size:
        raise StoreError(f"a cache of {size} bytes is too small for {workers} workers")
    # Places in an arena have 32 bits.
    while each > <uint64_t>1 << 34:
        h.shards *= 2
        each = divided(h)
    if h.shards > MAX_SHARDS:
        raise StoreError(f"a cache of {size} bytes is too large")
    h.shard_stride = each // PAGE * PAGE
    h.arena_units = <uint32_t>((h.shard_stride - PAGE) // UNIT)
    h.max_object = min(max_object, <uint64_t>h.arena_units * UNIT // 3 * 2)
    return 0


cdef uint64_t magic() noexcept:
    return 0x65726F7473796C66  # "flystore"


cdef uint32_t sizes_of_structs() noexcept:
    return sizeof(Header) << 20 ^ sizeof(Shard) << 10 ^ sizeof(Block) ^ sizeof(FillSlot) << 5 ^ sizeof(Worker) << 15


cdef size_t fixed_size() noexcept:
    """How many bytes of a header never change."""
    cdef Header header
    return <char*>&header.apart - <char*>&header


cdef Attachment opened(object mapping):
    cdef Attachment attachment = Attachment.__new__(Attachment)
    PyObject_GetBuffer(mapping, &attachment._buffer, PyBUF_SIMPLE | PyBUF_WRITABLE)
    attachment._mapping = mapping
    attachment.m.base = <char*>attachment._buffer.buf
    attachment.m.header = <Header*>attachment.m.base
    return attachment


cdef int open_up(Attachment attachment, bytes meaning) except -1:
    write_open(attachment._mapping, PyBytes_FromStringAndSize(attachment.m.base, fixed_size()), meaning)
    return 0


cdef int begin(Attachment attachment) except -1:
    """Take the maker's area, once everything else stands."""
    cdef Map* m = &attachment.m
    cdef uint32_t number
    attachment._counts = <uint32_t*>calloc(m.header.fill_slots, sizeof(uint32_t))
    attachment._readers = <void**>calloc(m.header.fill_slots, sizeof(void*))
    if attachment._counts == NULL or attachment._readers == NULL:
        raise MemoryError
    for number in range(m.header.workers):
        attachment._bells.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        m.bells[number] = attachment._bells[number]
    attachment._maker = os.getpid()
    attachment.take_area(m.header.workers - 1)
    _attachments.add(attachment)
    return 0


cdef int check_locks(int failed) except -1:
    if failed:
        raise StoreError(f"this system has no robust shared locks: {os.strerror(failed)}")
    return 0


cdef Attachment attach(object mapping, uint64_t size, uint64_t max_object, uint32_t workers, bytes meaning):
    """Lay out a new store in a mapping of zeros."""
    cdef Attachment attachment = opened(mapping)
    cdef Map* m = &attachment.m
    cdef Header* h = m.header
    cdef uint32_t number
    cdef int failed
    if not 1 <= workers <= MAX_WORKERS:
        raise StoreError(f"a store has from 1 to {MAX_WORKERS} workers, not {workers}")
    h.version = LAYOUT_VERSION
    h.sizes = sizes_of_structs()
    h.key0 = int.from_bytes(secrets.token_bytes(8), "little")
    h.key1 = int.from_bytes(secrets.token_bytes(8), "little")
    h.nonce = int.from_bytes(secrets.token_bytes(8), "little")
    plan(h, size, max_object, workers)
    m.fills = <FillTable*>(m.base + h.at_fills)
    m.worker = workers
    failed = guard_format(&m.fills.lock)
    fills_format(m)
    for number in range(h.shards):
        failed = failed or shard_format(m, number)
    check_locks(failed)
    h.magic = magic()  # last: what has no magic is no store
    open_up(attachment, meaning)
    begin(attachment)
    return attachment


# ---- a store that was here before --------------------------------------------------------------------------------


class Unfit(Exception):
    """What another process left cannot be kept; the message says why."""


cdef Attachment from_file(str path, uint64_t size, uint64_t max_object, uint32_t workers, bytes meaning):
    """The store that the file keeps, or a new one in it; one line in the log says which and why."""
    file = CacheFile(path, size)
    try:
        doubt = file.doubt(meaning, fixed_size())
        if doubt is None:
            try:
                attachment = resume(file.kept(), size, max_object, workers, meaning, file.same_boot())
            except Unfit as unfit:
                doubt = str(unfit)
            else:
                logger.info("the cache in %s is kept, with %d objects", path, objects_of(&attachment.m))
                return attachment
        if doubt:
            logger.warning("the cache in %s is dropped: %s", path, doubt)
        return attach(file.renewed(), size, max_object, workers, meaning)
    finally:
        file.close()


cdef Attachment resume(
    object mapping, uint64_t size, uint64_t max_object, uint32_t workers, bytes meaning, bint recover
):
    """Take over the store of a process that is gone; raises `Unfit` at the least doubt. Nobody else maps it.

    The geometry is derived again and must be the same. What belonged to processes (locks, worker areas but for their
    counts, fetches under way, pins) begins anew; a shard that was left half changed is recovered if that may be
    (`recover`: its memory is as the dead left it). Then everything is read once, and must be in order.
    """
    cdef Attachment attachment = opened(mapping)
    cdef Map* m = &attachment.m
    cdef Header* h = m.header
    cdef Header fit
    cdef uint32_t number
    cdef Shard* s
    cdef list problems = []
    if h.magic != magic() or h.version != LAYOUT_VERSION or h.sizes != sizes_of_structs():
        raise Unfit("another version of flyby made it")
    memset(&fit, 0, sizeof(fit))
    plan(&fit, size, max_object, workers)
    fit.magic = h.magic
    fit.version = h.version
    fit.sizes = h.sizes
    fit.key0 = h.key0
    fit.key1 = h.key1
    fit.nonce = h.nonce
    if memcmp(h, &fit, fixed_size()):
        raise Unfit("it was made for another number of workers, or another cache.max_object")
    m.fills = <FillTable*>(m.base + h.at_fills)
    m.worker = workers
    open_up(attachment, meaning)  # from here on it changes
    forget_processes(m)
    check_locks(guard_format(&m.fills.lock))
    for number in range(h.shards):
        s = shard_at(m, number)
        check_locks(guard_format(&s.lock))
        if s.number != number or load32(&s.dirty) and not recover:
            raise Unfit("it was closed half changed")
        if not shard_lock(m, s):
            raise Unfit("a part of it cannot be recovered")
        try:
            verify_shard(m, s, problems)
            if problems:
                raise Unfit(f"it is damaged ({problems[0]})")
            adopt(m, s)
        finally:
            shard_unlock(m, s)
    begin(attachment)
    return attachment


cdef void forget_processes(Map* m) noexcept:
    """No worker lives, no fetch is under way, nobody reads anything."""
    cdef uint32_t number
    cdef uint64_t recoveries = m.fills.recoveries
    for number in range(m.header.workers):
        worker_at(m, number).rung = 0
        memset(pending_at(m, number), 0, m.header.worker_stride - (<char*>pending_at(m, 0) - <char*>worker_at(m, 0)))
    memset(m.fills, 0, m.header.at_purged - m.header.at_fills)
    m.fills.recoveries = <uint32_t>recoveries
    fills_format(m)


cdef void adopt(Map* m, Shard* s) noexcept:
    """Free what was being filled, or only kept for readers that are gone."""
    cdef Block* b = arena_first(m, s)
    swap32(&s.dirty, 1)
    while b.state != END:
        b.held = 0
        if b.state == FILLING:
            b.state = DOOMED
        b = arena_after(b)
    shard_reap(m, s, s.queues[LOOSE].count)
    store32(&s.dirty, 0)
