"""Plays: a client leaves, at every point of its request's life, and the fetch ends with the last who wants it."""

from __future__ import annotations

import asyncio
import contextlib

from tests.e2e.stage import Client, Message, Origin, Script
from tests.life.stage import (
    CHUNKED,
    HEAD,
    PASSED,
    STORED,
    Life,
    chunk,
    every_way,
    head_of,
    life,
    rest_of,
    turns,
    until,
)

LEFT = (499, "error", "client-left")
SMALL_STORE = {"max_object": "64KiB"}
PIECE = b"p" * 16_384


class Stream:
    """An origin's script: a head when `begin` is set, content when `say` is called, an end when `end` is."""

    def __init__(self, fields: bytes = PASSED, begun: bool = False) -> None:
        self.begin = asyncio.Event()
        self.fields = fields
        self.writers: list[asyncio.StreamWriter] = []
        if begun:
            self.begin.set()

    async def __call__(self, origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await self.begin.wait()
        self.writers.append(writer)
        writer.write(HEAD + self.fields + CHUNKED)
        await asyncio.Event().wait()

    async def say(self, data: bytes = PIECE, number: int = 0) -> None:
        writer = self.writers[number]
        writer.write(chunk(data))
        # An edge that reads no more is nothing to wait for.
        with contextlib.suppress(TimeoutError, ConnectionError):
            await asyncio.wait_for(writer.drain(), 0.2)

    def end(self, number: int = 0) -> None:
        self.writers[number].write(b"0\r\n\r\n")


def endless(begin: asyncio.Event | None = None) -> Script:
    """A script: an endless response that may be stored, as long as somebody reads it."""

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if begin is not None:
            await begin.wait()
        writer.write(HEAD + STORED + CHUNKED)
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(chunk(PIECE))
                await writer.drain()
                await asyncio.sleep(0)

    return script


# ---- before the head ------------------------------------------------------------------------------------------------


@every_way
async def test_a_reset_before_the_head_ends_the_fetch_at_once(way: dict[str, bool]) -> None:
    async with life(Stream(), **way) as scene:
        for number, method in enumerate(("GET", "POST", "HEAD")):
            client = await scene.send(f"/{number}", method, *["Content-Length: 0"] * (method == "POST"))
            await scene.asked_for(number + 1)
            assert scene.leased == 1
            client.reset()
            await scene.freed()
            await until(lambda number=number: scene.of(f"/{number}") == [LEFT])
            assert scene.edge.statistics().store.fills_open == 0  # type: ignore[union-attr]


@every_way
async def test_a_half_closed_client_is_served_as_long_as_the_origin_may_take(way: dict[str, bool]) -> None:
    stream = Stream()
    async with life(stream, timeouts={"half_closed_s": 0.05}, **way) as scene:
        client = await scene.send("/late")
        await scene.asked_for(1)
        client.writer.write_eof()
        await asyncio.sleep(0.15)  # longer than half_closed_s, which counts from the head on
        assert scene.leased == 1
        stream.begin.set()
        await head_of(client)
        await stream.say(b"hello")
        stream.end()
        assert await rest_of(client) == chunk(b"hello") + b"0\r\n\r\n<FIN>"
        assert scene.of("/late") == [(200, "pass", "no-store")]


@every_way
async def test_a_half_closed_client_is_not_waited_for_longer_than_for_the_first_byte(way: dict[str, bool]) -> None:
    async with life(Stream(), backend={"first_byte_s": 0.1}, **way) as scene:
        client = await scene.send("/never")
        await scene.asked_for(1)
        client.writer.write_eof()
        assert (await client.response()).status == 504
        await scene.freed()
        assert [record.status for record in scene.records] == [504]


@every_way
async def test_the_owner_leaves_before_the_head_and_followers_are_served_by_its_fetch(way: dict[str, bool]) -> None:
    stream = Stream(STORED)
    async with life(stream, **way) as scene:
        owner = await scene.send("/one")
        await scene.asked_for(1)
        in_the_lane = await scene.send("/one")
        in_the_long_way = await scene.send("/one", "GET", 'If-None-Match: "another"')
        await scene.followed(2)
        owner.reset()
        await until(lambda: scene.of("/one") == [LEFT])
        assert scene.leased == 1
        stream.begin.set()
        await until(lambda: stream.writers)
        await stream.say(b"hello")
        stream.end()
        for client in (in_the_lane, in_the_long_way):
            assert (await client.response()).body == b"hello"
        assert len(scene.origin.requests) == 1
        assert scene.of("/one")[1:] == [(200, "miss", "collapsed")] * 2


@every_way
async def test_the_last_follower_of_a_fetch_whose_owner_has_left_ends_it(way: dict[str, bool]) -> None:
    async with life(Stream(STORED), **way) as scene:
        owner = await scene.send("/one")
        await scene.asked_for(1)
        in_the_lane = await scene.send("/one")
        in_the_long_way = await scene.send("/one", "GET", 'If-None-Match: "another"')
        await scene.followed(2)
        for client in (owner, in_the_lane):
            client.reset()
        await until(lambda: scene.of("/one") == [LEFT] * 2)
        await turns()
        assert scene.leased == 1
        in_the_long_way.reset()
        await scene.freed()
        await until(lambda: scene.of("/one") == [LEFT] * 3)


@every_way
async def test_a_follower_that_leaves_takes_nothing_from_the_others(way: dict[str, bool]) -> None:
    stream = Stream(STORED)
    async with life(stream, **way) as scene:
        owner = await scene.send("/one")
        await scene.asked_for(1)
        followers = [await scene.send("/one") for _ in range(3)]
        await scene.followed(3)
        followers[1].reset()
        await until(lambda: scene.of("/one") == [LEFT])
        stream.begin.set()
        await until(lambda: stream.writers)
        await stream.say(b"hello")
        stream.end()
        for client in (owner, followers[0], followers[2]):
            assert (await client.response()).body == b"hello"


# ---- while content flows --------------------------------------------------------------------------------------------


@every_way
async def test_a_reset_in_the_middle_ends_what_is_for_the_client_alone(way: dict[str, bool]) -> None:
    stream = Stream(begun=True)
    async with life(stream, **way) as scene:
        client = await scene.send("/events")
        await head_of(client)
        await stream.say(b"event")
        assert await client.reader.readuntil(b"event\r\n")
        client.reset()
        await scene.freed()
        assert scene.of("/events") == [(200, "pass", "client-left")]


@every_way
async def test_a_half_closed_client_counts_as_gone_when_the_origin_falls_silent(way: dict[str, bool]) -> None:
    stream = Stream(begun=True)
    async with life(stream, timeouts={"half_closed_s": 0.3}, **way) as scene:
        client = await scene.send("/events")
        await head_of(client)
        client.writer.write_eof()
        for _ in range(4):  # together longer than the limit: each event begins it anew
            await asyncio.sleep(0.1)
            await stream.say(b"event")
            await client.reader.readuntil(b"event\r\n")
        assert scene.leased == 1
        assert await rest_of(client) == b"<RST>"
        await scene.freed()
        assert scene.of("/events") == [(200, "pass", "client-left")]


@every_way
async def test_the_origins_silence_counts_when_the_client_was_half_closed_before_the_head(
    way: dict[str, bool],
) -> None:
    stream = Stream()
    async with life(stream, timeouts={"half_closed_s": 0.1}, **way) as scene:
        client = await scene.send("/events")
        await scene.asked_for(1)
        client.writer.write_eof()
        await turns()
        stream.begin.set()
        await head_of(client)
        assert await rest_of(client) == b"<RST>"
        await scene.freed()
        assert scene.of("/events") == [(200, "pass", "client-left")]


@every_way
async def test_what_fills_the_store_is_finished_for_later_visitors(way: dict[str, bool]) -> None:
    stream = Stream(STORED, begun=True)
    async with life(stream, **way) as scene:
        client = await scene.send("/one")
        await head_of(client)
        client.reset()
        await until(lambda: scene.of("/one") == [(200, "miss", "client-left")])
        await stream.say(b"hello")
        stream.end()
        await scene.freed()
        answer = await scene.ask("/one")
        assert (answer.body, len(scene.origin.requests)) == (b"hello", 1)
        assert "hit" in (answer.get("cache-status") or "")


@every_way
async def test_what_the_origin_breaks_off_after_its_client_has_left_is_not_stored(way: dict[str, bool]) -> None:
    stream = Stream(STORED, begun=True)
    async with life(stream, **way) as scene:
        client = await scene.send("/one")
        await head_of(client)
        client.reset()
        await until(lambda: scene.records)
        await stream.say(b"hel")
        stream.writers[0].close()
        await scene.freed()
        assert scene.edge.statistics().store.objects == 0  # type: ignore[union-attr]
        assert scene.of("/one") == [(200, "miss", "client-left")]


# ---- while it outgrows the store ------------------------------------------------------------------------------------


@every_way
async def test_a_fetch_that_outgrows_the_store_after_its_client_has_left_ends(way: dict[str, bool]) -> None:
    async with life(endless(), cache=SMALL_STORE, **way) as scene:
        client = await scene.send("/endless")
        await head_of(client)
        client.reset()
        await until(lambda: scene.records)
        await scene.freed()


@every_way
async def test_a_client_leaves_while_it_reads_what_a_full_fill_holds(way: dict[str, bool]) -> None:
    async with life(endless(), cache=SMALL_STORE, **way) as scene:
        client = await scene.send("/endless")
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: scene.edge.statistics().store.refused or scene.edge.statistics().store.failed)  # type: ignore[union-attr]
        assert scene.leased == 1
        client.reset()
        await scene.freed()
        assert scene.of("/endless") == [(200, "miss", "client-left")]


