# cython: language_level=3
"""The map of a fetch: what it owns, and who wants its response."""

from flyby.proxy.fetching._upload cimport Upload
from flyby.proxy.road._downstream cimport Downstream
from flyby.proxy.road._exchange cimport Exchange
from flyby.store._entry cimport Entry
from flyby.store._fill cimport Fill
from flyby.upstream._direct cimport Listener
from flyby.upstream._exchange cimport UpstreamExchange
from flyby.upstream._pool cimport Lease
from flyby.wire._head cimport ResponseHead

cdef enum State:
    WAITING = 0    # for content, or for a connection
    ASKING = 1     # the request is sent, or being sent
    STREAMING = 2  # the response's head is here, its content flows
    DONE = 3
    FAILED = 4

cpdef enum Purpose:
    TO_STORE = 0   # the response may be stored, and serve others
    TO_FORWARD = 1 # it is the client's alone
    TO_REFRESH = 2 # it is the store's alone: no client waits
    TO_SWITCH = 3  # the client wants another protocol

cdef enum Way:     # of the content
    NOWHERE = 0
    CLIENT = 1     # as it comes, at the client's pace
    STORE = 2      # into the Fill, from where the client reads along
    HELD = 3       # the Fill is full: the origin waits until the client has read it
    WINDOW = 4     # the Fill is a window: the origin waits for its slowest reader


cdef class Fetch(Listener):
    cdef object __weakref__
    cdef public Exchange exchange
    cdef readonly State state
    cdef Purpose _purpose
    cdef Way _way
    # What it owns, and gives back on every way out.
    cdef readonly Lease lease
    cdef readonly Fill fill
    cdef UpstreamExchange _upstream  # the lease's
    cdef object _wait                # for a connection: a Wait
    cdef object _timer               # of the origin's silence, while the client is half-closed
    # Its audience.
    cdef Downstream _client          # who asked; None once it has left, or has its response
    cdef bint _half_closed           # the client sends nothing more
    cdef double _heard               # monotonic: when a byte last came, while `_half_closed`
    # The request.
    cdef readonly Entry stale        # what is validated, or stands in for a failure
    cdef readonly object why         # the Reason for asking
    cdef bint _conditions            # the client's own conditions are passed on
    cdef object _attempts
    cdef object _part                # partial.Part that is to be completed
    cdef object _on_switch           # called with a 101
    cdef Upload _upload              # its content; None for a request without
    cdef double _started             # when the request was sent: monotonic, and
    cdef readonly long long request_ms  # wall time
    # The response.
    cdef readonly ResponseHead response
    cdef readonly long long response_ms  # when its head had come, wall time (RFC 9111 4.2.3)
    cdef readonly object ranged      # the Range that was asked for in the client's name and that a 206 answers
    cdef object _joined              # partial.Joined
    cdef object _incoming            # the fetch chain of the route, or None
    cdef long long _written          # bytes of content that the Fill has taken
    cdef long long _offset           # of the Fill: so far the client has read
    cdef long long _limit            # of the Fill: so far it will read; -1: to its end
    cdef bytes _overflow             # what the Fill did not take, or not yet; None: all of it
    cdef Fill _reader                # the client's own place among the readers of a window

    cdef object _unstorable          # the Reason why the store did not take the response

    cpdef leased(self, Lease lease)
    cpdef no_lease(self, error)
    cpdef interim(self, ResponseHead head)
    cpdef head(self, ResponseHead head)
    cpdef data(self, view)
    cpdef end(self, trailers)
    cpdef fail(self, error)
    cdef bint _has_followers(self) except -1
    cdef int _acquire(self) except -1
    cdef object _tries(self)
    cdef int _ask(self, Lease lease) except -1
    cdef object _fields(self)
    cdef bint _repeatable(self) except -1
    cdef int _answered(self, ResponseHead head) except -1
    cdef int _decide(self) except -1
    cdef int _refused(self) except -1
    cdef bint _completes(self) except -1
    cdef int _forward(self) except -1
    cdef int _begin_stored(self, plan) except -1
    cdef int _drop_content(self) except -1
    cdef int _to_client_with(self, bytes status) except -1
    cdef int _freshen(self) except -1
    cdef int _stand_in(self) except -1
    cdef bint _store(self, plan) except -1
    cdef int _pass(self, reason, bint offered) except -1
    cdef int _mark(self, reason) except -1
    cdef int _to_client(self) except -1
    cdef int _read_along(self) except -1
    cdef int _read_on(self) except -1
    cdef int _outgrow(self, view) except -1
    cdef int _content_over(self, trailers) except -1
    cdef int _give_up(self, error) except -1
    cdef int _abandon(self) except -1
    cdef int _fill_window(self) except -1
    cdef int _let_reader_go(self) except -1
    cdef int _let_fill_go(self, int ended) except -1
    cdef int _settled(self) except -1
    cdef int _leave_upload(self) except -1
    cdef int _stop_timer(self) except -1
