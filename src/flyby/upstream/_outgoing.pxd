"""The map of the request's side of an upstream connection."""

from flyby.upstream._deadline cimport Deadline
from flyby.upstream._exchange cimport UpstreamExchange
from flyby.wire._head cimport HeadReader

cdef enum State:
    IDLE = 0      # see the picture in `_connection.pyx`
    SENT = 1
    HEAD = 2
    HELD = 3
    BODY = 4
    TAIL = 5
    CLOSED = 6


cdef class Outgoing:
    cdef object _transport   # None before it is made and once it is gone
    cdef int _descriptor     # of the socket, to ask whether it is quiet; -1 when there is none
    cdef int fd              # the same where bytes may go past the transport: plain TCP
    cdef bint broken         # a write has failed: nothing is sent any more, what has come is still read
    cdef bint reset          # … because the peer had reset the connection, with or without an end of its stream before
    cdef bint paused         # the transport holds more than WRITE_HIGH_WATER, or anything while `hurried`
    cdef bint _queued        # the transport was given bytes, which may still wait there
    cdef bint _hurried       # it tells when the last byte has left
    cdef object on_drained   # called once when `paused` ends; or None

    cdef int attach(self, transport) except -1
    cdef int forget(self) except -1
    cdef bint open(self) except -1
    cdef bint quiet(self) except -1
    cdef bint more(self) noexcept
    cdef int write(self, bytes data) except -1
    cdef int put(self, const char *data, Py_ssize_t length) except -1
    cdef Py_ssize_t receive(self, unsigned char *into, Py_ssize_t size) except -2
    cdef bint unsent(self) except -1
    cdef int hurry(self, bint on) except -1
    cdef int resume(self) except -1


cdef class RequestSide(UpstreamExchange):
    # For the connection's life.
    cdef object _loop
    cdef double _first_byte_s
    cdef double _between_bytes_s
    cdef readonly long long exchanges  # requests that were sent on it
    cdef Deadline _deadline
    cdef State _state
    cdef bint _lost                    # the transport is gone
    cdef bint _keep                    # nothing has happened that forbids another exchange
    cdef object _failure               # the UpstreamError that ended it, or None
    # The request.
    cdef Outgoing _out
    cdef bint _open                    # content was announced that is not wholly sent yet
    # Of the response, what limits depend on.
    cdef HeadReader _reader
    cdef double _head_s                # this exchange's limit for the head
    cdef double _patience              # until when, on the loop's clock, interim heads may prolong it
    cdef bint _received                # a byte of this exchange's response is here
    cdef bint _paused                  # by the sink

    cdef int _await(self, double now=*) except -1
    cdef int _rest(self) except -1
    cdef bint _closed(self) noexcept
