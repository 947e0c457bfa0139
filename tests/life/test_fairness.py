"""Plays: what one client or one origin can make this worker do in one turn of the loop, and keep, is bounded.

Turns and bytes are counted; no time is measured.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from flyby.config import Purge
from tests.e2e.stage import Message, Origin, play
from tests.life.stage import CHUNKED, HEAD, PASSED, Life, life, listening, turns, until

MANY = 10_000
CHUNK = b"1\r\nx\r\n"
HIT = b"GET /hit HTTP/1.1\r\nHost: shop.test\r\n\r\n"


class Turns:
    """Counts the loop's turns, and the most that happened between two of them."""

    def __init__(self, done: Callable[[], int]) -> None:
        self.done = done
        self.count = 0
        self.most = 0
        self._before = done()
        self._handle = asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        now = self.done()
        self.count += 1
        self.most = max(self.most, now - self._before)
        self._before = now
        self._handle = asyncio.get_running_loop().call_soon(self._turn)

    def stop(self) -> None:
        self._handle.cancel()


async def stored(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Cache-Control: max-age=600\r\nContent-Length: 100\r\n\r\n" + b"x" * 100)


def answered(scene: Life) -> int:
    return scene.edge.statistics().requests.requests


@play
async def test_pipelined_hits_take_turns_with_everybody_else() -> None:
    async with life(stored) as scene:
        await scene.ask("/hit")
        client, beside = await scene.connect(), await scene.connect()
        counted = Turns(lambda: answered(scene))
        client.writer.write(HIT * MANY)
        served = 0
        for _ in range(20):  # a small hit beside them is never behind all of them
            await scene.again(beside, "/hit")
            assert (await beside.response()).status == 200
            served += 1
            if answered(scene) >= MANY:
                break
        scene.asked += MANY
        await until(lambda: answered(scene) >= MANY + 1 + served, 10)
        counted.stop()
        # One read of the socket, of 64 KiB, holds 1,600 of them; a turn is left long before they are all answered.
        assert counted.most <= 2_000
        assert served > 3
        await client.reader.readexactly(100 * MANY)


@play
async def test_pipelined_purges_take_turns_with_everybody_else() -> None:
    async with life(stored, purge=Purge(allow=["127.0.0.1"])) as scene:
        await scene.ask("/hit")
        client = await scene.connect()
        counted = Turns(lambda: answered(scene))
        purges = MANY // 10
        scene.asked += purges
        client.writer.write(b"PURGE /x HTTP/1.1\r\nHost: shop.test\r\n\r\n" * purges)
        await until(lambda: answered(scene) >= purges + 1, 20)
        counted.stop()
        assert counted.most <= purges // 4


@play
async def test_a_response_of_tiny_chunks_costs_a_write_for_many_of_them() -> None:
    """Whoever passes them on one by one makes a call of the kernel for each: 10,000 in one turn."""

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + PASSED + CHUNKED + CHUNK * MANY + b"0\r\n\r\n")

    async with life(script) as scene:
        client = await scene.send("/chunks")
        data = await client.reader.readuntil(b"\r\n0\r\n\r\n")
        body = data.partition(b"\r\n\r\n")[2]
        sizes = [int(size, 16) for size in re.findall(rb"(?:^|x\r\n)([0-9a-f]+)\r\n", body)]
        assert sum(sizes) == MANY
        assert len(sizes) <= MANY // 50


@play
async def test_an_upload_of_tiny_chunks_costs_a_write_for_many_of_them() -> None:
    sizes: list[int] = []

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        while size := int(await reader.readuntil(b"\r\n"), 16):
            sizes.append(size)
            await reader.readexactly(size + 2)
        writer.write(HEAD + PASSED + b"Content-Length: 0\r\n\r\n")

    async with listening(app) as backend, life(stored, backend=backend) as scene:
        answer = await scene.ask("/up", "POST", "Transfer-Encoding: chunked", content=CHUNK * MANY + b"0\r\n\r\n")
        assert answer.status == 200
        assert sum(sizes) == MANY
        assert len(sizes) <= MANY // 50


PROSE = (b"The quick brown fox jumps over the lazy dog. " * 180_000)[:8_000_000]


@play
async def test_silent_readers_of_a_packed_text_hold_a_bounded_piece_each() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        head = b"Content-Type: text/plain\r\nCache-Control: max-age=600\r\nContent-Length: %d\r\n\r\n" % len(PROSE)
        writer.write(HEAD + head + PROSE)

    async with life(script, cache={"size": "64MiB", "max_object": "16MiB"}) as scene:
        for _ in range(2):
            assert len((await scene.ask("/prose")).body) == len(PROSE)
        readers = []
        for _ in range(40):
            client = await scene.connect()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await scene.again(client, "/prose")
            readers.append(client)
        most = 0
        for _ in range(10):
            await turns()
            most = max(most, scene.edge.statistics().buffered)
        assert most <= 40 * 64 * 1024
        # Nothing of it was unpacked for good: one reads on, and gets all.
        readers[0].writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await readers[0].response()).body == PROSE


@play
async def test_an_origin_is_not_read_faster_than_its_client_reads() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + PASSED + b"Content-Length: 50000000\r\n\r\n")
        for _ in range(500):
            writer.write(b"x" * 100_000)
            await writer.drain()

    async with life(script) as scene:
        clients = []
        for _ in range(10):
            client = await scene.connect()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await scene.again(client, "/big")
            clients.append(client)
        most = 0
        for _ in range(20):
            await turns()
            most = max(most, scene.edge.statistics().buffered)
        assert most <= 10 * 256 * 1024
