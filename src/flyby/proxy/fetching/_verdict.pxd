# cython: language_level=3
"""The map of what a plain response's head says about its storing, and of what the client is told of it."""

from libc.stdint cimport int64_t, uint32_t

from flyby.log._lines cimport Text
from flyby.metrics._page cimport Counter, Metrics
from flyby.wire._head cimport ResponseHead
from flyby.wire._names cimport NameTable
from flyby.wire._plain cimport Plain, PlainLimits

cdef enum Asking:   # what of a request decides with the response
    WITH_COOKIE = 1
    WITH_AUTHORIZATION = 2

cdef enum Noted:  # in the order of `NOTED_NAMES`
    DATE = 0
    CONTROL = 1
    COOKIE = 2
    ETAG = 3
    MODIFIED = 4
    TYPE = 5
    ENCODING = 6
    VARY = 7
    REPORT = 8   # the first of the fields that are passed on, but not stored


cdef class Words:
    cdef readonly object outcome
    cdef readonly object reason
    cdef bytes member             # our member of Cache-Status
    cdef bytes before             # a Via line and that field, up to the status that it tells
    cdef bytes after
    cdef bytes _column            # of a console line
    cdef bytes _tail
    cdef readonly Counter count
    cdef Text column
    cdef Text tail


cdef class Verdict:
    cdef readonly object reason   # why the response is not stored; None when it is
    cdef object template          # policy's Template of one that is stored
    cdef bint packable            # its content may be worth packing
    cdef dict _words              # (why it was asked for, whether it was offered) -> Words
    # Its times, remembered for the responses of one second with one Date.
    cdef int64_t _second
    cdef bytes _date
    cdef int64_t age_ms           # when it came, but for what the request took
    cdef int64_t life_ms
    cdef uint32_t flags
    cdef uint32_t swr_s
    cdef uint32_t sie_s


cdef class Verdicts:
    cdef object _rules
    cdef Metrics _metrics
    cdef object _wire_limits
    cdef NameTable _names
    cdef bint _usable
    cdef PlainLimits _limits
    cdef dict _known              # what decides -> Verdict
    cdef long long _second        # that `_now` tells
    cdef bytes _now               # a Date line

    cdef ResponseHead _parsed(self, const unsigned char *base, const Plain *seen)
    cdef bint glance(self, const unsigned char *base, Py_ssize_t size, Plain *to) noexcept
    cdef bint unchanged(self, const unsigned char *base, Py_ssize_t size, bytes stored, Plain *to) except -1
    cdef Verdict judge_stored(self, bytes stored, int asking, exchange)
    cdef Words words_of_validated(self, Verdict verdict, long long ttl_s)
    cdef Verdict judge(self, const unsigned char *base, const Plain *seen, int asking, exchange)
    cdef Words words(self, Verdict verdict, why, bint offered, bint stored)
    cdef bint times(
        self, Verdict verdict, const unsigned char *base, const Plain *seen, int64_t request_ms, int64_t response_ms
    ) except -1
    cdef char *put_fields(
        self, char *to, const unsigned char *base, const Plain *seen, unsigned int but, long long now_ms
    )
    cdef Py_ssize_t put_response(
        self, char *start, const unsigned char *base, const Plain *seen, Words words, long long now_ms
    ) except -1
    cdef bytes stored_head(self, const unsigned char *base, const Plain *seen, long long now_ms)
