# cython: language_level=3
"""The map of what counts and logs the answers of the fast lane."""

from libc.stdint cimport int64_t

from flyby.log._lines cimport Lines, Served, Text
from flyby.metrics._page cimport Metrics

cdef struct Answer:
    Served served  # what the log says of it
    Text request_id
    int route
    int64_t end  # bytes of the write up to its end


cdef class Account:
    cdef object log  # takes records; None: nobody does
    cdef Lines _lines  # takes hits; None: whoever takes records is no access log of ours
    cdef object _access
    cdef Metrics _metrics  # counts every answer
    cdef unsigned int _outcome  # the row of hits in its page
    cdef bytes _kept_rows
    cdef const unsigned char *_rows  # of each route, in `_kept_rows`
    cdef list _backends  # the name of each route's

    cdef int settle(self, Answer *answers, int number, bint secure, int64_t now_ms, int64_t took_us) except -1
    cdef object record(self, const Answer *answer, bint secure, int64_t now_ms)
