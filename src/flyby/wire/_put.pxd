# cython: language_level=3
"""Writing bytes and numbers into a buffer whose room the caller has measured.

Every function writes at `to` and returns the byte behind what it wrote.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from flyby.log._lines cimport Text
from flyby.wire._field_line cimport Span

cdef enum:
    MOST_DIGITS = 20  # bytes of the longest number, with its sign


cdef inline char *put(char *to, const char *text, Py_ssize_t length) noexcept nogil:
    memcpy(to, text, length)
    return to + length


cdef inline char *put_text(char *to, Text text) noexcept nogil:
    return put(to, <const char *>text.start, text.length)


cdef inline char *put_number(char *to, int64_t number) noexcept nogil:
    """A number in decimal digits."""
    cdef char digits[MOST_DIGITS]
    cdef int at = MOST_DIGITS
    cdef uint64_t left = <uint64_t>number
    if number < 0:
        to[0] = c"-"
        to += 1
        left = 0 - left
    while True:
        at -= 1
        digits[at] = <char>(c"0" + left % 10)
        left = left // 10
        if not left:
            break
    return put(to, digits + at, MOST_DIGITS - at)


cdef inline Text text_of(bytes value) noexcept:
    """The bytes of `value`, which the caller keeps alive."""
    cdef Text text
    text.start = <const unsigned char *>PyBytes_AS_STRING(value)
    text.length = PyBytes_GET_SIZE(value)
    return text


cdef inline Text text_at(const unsigned char *base, Span span) noexcept nogil:
    cdef Text text
    text.start = base + span.start
    text.length = span.length
    return text
