"""TLS over a non-blocking socket, as an asyncio transport.

asyncio's own TLS puts two memory buffers and a protocol between the socket and whoever reads: 280 KiB a connection by
its default, 30 KiB at the least, and the agent has a hundred. OpenSSL can read and write the socket itself; what is
left to do is to ask it again when the socket is ready.

    readable ─▶ SSL_read until there is nothing, ─▶ protocol.data_received      nothing at all: eof_received
                or reading is paused
    write ─▶ SSL_write what goes out ─▶ the rest waits in `_out` for the socket to be writable
    close ─▶ `_out` goes out, then close_notify, then the socket      abort ─▶ the socket

A record may hold more than was read: OpenSSL then has bytes though the socket is not readable, so reading goes on until
it has none. A write that would block is tried again with the same bytes, as OpenSSL demands (SSL_write(3)). TLS has
no half-closed state here: the end of what comes ends both directions.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any

PIECE = 64 * 1024
HIGH = 64 * 1024  # of what waits to go out: the protocol is asked to pause
LOW = 16 * 1024
AT_ONCE = 16  # reads, before the loop sees to others


class SecureTransport(asyncio.Transport):
    """After its handshake. What is said of transports in asyncio's documentation holds."""

    __slots__ = ("_closing", "_fd", "_loop", "_lost", "_out", "_paused", "_protocol", "_sock", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: ssl.SSLSocket, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._protocol: Any = protocol
        self._out = bytearray()
        self._paused = False
        self._closing = False
        self._lost = False
        self._waiting = False  # the protocol was asked to pause
        loop.add_reader(self._fd, self._readable)
        protocol.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name in ("socket", "ssl_object"):
            return self._sock
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        found: asyncio.BaseProtocol = self._protocol
        return found

    def is_closing(self) -> bool:
        return self._closing

    # Reading.

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        if self.is_reading():
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        if self._paused and not self._closing:
            self._paused = False
            self._loop.add_reader(self._fd, self._readable)
            if self._sock.pending():
                self._loop.call_soon(self._readable)

    def _readable(self) -> None:
        for _ in range(AT_ONCE):
            if self._paused or self._closing:
                return
            try:
                data = self._sock.recv(PIECE)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                self._force(error)
                return
            if not data:
                if not self._protocol.eof_received():
                    self.close()
                else:
                    self._loop.remove_reader(self._fd)
                return
            try:
                self._protocol.data_received(data)
            except Exception as error:  # as asyncio's own transports do: a protocol that failed is in no known state
                self._loop.call_exception_handler({"message": "a connection's protocol failed", "exception": error})
                self._force(error)
                return
            if not self._closing and not self._sock.pending():
                return
        self._loop.call_soon(self._readable)

    # Writing.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._lost or self._closing:
            return
        if self._out:
            self._out += data
        else:
            sent = self._send(data)
            if sent == len(data) or self._lost:
                return
            self._out += memoryview(data)[sent:]
            self._loop.add_writer(self._fd, self._writable)
        if len(self._out) > HIGH and not self._waiting:
            self._waiting = True
            self._protocol.pause_writing()

    def _send(self, data: bytes | bytearray | memoryview) -> int:
        """How much went out; the connection is lost when it cannot."""
        sent = 0
        with memoryview(data) as view:
            while sent < len(view):
                try:
                    sent += self._sock.send(view[sent : sent + PIECE])
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    break
                except OSError as error:
                    self._force(error)
                    break
        return sent

    def _writable(self) -> None:
        sent = self._send(self._out)
        if self._lost:
            return
        del self._out[:sent]
        if len(self._out) <= LOW and self._waiting:
            self._waiting = False
            self._protocol.resume_writing()
        if not self._out and not self._lost:
            self._loop.remove_writer(self._fd)
            if self._closing:
                self._part()

    def get_write_buffer_size(self) -> int:
        return len(self._out)

    def can_write_eof(self) -> bool:
        return False

    # The end.

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._loop.remove_reader(self._fd)
        if not self._out:
            self._part()

    def abort(self) -> None:
        self._force(None)

    def _part(self) -> None:
        """Say that this is the end; nobody waits for the answer."""
        with contextlib.suppress(OSError, ValueError):
            self._sock.unwrap()
        self._force(None)

    def _force(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._out.clear()
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._loop.call_soon(self._end, error)

    def _end(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()


async def _ready(loop: asyncio.AbstractEventLoop, fd: int, write: bool) -> None:
    ready: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    add(fd, tell)
    try:
        await ready
    finally:
        remove(fd)


async def start(
    loop: asyncio.AbstractEventLoop, plain: socket.socket, tls: ssl.SSLContext, name: str, protocol: asyncio.Protocol
) -> SecureTransport:
    """Shake hands on a connected, non-blocking socket, and tell the protocol; OSError when that fails. `name` is the
    certificate's. The socket is the transport's, and closed when there is none."""
    try:
        sock = tls.wrap_socket(plain, server_hostname=name, do_handshake_on_connect=False)
    except BaseException:
        plain.close()
        raise
    try:
        while True:
            try:
                sock.do_handshake()
                return SecureTransport(loop, sock, protocol)
            except ssl.SSLWantReadError:
                await _ready(loop, sock.fileno(), False)
            except ssl.SSLWantWriteError:
                await _ready(loop, sock.fileno(), True)
    except BaseException:
        sock.close()
        raise
