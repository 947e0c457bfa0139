# cython: language_level=3
"""The map of a request's content on its way."""


cdef class Content:
    cdef list _parts
    cdef readonly Py_ssize_t size        # bytes that have come and were not taken
    cdef readonly long long received     # bytes in all
    cdef readonly bint finished          # all of it has come
    cdef readonly object error           # the WireError that it ended with
    cdef readonly object trailers        # Fields behind it, or None
    cdef public object on_change         # called when bytes, the end or a fault have come; or None
    cdef public object on_taken          # called when bytes were taken; or None

    cdef int put(self, bytes part) except -1
    cpdef finish(self, trailers)
    cpdef fail(self, error)
    cpdef bytes take(self)
    cdef int _changed(self) except -1
