"""The client's side as an exchange sees it, whichever version of HTTP brought the request.

`proxy/connection.py` is the HTTP/1 form. An exchange reads the request's content from it, and answers in one of two
ways: `send_stored` for what lies ready (one gathered write, sent on as the client takes it), or `begin`, `data`…,
`end` for what is still arriving; behind `begin` comes `data`, `end` or `flush` within the same call. `abort` breaks a
begun response off, so that the client sees that it is incomplete (RFC 9112 8).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from flyby.wire import Fields

if TYPE_CHECKING:
    from flyby.proxy.decision.exchange import Exchange


@dataclass(frozen=True, slots=True)
class Client:
    """Who is at the other end, as the socket says.

    `covers` says whether the certificate of this connection is valid for a request's host; None without TLS.
    """

    address: str
    port: int
    scheme: bytes
    server_port: int
    covers: Callable[[bytes], bool] | None = None


def client_of(transport: asyncio.BaseTransport, scheme: bytes) -> Client:
    """Who is at the other end of a connection that has just been made."""
    peer = transport.get_extra_info("peername")
    local = transport.get_extra_info("sockname")
    if not isinstance(peer, tuple) or not isinstance(local, tuple):
        peer, local = ("", 0), ("", 0)  # a Unix socket: it has no address that would say anything
    engine = transport.get_extra_info("ssl_object")
    return Client(peer[0], peer[1], scheme, local[1], engine.context.covers if engine is not None else None)


class Downstream(Protocol):
    """What brought one request and takes its response."""

    client: Client
    approved: bytes  # the host that the connection's certificate was last found valid for

    @property
    def bytes_sent(self) -> int:
        """How much of this response has been handed over, in bytes."""

    @property
    def begun(self) -> bool:
        """Whether a final response has been begun: nothing else can be sent in its place."""

    @property
    def paused(self) -> bool:
        """Whether the client is behind; whoever produces waits for `on_writable`."""

    @property
    def request_complete(self) -> bool:
        """Whether the request's content has wholly arrived."""

    def on_writable(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` each time the client has caught up."""

    async def read_content(self) -> bytes:
        """The next part of the request's content, b"" at its end. Raises `WireError` when it is malformed or late."""

    def request_trailers(self) -> Fields | None:
        """The request's trailer fields, after its content."""

    def expect_satisfied(self) -> None:
        """Send 100 (Continue) if the client waits for it (RFC 9110 10.1.1)."""

    def interim(self, status: int, reason: bytes, fields: Fields) -> None:
        """Relay a 1xx response; not sent to HTTP/1.0 clients (RFC 9110 15.2)."""

    def begin(self, status: int, reason: bytes, fields: Fields, length: int) -> None:
        """Begin a response; `length` is its content's length in bytes, -1 where only its end will tell."""

    def begin_ready(self, head: bytes, length: int, status: int) -> None:
        """`begin`, of a status line and field lines that are bytes already: no framing fields, no final CRLF."""

    def flush(self) -> None:
        """Nothing follows at once: a head that `begin` held back, to leave with the content's first part, must go."""

    def data(self, view: memoryview | bytes) -> None:
        """A part of the content; `view` is only read during the call."""

    def end(self, trailers: Fields | None = None) -> None:
        """The response is complete."""

    def send_stored(self, head: bytes, length: int, views: Sequence[memoryview | bytes], status: int) -> None:
        """A whole response: `head` holds status line and field lines, without the framing fields and the final CRLF."""

    def answered_by(self, exchange: Exchange) -> None:
        """From now on `exchange` answers the request that is under way."""

    def abort(self) -> None:
        """Break the response off."""
