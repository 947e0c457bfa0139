# cython: language_level=3
"""The map of a fetch: what becomes of its response, and who wants it."""

from flyby.proxy.fetching._streaming cimport Streaming


cdef class Fetch(Streaming):
    cdef object __weakref__
    cdef object _on_switch           # called with a 101
    cdef readonly long long response_ms  # when the response's head had come, wall time (RFC 9111 4.2.3)
    cdef object _unstorable          # the Reason why the store did not take the response

    cpdef fail(self, error)
    cdef int _decide(self) except -1
    cdef bint _completes(self) except -1
    cdef int _forward(self) except -1
    cdef int _begin_stored(self, plan) except -1
    cdef int _drop_content(self) except -1
    cdef int _to_client_with(self, bytes status) except -1
    cdef int _freshen(self) except -1
    cdef int _again(self) except -1
    cdef int _stand_in(self) except -1
    cdef bint _store(self, plan) except -1
    cdef int _pass(self, reason, bint offered) except -1
    cdef int _mark(self, reason) except -1
