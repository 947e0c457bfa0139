# cython: language_level=3
"""The map of the conditions that the fast lane judges."""

from flyby.store._layout cimport Block
from flyby.wire._glance cimport Glance

cdef enum Condition:
    UNCLEAR = 0  # for the long way to judge
    CHANGED = 1
    UNCHANGED = 2


cdef class Conditions:
    cdef set _dates  # that were found to be dates

    cdef Condition judge(self, const unsigned char *base, const Glance *seen, Block *found) except *
