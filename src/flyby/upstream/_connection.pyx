# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""One connection to an origin: requests out, responses in, one exchange at a time (RFC 9112 9).

           send            expect              head complete         stream
    IDLE ───────▶ SENT ───────────▶ HEAD ───────────────────────▶ HELD ───────────▶ BODY
      ▲                             └──── 101: HELD, then detach() ──▶ CLOSED         │ message complete, and reusable
      │ the request is wholly sent                                                    ▼
      └───────────────────────────── TAIL ◀── content is still to be sent ────────────┤   anything else: CLOSED
      ▲────────────────────────────────────── the request was wholly sent ────────────┘

Rules. (1) Framing is `wire`'s; a message is delivered whole and what lies behind it is never read as the next
response: surplus bytes, bytes on an idle connection and a parse error all cost the connection. (2) Every holder gets
one ending: a receiver sees `head` once or `fail` once (`read_head` returns or raises once), a sink sees `end` once or
`fail` once; after `abort` (the holder's own doing) they see nothing more. (3) Memory is bounded: bytes that nobody has
asked for yet are kept up to 64 KiB, then reading pauses; a sink holds the flow with `pause_reading`, and gets at most
what was already read. (4) The connection is at rest when both messages are complete, whichever comes last. (5) What
has been received counts before a write that failed.

All connections of a loop read into one buffer: a chunk is used up within `buffer_updated`, or copied. What came behind
a head is not copied when the receiver lets the content flow within its `head`. Plain TCP is written to at once, past
the transport, as long as the transport holds nothing back. Time limits are a deadline in a field that one timer looks
at when it goes off, so that an exchange makes no timer of its own. A head has one limit from the last byte of the
request that was sent to its own last byte, however it drips; only a whole interim head begins it anew, a few times.
"""

from flyby.errors import UpstreamError, WireError
from flyby.upstream import faults
from flyby.upstream.awaited import Awaited
from flyby.upstream._deadline cimport Deadline
from flyby.upstream._outgoing cimport BODY, CLOSED, HEAD, HELD, IDLE, SENT, TAIL, Outgoing, RequestSide, State
from flyby.upstream.read_buffer import read_buffer
from flyby.upstream.tls import orderly_end
from flyby.wire import BodyKind
from flyby.wire._body cimport BodyReader
from flyby.wire._head cimport HeadReader, ResponseHead

cdef Py_ssize_t AHEAD_LIMIT = 65_536  # bytes kept for a holder that has not asked for them yet
cdef int INTERIM_LIMIT = 16
cdef Py_ssize_t MANY_SLICES = 8  # chunks of one read that are handed on one by one

cdef tuple NAMES = ("idle", "sent", "head", "held", "body", "tail", "closed")
cdef object KIND_NONE = BodyKind.NONE
cdef object KIND_LENGTH = BodyKind.LENGTH
cdef object KIND_CLOSE = BodyKind.CLOSE


cdef class Connection(RequestSide):
    """The protocol of an outgoing transport. A response's time limits are given in seconds.

    `generation` counts the leases it was given to, `on_closed` is called once when it is gone or detached: both belong
    to whoever pools it.
    """

    def __init__(self, loop, limits, double first_byte_s, double between_bytes_s, double born=0.0):
        cdef unsigned char[::1] view
        self._loop = loop
        self._limits = limits
        self._first_byte_s = first_byte_s
        self._between_bytes_s = between_bytes_s
        self.born = born
        view = self._buffer = read_buffer(loop)
        self._input = &view[0]
        self._reader = HeadReader(limits, "response")
        self._out = Outgoing()
        self._ahead = b""
        self._head_s = first_byte_s
        self._keep = True
        self._deadline = Deadline(loop, self._on_deadline)

    def __repr__(self):
        return f"<UpstreamConnection {NAMES[self._state]} exchanges={self.exchanges} reusable={self.reusable}>"

    # ---- what a holder does: the request's part stands in `_outgoing.pyx` --------------------------------------------

    cpdef expect(self, bytes method, receiver, timeout=None):
        """Hand the response's heads to `receiver`: each 1xx but 101 to its `interim` (RFC 9110 15.2), then the final
        one, or that of a 101, to its `head`; or to its `fail` that there will be none. It may hear of it at once.

        `method` is the request's: it decides whether content follows. `timeout` replaces the backend's limit from the
        last byte that was sent to the end of the head.
        """
        cdef bytes ahead
        if self._closed() and not self._ahead:
            if self._failure is None:
                self._fail(self._early_end())
            receiver.fail(self._failure)
            return
        if self._state != SENT:
            raise RuntimeError(f"expect() on a connection that is {NAMES[self._state]}")
        self._state = HEAD
        self._receiver = receiver
        self._method = method
        self._interims = 0
        self._head_s = self._first_byte_s if timeout is None else timeout
        self._await()
        if self._ahead:
            ahead = self._ahead
            self._ahead = b""
            self._feed_head(memoryview(ahead))
        if self._receiver is not receiver or self._state != HEAD:
            return
        if self._lost or self._eof:
            self._fail(self._early_end())
            return
        if self._throttled:
            self._unthrottle()

    cpdef stream(self, sink):
        """Let the content flow. What is here already is delivered before this returns, an ending too."""
        if self._state != HELD:
            if self._failure is None:
                raise RuntimeError(f"stream() on a connection that is {NAMES[self._state]}")
            sink.fail(self._failure)
            return
        self._state = BODY
        self._sink = sink
        if self._kind is KIND_LENGTH:
            self._left = self._length
        else:
            self._left = -1
            self._body = BodyReader(self._kind, self._length, self._limits, "response")
        ahead = self._behind
        self._behind = None
        if ahead is None:
            ahead = memoryview(self._ahead)
            self._ahead = b""
        if len(ahead) or self._left == 0 or self._kind is KIND_NONE:
            self._feed_body(ahead)
        if self._sink is not sink or self._state != BODY:
            return
        if self._eof or self._lost:
            self._end_of_stream()
            return
        if not self._paused:
            if self._throttled:
                self._unthrottle()
            self._await()

    cpdef pause_reading(self):
        """Hold the content back; only the sink's holder calls it, while the content flows."""
        if self._state == BODY and not self._paused:
            self._paused = True
            self._deadline.lift()  # the silence is ours
            if not self._throttled and self._transport is not None and not self._transport.is_closing():
                self._transport.pause_reading()

    cpdef resume_reading(self):
        """Let it flow again; does nothing when it flows."""
        if self._paused:
            self._paused = False
            self._await()
            self._unthrottle()

    def detach(self):
        """After a 101: the transport, no longer reading, and the bytes that came behind the head.

        The caller gives the transport its own protocol and resumes reading. The pool forgets this connection.
        """
        transport = self._transport
        if self._state != HELD or transport is None or self._status != 101:
            raise RuntimeError(f"detach() on a connection that is {NAMES[self._state]}")
        if self._lost or transport.is_closing():
            raise self._failure or faults.terminated("the origin closed the connection after its 101")
        if not self._throttled:
            transport.pause_reading()
        ahead = self._ahead if self._behind is None else bytes(self._behind)
        self._ahead = b""
        self._behind = None
        self._state = CLOSED
        self.detached = True
        self._forget_transport()
        self._deadline.stop()
        self._tell_closed()
        return transport, ahead

    cpdef abort(self):
        """Drop the connection now; the holder hears nothing more of it, but `read_head` and `drain` raise."""
        self._sink = self._out.on_drained = None
        if self._failure is None:
            self._failure = faults.terminated("the exchange was given up")
        receiver = self._receiver
        self._receiver = None
        self._shut(True)
        if isinstance(receiver, Awaited):
            receiver.fail(self._failure)

    cpdef close(self):
        """Close an idle connection in good order (TLS: with close_notify)."""
        self._shut(self._state != IDLE)

    # ---- what the transport does -------------------------------------------------------------------------------------

    def connection_made(self, transport):
        self._transport = transport
        self._out.attach(transport)

    def get_buffer(self, sizehint):
        return self._buffer

    def buffer_updated(self, Py_ssize_t nbytes):
        cdef State state = self._state
        if state == BODY:
            self._deadline.extend()
            self._feed_body(self._buffer[:nbytes])
        elif state == HEAD:
            self._feed_head(self._buffer[:nbytes])
        elif state == SENT or state == HELD:
            self._ahead += bytes(self._buffer[:nbytes])
            if len(self._ahead) >= AHEAD_LIMIT and not self._throttled:
                self._throttled = True
                if not self._transport.is_closing():
                    self._transport.pause_reading()
        elif state != CLOSED:
            # Nobody asked: an answer to no request, or the rest of a longer answer than was announced.
            self.surplus = True
            self._shut(True)

    def eof_received(self):
        cdef State state = self._state
        self._keep = False
        self._eof = not self._out.reset and orderly_end(self._transport)
        if state == BODY:
            self._end_of_stream()
        elif state == HEAD:
            self._fail(self._early_end())
        elif state == IDLE or state == TAIL:
            self._shut(state == TAIL)
        # False: the transport closes itself. Bytes that are kept are still delivered; there is nothing to wait for.
        return False

    def connection_lost(self, exc):
        cdef State state
        if self._lost:
            return
        self._keep = False
        if exc is not None:
            self._read_on(exc)
        self._lost = True
        state = self._state
        if state == BODY and self._eof:
            self._end_of_stream()
        elif state == BODY:
            # Without the end of the stream before it: a reset, or TLS without close_notify (RFC 9112 9.8: incomplete).
            self._fail(faults.incomplete())
        elif state == HEAD:
            self._fail(self._early_end())
        elif state == IDLE or state == TAIL:
            self._shut(True)
        self._forget_transport()
        self._deadline.stop()
        self._out.resume()

    cdef int _read_on(self, exc) except -1:
        """A write of the transport has failed: take in what the origin sent before, up to 64 KiB that nobody takes."""
        cdef Py_ssize_t untaken = 0
        cdef Py_ssize_t size = 0
        while SENT <= self._state <= BODY and untaken < AHEAD_LIMIT:
            size = self._out.receive(self._input, len(self._buffer))
            if size <= 0:
                break
            if self._paused or self._state != BODY:
                untaken += size
            self.buffer_updated(size)
        # A reset is no orderly end, but the peer may have ended its stream before it (EPIPE, not ECONNRESET).
        self._eof = size == 0 and isinstance(exc, BrokenPipeError)
        return 0

    # ---- a response's head -------------------------------------------------------------------------------------------

    cdef int _feed_head(self, view) except -1:
        """Read heads; interim ones are handed on as they come, up to 16 of them."""
        cdef ResponseHead head
        cdef Py_ssize_t size = len(view)
        cdef Py_ssize_t at = 0
        receiver = self._receiver
        self._received = True
        try:
            while at < size:
                at += self._reader.feed(view[at:] if at else view)
                if not self._reader.complete:
                    break
                head = self._reader.take_response()
                if self._was_late(head.status):
                    raise faults.given_up()
                if head.status >= 200 or head.status == 101:
                    self._final(head, receiver, view[at:])
                    return 0
                self._interims += 1
                if self._interims > INTERIM_LIMIT:
                    raise faults.malformed("too many interim heads")
                if not self._open:
                    self._deadline.within(self._head_s, self._patience)
                receiver.interim(head)
                if self._receiver is not receiver:
                    return 0
        except WireError as error:
            self._fail(faults.malformed_head(error))
            return 0
        except UpstreamError as error:
            self._fail(error)
            return 0
        return 0

    cdef bint _was_late(self, int status):
        """Whether this is a 408 that says nothing of this request (RFC 9110 15.5.9): the origin was tired of waiting
        for one on a kept connection when it had just been sent. An agent's 408 is its app's answer."""
        return status == 408 and self.exchanges > 1 and not self._open and not self._interims and not self.donated

    cdef int _final(self, ResponseHead head, receiver, rest) except -1:
        self._kind, self._length = head.framing(self._method)
        self._status = head.status
        self._state = HELD
        self._deadline.lift()
        # A connection that switched protocols speaks HTTP no more, nor does one whose content ends with it.
        if not head.keep_alive or head.status == 101 or self._kind is KIND_CLOSE:
            self._keep = False
        self._receiver = None
        self._behind = rest
        try:
            receiver.head(head)
        finally:
            if self._behind is not None:
                self._ahead = bytes(self._behind)
                self._behind = None
        return 0

    # ---- its content -------------------------------------------------------------------------------------------------

    cdef int _feed_body(self, view) except -1:
        cdef BodyReader body = self._body
        cdef Py_ssize_t size = len(view)
        cdef Py_ssize_t consumed
        sink = self._sink
        if self._left >= 0:
            consumed = <Py_ssize_t>min(self._left, <long long>size)
            self._left -= consumed
            if consumed:
                sink.data(view if consumed == size else view[:consumed])
                if self._sink is not sink:
                    return 0
            if self._left == 0:
                self._complete(consumed < size)
            return 0
        try:
            slices, consumed = body.feed(view)
        except WireError as error:
            self._fail(faults.malformed_content(error))
            return 0
        if len(slices) > MANY_SLICES:
            # Tiny chunks: one copy of what was read costs less than a write for each.
            slices = (b"".join(slices),)
        for piece in slices:
            sink.data(piece)
            if self._sink is not sink:
                return 0
        if body.done:
            self._complete(consumed < size)
        return 0

    cdef int _complete(self, bint surplus) except -1:
        cdef BodyReader body = self._body
        sink = self._sink
        self._sink = self._body = None
        self._deadline.lift()
        if surplus:
            self.surplus = True
        if surplus or self._out.broken:
            self._keep = False
        if self._keep:
            self._state = TAIL
            if self._paused or self._throttled:
                # It must read: that is how it learns that the origin closes.
                self._unthrottle()
            self._rest()
        else:
            self._shut(self._out.unsent())
        self._paused = False
        if sink is not None:
            self._tell_end(sink, body)
        return 0

    cdef int _tell_end(self, sink, BodyReader body) except -1:
        sink.end(None if body is None else body.trailers)
        return 0

    cdef int _end_of_stream(self) except -1:
        """The stream ended, or was lost after bytes that were kept: is the content whole?"""
        if self._left < 0 and self._eof and self._kind is KIND_CLOSE:
            self._complete(False)
        else:
            self._fail(faults.incomplete())
        return 0

    # ---- ends --------------------------------------------------------------------------------------------------------

    cdef int _fail(self, error) except -1:
        """End the exchange with `error`, told to whoever waits for the response."""
        if self._failure is None:
            self._failure = error
        sink = self._sink
        receiver = self._receiver
        self._sink = self._receiver = None
        self._shut(True)
        if sink is not None:
            sink.fail(error)
        elif receiver is not None:
            receiver.fail(error)
        return 0

    cdef int _shut(self, bint abort) except -1:
        """Close the transport; nothing is read any more."""
        if self._state == CLOSED:
            return 0
        self._state = CLOSED
        self._keep = False
        self._ahead = b""
        self._behind = self._body = self._receiver = None
        self._deadline.stop()
        if self._transport is not None and not self._lost:
            # What was never sent will never be of use; closing would wait for it.
            if abort:
                self._transport.abort()
            else:
                self._transport.close()
        self._out.resume()
        self._tell_closed()
        if self.finishing:
            self.finished()
        return 0

    cdef int _forget_transport(self) except -1:
        self._transport = None
        self._out.forget()
        return 0

    cdef int _tell_closed(self) except -1:
        told = self.on_closed
        self.on_closed = None
        if told is not None:
            told(self)
        return 0

    cdef object _early_end(self):
        """The stream ended before a response's head was whole."""
        return faults.incomplete() if self._received else faults.unanswered(self.donated or self.exchanges > 1)

    cdef int _unthrottle(self) except -1:
        self._throttled = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        return 0

    def _on_deadline(self):
        if self._open:
            self._fail(faults.not_taken())
        else:
            self._fail(faults.not_answered_in_time() if self._state == HEAD else faults.silent())
