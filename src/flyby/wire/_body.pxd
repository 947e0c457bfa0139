"""The map of `BodyReader`."""

from flyby.wire._fields cimport Fields
from flyby.wire._scan cimport FieldSection

cdef enum BodyState:
    SIZE = 0            # chunk-size
    GAP = 1             # white space behind the size, before a semicolon
    EXT_START = 2       # behind a semicolon
    EXT_NAME = 3
    EXT_NAME_GAP = 4    # white space behind an extension's name
    EXT_VALUE_START = 5
    EXT_VALUE = 6
    EXT_QUOTED = 7
    EXT_ESCAPED = 8     # behind a backslash in a quoted value
    EXT_QUOTED_END = 9
    EXT_VALUE_GAP = 10  # white space behind an extension's value
    SIZE_FEED = 11      # behind the CR of a chunk's line
    DATA = 12           # content: of a chunk, or all that Content-Length counts
    DATA_CR = 13        # behind a chunk's data
    DATA_FEED = 14
    TRAILERS = 15
    UNTIL_CLOSE = 16
    FINISHED = 17


cdef class BodyReader:
    cdef readonly long long received    # bytes of content seen
    cdef readonly Fields trailers       # None unless a trailer section came
    cdef BodyState _state
    cdef bint _broken                   # after a fault: its offsets mean nothing any more
    cdef bint _chunked
    cdef int _fault                     # status for malformed framing
    cdef long long _remaining           # of the chunk or of the content
    cdef int _digits                    # of the chunk-size
    cdef Py_ssize_t _line               # bytes of the chunk's line so far
    cdef Py_ssize_t _extensions         # bytes of all extensions so far
    cdef Py_ssize_t _line_limit
    cdef Py_ssize_t _extension_limit
    cdef FieldSection _section          # made when a trailer section begins
    cdef bytearray _held                # the bytes of a trailer section that came in pieces
    cdef object _limits
    cdef object _side

    cdef object _malformed(self, str detail)
    cdef Py_ssize_t _chunk_line(self, const unsigned char *data, Py_ssize_t position, Py_ssize_t end) except -1
    cdef Py_ssize_t _trailer(self, const unsigned char *data, Py_ssize_t position, Py_ssize_t end) except -1
    cdef int _end(self) except -1
