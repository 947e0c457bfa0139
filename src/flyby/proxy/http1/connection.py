"""A client's HTTP/1 connection: bytes to requests, one exchange at a time, responses in order (RFC 9112 9).

    IDLE ──first byte──▶ HEAD ──head complete──▶ EXCHANGE ──response sent, content consumed──▶ IDLE
      └── deadline: close   └── deadline: 408       └── pipelined bytes wait in `_pending`, reading pauses

Rules. (1) Framing is decided by `wire`; after a fault nothing that follows is parsed: the error is written, our side
is shut down, and what the client still sends is dropped for a moment so that it can read the answer (RFC 9112 9.6).
(2) Memory is bounded: reading pauses at 64 KiB of content or of pipelined requests, producers stop while `paused`,
and stored content is handed to the transport piece by piece. (3) When nothing is queued, head and content leave in
one writev(2).

Time limits are deadlines that `Connections.sweep` compares twice a second: no timer handle a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from flyby.errors import WireError
from flyby.proxy.road import pages
from flyby.proxy.road._outbox import PIECE, Outbox
from flyby.proxy.http1._responder import Responder
from flyby.proxy.fetching.content import Content
from flyby.proxy.road.downstream import Client, client_of
from flyby.wire import (
    REASONS,
    BodyKind,
    BodyReader,
    Fields,
    HeadReader,
    RequestHead,
    serialise_response,
)

if TYPE_CHECKING:
    from flyby.proxy.http1.connections import Connections
    from flyby.proxy.decision.upgrade import Pipe

QUEUE_LIMIT = 65_536  # bytes of content, or of pipelined requests, that may wait before reading pauses
LINGER_BYTES = 262_144  # what a refused client may still send before the connection is reset
LINGER_SECONDS = 1.0


class Connection(Responder, asyncio.BufferedProtocol):
    """One client connection; also the `Downstream` of the exchange that is under way on it."""

    # What every read and response looks at is declared in `Front` and `Responder`. What an idle connection does not
    # need is made when it does: there may be ten thousand of them.
    __slots__ = ("_deaf", "_linger")

    def __init__(self, connections: Connections, scheme: bytes) -> None:
        self.client = Client("", 0, scheme, 0)
        self._deaf = False
        self._linger = -1

    @property
    def bytes_sent(self) -> int:
        return self._outbox.sent

    @property
    def buffered(self) -> int:
        return self._transport.get_write_buffer_size() + self._content.size + self._waiting

    @property
    def _waiting(self) -> int:
        """Bytes of pipelined requests."""
        return len(self._pending) if self._pending is not None else 0

    def __repr__(self) -> str:
        return f"<Connection {self.client.address}:{self.client.port} {self._stage}>"

    # ---- asyncio's side ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.client = client_of(transport, self.client.scheme)
        self.known_as(self.client.address)
        self._outbox = Outbox(self._transport)
        # One piece of stored content in the transport is enough to be told when it has gone.
        self._transport.set_write_buffer_limits(high=PIECE // 2, low=QUEUE_LIMIT // 4)
        self._connections.add(self)
        self._set_deadline("idle", self._connections.timeouts.idle_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._closing = True
        self._stage = "closed"
        self._outbox.clear()
        self._content.fail(WireError(400, "client-closed", "the client closed the connection"))
        if self._pipe is not None:
            self._pipe.client_lost()
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            exchange.client_lost()

    def eof_received(self) -> bool:
        if self._pipe is not None:
            self._pipe.client_eof()
            return self._transport.can_write_eof()
        if self._body is not None and not self._body.done:
            self._content.fail(WireError(400, "content-incomplete", "the request's content ended early"))
        # A client that has sent its whole request may shut its side down and still wait for the answer; not under TLS,
        # whose transports have no half of a connection.
        if self._exchange is None or self._body is not None or not self._transport.can_write_eof():
            return False
        self._keep_alive = False
        return True

    def pause_writing(self) -> None:
        self.paused = True
        self._set_deadline("write", self._connections.timeouts.write_s)

    def resume_writing(self) -> None:
        self.paused = False
        if self._stage == "write" and self._exchange is not None:
            self._set_deadline("exchange", 0)
        elif self._stage == "write":
            self._set_deadline("idle", self._connections.timeouts.idle_s)
        if self._pipe is not None:
            self._pipe.client_writable()
        elif self._outbox.ready:
            self._pump()
        elif self._on_writable is not None:
            self._on_writable()

    # ---- bytes in ----------------------------------------------------------------------------------------------------

    def _receive(self, view: memoryview) -> None:
        if self._pipe is not None:
            self._pipe.from_client(view)
            return
        if self._linger >= 0:
            self._linger -= len(view)
            if self._linger < 0:
                self._transport.abort()
            return
        if self._closing or self._deaf:
            return
        self._receiving = True
        try:
            while len(view) and not self._closing and not self._deaf:
                if self._body is not None:
                    view = self._receive_content(view)
                elif self._exchange is not None or self._pending:
                    if self._pending is None:
                        self._pending = bytearray()
                    self._pending += view
                    if len(self._pending) >= QUEUE_LIMIT:
                        self._pause_reading()
                    return
                else:
                    reader = self._reader
                    if reader is None:
                        reader = self._reader = HeadReader(self._connections.limits, "request")
                    view = view[reader.feed(view) :]
                    if reader.complete:
                        self._start(reader.take_request(self.client.scheme))
                    elif self._stage == "idle" and not reader.empty:
                        self._set_deadline("head", self._connections.timeouts.head_s)
        except WireError as error:
            self._refuse(error)
        finally:
            self._receiving = False

    def _receive_content(self, view: memoryview) -> memoryview:
        body = cast(BodyReader, self._body)
        try:
            slices, used = body.feed(view)
        except WireError as error:
            self._fail_content(error)
            return view[:0]
        for part in slices:
            self._content.put(bytes(part))
        if 0 < self._connections.limits.body < body.received:
            self._fail_content(WireError(413, "content-too-large", "the request's content is larger than the limit"))
            return view[:0]
        if body.done:
            self._trailers = body.trailers
            self._body = None
            self._content.finish()
            if self._stage == "body":
                self._set_deadline("exchange", 0)
        elif self._content.size >= QUEUE_LIMIT:
            self._pause_reading()
        else:
            self._set_deadline("body", self._connections.timeouts.body_s)
        return view[used:]

    def _fail_content(self, error: WireError) -> None:
        """Where this request ends is not known any more: let it be answered, and read nothing after it."""
        self._keep_alive = False
        self._deaf = True
        self._content.fail(error)

    def _start(self, request: RequestHead) -> None:
        self.occupy(request, None)
        if request.body is not BodyKind.NONE:
            if 0 < self._connections.limits.body < request.length:
                raise WireError(413, "content-too-large", "the request's content is larger than the limit")
            self._body = BodyReader(request.body, request.length, self._connections.limits)
            if self._body.done:
                self._body = None
            else:
                self._content = Content(finished=False)
                self._set_deadline("body", self._connections.timeouts.body_s)
        self._exchange = exchange = self._connections.exchange(self, request)
        exchange.start()

    def _refuse(self, error: WireError) -> None:
        """Answer a fault in the request, then close: where the next request would begin is not known any more."""
        self._keep_alive = False
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_lost()
            if self.begun:
                self._transport.abort()
                return
        self._connections.refused(self, error)
        status, fields, content = pages.client_error(error, None)
        fields.set(b"Connection", b"close")
        self._outbox.write([serialise_response(status, REASONS.get(status, b"Error"), fields), content])
        self._linger_close()

    def _linger_close(self) -> None:
        self._closing = True
        self._body = None
        if self._linger >= 0 or self._transport.is_closing():
            return
        self._linger = LINGER_BYTES
        self._resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._set_deadline("linger", LINGER_SECONDS)
        else:
            self._transport.close()

    # ---- the request's content ---------------------------------------------------------------------------------------

    @property
    def request_complete(self) -> bool:
        return self._body is None

    async def read_content(self) -> bytes:
        part = await self._content.get()
        if self._content.size < QUEUE_LIMIT // 4 and not self._reading and not self._pending:
            if self._body is not None:
                self._set_deadline("body", self._connections.timeouts.body_s)
            self._resume_reading()
        return part

    def request_trailers(self) -> Fields | None:
        return self._trailers

    def expect_satisfied(self) -> None:
        if self._expecting and not self.begun and self._body is not None and not self._body.received:
            self._outbox.write([b"HTTP/1.1 100 Continue\r\n\r\n"])
        self._expecting = False

    # ---- the response ------------------------------------------------------------------------------------------------

    def interim(self, status: int, reason: bytes, fields: Fields) -> None:
        if not self.begun and self._request is not None and self._request.version >= 11:
            self._outbox.write([serialise_response(status, reason, fields)])

    def send_stored(self, head: bytes, length: int, views: Sequence[memoryview | bytes], status: int) -> None:
        self.begun = True
        framing = b"" if status in (204, 304) or length < 0 else b"Content-Length: %d\r\n" % length
        self._outbox.queue((b"".join((head, framing, self._connection_field(), b"\r\n")),))
        if cast(RequestHead, self._request).method != b"HEAD" and status not in (204, 304):
            self._outbox.queue(views)
        self._pump()

    def abort(self) -> None:
        self._keep_alive = False
        self._closing = True
        self._outbox.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.finished()
        # The octets that were sent must arrive, and the missing rest be seen: no last chunk, no full Content-Length.
        if self._framing is BodyKind.CLOSE or not self.begun:
            self._transport.abort()
        else:
            self._transport.close()

    def send_rest(self, chunks: list[memoryview | bytes]) -> None:
        """Send what the socket did not take of the fast lane's answers; a `Remainder` is the exchange meanwhile."""
        self.begun = True
        self._set_deadline("exchange", 0)
        self._outbox.queue(chunks)
        self._pump()

    def _pump(self) -> None:
        if self._outbox.pump(QUEUE_LIMIT) and self._exchange is not None:
            self._finish()

    def _resume_pending(self) -> None:
        if self._exchange is None and not self._closing:
            pending, self._pending = self._pending, None
            if pending:
                self._receive(memoryview(pending))
            if self._waiting < QUEUE_LIMIT:
                self._resume_reading()

    # ---- upgrade, time limits, closing -------------------------------------------------------------------------------

    def switch(self, status: int, reason: bytes, fields: Fields) -> None:
        """Tell the client that the protocol is switched."""
        self.begun = True
        self._outbox.write([serialise_response(status, reason, fields)])

    def take_over(self, pipe: Pipe) -> bytes:
        """Hand the connection to `pipe` after a 101 was sent; returns what the client sent ahead."""
        self._pipe = pipe
        self._stage = "pipe"
        self._deadline = 0.0
        ahead, self._pending = bytes(self._pending or b""), None
        self._resume_reading()
        return ahead

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """Give the transport away after a 101 was sent, with what the client sent ahead: here all is over.

        The caller gives the transport its own protocol.
        """
        ahead = self.take_over(cast("Pipe", None))
        self._connections.discard(self)
        self._closing = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.finished()
        return self._transport, ahead

    def pipe_write(self, data: memoryview | bytes) -> None:
        self._outbox.write([data])

    def pipe_close(self) -> None:
        self._transport.close()

    def pipe_eof(self) -> None:
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        else:
            self._transport.close()  # TLS has no half of a connection

    def pipe_pause(self, pause: bool) -> None:
        if pause:
            self._pause_reading()
        else:
            self._resume_reading()

    def _pause_reading(self) -> None:
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()
            if self._stage == "body":
                self._set_deadline("exchange", 0)

    def _resume_reading(self) -> None:
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def _set_deadline(self, stage: str, seconds: float) -> None:
        self._stage = stage
        self._deadline = self._connections.now + seconds if seconds else 0.0

    def check_deadline(self, now: float) -> None:
        """Act on the deadline if it has passed."""
        if not self._deadline or now < self._deadline:
            return
        self._deadline = 0.0
        if self._stage == "head":
            self._refuse(WireError(408, "head-timeout", "the request's head took too long"))
        elif self._stage == "body":
            self._fail_content(WireError(408, "content-timeout", "the request's content stalled"))
        elif self._stage == "idle":
            self._closing = True
            self._transport.close()
        else:
            self._transport.abort()

    @property
    def idle(self) -> bool:
        """Whether no request is under way, nor a part of one here."""
        return self._exchange is None and self._pipe is None and not self._closing and self._stage == "idle"

    def idle_until(self) -> float:
        """When an idle connection is closed for being idle: the sooner, the longer it has been."""
        return self._deadline

    def drain(self) -> None:
        """Close now if idle, else after the response under way."""
        self._keep_alive = False
        if self.idle:
            self._closing = True
            self._transport.close()

    def close(self) -> None:
        self._transport.abort()
