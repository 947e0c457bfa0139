"""Plays: connections to an origin, and who gets them: only those at rest, and from those who may be gone first."""

from __future__ import annotations

import asyncio
import gc

import pytest

from flyby import Edge
from flyby.proxy.fetching._fetch import Fetch
from tests.e2e.stage import Message, Origin, play, reply
from tests.life.stage import CHUNKED, HEAD, PASSED, STORED, chunk, head_of, life, rest_of, turns, until

ONE = {"max_connections": 1, "wait_s": 3}


class Streams:
    """A script of endless streams below /events, until `end` ends them, and of small responses elsewhere."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.ended: list[asyncio.Event] = []

    async def __call__(self, origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if not request.target.startswith("/events"):
            await reply(Cache_Control="no-store")(origin, request, writer)
            return
        writer.write(HEAD + PASSED + CHUNKED)
        self.writers.append(writer)
        self.ended.append(asyncio.Event())
        await self.ended[-1].wait()
        writer.write(b"0\r\n\r\n")

    def say(self, number: int, data: bytes) -> None:
        self.writers[number].write(chunk(data))

    def end(self, number: int) -> None:
        self.ended[number].set()


@play
async def test_surplus_is_nobodys_response() -> None:
    """What an origin sends beyond its response meets no request that waited for the connection (RFC 9112 9.2)."""

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.005)  # the others are waiting by then
        number = request.target.encode()
        writer.write(HEAD + PASSED + b"Content-Length: %d\r\n\r\n%b" % (len(number), number))
        if request.target.endswith("0"):
            writer.write(HEAD + STORED + b"Content-Length: 6\r\n\r\npoison")

    async with life(script, pool=ONE) as scene:
        clients = [await scene.send(f"/{number}") for number in range(31)]
        for number, client in enumerate(clients):
            assert (await client.response()).body == b"/%d" % number


@play
async def test_half_closed_clients_are_given_up_for_those_who_wait_the_longest_silence_first() -> None:
    streams = Streams()
    async with life(streams, pool={"max_connections": 3, "wait_s": 3}, timeouts={"half_closed_s": 30}) as scene:
        clients = []
        for number in range(3):
            clients.append(await scene.send(f"/events/{number}"))
            await head_of(clients[-1])
        for client in clients[:2]:
            client.writer.write_eof()
        await turns()
        streams.say(0, b"news")  # now the second has been silent for longer
        assert await clients[0].reader.readuntil(b"news\r\n")
        assert (await scene.ask("/small")).status == 200
        assert await rest_of(clients[1]) == b"<RST>"
        assert scene.of("/events/1") == [(200, "pass", "client-left")]
        for number in (0, 2):
            streams.say(number, b"still")
            streams.end(number)
            assert b"still" in await clients[number].reader.readuntil(b"0\r\n\r\n")


@play
async def test_nobody_is_given_up_while_nobody_waits() -> None:
    streams = Streams()
    async with life(streams, pool={"max_connections": 2}, timeouts={"half_closed_s": 30}) as scene:
        client = await scene.send("/events/0")
        await head_of(client)
        client.writer.write_eof()
        for _ in range(3):
            assert (await scene.ask("/small")).status == 200
        streams.say(0, b"still")
        streams.end(0)
        assert b"still" in await rest_of(client)


@play
async def test_a_client_that_is_half_closed_while_others_wait_is_given_up_too() -> None:
    streams = Streams()
    async with life(streams, pool=ONE, timeouts={"half_closed_s": 30}) as scene:
        client = await scene.send("/events/0")
        await head_of(client)
        waiting = await scene.send("/small")
        await until(lambda: scene.waiting)
        client.writer.write_eof()
        assert (await asyncio.wait_for(waiting.response(), 1)).status == 200
        assert await rest_of(client) == b"<RST>"


@play
async def test_who_leaves_the_queue_takes_no_connection_along() -> None:
    streams = Streams()
    async with life(streams, pool=ONE) as scene:
        stream = await scene.send("/events/0")
        await head_of(stream)
        waiting = [await scene.send(f"/small/{number}") for number in range(3)]
        await until(lambda: scene.waiting == 3)
        waiting[0].reset()
        waiting[2].reset()
        await until(lambda: scene.waiting == 1)
        streams.end(0)
        assert (await waiting[1].response()).status == 200
        assert [record.status for record in scene.records].count(499) == 2


@pytest.mark.parametrize("way", ["stored", "refresh"])
def test_a_drain_leaves_no_fetch_behind(way: str) -> None:
    """An edge in a program that goes on: what filled the store for later visitors ends with it."""

    @play
    async def story() -> None:
        lost = asyncio.Event()

        async def endless(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
            if way == "refresh" and len(origin.requests) == 1:
                head = b"Cache-Control: max-age=0, stale-while-revalidate=60\r\nContent-Length: 5\r\n\r\nhello"
                writer.write(HEAD + head)
                return
            writer.write(HEAD + STORED + CHUNKED + chunk(b"first"))
            try:
                while True:
                    await asyncio.sleep(0.01)
                    writer.write(chunk(b"more"))
                    if writer.is_closing():
                        return
            except (ConnectionError, RuntimeError):
                return
            finally:
                lost.set()

        async with life(endless) as scene:
            if way == "refresh":
                await scene.ask("/one")
                await asyncio.sleep(0.01)
            client = await scene.send("/one")
            await head_of(client)
            await scene.asked_for(2 if way == "refresh" else 1)
            client.reset()
            await until(lambda: len(scene.records) == scene.asked)
            edge: Edge = scene.edge
            backend = edge._context.backends["app"]  # type: ignore[union-attr]
            await edge.drain(0)
            await until(lambda: not sum(origin.leased for origin in backend.statistics().origins), 1)
            await asyncio.wait_for(lost.wait(), 1)
            scene.left = dict  # type: ignore[method-assign]

    story()


@play
async def test_a_request_that_is_over_is_freed_without_the_collector() -> None:
    """Client, request and response are in no circle: a busy worker need not collect to get its memory back."""
    async with life(reply(Cache_Control="no-store")) as scene:
        gc.collect()
        gc.disable()
        try:
            for number in range(20):
                assert (await scene.ask(f"/{number}", "GET", "Accept-Language: de")).status == 200
            await turns()
            assert [each for each in gc.get_objects() if isinstance(each, Fetch)] == []
        finally:
            gc.enable()
