# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""A client's HTTP/1 connection: bytes to requests, one at a time, responses in order (RFC 9112 9).

    state     what is read                 its limit of time    when the limit is reached
    IDLE      nothing                      idle_s               close
    HEAD      a head                       head_s               408, close
    CONTENT   content of the request       body_s               the content fails with 408
    WAITING   nothing: pipelined bytes wait, reading pauses     -
    PIPE      another protocol             -                    -
    LINGER    what is dropped              one second           reset
    CLOSED    nothing

    IDLE ─▶ HEAD ─▶ CONTENT ─▶ WAITING ─▶ IDLE …       response before content: CONTENT ─▶ LINGER
                      any fault ─▶ LINGER ─▶ CLOSED    a 101 ─▶ PIPE

What the client must take of a response has a limit of its own (write_s), whatever the state.

Rules. (1) Framing is decided by `wire`; after a fault nothing that follows is parsed: the error is written, our side
is shut down, and what the client still sends is dropped for a moment so that it can read the answer (RFC 9112 9.6).
(2) Memory is bounded: reading pauses at 64 KiB of content or of pipelined requests, producers stop while `paused`, and
stored content is handed to the transport piece by piece. (3) A turn of the loop is bounded: after so many requests, or
so much time, the rest of what was read waits for the next turn. (4) When nothing is queued, head and content leave in
one write.

