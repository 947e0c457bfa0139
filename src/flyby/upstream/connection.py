"""One connection to an origin: requests out, responses in, one exchange at a time (RFC 9112 9).

           send            read_head                head complete         stream
    IDLE ───────▶ SENT ───────────▶ HEAD ───────────────────────▶ HELD ───────────▶ BODY
      ▲                             └──── 101: HELD, then detach() ──▶ CLOSED         │
      └───────────────────────── message complete, and reusable ◀───────────────────┘   anything else: CLOSED

Rules. (1) Framing is `wire`'s; a message is delivered whole and what lies behind it is never read as the next
response: surplus bytes, bytes on an idle connection and a parse error all cost the connection. (2) Every holder gets
one ending: `read_head` returns or raises once, a sink sees `end` once or `fail` once; after `abort` (the holder's own
doing) it sees nothing more. (3) Memory is bounded: bytes that nobody has asked for yet are kept up to 64 KiB, then
reading pauses; a sink holds the flow with `pause_reading`, and gets at most what was already read.

All connections of a loop read into one buffer: a chunk is used up within `buffer_updated`, or copied. Time limits are
a deadline in a field that one timer looks at when it goes off, so that an exchange makes no timer of its own.
"""

from __future__ import annotations

import asyncio
import enum
import select
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import cast

from flyby.errors import Retry, UpstreamError, WireError
from flyby.upstream import faults
from flyby.upstream.deadline import Deadline
from flyby.upstream.heads import OnInterim, ResponseHeads
from flyby.upstream.read_buffer import read_buffer
from flyby.upstream.sink import Sink
from flyby.upstream.tls import orderly_end
from flyby.wire import BodyKind, BodyReader, ResponseHead, WireLimits

WRITE_HIGH_WATER = 65_536  # drain() waits above it
AHEAD_LIMIT = 65_536  # bytes kept for a holder that has not asked for them yet


class State(enum.Enum):
    """See the module's picture."""

    IDLE = "idle"
    SENT = "sent"
    HEAD = "head"
    HELD = "held"
    BODY = "body"
    CLOSED = "closed"


_IDLE, _SENT, _HEAD, _HELD, _BODY, _CLOSED = State


