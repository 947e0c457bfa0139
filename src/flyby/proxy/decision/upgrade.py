"""Upgrade (RFC 9110 7.8): after the origin's 101 the two connections are one pipe, and bytes are passed on unread.

Only `websocket` is passed on. Each side pauses the other while its peer is behind, an end of one direction is passed
on as such, and the loss of either side ends both. An origin that does not switch answers like any other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from flyby.errors import UpstreamError
from flyby.policy import Outcome, Reason, cache_status
from flyby.proxy.routing import forwarding
from flyby.proxy.fetching._passing import send
from flyby.proxy.fetching.ask import ask
from flyby.proxy.http1.connection import Connection
from flyby.wire import REASONS, Fields, strip_hop_by_hop

if TYPE_CHECKING:
    from flyby.proxy.decision.exchange import Exchange

WATERMARK = 65_536


class Pipe(asyncio.Protocol):
    """The upstream's end of a pipe; the client's end is a `Connection` that was taken over."""

    def __init__(self, exchange: Exchange, connection: Connection, transport: asyncio.Transport) -> None:
        self._exchange = exchange
        self._client = connection
        self._transport = transport
        self._reading = True
        self._ends = 0  # directions that have ended; with both, nothing is left to wait for
        transport.set_write_buffer_limits(high=WATERMARK, low=WATERMARK // 4)

    # From the origin.
    def data_received(self, data: bytes) -> None:
        self._client.pipe_write(data)
        if self._client.paused:
            self._reading = False
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._client.pipe_eof()
        self._ended()
        return True

    def _ended(self) -> None:
        self._ends += 1
        if self._ends == 2:
            self._transport.close()
            self._client.pipe_close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.pipe_close()

    def pause_writing(self) -> None:
        self._client.pipe_pause(True)

    def resume_writing(self) -> None:
        self._client.pipe_pause(False)

    # From the client.
    def from_client(self, view: memoryview) -> None:
        if not self._transport.is_closing():
            self._transport.write(bytes(view))

    def client_eof(self) -> None:
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        else:
            self._transport.close()  # TLS has no half of a connection
        self._ended()

    def client_writable(self) -> None:
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def client_lost(self) -> None:
        self._transport.close()


async def run(exchange: Exchange) -> None:
    """Ask the origin to switch, and lay the pipe if it does."""
    connection = exchange.downstream
    if not isinstance(connection, Connection):
        raise UpstreamError(502, "upgrade", "http_upgrade_failed", "this connection cannot be upgraded")
    fields = exchange.request.fields.copy()
    answer = await ask(exchange, fields, upgrade=exchange.request.upgrade)
    head = answer.head
    if head.status != 101:
        exchange.note(Outcome.PASS, Reason.UPGRADE, head.status)
        send(exchange, answer, cache_status(Outcome.PASS, Reason.UPGRADE, fwd_status=head.status))
        return
    if (head.fields.get(b"upgrade") or b"").lower() != exchange.request.upgrade:
        answer.discard()
        raise UpstreamError(502, "upgrade", "http_upgrade_failed", "the origin switched to a protocol nobody asked for")
    kept = strip_hop_by_hop(head.fields)
    forwarding.add_via(kept)
    switched = Fields([(b"Upgrade", exchange.request.upgrade), (b"Connection", b"Upgrade"), *kept])
    transport, ahead = answer.lease.connection.detach()
    exchange.note(Outcome.PIPE, Reason.UPGRADE, 101)
    pipe = Pipe(exchange, connection, transport)
    connection.switch(101, REASONS[101], switched)
    early = connection.take_over(pipe)
    transport.set_protocol(pipe)
    if ahead:
        pipe.data_received(ahead)
    if early:
        pipe.from_client(memoryview(early))
    transport.resume_reading()
