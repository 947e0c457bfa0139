"""A stage for plays about the life of a request: at its end nothing may be left of any of them.

The origin is dialled, or reached through the tunnel, as the play is told; to the play it makes no difference. When the
curtain falls the clients leave, and then nothing may be leased, dialled, waited for, filled, or held in the store, and
each request that was sent must have one record.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from flyby import Edge
from flyby.config import Timeouts
from flyby.log import AccessRecord
from tests.e2e import stage as direct
from tests.e2e.stage import LIMIT, Client, Message, Origin, Script, play, reply
from tests.tunnel import stage as tunnelled

TIMEOUTS: dict[str, Any] = {"drain_s": 0.1}
LINKS = 4  # that a dyno's agent donates on the tunnel's stage
HEAD = b"HTTP/1.1 200 OK\r\n"
STORED = b"Cache-Control: max-age=60\r\n"
PASSED = b"Cache-Control: no-store\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for what the edge, the origin or a client is about to do."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


async def turns(count: int = 20) -> None:
    """Let the loop turn: what is on its way between the sockets of this process arrives."""
    for _ in range(count):
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)


@dataclass
class Life:
    """The edge, its origin, those who ask, and what was recorded of them."""

    edge: Edge
    origin: Origin
    records: list[AccessRecord]
    clients: list[Client] = field(default_factory=list)
    asked: int = 0  # requests that were sent, and will have a record each

    @property
    def leased(self) -> int:
        """Connections to the origin that an exchange holds."""
        backend = self.edge.statistics().backends["app"]
        donated = sum(donor.in_flight for donor in backend.donors)
        return donated + sum(origin.leased for origin in backend.origins)

    @property
    def waiting(self) -> int:
        """Requests that wait for a connection."""
        return sum(origin.waiting for origin in self.edge.statistics().backends["app"].origins)

    @property
    def early(self) -> int:
        """Places of the early share that are taken."""
        assert self.edge._context is not None
        share: Any = self.edge._context.early
        taken: int = share.taken
        return taken

    @property
    def readers(self) -> int:
        """Requests that have followed a fetch so far."""
        store = self.edge.statistics().store
        assert store is not None
        return store.collapsed

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection(*self.edge.addresses[0], limit=LIMIT))
        self.clients.append(client)
        return client

    async def send(
        self, path: str = "/", method: str = "GET", *lines: str, version: str = "1.1", content: bytes = b""
    ) -> Client:
        """Send a request on a connection of its own; `content` is sent as it is, behind the head."""
        client = await self.connect()
        await self.again(client, path, method, *lines, version=version, content=content)
        return client

    async def again(
        self,
        client: Client,
        path: str = "/",
        method: str = "GET",
        *lines: str,
        version: str = "1.1",
        content: bytes = b"",
    ) -> None:
        """Send a request on a connection that is there."""
        self.asked += 1
        head = "\r\n".join([f"{method} {path} HTTP/{version}", "Host: shop.test", *lines, "", ""])
        await client.send(head.encode("latin-1") + content)

    async def ask(self, path: str = "/", method: str = "GET", *lines: str, **how: Any) -> Message:
        """A request and its response, on a connection of its own."""
        client = await self.send(path, method, *lines, **how)
        response = await asyncio.wait_for(client.response(method), 5)
        await client.close()
        return response

    async def asked_for(self, count: int) -> None:
        """Until the origin has got so many requests."""
        await until(lambda: len(self.origin.requests) >= count)

    async def followed(self, count: int) -> None:
        """Until so many requests follow a fetch."""
        await until(lambda: self.readers >= count)

    async def freed(self) -> None:
        """Until no connection to the origin is held any more."""
        await until(lambda: not self.leased)

    def of(self, path: str) -> list[tuple[int, str, str]]:
        """Status, outcome and reason of each record of a path."""
        return [(r.status, r.outcome, r.reason) for r in self.records if r.path == path.encode()]

    def left(self) -> dict[str, object]:
        """What is held by nobody's request, by name; empty when all was given back."""
        statistics = self.edge.statistics()
        backend = statistics.backends["app"]
        assert statistics.store is not None
        assert self.edge._store is not None
        found: dict[str, object] = {
            "connections": statistics.connections,
            "fills": statistics.store.fills_open,
            "early": self.early,
            "check": self.edge._store.check(),
            "donated": sum(donor.in_flight for donor in backend.donors),
        }
        for name in ("leased", "dialling", "waiting", "in_flight"):
            found[name] = sum(getattr(origin, name) for origin in backend.origins)
        return {name: value for name, value in found.items() if value}

    async def end(self) -> None:
        """The clients leave. Raises when something is left of a request, or it was not recorded once."""
        for client in self.clients:
            await client.close()
        try:
            await until(lambda: not self.left(), 3)
            await until(lambda: len(self.records) >= self.asked, 3)
        except TimeoutError:
            pass
        assert self.left() == {}
        assert len(self.records) == self.asked, self.records


