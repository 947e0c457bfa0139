# cython: language_level=3
"""The map of a request on its way to an origin."""

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


cdef class Ignored:
    pass


cdef class Asking(Listener):
    cdef public Exchange exchange
    cdef readonly State state
    cdef Purpose _purpose
    cdef readonly Lease lease
    cdef UpstreamExchange _upstream  # the lease's
    cdef object _wait                # for a connection: a Wait
    cdef readonly Fill fill
    cdef Downstream _client          # who asked; None once it has left, or has its response
    cdef readonly Entry stale        # what is validated, or stands in for a failure
    cdef readonly object why         # the Reason for asking
    cdef bint _conditions            # the client's own conditions are passed on
    cdef bint _whole                 # our validators are left out: a 304 to them spoke of another response
    cdef object _attempts            # Attempts, once there may be a second
    cdef object _part                # partial.Part that is to be completed
    cdef Upload _upload              # its content; None for a request without
    cdef double _started             # when the request was sent: monotonic, and
    cdef readonly long long request_ms  # wall time
    cdef readonly object ranged      # the Range that was asked for in the client's name

    cpdef leased(self, Lease lease)
    cpdef no_lease(self, error)
    cpdef interim(self, ResponseHead head)
    cpdef head(self, ResponseHead head)
    cdef int _acquire(self) except -1
    cdef object _tries(self)
    cdef int _ask(self, Lease lease) except -1
    cdef object _fields(self)
    cdef bint _repeatable(self) except -1
    cdef int _refused(self) except -1
    cdef int _answered(self, ResponseHead head) except -1
    cdef int _give_up(self, error) except -1
    cdef int _abandon(self) except -1
    cdef int _leave_upload(self) except -1
