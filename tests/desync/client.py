"""The client's side: bytes sent as they are, and the responses found in what came back.

An exchange ends when the proxy closes, or when everything was sent, was answered in full, and nothing more came for a
moment; it is only a proxy that says nothing that costs the whole `PATIENCE_S`.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

PATIENCE_S = 8.0  # after this the proxy hangs
SETTLE_S = 0.1  # how long an answered connection is watched for more

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[^\r\n]*(?:\r\n|\Z)")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)")
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]+)[^\r\n]*\r\n")


@dataclass
class Response:
    status: int  # 0: no response at all
    body: bytes = b""
    complete: bool = False
    lines: tuple[bytes, ...] = ()  # field lines in lower case, without spaces

    @property
    def final(self) -> bool:
        return self.status // 100 != 1


def split(data: bytes, *, head: bool) -> list[Response]:
    """The responses in a connection's bytes; the last may be incomplete, or rubbish with status 0."""
    found: list[Response] = []
    while data:
        response, data = _first(data, head)
        found.append(response)
        if not response.complete:
            break
    return found


def _first(data: bytes, head: bool) -> tuple[Response, bytes]:
    start = _STATUS_LINE.match(data)
    if start is None:
        return Response(0, data[:80]), b""
    status = int(start[1])
    block, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return Response(status), b""
    lower = block.lower()
    lines = tuple(line.replace(b" ", b"") for line in lower.split(b"\r\n")[1:])
    length = _LENGTH.search(lower)
    if head or status < 200 or status in (204, 304):
        return Response(status, b"", True, lines), rest
    if b"\r\ntransfer-encoding: chunked" in lower:
        body, after = _chunks(rest)
        return Response(status, body, after is not None, lines), after or b""
    if length is not None:
        size = int(length[1])
        return Response(status, rest[:size], len(rest) >= size, lines), rest[size:]
    return Response(status, rest, True, lines), b""


def _chunks(rest: bytes) -> tuple[bytes, bytes | None]:
    """The content, and what follows it; None when its end is missing."""
    body = b""
    while (found := _CHUNK_LINE.match(rest)) is not None:
        size = int(found[1], 16)
        rest = rest[found.end() :]
        if size == 0:
            if rest.startswith(b"\r\n"):
                return body, rest[2:]
            _, end, after = rest.partition(b"\r\n\r\n")
            return body, after if end else None
        body += rest[:size]
        if rest[size : size + 2] != b"\r\n":
            break
        rest = rest[size + 2 :]
    return body, None


def exchange(
    address: tuple[str, int],
    data: bytes,
    *,
    eof: bool = False,
    bytewise: bool = False,
    head: bool = False,
    answers: Callable[[], int] = lambda: 1,
) -> tuple[list[Response], bool]:
    """Send, and read until it is over: the responses, and whether the proxy closed.

    `answers` tells how many final responses are to come at least, as far as is known when it is called.
    """
    received = b""
    deadline = time.monotonic() + PATIENCE_S
    with socket.create_connection(address, 5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        sent, half_closed, last = 0, False, time.monotonic()
        step = 1 if bytewise else 65536
        while (now := time.monotonic()) < deadline:
            if sent < len(data):
                try:
                    sent += connection.send(data[sent : sent + step])
                except BlockingIOError:
                    select.select([connection], [connection], [], deadline - now)
                except OSError:
                    sent = len(data)  # it has closed: what it said is still there to read
                paced = bytewise and (sent < 512 or len(data) - sent < 512)
                wait = 0.0001 if paced else 0.0
            else:
                if eof and not half_closed:
                    half_closed = True
                    try:
                        connection.shutdown(socket.SHUT_WR)
                    except OSError:
                        return split(received, head=head), True
                answered = sum(each.final and each.complete for each in split(received, head=head))
                settled = answered >= max(answers(), 1)
                if settled and now - last > SETTLE_S:
                    break
                wait = SETTLE_S / 4 if settled else deadline - now
            readable, _, _ = select.select([connection], [], [], wait)
            if readable:
                try:
                    more = connection.recv(65536)
                except OSError:
                    return split(received, head=head), True
                if not more:
                    return split(received, head=head), True
                received += more
                last = time.monotonic()
    return split(received, head=head), False
