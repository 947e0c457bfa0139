"""A stage for plays: a scripted origin, a real `Edge`, and a client that says byte for byte what it is told to.

All three live in one event loop and talk over real loopback sockets. A play is one async function: it gives the
origin its script, speaks the client's lines, and looks at what each side saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import uvloop

from flyby import Backend, Config, Edge, Route, Server
from flyby.config import Cache, Pool, Timeouts

LIMIT = 1 << 26


@dataclass
class Message:
    """A request as the origin saw it, or a response as the client did."""

    start: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    interim: list[Message] = field(default_factory=list)
    complete: bool = True

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])

    @property
    def target(self) -> str:
        return self.start.split(" ")[1]

    @property
    def method(self) -> str:
        return self.start.split(" ")[0]

    def get(self, name: str) -> str | None:
        values = self.get_all(name)
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]


async def read_head(reader: asyncio.StreamReader) -> Message:
    block = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    start, *lines = block.removesuffix("\r\n\r\n").split("\r\n")
    return Message(start, [(name, value) for name, _, value in (line.partition(": ") for line in lines)])


async def read_body(
    reader: asyncio.StreamReader, message: Message, bodiless: bool = False, until_eof: bool = False
) -> None:
    """Read the content that the head declares; marks the message incomplete when the stream ends early."""
    length = message.get("content-length")
    try:
        if bodiless:
            return
        if message.get("transfer-encoding") == "chunked":
            while size := int((await reader.readuntil(b"\r\n"))[:-2], 16):
                message.body += (await reader.readexactly(size + 2))[:-2]
            while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
                name, _, value = line[:-2].decode("latin-1").partition(": ")
                message.fields.append(("trailer:" + name, value))
        elif length is not None:
            message.body = await reader.readexactly(int(length))
        elif until_eof:
            message.body = await reader.read()
    except asyncio.IncompleteReadError as error:
        message.body += error.partial
        message.complete = False


class Client:
    """One raw connection to the edge."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes | str) -> None:
        self.writer.write(data.encode("latin-1") if isinstance(data, str) else data)
        await self.writer.drain()

    async def response(self, method: str = "GET") -> Message:
        interim = []
        while True:
            head = await read_head(self.reader)
            if head.status >= 200 or head.status == 101:
                break
            interim.append(head)
        head.interim = interim
        bodiless = method == "HEAD" or head.status in (101, 204, 304)
        await read_body(self.reader, head, bodiless, until_eof=True)
        return head

    async def closed(self) -> bool:
        """Whether the edge has closed: nothing more is there to read."""
        with contextlib.suppress(ConnectionResetError):
            return await asyncio.wait_for(self.reader.read(1), 5) == b""
        return True

    def reset(self) -> None:
        """Be gone at once (RST): an orderly end of the stream may only mean that nothing more will be asked."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def go_on(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
    """Ask for the content that a client holds back (RFC 9110 10.1.1), and read it."""
    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    await read_body(origin.readers[writer], request)


Script = Callable[["Origin", Message, asyncio.StreamWriter], Awaitable[None]]


def reply(status: int = 200, body: bytes = b"hello", **fields: str | list[str]) -> Script:
    """An origin's script: the same answer to every request; names are given with underscores for hyphens."""

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} Status", *([] if "Date" in fields else [f"Date: {origin.date}"])]
        for name, value in fields.items():
            lines += [f"{name.replace('_', '-')}: {each}" for each in ([value] if isinstance(value, str) else value)]
        bodiless = request.method == "HEAD" or status in (204, 304)
        if status not in (204, 304):
            lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if bodiless else body))

    return script


class Origin:
    """An HTTP/1.1 server that follows a script and remembers what it was asked."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Message] = []
        self.connections = 0
        self.writers: set[asyncio.StreamWriter] = set()
        self.readers: dict[asyncio.StreamWriter, asyncio.StreamReader] = {}  # for scripts that read content themselves

    @property
    def date(self) -> str:
        from flyby.clock import SystemClock
        from flyby.policy import format_http_date

        return format_http_date(SystemClock().wall_ms() // 1000).decode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        self.readers[writer] = reader
        try:
            while True:
                request = await read_head(reader)
                if request.get("expect") is None:
                    await read_body(reader, request)
                self.requests.append(request)
                await self.script(self, request, writer)
                await writer.drain()
                if writer.is_closing():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()


@dataclass
class Stage:
    """The origin, the edge, and how to speak to it."""

    origin: Origin
    edge: Edge
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        host, port = self.edge.addresses[0]
        client = Client(*await asyncio.open_connection(host, port, limit=LIMIT))
        self.clients.append(client)
        return client

    async def ask(self, path: str = "/", method: str = "GET", body: bytes = b"", **fields: str) -> Message:
        """One request on a connection of its own."""
        client = await self.connect()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {fields.pop('Host', 'shop.test')}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        await client.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        response = await client.response(method)
        await client.close()
        return response


@contextlib.asynccontextmanager
async def stage(script: Script, **options: Any) -> AsyncIterator[Stage]:
    """Raise the curtain. `options`: profile, cache (Cache's keywords), purge, route (RouteCache), timeouts, limits,
    backend (Backend's keywords), backends (their names), routes, server (Server's), access_log, clock."""
    origin = Origin(script)
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0, limit=LIMIT)
    port = server.sockets[0].getsockname()[1]
    backend: dict[str, Any] = {"origins": [f"http://127.0.0.1:{port}"], "pool": Pool(max_connections=256)}
    backend |= options.get("backend", {})
    config = Config(
        server=Server(
            timeouts=options.get("timeouts", Timeouts(drain_s=0.1)),
            **{key: options[key] for key in ("purge", "limits") if key in options},
            **{"listen": ["127.0.0.1:0"], **options.get("server", {})},
        ),
        cache=Cache(**{"size": "16MiB", "profile": options.get("profile", "default"), **options.get("cache", {})}),
        backends={name: Backend(**backend) for name in options.get("backends", ["app"])},
        routes=options.get("routes", [Route(backend="app")]),
    )
    scene: Stage | None = None
    try:
        async with Edge(config, access_log=options.get("access_log"), clock=options.get("clock")) as edge:
            scene = Stage(origin, edge)
            yield scene
    finally:
        for client in scene.clients if scene is not None else ():
            await client.close()
        server.close()
        for writer in list(origin.writers):
            writer.close()


def play(story: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Turn an async play into a test, bounded in time."""

    def test() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(asyncio.wait_for(story(), 30))

    test.__name__ = story.__name__
    test.__doc__ = story.__doc__
    return test
