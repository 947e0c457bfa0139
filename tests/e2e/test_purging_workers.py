"""A purge by tag, sent to one of two workers while both have fetches under way: nothing that was asked for before it is
served from the store after it, by either.
"""

from __future__ import annotations

import asyncio
import json

from tests.e2e.stage import Message, Origin, play, read_body, read_head
from tests.edge import served

KEYS = 40
SECRET = "open-sesame"


class Versions:
    """An origin that says in which version it answers, and holds back the answers of the first."""

    def __init__(self) -> None:
        self.version = 1
        self.waiting = 0
        self.go = asyncio.Event()

    async def script(self, origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        body = b"%d" % self.version
        number = int(request.target[1:])
        head = (
            f"HTTP/1.1 200 OK\r\nDate: {origin.date}\r\nCache-Control: max-age=60\r\n"
            f"Surrogate-Key: all even{number % 2}\r\nContent-Length: 1\r\n\r\n"
        ).encode()
        late = self.version == 1
        if number % 4 < 2:
            writer.write(head)
            await writer.drain()
            head = b""
        if late:
            self.waiting += 1
            await self.go.wait()
        writer.write(head + body)


async def ask(port: int, path: str, method: str = "GET", fields: str = "") -> Message:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n{fields}\r\n".encode())
    message = await read_head(reader)
    await read_body(reader, message)
    writer.close()
    return message


@play
async def test_a_purge_by_tag_across_two_workers_while_fills_are_under_way() -> None:
    versions = Versions()
    origin = Origin(versions.script)
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = (
        f'[server]\nlog = "off"\n[server.purge]\nsecret = "{SECRET}"\n'
        f'[backends.app]\norigins = ["http://127.0.0.1:{port}"]\n'
    )
    loop = asyncio.get_running_loop()
    running = served(config=config, workers=2)
    edge = await loop.run_in_executor(None, running.__enter__)
    try:
        early = [asyncio.create_task(ask(edge.port, f"/{n % KEYS}")) for n in range(3 * KEYS)]
        while versions.waiting < KEYS:
            await asyncio.sleep(0.01)
        versions.version = 2
        secret = f"Authorization: Bearer {SECRET}\r\nFlyby-Purge-Tag: "
        answer = await ask(edge.port, "/", "PURGE", secret + "even0\r\n")
        assert json.loads(answer.body) == {"purged": 0, "tags": {"even0": 0}}
        late = [asyncio.create_task(ask(edge.port, f"/{n % KEYS}")) for n in range(0, 2 * KEYS, 2)]
        await asyncio.sleep(0)
        versions.go.set()
        assert {(await each).body for each in early} <= {b"1", b"2"}
        assert {(await each).body for each in late} == {b"2"}
        for _ in range(4):
            bodies = [(await ask(edge.port, f"/{n}")).body for n in range(KEYS)]
            assert bodies == [b"1" if n % 2 else b"2" for n in range(KEYS)]
        answer = await ask(edge.port, "/", "PURGE", secret + "all\r\n")
        assert json.loads(answer.body)["purged"] == KEYS
        assert {(await ask(edge.port, f"/{n}")).body for n in range(KEYS)} == {b"2"}
    finally:
        await loop.run_in_executor(None, running.__exit__, None, None, None)
        server.close()
