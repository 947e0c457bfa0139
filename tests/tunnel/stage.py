"""A stage with an edge that has no origin but what dials in, and agents that do and say what they are told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import ssl
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyby import Backend, Config, Edge, Route, Server
from flyby.clock import Clock
from flyby.config import Cache, Certificate, Pool, Timeouts, Tunnel
from flyby.control import State
from flyby.tunnel import Tunnel as EdgeTunnel
from tests.certificates import issue
from tests.e2e.stage import LIMIT, Client, Message, Origin, Script, read_head, reply

UPGRADE = {"Connection": "Upgrade", "Upgrade": "flyby-tunnel/1"}


class Gone(Exception):
    """The edge has closed the connection."""


class Control:
    """A control connection after its 101."""

    def __init__(self, head: Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = head
        self.reader = reader
        self.writer = writer

    def say(self, kind: str, **values: Any) -> None:
        self.write(json.dumps({"type": kind, **values}).encode() + b"\n")

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def hear(self) -> dict[str, Any]:
        """The next message. Raises `Gone`."""
        try:
            line = await asyncio.wait_for(self.reader.readline(), 5)
        except ConnectionError:
            line = b""
        if not line:
            raise Gone
        message: dict[str, Any] = json.loads(line)
        return message

    async def hear_of(self, kind: str) -> dict[str, Any]:
        """The next message of that type."""
        while (message := await self.hear())["type"] != kind:
            pass
        return message

    async def gone(self) -> bool:
        """Whether the edge closes it; what it says before is passed over."""
        try:
            while True:
                await self.hear()
        except Gone:
            return True


@dataclass
class Agent:
    """One dyno's agent: `origin` answers on its links as an app would."""

    address: tuple[str, int]
    token: str
    origin: Origin
    name: str = "web.1"
    tls: ssl.SSLContext | None = None
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    control: Control | None = None
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    readers: list[asyncio.StreamReader] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def dial(
        self, role: str = "control", **fields: str | None
    ) -> tuple[Message, asyncio.StreamReader, asyncio.StreamWriter]:
        """A handshake; `fields` replace the usual ones, None leaves one out."""
        reader, writer = await asyncio.open_connection(
            *self.address, limit=LIMIT, ssl=self.tls, server_hostname="edge.test" if self.tls else None
        )
        self.writers.append(writer)
        lines: dict[str, str | None] = {
            "Host": "edge.test",
            **UPGRADE,
            "Authorization": f"Bearer {self.token}",
            "Flyby-Role": role,
            "Flyby-Dyno": self.key,
            "Flyby-Agent": "0.1.0",
        }
        lines |= {name.replace("_", "-"): value for name, value in fields.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
        writer.write(f"GET /.flyby/tunnel HTTP/1.1\r\n{head}\r\n".encode())
        return await read_head(reader), reader, writer

    async def connect(self) -> Control:
        """A control connection that has not registered."""
        head, reader, writer = await self.dial("control")
        assert head.status == 101, head
        return Control(head, reader, writer)

    async def join(self, links: int = 1, **values: Any) -> Control:
        """Register, and donate `links` links."""
        control = await self.connect()
        self.control = control
        message = {"protocol": 1, "dyno": self.name, "agent": "0.1.0", "capacity": 50, "ready": True, **values}
        control.say("register", **message)
        registered = await control.hear()
        assert registered["type"] == "registered", registered
        for _ in range(links):
            await self.donate()
        return control

    async def donate(self) -> asyncio.StreamWriter:
        """One more link, served by `origin`."""
        head, reader, writer = await self.dial("link")
        assert head.status == 101, head
        self.readers.append(reader)
        self.tasks.append(asyncio.create_task(self.origin.serve(reader, writer)))
        return writer

    @property
    def links(self) -> int:
        """Links that the edge has not closed."""
        return sum(not reader.at_eof() and reader.exception() is None for reader in self.readers)

    async def stop(self) -> None:
        for writer in self.writers:
            writer.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@dataclass
class Stage:
    """The edge, its control state, and how to speak to both."""

    edge: Edge
    state: State
    token: str
    agents: list[Agent] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        return self.edge.addresses[0]

    @property
    def tunnel(self) -> EdgeTunnel:
        assert self.edge.tunnel is not None
        return self.edge.tunnel

    def agent(self, script: Script | None = None, **values: Any) -> Agent:
        script = script or reply(body=values.get("name", "web.1").encode(), Cache_Control="no-store")
        agent = Agent(self.address, values.pop("token", self.token), Origin(script), **values)
        self.agents.append(agent)
        return agent

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection(*self.address, limit=LIMIT))
        self.clients.append(client)
        return client

    async def ask(self, path: str = "/", method: str = "GET", body: bytes = b"", **fields: str) -> Message:
        """One request on a connection of its own."""
        client = await self.client()
        lines = [f"{method} {path} HTTP/1.1", "Host: shop.test"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        await client.send("\r\n".join([*lines, "", ""]).encode() + body)
        response = await client.response(method)
        await client.close()
        return response


@contextlib.asynccontextmanager
async def stage(**options: Any) -> AsyncIterator[Stage]:
    """Raise the curtain. `options`: secure (a second listener, with TLS), backend (Backend's keywords), pool, tunnel
    (keywords), clock, timeouts, release (one that was here before), cache (keywords),
    access_log."""
    with tempfile.TemporaryDirectory(prefix="flyby-test-") as directory, State.open(Path(directory, "state")) as state:
        _, token = state.add_backend("app")
        if "release" in options:
            state.record_release("app", options["release"])
        clock: Clock | None = options.get("clock")
        pairs = [issue(Path(directory), "edge", "edge.test")] if options.get("secure") else []
        config = Config(
            server=Server(
                listen=["127.0.0.1:0"] + ["https://127.0.0.1:0"] * bool(pairs),
                tls=[Certificate(certificate=certificate, key=key) for certificate, key in pairs],
                timeouts=options.get("timeouts", Timeouts(drain_s=0.1)),
                tunnel=Tunnel(node="edge-1", **options.get("tunnel", {})),
            ),
            cache=Cache(**{"size": "16MiB", **options.get("cache", {})}),
            backends={"app": Backend(tunnel=True, pool=Pool(**options.get("pool", {})), **options.get("backend", {}))},
            routes=[Route(backend="app")],
        )
        scene: Stage | None = None
        try:
            async with Edge(config, state=state, clock=clock, access_log=options.get("access_log")) as edge:
                scene = Stage(edge, state, token)
                yield scene
        finally:
            if scene is not None:
                for client in scene.clients:
                    await client.close()
                for agent in scene.agents:
                    await agent.stop()


async def until(condition: Any, seconds: float = 5.0) -> None:
    """Wait for something that another task or the edge is about to do."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
