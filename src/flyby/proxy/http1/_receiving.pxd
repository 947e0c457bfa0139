# cython: language_level=3
"""The map of the reading side of a client's HTTP/1 connection."""

from flyby.proxy.road._downstream cimport Downstream
from flyby.wire._body cimport BodyReader
from flyby.wire._head cimport HeadReader, RequestHead

cdef enum:
    QUEUE_LIMIT = 65_536  # bytes of content, or of pipelined requests, that may wait before reading pauses
    HIGH_WATER = 32_768   # bytes in the transport above which it pauses: half a piece of stored content

cdef enum State:
    IDLE = 0      # between requests: no byte of the next one is here
    HEAD = 1      # a part of a head is here
    CONTENT = 2   # a request is under way, and its content arrives
    WAITING = 3   # a request is under way, and is wholly here
    PIPE = 4      # the bytes are another protocol's
    LINGER = 5    # all is said; what still comes is dropped
    CLOSED = 6


cdef class Receiving(Downstream):
    cdef object _connections
    cdef object _transport
    cdef object _client              # made when somebody asks for it
    cdef object _header              # the PROXY header, or None
    cdef bint _relays                # a trusted proxy: each request says whose it is, so none is answered at a glance
    cdef State _state
    cdef double _write_deadline      # until when the client must have taken what is sent; 0: nothing waits
    cdef HeadReader _reader          # None until a request takes the general path
    cdef BodyReader _body            # while the content of the request under way arrives
    cdef bytes _pending              # bytes that were read and not looked at, or None
    cdef object _behind              # a view of what was read behind a request that is just being begun
    cdef bint _due                   # `_go_on` will be called for them
    cdef bint _reading               # not paused
    cdef bint _ended                 # the client has sent its last byte
    cdef bint _deaf                  # where the request's content ends is not known: read nothing behind it
    cdef object _pipe                # whom the bytes go to

    cdef bint clear(self) except -1
    cdef int _process(self, Py_ssize_t size) except -1
    cdef int _receive(self, view) except -1
    cdef object _receive_content(self, view)
    cdef int _defer(self, view) except -1
    cdef int _start(self, RequestHead request) except -1
    cdef int _refuse(self, error) except -1
    cdef int _fail_content(self, error) except -1
    cdef int _linger_close(self) except -1
    cdef int _shut(self) except -1
    cdef int _pause_reading(self) except -1
    cdef int _resume_reading(self) except -1
    cdef int _read_limit(self, double seconds) except -1
    # Left to whoever answers: it is over, so read the next request, or close.
    cdef int _next(self, double now) except -1
