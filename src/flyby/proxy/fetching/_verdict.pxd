"""The map of what a plain response's head says about its storing, and of what the client is told of it."""

from flyby.log._lines cimport Text
from flyby.wire._names cimport NameTable
from flyby.wire._plain cimport Plain, PlainLimits


cdef class Verdict:
    cdef readonly object reason
    cdef bytes _before            # our member of Cache-Status, up to the status that it tells
    cdef bytes _after
    cdef bytes _column            # of a console line
    cdef bytes _tail
    cdef object count             # a metrics.Count
    cdef Text column
    cdef Text tail


cdef class Verdicts:
    cdef NameTable _names
    cdef bint _usable
    cdef PlainLimits _limits
    cdef bint _guard_cookies
    cdef list _values             # of Cache-Control, the last sixteen that were new
    cdef int _meanings[16]
    cdef int _next                # which of them is forgotten next
    cdef Verdict _no_store
    cdef Verdict _private
    cdef Verdict _set_cookie
    cdef long long _second        # that `_date` tells
    cdef bytes _date

    cdef bint glance(self, const unsigned char *base, Py_ssize_t size, Plain *to) noexcept
    cdef Verdict judge(self, const unsigned char *base, const Plain *seen)
    cdef int _meaning(self, const unsigned char *value, Py_ssize_t length) except -1
    cdef Py_ssize_t put_response(
        self, char *start, const unsigned char *base, const Plain *seen, Verdict verdict, long long now_ms
    ) except -1
