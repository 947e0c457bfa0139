# cython: language_level=3
"""The map of the buffer that access lines wait in, and of what a hit tells about itself."""

from libc.stdint cimport int64_t

cdef enum Style:
    OFF = 0
    CONSOLE = 1
    COMBINED = 2
    OTHERWISE = 3  # a format whose lines only Python makes


cdef struct Text:
    const unsigned char *start
    Py_ssize_t length


cdef struct Served:
    int64_t time_ms
    int64_t duration_us
    int64_t sent  # bytes
    int status
    Text method
    Text host
    Text path
    Text client
    Text user_agent
    Text referer


cdef class Lines:
    cdef char *_data
    cdef Py_ssize_t _start  # the first byte that was not written yet
    cdef Py_ssize_t _end
    cdef Py_ssize_t _room
    cdef Py_ssize_t _due  # when so many bytes wait it is time to write
    cdef int _views
    cdef int64_t _second  # that `_stamp` says
    cdef char _stamp[48]
    cdef int _stamp_length
    cdef Style style
    cdef public bint awaited  # a timer is set that will write what is here
    cdef public Py_ssize_t dropped  # lines that found no room

    cdef char *reserve(self, Py_ssize_t length) except NULL
    cdef void stamp(self, int64_t time_ms) noexcept
    cdef int hit(self, const Served *served) except -1
    cdef int line(self, const Served *served, Text outcome, Text reason) except -1
    cdef bint urgent(self) noexcept
