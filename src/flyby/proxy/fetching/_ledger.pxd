# cython: language_level=3
"""The map of where the plain requests of one route are recorded."""

from flyby.log._lines cimport Lines
from flyby.proxy.fetching._verdict cimport Words
from flyby.proxy.road._exchange cimport Exchange


cdef class Ledger:
    cdef object _access
    cdef Lines _lines              # None when the log takes records, or when there is none
    cdef bint _logged              # there is a log
    cdef unsigned int _row         # of the route, in the counters

    cdef int write(self, Exchange exchange, Words words) except -1
