# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""The reading side of a client's HTTP/1 connection: bytes to requests, one at a time (RFC 9112 9).

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

Rules. (1) Framing is decided by `wire`; after a fault nothing that follows is parsed: the error is written, our side
is shut down, and what the client still sends is dropped for a moment so that it can read the answer (RFC 9112 9.6).
(2) Memory is bounded: reading pauses at 64 KiB of content or of pipelined requests. (3) A turn of the loop is bounded:
after so many requests, or so much time, the rest of what was read waits for the next turn.

Time limits are deadlines that `Connections.sweep` compares twice a second: no timer handle a request.

How a request is answered, and with it when the next one may be read (`_next`), is `_connection.pyx`'s affair.
"""

import asyncio

from flyby.errors import WireError
from flyby.proxy.road._content import NO_CONTENT as _NO_CONTENT
from flyby.proxy.road.client import client_of
from flyby.proxy.road import replies
from flyby.wire import BodyKind, HeadReader as NewHeadReader, serialise_response
from flyby.wire import BodyReader as NewBodyReader

from flyby.clock cimport monotonic
from flyby.proxy.road._content cimport Content
from flyby.proxy.road._downstream cimport Downstream, Occupant
from flyby.proxy.road._outbox cimport Outbox
from flyby.wire._body cimport BodyReader
from flyby.wire._head cimport LEADING, HeadReader, RequestHead

cdef enum:
    READ_BUFFER = 65_536

cdef double LINGER_SECONDS = 1.0
cdef double TURN_SECONDS = 0.0005  # for the requests of one connection, then others have their turn

cdef object NO_CONTENT = _NO_CONTENT
cdef object NONE = BodyKind.NONE
cdef tuple NAMES = ("idle", "head", "content", "waiting", "pipe", "linger", "closed")


cdef class Receiving(Downstream):
    """What a client connection is while it reads; abstract but for that."""

    def __init__(self, connections, bytes scheme not None, header=None):
        """`header` is the `ProxyHeader` that came before the first byte of all, if one did."""
        self._connections = connections
        self._header = header
        self._lane = connections.lane
        self.secure = scheme == b"https"
        self.content = NO_CONTENT
        self._reading = self._keep_alive = True

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
        transport.set_write_buffer_limits(high=HIGH_WATER, low=QUEUE_LIMIT // 4)
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

    cdef int _next(self, double now) except -1:
        """The response is over: be ready for the next request, or close."""
        raise TypeError("abstract")

    # ---- faults and ends ---------------------------------------------------------------------------------------------

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

    # ---- when reading pauses, and how long it may take ---------------------------------------------------------------

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
