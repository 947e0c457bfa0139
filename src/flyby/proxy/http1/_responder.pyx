# cython: language_level=3
"""The way of a response that is not the fast lane's: head, framing and content to the client, then the next request.

    occupy ─▶ begin or begin_ready ─▶ data … ─▶ end ─▶ the exchange is recorded ─▶ idle, or closed
                 └ the head waits for the content's first part, to leave with it in one segment; `flush` lets it go

The length of the content is told by Content-Length where it is known, by chunks otherwise, and by the end of the
connection to HTTP/1.0 clients (RFC 9112 6). A connection that cannot serve another request says so (9.6).
"""

import asyncio

from flyby.proxy.fetching.content import NO_CONTENT, wants_trailers
from flyby.wire import CHUNK_END as _CHUNK_END
from flyby.wire import BodyKind, chunk_head, last_chunk, serialise_response
from flyby.wire._head cimport RequestHead

cdef object NONE = BodyKind.NONE
cdef object LENGTH = BodyKind.LENGTH
cdef object CHUNKED = BodyKind.CHUNKED
cdef object CLOSE = BodyKind.CLOSE


cdef class Responder(Front):
    def __cinit__(self, connections, bytes scheme, *args, **kwargs):
        self._connections = connections
        self._reading = self._keep_alive = True
        self._content = NO_CONTENT
        self._framing = NONE

    cpdef occupy(self, RequestHead request, exchange):
        """From now on `exchange` answers `request` here."""
        self.engage(exchange, request.keep_alive)
        self._request = request
        self._expecting = request.expect_continue and request.body is not NONE

    cdef int engage(self, exchange, bint keep_alive) except -1:
        """The same, of a request without content that was not made a `RequestHead`."""
        self._request = None
        self._exchange = exchange
        self._keep_alive = keep_alive and not self._connections.draining
        self._expecting = False
        self.begun = False
        self._outbox.sent = 0
        self._trailers = None
        self._content = NO_CONTENT
        self._stage = "exchange"
        self._deadline = 0.0
        return 0

    cpdef answered_by(self, exchange):
        """From now on `exchange` answers the request that is under way."""
        self._exchange = exchange

    cpdef on_writable(self, callback):
        self._on_writable = callback

    cpdef bytes _connection_field(self):
        if self._body is not None or self._expecting or self._connections.draining:
            self._keep_alive = False
        if not self._keep_alive:
            return b"Connection: close\r\n"
        return b"Connection: keep-alive\r\n" if self._request.version < 11 else b""

    def begin(self, int status, bytes reason, fields, length):
        self.begin_ready(serialise_response(status, reason, fields)[:-2], length, status)

    cpdef begin_ready(self, bytes head, long long length, int status):
        cdef bytes framing = b""
        cdef bint empty = status == 204 or status == 304
        self.begun = True
        if length >= 0 and not empty:
            framing = b"Content-Length: %d\r\n" % length
        if empty or status < 200 or self._request.method == b"HEAD":
            self._framing = NONE
        elif length >= 0:
            self._framing = LENGTH
        elif self._request.version >= 11:
            framing = b"Transfer-Encoding: chunked\r\n"
            self._framing = CHUNKED
        else:
            self._keep_alive = False
            self._framing = CLOSE
        self._outbox.hold(b"".join((head, framing, self._connection_field(), b"\r\n")))

    cpdef flush(self):
        self._outbox.release()

    cpdef data(self, view):
        if self._closing or self._framing is NONE or not len(view):
            return
        if self._framing is CHUNKED:
            self._outbox.write([chunk_head(len(view)), view, _CHUNK_END])
        else:
            self._outbox.write([view])

    cpdef end(self, trailers=None):
        if self._closing:
            self._outbox.clear()
        elif self._framing is not CHUNKED:
            self._outbox.release()
        else:
            wanted = trailers is not None and self._request is not None and wants_trailers(self._request.fields)
            self._outbox.write([last_chunk(trailers if wanted else None)])
        self._finish()

    cpdef _finish(self):
        """The response is wholly handed over: go on with the next request, or close."""
        exchange = self._exchange
        self._exchange = self._on_writable = None
        if exchange is None:
            return
        exchange.finished()
        seconds = self._connections.timeouts.idle_s
        self.go_on(self._connections.now + seconds if seconds else 0.0)

    cdef int go_on(self, double deadline) except -1:
        """The exchange is over: be ready for the next request, until `deadline`, or close."""
        if not self._keep_alive or self._closing:
            if self._body is not None:
                self._linger_close()
            else:
                self._closing = True
                self._transport.close()
            return 0
        self._request = None
        self._stage = "idle"
        self._deadline = deadline
        if self._pending and not self._receiving:
            asyncio.get_running_loop().call_soon(self._resume_pending)
        elif not self._reading:
            self._resume_reading()
        return 0