@contextlib.asynccontextmanager
async def life(script: Script, tunnel: bool = False, kept: bool = False, **options: Any) -> AsyncIterator[Life]:
    """Raise the curtain. With `kept`, connections to the origin lie ready, as through the tunnel.

    `options`: those of the stage in `tests.e2e`; `timeouts` are keywords, and so are `pool` and `backend`. Through the
    tunnel `pool`, `backend`, `cache` and `timeouts` count.
    """
    records: list[AccessRecord] = []
    timeouts = Timeouts(**{**TIMEOUTS, **options.pop("timeouts", {})})
    backend = options.pop("backend", {})
    if tunnel:
        async with tunnelled.stage(timeouts=timeouts, backend=backend, access_log=records.append, **options) as scene:
            agent = scene.agent(script)
            await agent.join(LINKS)
            records.clear()  # of the handshakes
            yield (played := Life(scene.edge, agent.origin, records))
            # A link that the edge has closed is donated anew by a real agent; here the play is over.
            await played.end()
        return
    if "pool" in options:
        backend = {**backend, "pool": direct.Pool(**options.pop("pool"))}
    async with direct.stage(script, timeouts=timeouts, backend=backend, access_log=records.append, **options) as scene:
        played = Life(scene.edge, scene.origin, records)
        if kept:
            await keep(played)
        yield played
        await played.end()


async def keep(scene: Life) -> None:
    """Leave kept connections to the origin behind, and nothing else: what goes out next takes the short cuts."""
    script, scene.origin.script = scene.origin.script, reply(Cache_Control="no-store")
    together = [await scene.send(f"/kept/{number}", "POST", "Content-Length: 0") for number in range(LINKS)]
    for client in together:
        await client.response()
        await client.close()
    await until(lambda: not scene.left() and len(scene.records) == LINKS)
    scene.origin.script = script
    scene.origin.requests.clear()
    scene.clients.clear()
    scene.records.clear()
    scene.asked = 0


WAYS: dict[str, dict[str, bool]] = {"dialled": {}, "kept": {"kept": True}, "tunnel": {"tunnel": True}}


def every_way(story: Callable[[dict[str, bool]], Coroutine[Any, Any, None]]) -> Callable[[str], None]:
    """Turn a play into a test with an origin that is dialled, with one whose connections are kept, and through the
    tunnel; the play gives what it is called with to `life`."""

    @pytest.mark.parametrize("way", WAYS)
    def test(way: str) -> None:
        async def told() -> None:
            await story(WAYS[way])

        play(told)()

    test.__name__ = story.__name__
    test.__doc__ = story.__doc__
    return test


async def head_of(client: Client) -> bytes:
    """The next head that a client gets, as bytes."""
    return await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 5)


async def rest_of(client: Client) -> bytes:
    """All that a client gets until its connection ends; how it ended is the last word: `<FIN>` or `<RST>`."""
    data = b""
    try:
        while more := await asyncio.wait_for(client.reader.read(1 << 20), 5):
            data += more
    except ConnectionResetError:
        return data + b"<RST>"
    return data + b"<FIN>"


def unchunked(data: bytes) -> tuple[bytes, bool]:
    """The content of a chunked message, and whether it is whole."""
    content = b""
    while match := re.match(rb"([0-9a-f]+)\r\n", data):
        size = int(match[1], 16)
        if size == 0:
            return content, data[match.end() :].startswith(b"\r\n")
        content += data[match.end() : match.end() + size]
        data = data[match.end() + size + 2 :]
    return content, False


def scripts(**by_path: Callable[[Origin, Message, asyncio.StreamWriter], Awaitable[None]]) -> Script:
    """A script for each first word of a path; `/a/1` is `a`'s."""

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await by_path[request.target.split("?")[0].split("/")[1] or "root"](origin, request, writer)

    return script


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(handler: Handler, limit: int = LIMIT) -> AsyncIterator[dict[str, object]]:
    """An origin that reads for itself; the backend's keywords for it."""
    served: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=limit)
    try:
        yield {"origins": [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"]}
    finally:
        server.close()
        for writer in served:
            writer.transport.abort()
