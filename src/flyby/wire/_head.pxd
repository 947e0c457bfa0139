"""The map of heads and of the reader that makes them."""

from flyby.wire._fields cimport Fields
from flyby.wire._scan cimport FieldSection

cdef enum HeadState:
    LEADING = 0        # nothing but empty lines so far (requests)
    LEADING_FEED = 1   # behind the CR of such a line
    METHOD = 2
    TARGET = 3
    VERSION = 4
    STATUS = 5
    REASON = 6
    START_FEED = 7     # behind the CR of the start line
    SECTION = 8        # the field section has taken over


cdef class RequestHead:
    cdef readonly bytes method          # as sent: methods are case-sensitive
    cdef readonly bytes target          # as sent
    cdef readonly int version           # 10 or 11
    cdef readonly Fields fields
    cdef readonly bytes scheme          # of the connection
    cdef readonly bytes host            # the authority in its one spelling
    cdef readonly bytes path            # with its query, byte for byte
    cdef readonly object body           # BodyKind
    cdef readonly object length         # bytes of the content, -1 when not known
    cdef readonly bint keep_alive
    cdef readonly bint expect_continue
    cdef readonly bytes upgrade         # b"websocket" or None


cdef class ResponseHead:
    cdef readonly int status
    cdef readonly bytes reason
    cdef readonly int version
    cdef readonly Fields fields
    cdef readonly bint keep_alive
    cdef object _kind                   # BodyKind that the fields alone announce
    cdef object _length


cdef class HeadReader:
    cdef readonly bint complete         # a head can be taken
    cdef bint _broken                   # after a fault: its offsets mean nothing any more
    cdef bint _requests
    cdef int _fault                     # status for malformed bytes
    cdef int _version_fault             # status for a version that we do not speak
    cdef HeadState _state
    cdef FieldSection _section
    cdef bytearray _held                # the bytes of a head that came in pieces
    cdef int _empty_lines               # skipped before this head
    cdef bint _query                    # the scanner is behind the target's question mark
    cdef Py_ssize_t _line_stop          # the start line must end before this offset
    cdef Py_ssize_t _method_end         # offsets from the first byte of the head
    cdef Py_ssize_t _target_end
    cdef Py_ssize_t _line_end           # the CR of the start line
    cdef int _version
    cdef int _status
    cdef bytes _method                  # the parts of a complete head
    cdef bytes _target
    cdef bytes _reason
    cdef object _kind
    cdef object _length
    cdef bint _keep_alive
    cdef bint _expect
    cdef bytes _upgrade
    cdef bytes _host

    cdef void _reset(self)
    cdef Py_ssize_t _feed(self, const unsigned char *data, Py_ssize_t length) except -1
    cdef Py_ssize_t _skip(self, const unsigned char *data, Py_ssize_t length) except -1
    cdef Py_ssize_t _scan(self, const unsigned char *base, Py_ssize_t position, Py_ssize_t end) except -1
    cdef Py_ssize_t _request_line(self, const unsigned char *base, Py_ssize_t position, Py_ssize_t end) except -1
    cdef Py_ssize_t _status_line(self, const unsigned char *base, Py_ssize_t position, Py_ssize_t end) except -1
    cdef int _version_byte(self, unsigned char byte, Py_ssize_t index) except -1
    cdef bint _plain_length(self) except -1
    cdef int _finish(self, const unsigned char *base, Py_ssize_t length) except -1
    cdef bytes _whole(self, const unsigned char *base, Py_ssize_t length, bint tidy)