class UpstreamConnection(asyncio.BufferedProtocol):
    """The protocol of an outgoing transport. A response's time limits are given in seconds.

    `generation` counts the leases it was given to, `on_closed` is called once when it is gone or detached: both belong
    to whoever pools it.
    """

    __slots__ = (
        "_ahead",
        "_between_bytes_s",
        "_body",
        "_buffer",
        "_deadline",
        "_drained",
        "_early",
        "_eof",
        "_failure",
        "_first_byte_s",
        "_head_s",
        "_heads",
        "_keep",
        "_limits",
        "_loop",
        "_lost",
        "_paused",
        "_poll",
        "_received",
        "_sink",
        "_state",
        "_throttled",
        "_transport",
        "_waiter",
        "_write_paused",
        "born",
        "detached",
        "donated",
        "exchanges",
        "generation",
        "on_closed",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: WireLimits,
        first_byte_s: float,
        between_bytes_s: float,
        born: float = 0.0,
    ) -> None:
        self._loop = loop
        self._limits = limits
        self._first_byte_s = first_byte_s
        self._between_bytes_s = between_bytes_s
        self.born = born
        self.generation = 0
        self.exchanges = 0
        self.detached = False  # its transport has gone to another protocol
        self.donated = False  # it was accepted, not dialled: it is as old as a kept one before its first exchange
        self.on_closed: Callable[[UpstreamConnection], None] | None = None
        self._buffer = read_buffer(loop)
        self._heads = ResponseHeads(limits)
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._state = _IDLE
        self._eof = False  # the origin has sent its last byte, in good order
        self._lost = False  # the transport is gone
        self._failure: UpstreamError | None = None
        self._ahead = b""  # bytes that came before somebody asked for them
        self._received = False  # a byte of this exchange's response is here
        self._head_s = first_byte_s  # this exchange's limit for it
        self._waiter: asyncio.Future[None] | None = None
        self._body: BodyReader | None = None
        self._sink: Sink | None = None
        self._paused = False  # by the sink
        self._throttled = False  # because too much came ahead
        self._keep = True  # nothing has happened that forbids another exchange
        self._early = False  # request bytes were sent after the response's head
        self._write_paused = False
        self._drained: asyncio.Future[None] | None = None
        self._deadline = Deadline(loop, self._on_deadline)

    def __repr__(self) -> str:
        state = self._state.value
        return f"<UpstreamConnection {state} exchanges={self.exchanges} reusable={self.reusable}>"

    # ---- what a holder does ------------------------------------------------------------------------------------------

    @property
    def reusable(self) -> bool:
        """Whether the next request may go out on it."""
        return self._state is _IDLE and self._keep

    @property
    def died_unanswered(self) -> bool:
        """Whether it was lost as kept connections are: before the request, or before the first byte of an answer."""
        return self._failure is not None and self._failure.retry is not Retry.NEVER

    def quiet(self) -> bool:
        """Whether nothing waits to be read: no byte of an answer that nobody asked for, no end of the stream.

        The loop may not have come round to them yet; a request that went out now would take them for its answer.
        """
        return self._poll is not None and not self._poll.poll(0)

    def send(self, data: bytes | bytearray | memoryview | Iterable[bytes | bytearray | memoryview]) -> None:
        """Write a part of the request at once. Failures surface in `read_head` and `drain`."""
        state = self._state
        if state is _IDLE:
            self._state = _SENT
            self._received = self._early = False
            self.exchanges += 1
        elif state is _HELD or state is _BODY:
            self._early = True
        elif state is _CLOSED and self._failure is None:
            self._failure = faults.terminated("the connection closed before the request was sent", Retry.ALWAYS)
        transport = self._transport
        if state is _CLOSED or transport is None or transport.is_closing():
            return
        # Bytes only: a transport may keep what it is given, and a view's memory need not live as long.
        if not isinstance(data, bytes):
            data = bytes(data) if isinstance(data, (bytearray, memoryview)) else b"".join(data)
        transport.write(data)
        if state is _HEAD and self._heads.between:
            self._deadline.within(self._head_s)

    async def drain(self) -> None:
        """Wait until less than 64 KiB wait to be sent. Raises `UpstreamError` when the connection is lost."""
        if self._write_paused and not self._closed():
            if self._drained is None:
                self._drained = self._loop.create_future()
            # Shielded: the one future serves all who wait.
            await asyncio.shield(self._drained)
        if self._closed():
            raise self._failure or faults.terminated("the connection to the origin was closed")

    async def read_head(
        self, method: bytes, on_interim: OnInterim | None = None, timeout: float | None = None
    ) -> ResponseHead:
        """The final response's head, or that of a 101; other 1xx heads go to `on_interim` (RFC 9110 15.2).

        `method` is the request's: it decides whether content follows. `timeout` replaces the backend's limit from the
        last byte that was sent to the first that is received.
        """
        if self._closed() and not self._ahead:
            if self._failure is None:
                self._fail(self._early_end())
            raise cast(UpstreamError, self._failure)
        if self._state is not _SENT:
            raise RuntimeError(f"read_head() on a connection that is {self._state.value}")
        self._state = _HEAD
        self._heads.begin(method, on_interim)
        self._head_s = self._first_byte_s if timeout is None else timeout
        ahead, self._ahead = self._ahead, b""
        if ahead:
            self._feed_head(memoryview(ahead))
        if self._heads.final is None and self._failure is None:
            if self._closed() or self._eof:
                self._fail(self._early_end())
            else:
                self._waiter = self._loop.create_future()
                if self._throttled:
                    self._unthrottle()
                if not self._received:
                    self._deadline.within(self._head_s)
                try:
                    await self._waiter
                finally:
                    self._waiter = None
        if self._failure is not None:
            raise self._failure
        return cast(ResponseHead, self._heads.final)

    def stream(self, sink: Sink) -> None:
        """Let the content flow. What is here already is delivered before this returns, an ending too."""
        if self._state is not _HELD:
            if self._failure is None:
                raise RuntimeError(f"stream() on a connection that is {self._state.value}")
            sink.fail(self._failure)
            return
        self._state = _BODY
        self._sink = sink
        kind, length = self._heads.framing
        self._body = BodyReader(kind, length, self._limits, "response")
        ahead, self._ahead = self._ahead, b""
        if ahead or self._body.done:
            self._feed_body(memoryview(ahead))
        if self._sink is not sink or self._state is not _BODY:
            return
        if self._eof or self._lost:
            self._end_of_stream()
            return
        if not self._paused:
            if self._throttled:
                self._unthrottle()
            self._deadline.within(self._between_bytes_s)

    def pause_reading(self) -> None:
        """Hold the content back; only the sink's holder calls it, while the content flows."""
        if self._state is _BODY and not self._paused:
            self._paused = True
            self._deadline.lift()  # the silence is ours
            if not self._throttled and self._transport is not None and not self._transport.is_closing():
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Let it flow again; does nothing when it flows."""
        if self._paused:
            self._paused = False
            if self._state is _BODY:
                self._deadline.within(self._between_bytes_s)
            self._unthrottle()

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """After a 101: the transport, no longer reading, and the bytes that came behind the head.

        The caller gives the transport its own protocol and resumes reading. The pool forgets this connection.
        """
        transport = self._transport
        head = self._heads.final
        if self._state is not _HELD or transport is None or head is None or head.status != 101:
            raise RuntimeError(f"detach() on a connection that is {self._state.value}")
        if self._lost or transport.is_closing():
            raise self._failure or faults.terminated("the origin closed the connection after its 101")
        if not self._throttled:
            transport.pause_reading()
        ahead, self._ahead = self._ahead, b""
        self._state = _CLOSED
        self.detached = True
        self._transport = self._poll = None
        self._deadline.stop()
        self._tell_closed()
        return transport, ahead

    def abort(self) -> None:
        """Drop the connection now; the holder hears nothing more of it, but `read_head` and `drain` raise."""
        self._sink = None
        if self._failure is None:
            self._failure = faults.terminated("the exchange was given up")
        self._shut(abort=True)

    def close(self) -> None:
        """Close an idle connection in good order (TLS: with close_notify)."""
        self._shut(abort=self._state is not _IDLE)

    # ---- what the transport does -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        state = self._state
        if state is _BODY:
            self._deadline.extend()
            self._feed_body(self._buffer[:nbytes])
        elif state is _HEAD:
            self._feed_head(self._buffer[:nbytes])
        elif state is _SENT or state is _HELD:
            self._ahead += bytes(self._buffer[:nbytes])
            if len(self._ahead) >= AHEAD_LIMIT and not self._throttled:
                self._throttled = True
                cast(asyncio.Transport, self._transport).pause_reading()
        elif state is _IDLE:
            # Nobody asked: an answer to no request, or the rest of a longer answer than was announced.
            self._shut(abort=True)

    def eof_received(self) -> bool:
        self._keep = False
        self._eof = orderly_end(cast(asyncio.Transport, self._transport))
        state = self._state
        if state is _BODY:
            self._end_of_stream()
        elif state is _HEAD:
            self._fail(self._early_end())
        elif state is _IDLE:
            self._shut(abort=False)
        # False: the transport closes itself. Bytes that are kept are still delivered; there is nothing to wait for.
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._keep = False
        state = self._state
        if state is _BODY:
            # Without the end of the stream before it: a reset, or TLS without close_notify (RFC 9112 9.8: incomplete).
            self._fail(faults.incomplete())
        elif state is _HEAD:
            self._fail(self._early_end())
        elif state is _IDLE:
            self._shut(abort=True)
        self._transport = self._poll = None
        self._deadline.stop()
        self._wake_drain()

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._wake_drain()
        if self._state is _HEAD and self._heads.between:
            # The origin has taken request bytes just now: it is being sent to, not waited for.
            self._deadline.within(self._head_s)

    # ---- a response's head -------------------------------------------------------------------------------------------

    def _feed_head(self, view: memoryview) -> None:
        self._received = True
        heads = self._heads
        try:
            rest = heads.feed(view)
        except UpstreamError as error:
            self._fail(error)
            return
        head = heads.final
        if self._state is not _HEAD:
            return
        if head is None:
            self._deadline.within(self._head_s if heads.between else self._between_bytes_s)
            return
        self._state = _HELD
        self._deadline.lift()
        heads.end()
        # A connection that switched protocols speaks HTTP no more, nor does one whose content ends with it.
        if not head.keep_alive or head.status == 101 or heads.framing[0] is BodyKind.CLOSE:
            self._keep = False
        self._early = self._unsent()
        self._ahead = bytes(rest)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _unsent(self) -> bool:
        transport = self._transport
        return transport is not None and transport.get_write_buffer_size() > 0

    # ---- its content -------------------------------------------------------------------------------------------------

    def _feed_body(self, view: memoryview) -> None:
        body = cast(BodyReader, self._body)
        sink = cast(Sink, self._sink)
        try:
            slices, consumed = body.feed(view)
        except WireError as error:
            self._fail(faults.malformed_content(error))
            return
        for piece in slices:
            sink.data(piece)
            if self._sink is not sink:
                return
        if body.done:
            self._complete(surplus=consumed < len(view))

    def _complete(self, surplus: bool) -> None:
        sink, self._sink = self._sink, None
        body, self._body = self._body, None
        self._deadline.lift()
        if surplus or self._early or self._unsent():
            self._keep = False
        if self._keep:
            self._state = _IDLE
            if self._paused or self._throttled:
                # Idle, it must read: that is how it learns that the origin closes.
                self._unthrottle()
        else:
            self._shut(abort=self._unsent())
        self._paused = False
        if sink is not None and body is not None:
            sink.end(body.trailers)

    def _end_of_stream(self) -> None:
        """The stream ended, or was lost after bytes that were kept: is the content whole?"""
        body = cast(BodyReader, self._body)
        if self._eof:
            with suppress(WireError):
                body.eof()
        if body.done:
            self._complete(surplus=False)
        else:
            self._fail(faults.incomplete())

    # ---- ends --------------------------------------------------------------------------------------------------------

    def _closed(self) -> bool:
        return self._lost or self._state is _CLOSED

    def _fail(self, error: UpstreamError) -> None:
        """End the exchange with `error`, told to whoever waits for the response."""
        if self._failure is None:
            self._failure = error
        sink, self._sink = self._sink, None
        self._shut(abort=True)
        if sink is not None:
            sink.fail(error)

    def _shut(self, abort: bool) -> None:
        """Close the transport; nothing is read any more."""
        if self._state is _CLOSED:
            return
        self._state = _CLOSED
        self._keep = False
        self._ahead = b""
        self._body = None
        self._heads.end()
        self._deadline.stop()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        transport = self._transport
        if transport is not None and not self._lost:
            # What was never sent will never be of use; closing would wait for it.
            if abort:
                transport.abort()
            else:
                transport.close()
        self._wake_drain()
        self._tell_closed()

    def _tell_closed(self) -> None:
        told, self.on_closed = self.on_closed, None
        if told is not None:
            told(self)

    def _early_end(self) -> UpstreamError:
        """The stream ended before a response's head was whole."""
        return faults.incomplete() if self._received else faults.unanswered(self.donated or self.exchanges > 1)

    def _wake_drain(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _unthrottle(self) -> None:
        self._throttled = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _on_deadline(self) -> None:
        unanswered = self._state is _HEAD and self._heads.between
        self._fail(faults.not_answered_in_time() if unanswered else faults.silent())
