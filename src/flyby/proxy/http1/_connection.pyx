# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""A client's HTTP/1 connection: the requests that `_receiving.pyx` reads are answered here, in order (RFC 9112 9.3).

    begin, data …, end                  ─┬─▶ _finish: the occupant records it ─┬─▶ _next: IDLE, or CONTENT until the
    send_stored, send_rest ─▶ _pump     ─┘                                     │   rest is read, or close
    close_head, write_parts, complete: the occupant has recorded it by itself ─┘
    abort: close or reset, so that what the client has does not look whole
    switch, detach: the bytes are another protocol's

Rules. (1) Whether another request may follow is said in the head, so it is settled when that is written, from what is
known then: `_connection_field`. (2) Memory is bounded: producers stop while `paused`, and stored content is handed to
the transport piece by piece. (3) When nothing is queued, head and content leave in one write.

What the client must take of a response has a limit of time of its own (write_s), whatever the state of reading.
"""

import socket
import struct

from flyby.proxy.http1.trailers import wants_trailers
from flyby.proxy.road._content import NO_CONTENT as _NO_CONTENT
from flyby.wire import CHUNK_END as _CHUNK_END
from flyby.wire import BodyKind, chunk_head, last_chunk, serialise_response

from flyby.proxy.http1._receiving cimport CLOSED, CONTENT, HIGH_WATER, IDLE, PIPE, QUEUE_LIMIT, WAITING, Receiving
from flyby.proxy.road._downstream cimport Occupant
from flyby.proxy.road._outbox cimport iovec
from flyby.wire._head cimport RequestHead

cdef object NO_CONTENT = _NO_CONTENT
cdef object NONE = BodyKind.NONE
cdef object LENGTH = BodyKind.LENGTH
cdef object CHUNKED = BodyKind.CHUNKED
cdef object CLOSE = BodyKind.CLOSE
cdef bytes CHUNK_END = _CHUNK_END
cdef bytes RESET = struct.pack("ii", 1, 0)  # for SO_LINGER: closing resets the connection
cdef bytes CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
cdef bytes CLOSING = b"Connection: close\r\n"
cdef bytes KEEPING = b"Connection: keep-alive\r\n"


cdef class Connection(Receiving):
    """One client connection, and the `Downstream` of the request that is under way on it."""

    def __cinit__(self):
        self._framing = NONE

    def __repr__(self):
        return f"<Connection {self.address.decode()} {self.state}>"

    # ---- the request under way ---------------------------------------------------------------------------------------

    cpdef occupy(self, RequestHead request, Occupant occupant):
        self.engage(occupant, request.keep_alive)
        self._request = request
        self._expecting = request.expect_continue and request.body is not NONE
        # Read before the request's fields become those that the origin sees: TE is this connection's affair.
        self._wants_trailers = wants_trailers(request.fields)

    cdef int engage(self, Occupant occupant, bint keep_alive) except -1:
        self._request = None
        self._occupant = occupant
        self._keep_alive = keep_alive and not self._connections.draining
        self._expecting = False
        self.begun = False
        self._outbox.sent = 0
        self.content = NO_CONTENT
        self._state = WAITING
        self._deadline = 0.0
        return 0

    def answer_in_full(self, RequestHead request not None):
        """The request under way, which a glance recognised, is answered by its head from now on."""
        self._request = request

    cpdef expect_satisfied(self):
        if self._expecting and not self.begun and self._state == CONTENT and not self._body.received:
            self._outbox.write([CONTINUE])
        self._expecting = False

    # ---- the response ------------------------------------------------------------------------------------------------

    cpdef interim(self, int status, bytes reason, fields):
        if not self.begun and not self._closing and (self._request is None or self._request.version >= 11):
            self._outbox.write([serialise_response(status, reason, fields)])

    cpdef begin(self, int status, bytes reason, fields, long long length):
        cdef bytes head = serialise_response(status, reason, fields)
        self.begin_ready(head[: len(head) - 2], length, status)

    cpdef begin_ready(self, bytes head, long long length, int status):
        cdef bytes framing = b""
        cdef bint empty = status == 204 or status == 304
        self.begun = True
        if length >= 0 and not empty:
            framing = b"Content-Length: %d\r\n" % length
        if empty or status < 200 or self._asked_by_head():
            self._framing = NONE
        elif length >= 0:
            self._framing = LENGTH
        elif self._request is None or self._request.version >= 11:
            framing = b"Transfer-Encoding: chunked\r\n"
            self._framing = CHUNKED
        else:
            self._keep_alive = False
            self._framing = CLOSE
        if not self._closing:
            self._outbox.hold(b"".join((head, framing, self._connection_field(), b"\r\n")))

    cdef bytes _connection_field(self):
        # The response comes before the content: whether the client sends that at all is not known.
        if self._expecting or self._deaf or self._connections.draining or (self._ended and self._pending is None):
            self._keep_alive = False
        elif self._state == CONTENT and not 0 <= self._request.length - self._body.received <= QUEUE_LIMIT:
            # The response comes before content that is long, or of unknown length: it is not waited for.
            self._keep_alive = False
        if not self._keep_alive:
            return CLOSING
        return KEEPING if self._request is not None and self._request.version < 11 else b""

    cdef bint _asked_by_head(self) except -1:
        return self._request is not None and self._request.method == b"HEAD"

    cpdef flush(self):
        self._outbox.release()

    cpdef data(self, view):
        if self._closing or self._framing is NONE or not len(view):
            return
        if self._framing is CHUNKED:
            self._outbox.write([chunk_head(len(view)), view, CHUNK_END])
        else:
            self._outbox.write([view])

    cpdef end(self, trailers=None):
        if self._closing:
            self._outbox.clear()
        elif self._framing is not CHUNKED:
            self._outbox.release()
        else:
            if trailers is not None and self._request is None:
                self._wants_trailers = wants_trailers((<object>self._occupant).as_sent().fields)
            self._outbox.write([last_chunk(trailers if self._wants_trailers else None)])
        self._finish()

    cpdef send_stored(self, bytes head, long long length, views, int status):
        cdef bytes framing
        self.begun = True
        if self._closing:
            self._finish()
            return
        framing = b"" if status in (204, 304) or length < 0 else b"Content-Length: %d\r\n" % length
        self._framing = LENGTH
        self._outbox.queue((b"".join((head, framing, self._connection_field(), b"\r\n")),))
        if not self._asked_by_head() and status not in (204, 304):
            self._outbox.queue(views)
        self._pump()

    def send_rest(self, list chunks):
        """Send what the socket did not take of the fast lane's answers; a `Remainder` is the occupant meanwhile."""
        self.begun = True
        self._state = WAITING
        self._deadline = 0.0
        self._outbox.queue(chunks)
        self._pump()

    cdef Py_ssize_t close_head(self, char *head, Py_ssize_t length, bint chunked) except -1:
        cdef bytes field = self._connection_field()
        self.begun = True
        self._framing = CHUNKED if chunked else LENGTH
        for byte in field:
            head[length] = <char>byte
            length += 1
        head[length] = c"\r"
        head[length + 1] = c"\n"
        return length + 2

    cdef int write_parts(self, iovec *parts, int count, size_t total) except -1:
        if not self._closing and total and not self._transport.is_closing():
            self._outbox.send_parts(parts, count, total)
        return 0

    # ---- whether the client keeps up ---------------------------------------------------------------------------------

    def pause_writing(self):
        self.paused = True
        self._write_deadline = self._connections.monotonic() + self._connections.timeouts.write_s

    def resume_writing(self):
        self.paused = False
        self._write_deadline = 0.0
        if self._pipe is not None:
            self._pipe.client_writable()
        elif self._outbox.ready:
            self._pump()
        elif self._on_writable is not None:
            self._on_writable()

    cpdef on_writable(self, callback):
        self._on_writable = callback

    cdef int _pump(self) except -1:
        # Until the transport pauses, which is above that: nothing else would call this again.
        if self._outbox.pump(HIGH_WATER + 1) and self._occupant is not None:
            self._finish()
        return 0

    # ---- its end -----------------------------------------------------------------------------------------------------

    cdef int complete(self, double now) except -1:
        self._occupant = self._on_writable = None
        return self._next(now)

    cdef int _finish(self) except -1:
        """The response is wholly handed over: record it, then go on with the next request, or close."""
        cdef Occupant occupant = self._occupant
        self._occupant = self._on_writable = None
        if occupant is None:
            return 0
        occupant.finished()
        return self._next(self._connections.monotonic())

    cdef int _next(self, double now) except -1:
        """The response is over: be ready for the next request, or close."""
        cdef double idle_s
        if not self._keep_alive or self._closing:
            if self._state == CONTENT:
                self._linger_close()
            else:
                self._shut()
            return 0
        if self._state == CONTENT:
            # The rest of the content is read, passed on or dropped; then comes the next request.
            if self.content.on_change is None:
                self.content.on_change = (<object>self.content).take
                self.content.take()
            return 0
        idle_s = self._connections.timeouts.idle_s
        self._request = None
        self._state = IDLE
        self._deadline = now + idle_s if idle_s else 0.0
        if self._pending is not None or self._ended:
            self._wake()
        elif not self._reading:
            self._resume_reading()
        return 0

    cpdef abort(self):
        cdef Occupant occupant = self._occupant
        self._keep_alive = False
        self._closing = True
        self._outbox.clear()
        self._occupant = self._on_writable = None
        if occupant is not None:
            occupant.finished()
        # What the client has must not look whole: no last chunk and no full Content-Length say so, and where the end
        # of the stream ends the content, a reset does (RFC 9112 8).
        if self._framing is CLOSE or not self.begun or self._request is not None and self._request.version < 11:
            self.reset()
        else:
            self._transport.close()

    cpdef reset(self):
        # A transport that aborts closes its socket, which is an orderly end unless something was left unread.
        sock = self._transport.get_extra_info("socket")
        if sock is not None and not self._transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._transport.abort()

    # ---- another protocol --------------------------------------------------------------------------------------------

    cpdef switch(self, int status, bytes reason, fields, pipe):
        self.begun = True
        self._outbox.write([serialise_response(status, reason, fields)])
        self._pipe = pipe
        self._state = PIPE
        self._deadline = 0.0
        ahead = self._pending
        self._pending = None
        if ahead is not None:
            pipe.from_client(memoryview(ahead))
        if self._ended:
            pipe.client_eof()
        self._resume_reading()

    def detach(self, int status, bytes reason, fields):
        """Tell the client that the protocol is switched, and give the transport away: here all is over.

        Returns it, with the bytes that the client sent ahead; the caller gives it its own protocol.
        """
        cdef Occupant occupant = self._occupant
        self.begun = True
        self._outbox.write([serialise_response(status, reason, fields)])
        ahead = self._pending or b""
        if self._behind is not None:
            ahead = bytes(self._behind)
        self._pending = None
        self._resume_reading()
        self._connections.discard(self)
        self._closing = True
        self._state = CLOSED
        self._deadline = 0.0
        self._occupant = None
        if occupant is not None:
            occupant.finished()
        return self._transport, ahead

    def pipe_write(self, data):
        """Send bytes of the other protocol."""
        self._outbox.write([data])

    def pipe_close(self):
        """Close in good order."""
        self._transport.close()

    def pipe_eof(self):
        """Send nothing more; TLS, which has no half of a connection, closes."""
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        else:
            self._transport.close()

    def pipe_pause(self, bint pause):
        """Read no more for now, or again."""
        if pause:
            self._pause_reading()
        else:
            self._resume_reading()
