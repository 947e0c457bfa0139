"""The map of an upstream connection."""

from flyby.upstream._outgoing cimport RequestSide
from flyby.wire._body cimport BodyReader
from flyby.wire._head cimport ResponseHead


cdef class Connection(RequestSide):
    # For the connection's life.
    cdef object _limits                # WireLimits
    cdef object _buffer                # a memoryview: the loop's one read buffer
    cdef unsigned char *_input         # its bytes
    cdef object _transport             # None before it is made and once it is lost
    cdef bint _eof                     # the origin has sent its last byte, in good order
    # The response's head.
    cdef object _receiver              # who waits for the head
    cdef bytes _method                 # the request's
    cdef int _interims
    cdef bytes _ahead                  # bytes that came before somebody asked for them
    cdef object _behind                # a view of those behind the head, while `head` runs
    cdef bint _throttled               # reading stopped because too much came ahead
    cdef int _status
    cdef object _kind                  # BodyKind of what follows
    cdef object _length
    # Its content.
    cdef object _sink
    cdef BodyReader _body              # for every kind but LENGTH
    cdef long long _left               # bytes still to come of content that Content-Length counts; -1: another kind

    cdef int _feed_head(self, view) except -1
    cdef int _final(self, ResponseHead head, receiver, rest) except -1
    cdef int _feed_body(self, view) except -1
    cdef int _complete(self, bint surplus) except -1
    cdef int _tell_end(self, sink, BodyReader body) except -1
    cdef int _read_on(self, exc) except -1
    cdef bint _was_late(self, int status)
    cdef int _end_of_stream(self) except -1
    cdef int _fail(self, error) except -1
    cdef int _shut(self, bint abort) except -1
    cdef int _forget_transport(self) except -1
    cdef int _tell_closed(self) except -1
    cdef object _early_end(self)
    cdef int _unthrottle(self) except -1
