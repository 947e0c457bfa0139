"""The map of an upstream connection."""

from flyby.upstream._deadline cimport Deadline
from flyby.upstream._outgoing cimport Outgoing
from flyby.wire._body cimport BodyReader
from flyby.wire._head cimport HeadReader, ResponseHead

cdef enum State:
    IDLE = 0      # see the picture in `_connection.pyx`
    SENT = 1
    HEAD = 2
    HELD = 3
    BODY = 4
    CLOSED = 5


cdef class Connection:
    # For the connection's life.
    cdef object _loop
    cdef object _limits                # WireLimits
    cdef double _first_byte_s
    cdef double _between_bytes_s
    cdef readonly double born          # on the clock of whoever pools it
    cdef public long long generation   # of leases
    cdef readonly long long exchanges  # requests that were sent on it
    cdef readonly bint detached        # its transport has gone to another protocol
    cdef public bint donated           # it was accepted, not dialled: as old as a kept one before its first exchange
    cdef public object on_closed       # called once with the connection, or None
    cdef object _buffer                # a memoryview: the loop's one read buffer
    cdef const unsigned char *_input   # its bytes
    cdef object _transport             # None before it is made and once it is lost
    cdef Deadline _deadline
    cdef State _state
    cdef bint _eof                     # the origin has sent its last byte, in good order
    cdef bint _lost                    # the transport is gone
    cdef bint _keep                    # nothing has happened that forbids another exchange
    cdef object _failure               # the UpstreamError that ended it, or None
    # The request.
    cdef Outgoing _out
    cdef bint _early                   # request bytes were sent after the response's head
    # The response's head.
    cdef HeadReader _reader
    cdef object _receiver              # who waits for the head
    cdef bytes _method                 # the request's
    cdef double _head_s                # this exchange's limit for the head
    cdef double _patience              # until when, on the loop's clock, interim heads may prolong it
    cdef int _interims
    cdef bint _received                # a byte of this exchange's response is here
    cdef bytes _ahead                  # bytes that came before somebody asked for them
    cdef object _rest                  # a view of those behind the head, while `head` runs
    cdef bint _throttled               # reading stopped because too much came ahead
    cdef int _status
    cdef object _kind                  # BodyKind of what follows
    cdef object _length
    # Its content.
    cdef object _sink
    cdef BodyReader _body              # for every kind but LENGTH
    cdef long long _left               # bytes still to come of content that Content-Length counts; -1: another kind
    cdef bint _paused                  # by the sink

    cpdef bint quiet(self)
    cpdef send(self, data)
    cpdef expect(self, bytes method, receiver, timeout=*)
    cpdef stream(self, sink)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cpdef abort(self)
    cpdef close(self)

    cdef int _await_head(self, double now=*) except -1
    cdef int _feed_head(self, view) except -1
    cdef int _final(self, ResponseHead head, receiver, rest) except -1
    cdef int _feed_body(self, view) except -1
    cdef int _complete(self, bint surplus) except -1
    cdef int _tell_end(self, sink, BodyReader body) except -1
    cdef int _end_of_stream(self) except -1
    cdef bint _closed(self) noexcept
    cdef int _fail(self, error) except -1
    cdef int _shut(self, bint abort) except -1
    cdef int _forget_transport(self) except -1
    cdef int _tell_closed(self) except -1
    cdef object _early_end(self)
    cdef int _unthrottle(self) except -1
