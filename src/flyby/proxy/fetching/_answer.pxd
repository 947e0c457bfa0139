"""The map of a response on its way, and of a request without a Task."""

from flyby.upstream._connection cimport Connection
from flyby.upstream._pool cimport Lease
from flyby.wire._head cimport ResponseHead


cdef class Answer:
    cdef readonly Lease lease
    cdef readonly ResponseHead head
    cdef readonly long long request_ms     # when the request was sent, and
    cdef readonly long long response_ms    # when the head was here, in wall time (RFC 9111 4.2.3)
    cdef readonly long long first_byte_ms  # from the one to the other
    cdef public object ranged              # the Range that a 206 answers
    cdef object sender                     # the Task that still sends the request's content, or None
    cdef object _exchange                  # whose client the content is led to
    cdef object _downstream
    cdef Connection _connection

    cpdef finish(self)
    cpdef discard(self)
    cpdef data(self, view)
    cpdef end(self, trailers)
    cpdef fail(self, error)


cdef class Asking:
    cdef readonly object exchange
    cdef readonly object fill              # the Fill that the response may go to, or None
    cdef readonly object why               # the Reason for asking
    cdef readonly object lease
    cdef object _road                      # what to do: `answered`, `failed`, `refused`
    cdef object _clock
    cdef double _started                   # monotonic
    cdef long long _request_ms             # wall time

    cpdef interim(self, ResponseHead head)
    cpdef head(self, ResponseHead head)
    cpdef broken(self, error)
    cpdef fail(self, error)


cpdef relay_interim(downstream, ResponseHead head)
cpdef bint refuses(ResponseHead head) except -1
