# cython: language_level=3
"""The map of a client's HTTP/1 connection."""

from flyby.proxy.http1._receiving cimport Receiving
from flyby.wire._head cimport RequestHead


cdef class Connection(Receiving):
    # For the request under way.
    cdef readonly RequestHead _request  # None for one that a glance recognised
    cdef object _on_writable         # called when the client has caught up
    cdef object _framing             # BodyKind of the response
    cdef bint _wants_trailers        # the client takes trailer fields (RFC 9110 10.1.4)
    cdef bint _expecting             # the client waits for 100 (Continue)

    cdef bytes _connection_field(self)
    cdef bint _asked_by_head(self) except -1
    cdef int _finish(self) except -1
    cdef int _pump(self) except -1