Time limits are deadlines that `Connections.sweep` compares twice a second: no timer handle a request.
"""

import asyncio
import socket
import struct

from flyby.errors import WireError
from flyby.proxy.http1.trailers import wants_trailers
from flyby.proxy.road._content import NO_CONTENT
from flyby.proxy.road._outbox import PIECE
from flyby.proxy.road.client import client_of
from flyby.proxy.road import replies
from flyby.wire import CHUNK_END as _CHUNK_END
from flyby.wire import BodyKind, HeadReader as NewHeadReader, chunk_head, last_chunk, serialise_response
from flyby.wire import BodyReader as NewBodyReader

from flyby.clock cimport monotonic
from flyby.proxy.road._content cimport Content
from flyby.proxy.road._downstream cimport Downstream, Occupant
from flyby.proxy.road._outbox cimport Outbox, iovec
from flyby.wire._body cimport BodyReader
from flyby.wire._head cimport LEADING, HeadReader, RequestHead

cdef enum:
    QUEUE_LIMIT = 65_536      # bytes of content, or of pipelined requests, that may wait before reading pauses
    READ_BUFFER = 65_536

cdef double LINGER_SECONDS = 1.0
cdef double TURN_SECONDS = 0.0005  # for the requests of one connection, then others have their turn

cdef object NONE = BodyKind.NONE
cdef object LENGTH = BodyKind.LENGTH
cdef object CHUNKED = BodyKind.CHUNKED
cdef object CLOSE = BodyKind.CLOSE
cdef bytes CHUNK_END = _CHUNK_END
cdef bytes RESET = struct.pack("ii", 1, 0)  # for SO_LINGER: closing resets the connection
cdef bytes CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
cdef bytes CLOSING = b"Connection: close\r\n"
cdef bytes KEEPING = b"Connection: keep-alive\r\n"
cdef tuple NAMES = ("idle", "head", "content", "waiting", "pipe", "linger", "closed")


cdef class Connection(Downstream):
    """One client connection, and the `Downstream` of the request that is under way on it."""

    def __init__(self, connections, bytes scheme not None, header=None):
        """`header` is the `ProxyHeader` that came before the first byte of all, if one did."""
        self._connections = connections
        self._header = header
        self._lane = connections.lane
        self.secure = scheme == b"https"
        self.content = NO_CONTENT
        self._framing = NONE
        self._reading = self._keep_alive = True

    def __repr__(self):
        return f"<Connection {self.address.decode()} {self.state}>"

    @property
    def client(self):
        """Who is at the other end, as the socket or a PROXY header says."""
        if self._client is None:
            self._client = client_of(self._transport, b"https" if self.secure else b"http", self._header)
        return self._client

    @property
    def state(self):
        """The name of the state."""
        return NAMES[self._state]

    @property
    def buffered(self):
        """Bytes that wait in this process for the client to read them or for an origin to take them."""
        waiting = len(self._pending) if self._pending is not None else 0
        return self._transport.get_write_buffer_size() + self.content.size + waiting

    # ---- what the transport does -------------------------------------------------------------------------------------

    def connection_made(self, transport):
        self._transport = transport
        peer = transport.get_extra_info("peername")
        if self._header is not None:
            self.known_as(self.client.address)
        else:
            self.address = peer[0].encode("ascii", "replace") if isinstance(peer, tuple) else b""
        self._relays = self._connections.trusts(self.address)
        self._outbox = Outbox(transport)
        # One piece of stored content in the transport is enough to be told when it has gone.
        transport.set_write_buffer_limits(high=PIECE // 2, low=QUEUE_LIMIT // 4)
        self._connections.add(self)
        self._read_limit(self._connections.timeouts.idle_s)

    def get_buffer(self, Py_ssize_t sizehint):
        """Where the event loop reads to: one buffer serves all connections, for nothing of it outlives the call."""
        return self._lane.read_buffer

    def buffer_updated(self, Py_ssize_t nbytes):
        self._process(nbytes)

    def connection_lost(self, exc):
        cdef Occupant occupant = self._occupant
        self._connections.discard(self)
        self._closing = True
        self._state = CLOSED
        self._pending = None
        self._outbox.clear()
        self._occupant = None
        if self._pipe is not None:
            self._pipe.client_lost()
        # First that the client has left, then that its content breaks off: the request is not at fault.
        if occupant is not None:
            occupant.client_lost()
        if not self.content.finished:
            self.content.fail(WireError(400, "client-closed", "the client closed the connection"))

    def eof_received(self):
        if self._pipe is not None:
            self._pipe.client_eof()
            return self._transport.can_write_eof()
        self._ended = True
        if self._state == CONTENT:
            self.content.fail(WireError(400, "content-incomplete", "the request's content ended early"))
        # A client that has sent its whole request may shut its side down and still wait for the response; not under
        # TLS, whose transports have no half of a connection.
        if self._occupant is None and self._pending is None or not self._transport.can_write_eof():
            return False
        if self._occupant is not None:
            self._occupant.client_ended()
        return True

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

    # ---- bytes in ----------------------------------------------------------------------------------------------------

    cdef bint clear(self) except -1:
        """Whether a request may be answered at once: nothing has begun and nothing waits."""
        if self._state != IDLE or self._occupant is not None or self._closing or self.paused:
            return False
        if self._lane.closed or self._relays:
            return False
        # Empty lines before a request count, over all reads.
        if self._reader is not None and (self._reader._state != LEADING or self._reader._empty_lines):
            return False
        return self._outbox.clear_way()

    cdef int _process(self, Py_ssize_t size) except -1:
        """Deal with the first `size` bytes of the read buffer, the next of this connection."""
        cdef Py_ssize_t used = 0
        if self._pending is not None:
            # What was read before comes first; reading pauses soon.
            self._pending += bytes(self._lane.read_buffer[:size])
            if len(self._pending) >= QUEUE_LIMIT:
                self._pause_reading()
            return 0
        if self.clear():
            used = self._lane.run(self, size)
            if used < size and self._lane.more:
                self._defer(self._lane.read_buffer[used:size])
                self._wake()
                return 0
        if used < size:
            self._receive(self._lane.read_buffer[used:size])
        return 0

    cdef int _receive(self, view) except -1:
        """Read requests from `view`, until one is under way that the next has to wait for."""
        cdef HeadReader reader
        cdef double began = 0.0
        if self._pipe is not None:
            self._pipe.from_client(view)
            return 0
        if self._closing or self._deaf:
            return 0
        self._receiving = True
        try:
            while len(view) and not self._closing and not self._deaf:
                if self._state == CONTENT:
                    view = self._receive_content(view)
                elif self._occupant is not None:
                    self._defer(view)
                    return 0
                elif began and monotonic() - began > TURN_SECONDS:
                    self._defer(view)
                    self._wake()
                    return 0
                else:
                    if not began:
                        began = monotonic()
                    reader = self._reader
                    if reader is None:
                        reader = self._reader = NewHeadReader(self._connections.limits, "request")
                    view = view[reader.feed(view) :]
                    if reader.complete:
                        self._behind = view
                        self._start(reader.take_request(b"https" if self.secure else b"http"))
                    elif self._state == IDLE and not reader.empty:
                        self._state = HEAD
                        self._read_limit(self._connections.timeouts.head_s)
        except WireError as error:
            self._refuse(error)
        finally:
            self._receiving = False
            self._behind = None
        return 0

    cdef object _receive_content(self, view):
        """Read content; the rest of `view`."""
        cdef BodyReader body = self._body
        cdef Content content = self.content
        cdef long long most = self._connections.limits.body
        try:
            slices, used = body.feed(view)
        except WireError as error:
            self._fail_content(error)
            return view[:0]
        if slices:
            content.put(b"".join(slices))
        if 0 < most < body.received:
            self._fail_content(WireError(413, "content-too-large", "the request's content is larger than the limit"))
            return view[:0]
        if body.done:
            self._body = None
            self._state = WAITING
            self._deadline = 0.0
            content.finish(body.trailers)
            if self._occupant is None and self._state == WAITING:
                self._next(self._connections.monotonic())
        else:
            self._read_limit(self._connections.timeouts.body_s)
            if content.size >= QUEUE_LIMIT:
                self._pause_reading()
                self._deadline = 0.0  # the delay is ours
        return view[used:]

    def _taken(self):
        """Content was taken: there is room for more."""
        if self.content.size < QUEUE_LIMIT // 4 and not self._reading and self._pending is None:
            if self._state == CONTENT:
                self._read_limit(self._connections.timeouts.body_s)
            self._resume_reading()

    cdef int _defer(self, view) except -1:
        """Keep bytes that came too early."""
        rest = bytes(view)
        self._pending = rest if self._pending is None else rest + self._pending
        if len(self._pending) >= QUEUE_LIMIT:
            self._pause_reading()
        return 0

    def _wake(self):
        """Deal with what waits in the next turn of the loop."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self):
        """Deal with what waited, a buffer of it at a time."""
        cdef bytes pending = self._pending
        cdef bytes first
        self._due = False
        if self._occupant is not None or self._closing:
            return
        if pending is not None:
            first = pending[:READ_BUFFER]
            self._lane.read_buffer[: len(first)] = first
            rest = pending[READ_BUFFER:]
            self._pending = None
            self._process(len(first))
            if rest:
                # `_process` may have put a part back.
                self._pending = rest if self._pending is None else self._pending + rest
            if self._pending is not None and self._occupant is None:
                self._wake()
                return
        if self._closing:
            return
        if self._pending is None and self._ended and self._occupant is None and self._state in (IDLE, HEAD):
            self._shut()
        elif self._pending is None or len(self._pending) < QUEUE_LIMIT:
            self._resume_reading()

    cdef int _start(self, RequestHead request) except -1:
        cdef Content content
        self.occupy(request, None)
        if request.body is not NONE:
            if 0 < <long long>self._connections.limits.body < request.length:
                raise WireError(413, "content-too-large", "the request's content is larger than the limit")
            self._body = NewBodyReader(request.body, request.length, self._connections.limits)
            if self._body.done:
                self._body = None
            else:
                content = Content()
                content.on_taken = self._taken
                self.content = content
                self._state = CONTENT
                self._read_limit(self._connections.timeouts.body_s)
        exchange = self._connections.exchange(self, request)
        self._occupant = exchange
        exchange.start()
        return 0

    cdef int _refuse(self, error) except -1:
        """Answer a fault in the request, then close: where the next request would begin is not known any more."""
        cdef Occupant occupant = self._occupant
        self._keep_alive = False
        self._occupant = None
        if occupant is not None:
            occupant.client_lost()
            if self.begun:
                self.reset()
                return 0
        self._connections.refused(self, error)
        status, fields, content = replies.refusal(error, None)
        fields = replies.own_fields(fields, *self._connections.refusal_words, self._connections.date_ms())
        fields.set(b"Content-Length", b"%d" % len(content))
        fields.set(b"Connection", b"close")
        self._outbox.write([serialise_response(status, replies.reason_of(status), fields), content])
        return self._linger_close()

    cdef int _fail_content(self, error) except -1:
        """Where this request ends is not known any more: let it be answered, and read nothing after it."""
        self._keep_alive = False
        self._deaf = True
        self._deadline = 0.0
        self.content.fail(error)
        return 0

    cdef int _linger_close(self) except -1:
        """Shut our side, and drop what the client still sends for a moment (RFC 9112 9.6)."""
        self._closing = True
        self._body = None
        self.content.fail(WireError(400, "content-incomplete", "the response came before the content"))
        if self._state == LINGER or self._transport.is_closing():
            return 0
        self._state = LINGER
        self._pending = None
        self._resume_reading()
        if self._transport.can_write_eof() and not self._ended:
            self._transport.write_eof()
            self._read_limit(LINGER_SECONDS)
        else:
            self._transport.close()
        return 0

    cdef int _shut(self) except -1:
        """Close in good order: what was written is sent first."""
        self._closing = True
        self._transport.close()
        return 0

    # ---- the response ------------------------------------------------------------------------------------------------

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

    cpdef on_writable(self, callback):
        self._on_writable = callback

    cpdef expect_satisfied(self):
        if self._expecting and not self.begun and self._state == CONTENT and not self._body.received:
            self._outbox.write([CONTINUE])
        self._expecting = False

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

    cdef int _pump(self) except -1:
        if self._outbox.pump(QUEUE_LIMIT // 4) and self._occupant is not None:
            self._finish()
        return 0

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

    # ---- limits and ends ---------------------------------------------------------------------------------------------

    cdef int _pause_reading(self) except -1:
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()
        return 0

    cdef int _resume_reading(self) except -1:
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()
        return 0

    cdef int _read_limit(self, double seconds) except -1:
        """Give what is read now so many seconds from here on; 0 is no limit."""
        self._deadline = self._connections.now + seconds if seconds else 0.0
        return 0

    def check_deadlines(self, double now):
        """Act on the deadlines that have passed."""
        if self._write_deadline and now >= self._write_deadline:
            self.reset()
            return
        if not self._deadline or now < self._deadline:
            return
        self._deadline = 0.0
        if self._state == HEAD:
            self._refuse(WireError(408, "head-timeout", "the request's head took too long"))
        elif self._state == CONTENT:
            self._fail_content(WireError(408, "content-timeout", "the request's content stalled"))
        elif self._state == IDLE:
            self._shut()
        else:
            self._transport.abort()

    @property
    def idle(self):
        """Whether no request is under way, nor a part of one here."""
        return self._occupant is None and self._state == IDLE and not self._closing

    def idle_until(self):
        """When an idle connection is closed for being idle: the sooner, the longer it has been."""
        return self._deadline

    def drain(self):
        """Close now if idle, else after the response under way."""
        self._keep_alive = False
        if self.idle:
            self._shut()
