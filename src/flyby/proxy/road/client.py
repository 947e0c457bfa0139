"""Who a request comes from: whom the socket names, or a PROXY header, or the fields of a trusted proxy.

A connection has a Client, and each request one: they differ where the peer is among `server.trusted_proxies`, whose
X-Forwarded-For, -Proto, -Host and -Port, or Forwarded, say for whom it asks (`wire.forwarded`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from flyby.wire import Fields
from flyby.wire.forwarded import Trusted, forwarded_for
from flyby.wire.proxy_protocol import ProxyHeader


@dataclass(frozen=True, slots=True)
class Client:
    """Who is at the other end. An `address` of "" is not known: that of a Unix socket's peer.

    `covers` says whether the certificate of this connection is valid for a request's host; None without TLS.
    """

    address: str
    port: int
    scheme: bytes
    server_port: int
    covers: Callable[[bytes], bool] | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """For whom a request was sent, the host that they named (None: the request's own), and which fields are the proxy's
    word: of others than trusted proxies, none is.
    """

    client: Client
    host: bytes | None = None
    keeps_addresses: bool = False
    keeps_forwarded: bool = False


def client_of(transport: asyncio.BaseTransport, scheme: bytes, header: ProxyHeader | None = None) -> Client:
    """Who is at the other end of a connection; whom its PROXY `header` names, where that names somebody."""
    peer = transport.get_extra_info("peername")
    local = transport.get_extra_info("sockname")
    if not isinstance(peer, tuple) or not isinstance(local, tuple):
        peer, local = ("", 0), ("", 0)  # a Unix socket: it has no address that would say anything
    engine = transport.get_extra_info("ssl_object")
    if header is not None and header.source is not None and header.destination is not None:
        peer, local = header.source, header.destination
    return Client(peer[0], peer[1], scheme, local[1], engine.context.covers if engine is not None else None)


def arrival_of(near: Client, fields: Fields, trusted: Trusted, appends: bool) -> Arrival:
    """For whom a request with these fields was sent over a connection of `near`.

    `appends` is `server.forwarded = "append"`: what others than trusted proxies say is passed on, but not believed.
    """
    told = forwarded_for(fields, near.address or None, trusted)
    if not told.trusted_peer:
        return Arrival(near, keeps_addresses=appends, keeps_forwarded=appends)
    client = replace(
        near,
        address=told.address or "",
        scheme=told.scheme or near.scheme,
        server_port=told.port or _port(told.scheme, told.host, near),
    )
    return Arrival(client, told.host, keeps_addresses=True, keeps_forwarded=not told.drop_forwarded)


def _port(scheme: bytes | None, host: bytes | None, near: Client) -> int:
    """The port that the client used, where no field names it: 0, the scheme's, once the proxy speaks of another scheme
    or host than this connection's.
    """
    return near.server_port if scheme is None and host is None else 0
