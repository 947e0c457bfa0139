# cython: language_level=3
"""The map of what the fast lane writes itself: numbers, the fields that every hit adds, and the head of a 304."""

from libc.stdint cimport int64_t

cdef enum:
    MOST_ADDED = 160  # bytes that `put_added` writes at most

cdef char *put_added(char *to, int64_t age_s, int64_t ttl_s, bint guessed, int64_t length) noexcept nogil
cdef char *put_unmodified(char *to, const char *head, Py_ssize_t length) noexcept nogil
