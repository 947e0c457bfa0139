# cython: language_level=3
"""The map of a request's content on its way to an origin."""

from flyby.proxy.road._content cimport Content
from flyby.proxy.road._exchange cimport Exchange
from flyby.upstream._exchange cimport UpstreamExchange


cdef class Upload:
    cdef object _fetch
    cdef Exchange _exchange
    cdef Content _content
    cdef UpstreamExchange _connection # that it is sent on; None before
    cdef bint _chunked
    cdef list _kept                  # what was sent, for a second try; None: it cannot be sent again
    cdef Py_ssize_t _kept_bytes
    cdef bint _early                 # a place of the backend's early share is held
    cdef object _timer               # of the client's silence, or of the app's
    cdef readonly bint all_sent
    cdef double _since               # monotonic: since when the client's rate counts; 0 before a connection is taken
    cdef long long _since_received   # what had come by then, in bytes

    cdef bint ready(self) except -1
    cdef bint head_first(self) except -1
    cdef int begin(self) except -1
    cdef bytes first(self)
    cdef int send_on(self, UpstreamExchange connection) except -1
    cdef int pump(self) except -1
    cdef object rate(self, double window)
    cdef bint rewind(self) except -1
    cdef int answered(self) except -1
    cdef int leave(self) except -1
    cdef bytes _framed(self, bytes part)
    cdef bytes _take(self)
    cdef bytes _closing(self)
    cdef bint _go_ahead(self) except -1
    cdef int _give_place_back(self) except -1
    cdef int _limit(self, double seconds, callback) except -1
    cdef int _stop_timer(self) except -1
