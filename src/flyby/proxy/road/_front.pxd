# cython: language_level=3
"""The map of the front of a client connection: what the event loop and the fast lane touch for every request."""

from flyby.proxy.road._outbox cimport Outbox
from flyby.wire._glance cimport Glance
from flyby.wire._head cimport HeadReader


cdef class Answerer:
    cdef readonly object read_buffer  # where every connection of the worker reads to
    cdef public bint closed  # nothing may be answered here: not ready yet, or draining

    cdef Py_ssize_t run(self, Front client, Py_ssize_t length) except -1


cdef class Onward:
    cdef bint begin(
        self, Front client, const unsigned char *base, const Glance *seen, double now, long long now_ms
    ) except -1


cdef class Front:
    cdef readonly Answerer _lane
    cdef public Outbox _outbox  # None until the connection is made
    cdef public HeadReader _reader  # None until a request takes the long way
    cdef public object _exchange  # what is being answered
    cdef public object _pipe  # who has taken the connection over
    cdef public object _pending  # bytearray of pipelined requests, or None
    cdef public str _stage
    cdef public double _deadline  # 0: none
    cdef public bint _closing
    cdef public bint paused
    cdef public object client
    cdef bytes address  # the client's, as the log says it
    cdef int secure  # 1 under TLS
    cdef public bytes approved  # the host that this connection's certificate was last found valid for; b"": none yet

    cdef bint clear(self) except -1
    cdef bint approves(self, const unsigned char *host, Py_ssize_t length) noexcept
