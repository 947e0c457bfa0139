"""A listener whose connections begin with a PROXY header (`wire.proxy_protocol`): read it, then hand the socket over.

    accept ── peer not trusted ──▶ closed
      └─▶ reading ── the header is whole ──▶ handed over, with nothing of what follows it read
             └── no header, the end of the stream, or `head_s` over ──▶ closed

The header is looked at before it is taken from the socket, so that what follows (a request, or a TLS handshake) is
there for whoever gets the socket. What is looked at of a header that is not whole is taken: it is all header.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from flyby.errors import WireError
from flyby.proxy.http1.connection import Connection
from flyby.proxy.http1.connections import Connections
from flyby.server.listeners import BACKLOG
from flyby.server.tls import SHUTDOWN_S
from flyby.wire.proxy_protocol import LONGEST, ProxyHeader, read_proxy_header

ACCEPTED = 64  # connections that are accepted in one turn of the loop
PAUSE_S = 1.0  # after the process has run out of descriptors

HandOver = Callable[[socket.socket, ProxyHeader], Coroutine[Any, Any, None]]

logger = logging.getLogger("flyby.edge")


class ProxiedServer:
    """What `asyncio.Server` is for other listeners; it owns the listening socket, and connections until they are handed
    over. `trusts` is asked of a peer's address, b"" over a Unix socket.
    """

    def __init__(
        self, sock: socket.socket, trusts: Callable[[bytes], bool], head_s: Callable[[], float], hand_over: HandOver
    ) -> None:
        self._sock = sock
        self._trusts = trusts
        self._head_s = head_s
        self._hand_over = hand_over
        self._loop = asyncio.get_running_loop()
        self._waiting: set[_Waiting] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<ProxiedServer {len(self._waiting)} waiting>"

    def start(self, backlog: int) -> None:
        """Begin to accept."""
        self._sock.setblocking(False)
        self._sock.listen(backlog)
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def close(self) -> None:
        """Accept nothing more; connections that have not said whose they are end."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
        if self._paused is not None:
            self._paused.cancel()
        for waiting in list(self._waiting):
            waiting.end()

    def _accept(self) -> None:
        for _ in range(ACCEPTED):
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                logger.error("connections cannot be accepted for the next second: %s", error)
                self._loop.remove_reader(self._sock.fileno())
                self._paused = self._loop.call_later(PAUSE_S, self._resume)
                return
            address = peer[0].encode("ascii", "replace") if isinstance(peer, tuple) else b""
            if self._trusts(address):
                sock.setblocking(False)
                _Waiting(self, sock)
            else:
                logger.info(
                    "a connection from %s is closed: it is no trusted proxy", address.decode() or "a Unix socket"
                )
                sock.close()

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def _begin(self, sock: socket.socket, header: ProxyHeader) -> None:
        task = self._loop.create_task(self._begun(sock, header))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begun(self, sock: socket.socket, header: ProxyHeader) -> None:
        try:
            await self._hand_over(sock, header)
        except OSError as error:  # a failed handshake is one
            logger.debug("a connection behind a PROXY header ended: %s", error)


def serve_proxied(sock: socket.socket, connections: Connections, tls: ssl.SSLContext | None) -> ProxiedServer:
    """Serve the connections of `sock` among `connections`, with `tls` after a handshake."""
    loop = asyncio.get_running_loop()

    async def hand_over(accepted: socket.socket, header: ProxyHeader) -> None:
        make = partial(Connection, connections, b"http" if tls is None else b"https", header)
        if tls is None:
            await loop.connect_accepted_socket(make, accepted)
            return
        await loop.connect_accepted_socket(
            make,
            accepted,
            ssl=tls,
            ssl_handshake_timeout=connections.timeouts.handshake_s,
            ssl_shutdown_timeout=SHUTDOWN_S,
        )

    server = ProxiedServer(sock, connections.trusts, lambda: connections.timeouts.head_s, hand_over)
    server.start(BACKLOG)
    return server


class _Waiting:
    """One connection whose header is not whole."""

    __slots__ = ("_server", "_sock", "_taken", "_timer")

    def __init__(self, server: ProxiedServer, sock: socket.socket) -> None:
        self._server = server
        self._sock = sock
        self._taken = b""
        self._timer = server._loop.call_later(server._head_s(), self.end)
        server._waiting.add(self)
        server._loop.add_reader(sock.fileno(), self._read)

    def _read(self) -> None:
        try:
            seen = self._sock.recv(LONGEST, socket.MSG_PEEK)
            header = read_proxy_header(self._taken + seen) if seen else None
            taken = len(seen) if header is None else header.length - len(self._taken)
            # What was seen is there to be taken.
            self._taken += self._sock.recv(taken) if taken else b""
        except (BlockingIOError, InterruptedError):
            return
        except WireError as error:
            logger.info("a connection is closed: %s", error.detail)
            self.end()
            return
        except OSError:
            self.end()
            return
        if not seen:
            self.end()
        elif header is not None:
            self._leave()
            self._server._begin(self._sock, header)

    def _leave(self) -> None:
        self._timer.cancel()
        self._server._waiting.discard(self)
        self._server._loop.remove_reader(self._sock.fileno())

    def end(self) -> None:
        """Close it."""
        self._leave()
        self._sock.close()
