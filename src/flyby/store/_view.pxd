# cython: language_level=3
"""A look at a store from outside."""

from libc.stdint cimport uint64_t

from flyby.store._layout cimport Header, Map


cdef class StoreView:
    cdef Map m                 # of the copy
    cdef int _fd
    cdef bytearray _copy       # of what is counted; never resized
    cdef Header _there         # what lies where in the file, as it was at the opening
    cdef Header _here          # and in the copy
    cdef readonly str path

    cdef int _make_room(self) except -1
    cdef int _read(self, uint64_t there, uint64_t here, uint64_t size) except -1
