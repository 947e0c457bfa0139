# cython: language_level=3
"""A look at a store from outside: what it counts is read from its file, and nothing else.

The processes at work in it notice nothing: no lock is taken, no area written, no bell rung. What is looked at is a
cache file, or the memory of a process through its /proc/PID/fd. Root looks at other users' stores, so nothing of it is
mapped: a page that its owner cuts off meanwhile would kill us. Each look copies the areas that count, one behind the
other, and believes of them only numbers; where they lie is told by the header, which is believed after its digest and
the sums of `fits`, once, from a copy.

    copied   │ header (one page) │ worker areas │ fill table │ fill slots │ shards' first bytes │
"""

import os
import stat

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy
from posix.unistd cimport close

from flyby.errors import StoreError
from flyby.store.cache_file import digest_of, read_record

from flyby.store._attachment cimport fixed_size, magic, sizes_of_structs
from flyby.store._layout cimport LAYOUT_VERSION, PAGE, FillSlot, FillTable, Header, Shard, Worker
from flyby.store._statistics cimport statistics_of

# No store has more, see `_attachment.plan`.
cdef uint32_t MOST_WORKERS = 64
cdef uint32_t MOST_SHARDS = 64
cdef uint32_t MOST_SLOTS = 4096


cdef class StoreView:
    def __cinit__(self):
        self._fd = -1

    def __init__(self):
        raise TypeError("a view is made by StoreView.open")

    def __dealloc__(self):
        if self._fd >= 0:
            close(self._fd)

    @classmethod
    def open(cls, str path):
        """Raises `StoreError` when no store lies there, or one that this version cannot read."""
        cdef StoreView view = StoreView.__new__(StoreView)
        view.path = path
        try:
            view._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
            found = os.fstat(view._fd)
            if not stat.S_ISREG(found.st_mode):
                raise StoreError(f"{path} is no cache of flyby", os.EX_DATAERR)
            page = os.pread(view._fd, PAGE, 0)
        except OSError as error:
            raise StoreError(f"cannot look into {path}: {error.strerror}", os.EX_NOINPUT) from error
        check_header(path, page, found.st_size)
        memcpy(&view._there, <const char*>page, sizeof(Header))
        view._make_room()
        return view

    cdef int _make_room(self) except -1:
        """Lay the copy out, and describe it by a header of its own."""
        cdef Header* here = &self._here
        here[0] = self._there
        here.at_workers = PAGE
        here.worker_stride = sizeof(Worker)
        here.at_fills = here.at_workers + here.workers * here.worker_stride
        here.fill_buckets = 0
        here.at_shards = here.at_fills + 128 + here.fill_slots * <uint64_t>sizeof(FillSlot)
        here.shard_stride = sizeof(Shard)
        self._copy = bytearray(here.at_shards + here.shards * here.shard_stride)
        self.m.base = self._copy
        self.m.header = <Header*>self.m.base
        self.m.fills = <FillTable*>(self.m.base + here.at_fills)
        return 0

    cdef int _read(self, uint64_t there, uint64_t here, uint64_t size) except -1:
        with memoryview(self._copy) as copy:
            try:
                found = os.preadv(self._fd, [copy[here : here + size]], there)
            except OSError as error:
                raise StoreError(f"cannot look into {self.path}: {error.strerror}", os.EX_IOERR) from error
        if found != size:
            raise StoreError(f"the cache in {self.path} was cut short", os.EX_DATAERR)
        return 0

    @property
    def record(self):
        """By whom the store is used, or that it was closed, as of now."""
        self._read(0, 0, PAGE)
        record = read_record(bytes(self._copy[:PAGE]))
        if record is None:
            raise StoreError(f"the cache in {self.path} is damaged", os.EX_DATAERR)
        return record

    def statistics(self):
        """Counts and sizes, as `Store.statistics`."""
        cdef Header* there = &self._there
        cdef Header* here = &self._here
        cdef uint32_t number
        self._read(0, 0, PAGE)
        memcpy(self.m.base, here, fixed_size())
        for number in range(here.workers):
            self._read(there.at_workers + number * there.worker_stride, here.at_workers + number * here.worker_stride,
                       sizeof(Worker))
        self._read(there.at_fills, here.at_fills, sizeof(FillTable))
        self._read(there.at_fills + 128 + <uint64_t>there.fill_buckets * 4, here.at_fills + 128,
                   here.fill_slots * <uint64_t>sizeof(FillSlot))
        for number in range(here.shards):
            self._read(there.at_shards + number * there.shard_stride, here.at_shards + number * here.shard_stride,
                       sizeof(Shard))
        return statistics_of(&self.m)


cdef int check_header(str path, bytes page, long long size) except -1:
    cdef Header h
    record = read_record(page)
    if record is None:
        raise StoreError(f"{path} is no cache of flyby", os.EX_DATAERR)
    memcpy(&h, <const char*>page, sizeof(Header))
    if h.magic != magic() or h.version != LAYOUT_VERSION or h.sizes != sizes_of_structs():
        raise StoreError(f"the cache in {path} is of another version of flyby", os.EX_DATAERR)
    if record.digest != digest_of(page[:fixed_size()]) or h.size != <unsigned long long>size or not fits(&h):
        raise StoreError(f"the cache in {path} is damaged", os.EX_DATAERR)
    return 0


cdef bint fits(const Header* h) noexcept:
    """Whether all that is looked at lies within the file: anybody can make a digest of his own."""
    cdef uint64_t slots = h.at_fills + 128 + <uint64_t>h.fill_buckets * 4
    return (
        h.workers <= MOST_WORKERS and h.shards <= MOST_SHARDS and h.fill_slots <= MOST_SLOTS
        and h.worker_stride >= sizeof(Worker) and holds(h, h.at_workers, h.workers, h.worker_stride)
        and h.at_fills <= h.size and holds(h, slots, h.fill_slots, sizeof(FillSlot))
        and h.shard_stride >= sizeof(Shard) and holds(h, h.at_shards, h.shards, h.shard_stride)
    )


cdef bint holds(const Header* h, uint64_t at, uint64_t count, uint64_t each) noexcept:
    return at <= h.size and count <= (h.size - at) // each
