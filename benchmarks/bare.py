"""`python bare.py PORT SECURE-PORT CERTIFICATE`: a uvloop server that answers everything with 1 KiB from memory.

No parser, no limits, no log: the least that a server on this event loop pays for a connection, with TLS (uvloop's own)
and without. What flyby's connections cost beside it is flyby's own.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
from typing import cast

import uvloop

BODY = b"x" * 1024
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n"
KEPT = HEAD + b"\r\n" + BODY
CLOSED = HEAD + b"Connection: close\r\n\r\n" + BODY


class Connection(asyncio.Protocol):
    """Answers each head that ends; closes when the request says so."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head, self._received = self._received[:end], self._received[end + 4 :]
            if b"\r\nConnection: close" in head:
                self._transport.write(CLOSED)
                self._transport.close()
                return
            self._transport.write(KEPT)


async def main(port: int, secure: int, certificate: str) -> None:
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    await loop.create_server(Connection, "127.0.0.1", port, backlog=1024)
    await loop.create_server(Connection, "127.0.0.1", secure, backlog=1024, ssl=context)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
