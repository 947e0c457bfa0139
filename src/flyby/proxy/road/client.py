"""Who is at the other end of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass


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
    """Who is at the other end of a connection."""
    peer = transport.get_extra_info("peername")
    local = transport.get_extra_info("sockname")
    if not isinstance(peer, tuple) or not isinstance(local, tuple):
        peer, local = ("", 0), ("", 0)  # a Unix socket: it has no address that would say anything
    engine = transport.get_extra_info("ssl_object")
    return Client(peer[0], peer[1], scheme, local[1], engine.context.covers if engine is not None else None)
