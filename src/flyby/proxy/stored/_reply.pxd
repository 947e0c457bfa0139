# cython: language_level=3
"""The map of what the fast lane writes itself: the fields that every hit adds, and the heads of a 304 and a 206."""

from libc.stdint cimport int64_t

cdef enum:
    MOST_ADDED = 256  # bytes that `put_added`, a status line and a Content-Range are at most

cdef char *put_added(char *to, int64_t age_s, int64_t ttl_s, bint guessed, int64_t length) noexcept nogil
cdef char *put_unmodified(char *to, const char *head, Py_ssize_t length) noexcept nogil
cdef char *put_partial(
    char *to, const char *head, Py_ssize_t length, int64_t first, int64_t last, int64_t total
) noexcept nogil
cdef const char *stored_value(
    const char *head, Py_ssize_t head_length, const char *lower, Py_ssize_t size, Py_ssize_t *length, int *count
) noexcept nogil
