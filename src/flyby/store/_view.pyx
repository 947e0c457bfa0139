# cython: language_level=3
"""A look at a store from outside: its memory mapped to be read, and nothing else.

The processes at work in it notice nothing: no lock is taken, no area written, no bell rung. What is looked at is a
cache file, or the memory of a process through its /proc/PID/fd. The header is believed only after its digest.
"""

import mmap
import os
import stat

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from flyby.errors import StoreError
from flyby.store.cache_file import digest_of, read_record

from flyby.store._attachment cimport fixed_size, magic, sizes_of_structs
from flyby.store._layout cimport LAYOUT_VERSION, FillSlot, FillTable, Header, Shard, Worker
from flyby.store._statistics cimport statistics_of


cdef class StoreView:
    def __init__(self):
        raise TypeError("a view is made by StoreView.open")

    def __dealloc__(self):
        if self.m.base != NULL:
            PyBuffer_Release(&self._buffer)

    @classmethod
    def open(cls, str path):
        """Raises `StoreError` when no store lies there, or one that this version cannot read."""
        cdef StoreView view = StoreView.__new__(StoreView)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise StoreError(f"cannot look into {path}: {error.strerror}", os.EX_NOINPUT) from error
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise StoreError(f"{path} is no cache of flyby", os.EX_DATAERR)
            check_header(path, os.pread(fd, mmap.PAGESIZE, 0), found.st_size)
            view._mapping = mmap.mmap(fd, found.st_size, mmap.MAP_SHARED, mmap.PROT_READ)
        except OSError as error:
            raise StoreError(f"cannot look into {path}: {error.strerror}", os.EX_NOINPUT) from error
        finally:
            os.close(fd)
        PyObject_GetBuffer(view._mapping, &view._buffer, PyBUF_SIMPLE)
        view.m.base = <char*>view._buffer.buf
        view.m.header = <Header*>view.m.base
        view.m.fills = <FillTable*>(view.m.base + view.m.header.at_fills)
        view.path = path
        return view

    @property
    def record(self):
        """By whom the store is used, or that it was closed, as of now."""
        return read_record(self._mapping[:mmap.PAGESIZE])

    def statistics(self):
        """Counts and sizes, as `Store.statistics`."""
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
    """Whether all that is looked at lies within the mapping: anybody can make a digest of his own."""
    cdef uint64_t slots = h.at_fills + 128 + <uint64_t>h.fill_buckets * 4
    return (
        h.worker_stride >= sizeof(Worker) and holds(h, h.at_workers, h.workers, h.worker_stride)
        and h.at_fills <= h.size and holds(h, slots, h.fill_slots, sizeof(FillSlot))
        and h.shard_stride >= sizeof(Shard) and holds(h, h.at_shards, h.shards, h.shard_stride)
    )


cdef bint holds(const Header* h, uint64_t at, uint64_t count, uint64_t each) noexcept:
    return at <= h.size and count <= (h.size - at) // each
