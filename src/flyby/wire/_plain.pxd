# cython: language_level=3
"""The map of a glance at a response: offsets into the bytes that were read, and no Python object.

    HTTP/1.1 200 OK\\r\\nCache-Control: no-store\\r\\nContent-Length: 5\\r\\n\\r\\nhello
             └ status └reason  └ name ┘ └value                       length: behind the empty line
"""

from flyby.wire._glance cimport Span
from flyby.wire._names cimport NameTable

cdef enum:
    MOST_PLAIN_FIELDS = 64  # a head with more of them is not recognised

# What is told about a field; a bit of `seen` each.
cdef enum:
    NOT_PASSED = 1    # it stands for one connection only, or is ours to say
    SIZE = 2          # Content-Length: one, of digits
    CODING = 4        # Transfer-Encoding: one, chunked
    OPTIONS = 8       # Connection: one, keep-alive
    NEVER_PLAIN = 16  # Upgrade, and what the caller does not want to see
    NOTED = 32        # the first of those whose value the caller wants; each of the next has the next bit
    MOST_NOTED = 8

cdef struct PlainLimits:
    Py_ssize_t line
    Py_ssize_t block
    int fields

cdef struct Plain:
    Py_ssize_t length      # of the head
    int status
    Span reason
    long long content      # how long it is; -1: it is chunked
    unsigned int seen
    unsigned int again     # of these there are two or more
    int count
    Span names[64]         # as sent
    Span values[64]        # without the white space around them
    unsigned int told[64]  # of each field
    Span noted[8]          # the first value of each that is NOTED, in the order of their bits

cdef void plain_limits(object limits, PlainLimits *to)
cdef bint glance_response(
    const unsigned char *base, Py_ssize_t end, const PlainLimits *limits, NameTable names, Plain *to
) noexcept nogil
