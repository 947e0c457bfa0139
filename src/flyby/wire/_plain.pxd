# cython: language_level=3
"""The map of a glance at a response: offsets into the bytes that were read, and no Python object.

    HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 5\r\n\r\nhello
             └ status └reason  └ name ┘ └value                       length: behind the empty line
"""

from flyby.wire._field_line cimport Span
from flyby.wire._glance cimport Body
from flyby.wire._names cimport NameTable

cdef enum:
    MOST_PLAIN_FIELDS = 64  # a head with more of them is not recognised

# What is told about a field; a bit of `seen` each.
cdef enum:
    NOT_PASSED = 1    # it stands for one connection only, or is ours to say
    SIZE = 2          # Content-Length: one, of digits
    CODING = 4        # Transfer-Encoding: one, chunked
    OPTIONS = 8       # Connection: one, keep-alive or close
    NEVER_PLAIN = 16  # Upgrade, and what the caller does not want to see
    NOTED = 32        # the first of those whose value the caller wants; each of the next has the next bit
    MOST_NOTED = 24

cdef struct PlainLimits:
    Py_ssize_t line        # bytes of the status line with its CRLF
    Py_ssize_t field_line  # of a field line with its CRLF
    Py_ssize_t block       # of the head
    int fields

cdef struct Plain:
    Py_ssize_t length      # of the head
    int status
    Span reason
    int body               # a Body of `_glance`: how what follows this head is framed
    long long content      # what Content-Length says, of a response without content too; -1 without one
    bint closes            # Connection: close
    unsigned int seen
    unsigned int again     # of these there are two or more
    int count
    Span names[64]         # as sent
    Span values[64]        # without the white space around them
    unsigned int told[64]  # of each field
    Span noted[24]         # the first value of each that is NOTED, in the order of their bits

cdef void plain_limits(object limits, PlainLimits *to)
# Responses from 200 to 499 with content, on a connection that stays.
cdef bint glance_response(
    const unsigned char *base, Py_ssize_t end, const PlainLimits *limits, NameTable names, Plain *to
) noexcept nogil
# Every plain final response to HEAD (`asked_head`) or to another method.
cdef bint glance_any_response(
    const unsigned char *base, Py_ssize_t end, const PlainLimits *limits, NameTable names, bint asked_head, Plain *to
) noexcept nogil
