"""The origin of a soak, what it sends for each path, and how clients reach the edge.

A path is `/KIND/NUMBER`. The content of a path never changes, so that every response can be compared with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import lru_cache

from tests.certificates import trusting
from tests.e2e.stage import LIMIT, Client, Message, read_body, read_head

HOST = "edge.test"
LENGTHS = {
    "small": 300,
    "text": 9_000,
    "noise": 60_000,
    "large": 500_000,
    "huge": 2_000_000,
    "slow": 40_000,
    "late": 300,
    "pass": 1_500,
    "private": 1_000,
    "validate": 4_000,
    "broken": 100_000,
}
STORED = "Cache-Control: max-age=2\r\n"
FIELDS = {
    "pass": "Cache-Control: no-store\r\n",
    "private": "Cache-Control: private\r\nSet-Cookie: seen=1\r\n",
    "validate": "Cache-Control: no-cache\r\n",
    "late": "Cache-Control: no-store\r\n",
}
LATE_S = 1.0
STREAMED_EVERY_S = 0.05
BROKEN_AT = 5_000


@lru_cache(2000)
def content(path: str) -> bytes:
    """What the origin sends for a path: text that can be packed, or noise that cannot."""
    kind = path.split("/")[1]
    noise = hashlib.shake_128(path.encode())
    length = LENGTHS[kind]
    return noise.digest(length) if kind in ("noise", "large") else (noise.digest(50) * (length // 50 + 1))[:length]


async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection of the edge."""
    try:
        while True:
            request = await read_head(reader)
            if request.method == "POST":
                await _take(request, reader, writer)
            else:
                await _give(request, writer)
            await writer.drain()
            if writer.is_closing():
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the edge has left
    finally:
        writer.close()


async def _take(request: Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A POST: the digest of its content; /early/ answers before it reads, and reads on."""
    if request.target.startswith("/early"):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        await read_body(reader, request)
        return
    await read_body(reader, request)
    digest = hashlib.sha256(request.body).hexdigest().encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(digest), digest))


async def _give(request: Message, writer: asyncio.StreamWriter) -> None:
    path = request.target
    kind = path.split("/")[1]
    if kind in ("late", "later"):
        await asyncio.sleep(LATE_S)
    if kind in ("stream", "later"):
        writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"100\r\n" + b"x" * 256 + b"\r\n")
            await writer.drain()
            await asyncio.sleep(STREAMED_EVERY_S)
        return
    body = content(path)
    tag = f'"{path}"'
    fields = f"ETag: {tag}\r\n{FIELDS.get(kind, STORED)}"
    if request.get("if-none-match") == tag:
        writer.write(f"HTTP/1.1 304 Not Modified\r\n{fields}\r\n".encode())
    elif kind == "slow":
        writer.write(f"HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n".encode())
        for start in range(0, len(body), 4000):
            piece = body[start : start + 4000]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await asyncio.sleep(STREAMED_EVERY_S)
        writer.write(b"0\r\n\r\n")
    else:
        sent = body[:BROKEN_AT] if kind == "broken" else body
        writer.write(f"HTTP/1.1 200 OK\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + sent)
        if kind == "broken":
            await writer.drain()
            writer.close()


@dataclass
class Town:
    """The edge's two ports, and what came of all that was asked there."""

    plain: int
    secure: int
    random: random.Random
    context: ssl.SSLContext = field(default_factory=trusting)
    played: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    number: int = 0

    def new(self) -> int:
        """A number that no path has had."""
        self.number += 1
        return self.number

    @contextlib.asynccontextmanager
    async def client(self, secure: bool | None = None) -> AsyncIterator[Client]:
        """A connection, over TLS or not as chance will have it."""
        if self.random.random() < 0.5 if secure is None else secure:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.secure, limit=LIMIT, ssl=self.context, server_hostname=HOST
            )
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.plain, limit=LIMIT)
        client = Client(reader, writer)
        try:
            yield client
        finally:
            with contextlib.suppress(ssl.SSLError):  # bytes that crossed our close_notify
                await client.close()

    def compare(self, what: str, response: Message, expected: bytes, status: int = 200) -> None:
        """Note a response that is not what it should be."""
        if not response.complete:
            self.wrong.append(f"{what}: ended after {len(response.body)} bytes of {len(expected)}")
        elif response.status != status:
            self.wrong.append(f"{what}: {response.start}")
        elif response.body != expected:
            self.wrong.append(f"{what}: {len(response.body)} bytes that are not the origin's")
