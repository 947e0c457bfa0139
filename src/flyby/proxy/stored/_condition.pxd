# cython: language_level=3
"""The map of what the fast lane judges about a stored response."""

from libc.stdint cimport int64_t

from flyby.proxy.routing._signpost cimport Post
from flyby.store._serve cimport Found
from flyby.wire._glance cimport Glance

cdef enum Condition:
    UNCLEAR = 0  # for the long way to judge
    CHANGED = 1
    UNCHANGED = 2


cdef class Conditions:
    cdef set _dates  # that were found to be dates
    cdef set _strong  # Last-Modified and Date, where the first was found to be a strong validator

    cdef Condition judge(self, const unsigned char *base, const Glance *seen, const Found *found) except *
    cdef bint part(
        self, const unsigned char *base, const Glance *seen, const Found *found, int64_t *first, int64_t *last
    ) except -1
    cdef bint _lets_range(self, const unsigned char *base, const Glance *seen, const Found *found) except -1


cdef bint fresh_for(const Post *post, const Glance *seen, const Found *found, int64_t now_ms) noexcept nogil
