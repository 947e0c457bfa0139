# cython: language_level=3
"""One process's hold on the mapping."""

from libc.stdint cimport uint32_t, uint64_t

from flyby.store._hash cimport Digest
from flyby.store._layout cimport FillSlot, Map
from flyby.store._tags cimport Labels


cdef class Attachment:
    cdef Map m
    cdef object _mapping  # the mmap
    cdef object __weakref__
    cdef Py_buffer _buffer  # keeps the mapping mapped for as long as anybody holds this object
    cdef int _maker  # the process that made or resumed the store: its close is the store's
    cdef object _clock  # that the map refers to
    cdef list _bells  # eventfds, one a worker area
    cdef dict _watchers  # slot number -> list of callbacks
    cdef uint32_t* _counts  # how many Fills of each slot this process has open
    cdef void** _readers  # of each slot the first Reader here (`_window`)
    cdef bint _owing  # a slot could not be left because the table was busy
    cdef object _on_work  # called when there is something to be packed or unpacked
    cdef bint _told
    cdef readonly bint usable  # False after close(), and in a forked child until it joins
    cdef readonly uint32_t serial  # of the process's roles: what an earlier one left behind is inert

    cdef Digest digest(self, const char* key, size_t length) noexcept
    cdef int label(self, Labels* to, bytes key, object tags, object place) except -1
    cdef void settle(self) noexcept
    cdef int watch(self, uint32_t number, object callback) except -1
    cdef int unwatch(self, uint32_t number, object callback) except -1
    cdef void tell_work(self) noexcept
    cdef void moved(self, FillSlot* slot) noexcept
    cdef void call_watchers(self, uint32_t number) noexcept
    cdef void enter(self, uint32_t number) noexcept
    cdef void leave(self, uint32_t number) noexcept
    cdef int fork(self) except -1


cdef Attachment attach(object mapping, uint64_t size, uint64_t max_object, uint32_t workers, bytes meaning)
cdef Attachment from_file(str path, uint64_t size, uint64_t max_object, uint32_t workers, bytes meaning)
cdef size_t fixed_size() noexcept
cdef uint32_t sizes_of_structs() noexcept
cdef uint64_t magic() noexcept
