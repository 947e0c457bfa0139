# cython: language_level=3
"""A look at a store from outside: its memory mapped to be read, and nothing else.

The processes at work in it notice nothing: no lock is taken, no area written, no bell rung. What is looked at is a
cache file, or the memory of a process through its /proc/PID/fd. The header is believed only after its digest.
"""

import mmap
import os
import stat

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memcpy

from flyby.errors import StoreError
from flyby.store.cache_file import digest_of, read_record

from flyby.store._attachment cimport fixed_size, magic, sizes_of_structs
from flyby.store._layout cimport LAYOUT_VERSION, FillTable, Header
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
            check_header(path, os.pread(fd, mmap.PAGESIZE, 0), found.st_size if stat.S_ISREG(found.st_mode) else -1)
            view._mapping = mmap.mmap(fd, found.st_size, mmap.MAP_SHARED, mmap.PROT_READ)
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
    if record.digest != digest_of(page[:fixed_size()]) or h.size != <unsigned long long>size:
        raise StoreError(f"the cache in {path} is damaged", os.EX_DATAERR)
    return 0
