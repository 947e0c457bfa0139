"""Upgrade (RFC 9110 7.8): after the origin's 101 the two connections are one pipe, and bytes are passed on unread.

Only `websocket` is passed on. Each side pauses the other while its peer is behind, an end of one direction is passed
on as such, and the loss of either side ends both. An origin that does not switch answers like any other.
"""

from __future__ import annotations

import asyncio

from flyby.errors import UpstreamError
from flyby.policy import Outcome, Reason
from flyby.proxy.fetching._asking import Purpose
from flyby.proxy.fetching._fetch import Fetch
from flyby.proxy.road._downstream import Downstream
from flyby.proxy.road._exchange import Exchange
from flyby.proxy.routing import forwarding
from flyby.wire import REASONS, Fields, strip_hop_by_hop

WATERMARK = 65_536


class Pipe(asyncio.Protocol):
    """The upstream's end of a pipe; the client's end is a connection that has switched."""

    def __init__(self, client: Downstream, transport: asyncio.Transport) -> None:
        self._client = client
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


def run(exchange: Exchange) -> None:
    """Ask the origin to switch, and lay the pipe if it does."""
    Fetch(exchange, Reason.UPGRADE, purpose=Purpose.TO_SWITCH, on_switch=_switch).begin()


def _switch(fetch: Fetch) -> None:
    """The origin has switched: so does the client's connection. Raises `UpstreamError` 502 for another protocol."""
    exchange, head, lease = fetch.exchange, fetch.response, fetch.lease
    assert lease is not None  # what has answered is leased
    if (head.fields.get(b"upgrade") or b"").lower() != exchange.request.upgrade:
        lease.discard()
        raise UpstreamError(502, "upgrade", "http_upgrade_failed", "the origin switched to a protocol nobody asked for")
    kept = strip_hop_by_hop(head.fields)
    forwarding.add_via(kept)
    switched = Fields([(b"Upgrade", exchange.request.upgrade), (b"Connection", b"Upgrade"), *kept])
    transport, ahead = lease.connection.detach()
    exchange.note(Outcome.PIPE, Reason.UPGRADE, 101)
    pipe = Pipe(exchange.downstream, transport)
    transport.set_protocol(pipe)
    exchange.downstream.switch(101, REASONS[101], switched, pipe)
    if ahead:
        pipe.data_received(ahead)
    transport.resume_reading()
