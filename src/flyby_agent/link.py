"""One link: a connection that the agent dialled and the edge uses, one exchange at a time.

    IDLE ── a request's head ──▶ DIALLING ──▶ BUSY ── both messages over ──▶ IDLE
      │                              │          ├── 101 ──▶ PIPE: bytes, until either side closes
      │                              │          └── response over before the request ──▶ DISCARDING ──▶ IDLE
      │        no connection to app  ▼
      ├── draining, not ready ──▶ refused: 503, Flyby-Refused, the request's content discarded
      └── retire() ──▶ CLOSING: 503, Flyby-Refused: draining, unasked; then until the edge closes

* Nothing of a request reaches the app before its head is whole; a refusal is only said when no byte did.
* An app that ends before a byte of a response: the link is closed, and the edge knows what may be sent again. The one
  exception is the kept connection of a replayable request (see app.py).
* An app that breaks a response off: the link is reset, so that the edge cannot take the rest for an end.
* The edge that closes a link in the middle cancels: the app's connection is aborted at once.
* Backpressure: each side stops reading while the other cannot write.
* An idle link is never simply closed, since the edge may be sending on it in that moment: RFC 9110 15.5.9 does the same
  with 408. If a request crossed with the refusal, the refusal is its answer.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Callable, cast

from flyby_agent import log
from flyby_agent.app import App, Local
from flyby_agent.framing import CLOSE, MOST_HEAD, Body, RequestHead, request_head, response_head

IDLE, DIALLING, BUSY, PIPE, DISCARDING, CLOSING, CLOSED = range(7)
STATES = ("idle", "dialling", "busy", "pipe", "discarding", "closing", "closed")

DISCARD_S = 10.0  # for the rest of a request that is already answered
RETIRE_S = 5.0
MOST_HELD = 64 * 1024  # of a request, while the app is dialled
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close by RST


def _refusal(reason: bytes, close: bool) -> bytes:
    rest = b"Connection: close\r\n" if close else b""
    return (
        b"HTTP/1.1 503 Service Unavailable\r\nFlyby-Refused: " + reason + b"\r\nContent-Length: 0\r\n" + rest + b"\r\n"
    )


class Link(asyncio.Protocol):
    """`on_state(link, before)` is called whenever the link begins to be idle, ceases to be, or is gone."""

    __slots__ = (
        "_answered",
        "_app",
        "_asked_at",
        "_body",
        "_ending",
        "_half",
        "_head",
        "_held",
        "_keep",
        "_local",
        "_loop",
        "_on_state",
        "_request",
        "_reused",
        "_task",
        "_timer",
        "_unsent",
        "served",
        "state",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, app: App, on_state: Callable[[Link, int], None]) -> None:
        self._loop = loop
        self._app = app
        self._on_state = on_state
        self.state = IDLE
        self.served = False  # it carried a request
        self._held = b""  # of the next request: its head before that is whole, or what came early of it
        self._unsent = b""  # of this request: what waits for a connection, or might have to be sent again
        self._head = b""  # of the response's head, before that is whole
        self._request: RequestHead | None = None
        self._body: Body | None = None  # of the response; None before its head
        self._local: Local | None = None
        self._reused = False  # a kept connection, whose end before an answer says nothing
        self._answered = False  # the app sent a byte of a response
        self._keep = False  # the app keeps the connection after this response
        self._ending = False  # close after this exchange
        self._half = False  # in a pipe: one side has ended
        self._asked_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Link {STATES[self.state]}>"

    @property
    def busy(self) -> bool:
        return DIALLING <= self.state <= DISCARDING

    # From the edge.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state == IDLE:
            self._held = self._held + data if self._held else data
            self._start()
        elif state == PIPE:
            if self._local is not None:
                self._local.transport.write(data)
        elif state in (BUSY, DIALLING, DISCARDING):
            self._more(data)

    def _start(self) -> None:
        """Take a request from what is held, if its head is whole."""
        data = self._held
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(data) > MOST_HEAD:
                self._close()
            return
        request = self._request = request_head(data[:end])
        if len(data) == end:
            self._unsent, self._held = data, b""
        else:
            stop = request.body.feed(data, end)
            self._unsent, self._held = data[:stop], data[stop:]
        self._ending = self._ending or request.close
        self._answered = False
        self.served = True
        self._app.began()
        self._enter(BUSY)
        reason = self._app.refusal()
        if reason:
            self._refuse(reason)
            return
        local = self._app.take() if request.replayable else None
        if local is None:
            self._dial()
        else:
            self._reused = True
            self._send(local)

    def _dial(self) -> None:
        self._reused = False
        self.state = DIALLING
        self._task = self._loop.create_task(self._dialled())

    async def _dialled(self) -> None:
        try:
            local = await self._app.dial()
        except OSError as error:
            self._task = None
            if self.state == DIALLING:
                log.debug(f"the app on {self._app.name} refused a connection: {error}")
                self._refuse(b"dial")
            self._app.on_refused()
            return
        self._task = None
        if self.state != DIALLING:
            local.transport.abort()
            return
        if local.transport.is_closing():
            # Accepted and closed at once, before a byte of the request: its end was told to nobody.
            self._refuse(b"dial")
            self._app.on_refused()
            return
        self.state = BUSY
        self.resume_reading()
        self._send(local)

    def _send(self, local: Local) -> None:
        """The request's first bytes to the app."""
        local.link = self
        self._local = local
        self._asked_at = self._loop.time()
        first = self._unsent
        if not self._reused:
            self._unsent = b""
        local.transport.write(first)

    def _more(self, data: bytes) -> None:
        """Content of the request, or, when that is over, the next request come early."""
        request = self._request
        assert request is not None
        if request.body.done:
            self._held += data
            self.transport.pause_reading()
            return
        stop = request.body.feed(data)
        if stop < len(data):
            self._held, data = data[stop:], data[:stop]
        if self.state == DISCARDING:
            if request.body.done:
                self._idle()
        elif self.state == DIALLING:
            self._unsent += data
            if len(self._unsent) > MOST_HELD:
                self.transport.pause_reading()
        elif self._local is not None:
            self._local.transport.write(data)

    def eof_received(self) -> bool:
        if self.state == PIPE and self._local is not None and not self._half and self.transport.can_write_eof():
            self._half = True
            self._local.transport.write_eof()
            return True
        if self.busy:
            self.transport.abort()  # given up: what the app still says has nobody to hear it
        return False

    def connection_lost(self, error: Exception | None) -> None:
        before, self.state = self.state, CLOSED
        if self._timer is not None:
            self._timer.cancel()
        local, self._local = self._local, None
        if local is not None:
            local.link = None
            if before == PIPE and error is None:
                local.transport.close()  # what was said last still reaches the app
            else:
                local.transport.abort()
        self._request = self._body = None
        self._held = self._unsent = self._head = b""
        if DIALLING <= before <= PIPE:
            self._app.ended()
        self._on_state(self, before)

    def pause_writing(self) -> None:
        if self._local is not None:
            self._local.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._local is not None:
            self._local.transport.resume_reading()

    def pause_reading(self) -> None:
        """The app does not keep up."""
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    # From the app.

    def answer(self, data: bytes) -> None:
        """Bytes of the response."""
        body = self._body
        if body is not None:
            stop = body.feed(data)
            self.transport.write(data if stop == len(data) else data[:stop])
            if body.done:
                self._over(stop == len(data))
        elif self.state == PIPE:
            self.transport.write(data)
        else:
            self._heads(data)

    def _heads(self, data: bytes) -> None:
        """The response's head, after any interim ones (RFC 9110 15.2)."""
        request = self._request
        assert request is not None
        if not self._answered:
            self._answered = True
            self._unsent = b""  # never sent again
            self._app.first_byte(self._loop.time() - self._asked_at)
        if self._head:
            data, self._head = self._head + data, b""
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                self._head = data
                if len(data) > MOST_HEAD:
                    self._reset()
                return
            head = data[:end]
            response = response_head(head, request.method)
            if response is None:
                self._app.complain("did not answer with HTTP/1.1")
                self._reset()
                return
            if response.status == 101:
                self.transport.write(response.head + data[end:])
                self.state = PIPE
                return
            if response.status >= 200:
                break
            self.transport.write(response.head)
            data = data[end:]
            if not data:
                return
        self._ending = self._ending or not (response.framed and request.framed)
        self._keep = response.persistent
        body = self._body = response.body
        stop = body.feed(data, end)
        if stop == len(data) and response.head is head:
            self.transport.write(data)
        else:
            self.transport.write(response.head + data[end:stop])
        if body.done:
            self._over(stop == len(data))

    def app_ended(self) -> bool:
        """The app closed its side. True keeps the other open."""
        body = self._body
        if self.state == PIPE:
            if self.transport.can_write_eof() and not self._half:
                self._half = True
                self.transport.write_eof()
                return True
            self._close()
        elif body is not None and body.kind == CLOSE:
            body.done = True
            self._over(False)
        else:
            self._unanswered()
        return False

    def app_lost(self) -> None:
        """The connection to the app is gone, and the exchange was not over."""
        self._local = None
        if self.state == PIPE:
            self._close()
        elif self.state == BUSY:
            self._unanswered()

    def _unanswered(self) -> None:
        """The app ended too early."""
        local, self._local = self._local, None
        if local is not None:
            local.link = None
            local.transport.abort()
        if self._answered:
            self._reset()
        elif self._reused:
            self._dial()
        else:
            self._close()

    # The end of an exchange.

    def _over(self, clean: bool) -> None:
        """The response is over; `clean` when nothing followed it."""
        request, local = self._request, self._local
        assert request is not None
        self._local = None
        if local is not None:
            local.link = None
            if clean and self._keep and request.body.done and request.framed:
                self._app.give(local)
            else:
                local.transport.close()
        self._body = None
        self._keep = False
        self._app.ended()
        if request.body.done or self._ending:
            self._idle()
        else:
            self.state = DISCARDING
            self.resume_reading()
            self._timer = self._loop.call_later(DISCARD_S, self._close)

    def _refuse(self, reason: bytes) -> None:
        """No byte of the request was passed on: another dyno may have it, whatever its method."""
        self._unsent = b""
        if not self.transport.is_closing():
            self.transport.write(_refusal(reason, self._ending))
        self._over(False)

    def _idle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._request = None
        if self._ending:
            self._enter(CLOSING)
            self._close()
            return
        self._enter(IDLE)
        self.resume_reading()
        if self._held:
            self._start()

    def _enter(self, state: int) -> None:
        before, self.state = self.state, state
        self._on_state(self, before)

    def retire(self) -> None:
        """Close as soon as that can hurt no request: at once when idle, else after the exchange."""
        if self.transport.is_closing():
            return
        if self.state == IDLE:
            self.transport.write(_refusal(b"draining", True))
            self._enter(CLOSING)
            self._timer = self._loop.call_later(RETIRE_S, self._close)
        else:
            self._ending = True

    def finish(self) -> None:
        """Close now; an exchange in the middle is cut off, and the edge sees that it is."""
        if self.busy:
            self._reset()
        else:
            self._close()

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def abort(self) -> None:
        self.transport.abort()

    def _reset(self) -> None:
        """End so that nobody can take it for the end of a message."""
        raw = self.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()
