"""The map of what a client connection knows of the request that it answers."""

from flyby.proxy.road._front cimport Front
from flyby.wire._body cimport BodyReader
from flyby.wire._head cimport RequestHead


cdef class Responder(Front):
    cdef public object _connections
    cdef public object _transport
    cdef public bint _reading            # not paused
    cdef public bint _receiving          # within `_receive`
    # For the exchange under way.
    cdef public RequestHead _request
    cdef public BodyReader _body         # while the request's content arrives
    cdef public object _content
    cdef public object _trailers
    cdef public object _on_writable      # whom to tell that the client has caught up
    cdef public object _framing          # BodyKind of the response
    cdef public bint _keep_alive
    cdef public bint _expecting          # the client waits for 100 (Continue)
    cdef public bint begun

    cdef int engage(self, exchange, bint keep_alive) except -1
    cpdef occupy(self, RequestHead request, exchange)
    cpdef answered_by(self, exchange)
    cpdef on_writable(self, callback)
    cpdef bytes _connection_field(self)
    cpdef begin_ready(self, bytes head, long long length, int status)
    cpdef flush(self)
    cpdef data(self, view)
    cpdef end(self, trailers=*)
    cpdef _finish(self)
    cdef int go_on(self, double deadline) except -1