@every_way
async def test_the_last_reader_of_a_window_ends_the_fetch(way: dict[str, bool]) -> None:
    begin = asyncio.Event()
    async with life(endless(begin), cache=SMALL_STORE, **way) as scene:
        clients: list[Client] = [await scene.send("/endless")]
        await scene.asked_for(1)
        clients += [await scene.send("/endless") for _ in range(2)]
        await scene.followed(2)
        begin.set()
        for client in clients:
            await client.reader.readexactly(200_000)
        assert len(scene.origin.requests) == 1
        for client in clients[:2]:
            client.reset()
        await until(lambda: len(scene.records) == 2)
        assert scene.leased == 1
        await clients[2].reader.readexactly(400_000)
        clients[2].reset()
        await scene.freed()


# ---- with nobody there ----------------------------------------------------------------------------------------------


async def stale_then(scene: Life, client_leaves: bool) -> None:
    """Store a response that may be served stale, and ask for it when it is: a refresh begins."""
    assert (await scene.ask("/page")).body == b"hello"
    await asyncio.sleep(0.01)
    client = await scene.send("/page")
    assert (await client.response()).body == b"hello"
    await scene.asked_for(2)
    if client_leaves:
        client.reset()


def becomes(stream: Stream) -> Script:
    """A script: a page that may be served stale, and at the second time `stream`."""

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if len(origin.requests) == 1:
            head = b"Cache-Control: max-age=0, stale-while-revalidate=60\r\nContent-Length: 5\r\n\r\nhello"
            writer.write(HEAD + head)
        else:
            await stream(origin, request, writer)

    return script


@every_way
async def test_a_refresh_that_is_not_for_the_store_ends_with_its_head(way: dict[str, bool]) -> None:
    stream = Stream(PASSED, begun=True)
    async with life(becomes(stream), **way) as scene:
        await stale_then(scene, client_leaves=False)
        await scene.freed()


@every_way
async def test_a_refresh_that_becomes_an_endless_stream_ends_when_it_outgrows_the_store(way: dict[str, bool]) -> None:
    stream = Stream(STORED, begun=True)
    async with life(becomes(stream), cache=SMALL_STORE, **way) as scene:
        await stale_then(scene, client_leaves=True)
        await until(lambda: stream.writers)
        assert scene.leased == 1
        for _ in range(6):
            await stream.say()
        await scene.freed()


@every_way
async def test_a_refresh_is_followed_by_nobody_and_goes_on_when_its_visitor_leaves(way: dict[str, bool]) -> None:
    stream = Stream(STORED)
    async with life(becomes(stream), **way) as scene:
        await stale_then(scene, client_leaves=True)
        await turns()
        stream.begin.set()
        await until(lambda: stream.writers)
        await stream.say(b"fresh")
        stream.end()
        await scene.freed()
        assert (await scene.ask("/page")).body == b"fresh"
