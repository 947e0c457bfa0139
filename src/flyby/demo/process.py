"""The demo app's process: its loop, its signals, and HTTP/1.1 as far as an origin behind flyby needs it.

Requests on a connection are answered one after the other. httptools reads them whole: the only client is the edge on
the same machine, which sends clean requests, so nothing here defends against anybody; the port is on loopback.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import deque
from email.utils import formatdate

import httptools

from flyby.demo.app import Answer, App, Request

REASONS = {200: b"OK", 304: b"Not Modified", 404: b"Not Found", 405: b"Method Not Allowed", 503: b"Service Unavailable"}
READ_SIZE = 64 * 1024


class _Reader:
    """Collects what httptools reports into whole requests; bodies are of no interest to any page."""

    __slots__ = ("_fields", "_parser", "_target", "ready")

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._fields: dict[bytes, bytes] = {}
        self.ready: deque[tuple[Request, bool]] = deque()

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._target = b""
        self._fields = {}

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields[name.lower()] = value

    def on_message_complete(self) -> None:
        request = Request(self._parser.get_method(), self._target.partition(b"?")[0], self._fields)
        self.ready.append((request, self._parser.should_keep_alive()))


def head(answer: Answer, keep_alive: bool) -> bytes:
    """The response head (RFC 9112 4): a body that comes in pieces is chunked, any other has its length."""
    lines = [b"HTTP/1.1 %d %s" % (answer.status, REASONS[answer.status])]
    lines.append(b"Date: " + formatdate(usegmt=True).encode())
    lines.append(b"Server: flyby-demo")
    lines += [name + b": " + value for name, value in answer.fields]
    if answer.pieces:
        lines.append(b"Transfer-Encoding: chunked")
    elif answer.status != 304:  # it has no content, and the length would be that of the 200 (RFC 9110 15.4.5)
        lines.append(b"Content-Length: %d" % len(answer.body))
    if not keep_alive:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def _send(writer: asyncio.StreamWriter, answer: Answer, method: bytes, keep_alive: bool) -> None:
    start = head(answer, keep_alive)
    if method == b"HEAD" or answer.status == 304 or not answer.pieces:
        # In one write: a second small one would wait for the first's acknowledgement (RFC 896).
        writer.write(start if method == b"HEAD" or answer.status == 304 else start + answer.body)
        await writer.drain()
        return
    writer.write(start)
    for count, piece in enumerate(answer.pieces):
        if count:
            await asyncio.sleep(answer.pause_s)
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def connection(app: App, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, to its end."""
    requests = _Reader()
    try:
        while data := await reader.read(READ_SIZE):
            requests.feed(data)
            while requests.ready:
                request, keep_alive = requests.ready.popleft()
                await _send(writer, app.answer(request), request.method, keep_alive)
                if not keep_alive:
                    return
    except (httptools.HttpParserError, httptools.HttpParserUpgrade, ConnectionError):
        return  # nobody left to tell
    finally:
        writer.close()


def serve(listener: socket.socket) -> int:
    """Serve on `listener` until TERM. INT is ignored: the supervisor decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asyncio.run(_serve(listener))
    return os.EX_OK


async def _serve(listener: socket.socket) -> None:
    app = App()
    open_connections: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(connection(app, reader, writer))
        open_connections.add(task)
        task.add_done_callback(open_connections.discard)

    # A copy, because the server closes what it is given, and a restarted process needs the socket again.
    server = await asyncio.start_server(accepted, sock=listener.dup())
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    await stop.wait()
    server.close()
    for task in open_connections:
        task.cancel()
    await asyncio.gather(*open_connections, return_exceptions=True)
