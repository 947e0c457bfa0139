"""Plays: slow readers and senders keep their connection while nobody waits for it, and lose it when somebody does."""

from __future__ import annotations

import asyncio

import pytest

from flyby.proxy.fetching import pressure
from tests.e2e.stage import Message, Origin, play, reply
from tests.life.stage import HEAD, PASSED, head_of, life, rest_of, turns, until

ONE = {"max_connections": 1, "wait_s": 3}
LENGTH = 32 << 20  # more than the sockets between origin and client take


@pytest.fixture(autouse=True)
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "READ_WINDOW_S", 0.05)
    monkeypatch.setattr(pressure, "SEND_WINDOW_S", 0.05)


async def large(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
    if request.target != "/large":
        await reply(Cache_Control="no-store")(origin, request, writer)
        return
    writer.write(HEAD + PASSED + b"Content-Length: %d\r\n\r\n" % LENGTH)
    piece = bytes(65_536)
    for _ in range(LENGTH // len(piece)):
        writer.write(piece)
        await writer.drain()


@pytest.mark.parametrize("kept", [False, True], ids=["dialled", "kept"])
def test_a_reader_that_is_too_slow_is_given_up_for_who_waits(kept: bool) -> None:
    @play
    async def story() -> None:
        async with life(large, kept=kept, pool=ONE) as scene:
            client = await scene.send("/large")
            await head_of(client)
            client.writer.transport.pause_reading()
            await asyncio.sleep(0.5)  # until the sockets are full, and a window is over
            assert (await scene.ask("/small")).status == 200
            client.writer.transport.resume_reading()
            assert (await rest_of(client)).endswith(b"<RST>")
            assert scene.of("/large") == [(200, "pass", "client-left")]

    story()


@play
async def test_a_slow_reader_may_stay_where_any_rate_will_do() -> None:
    async with life(large, pool={**ONE, "wait_s": 0.2}, timeouts={"read_rate": 0}) as scene:
        client = await scene.send("/large")
        await head_of(client)
        client.writer.transport.pause_reading()
        await asyncio.sleep(0.3)
        assert (await scene.ask("/small")).status == 503
        client.writer.transport.resume_reading()
        assert len(await client.reader.readexactly(LENGTH)) == LENGTH


@play
async def test_a_sender_that_is_too_slow_gets_408_for_who_waits() -> None:
    async with life(reply(Cache_Control="no-store"), pool=ONE) as scene:
        client = await scene.send("/slow", "POST", "Content-Length: 200000", content=b"x" * 70_000)
        await until(lambda: scene.leased == 1)
        await asyncio.sleep(0.1)
        assert (await scene.ask("/small")).status == 200
        assert (await client.response()).status == 408
        assert [record.status for record in scene.records if record.path == b"/slow"] == [408]


@play
async def test_a_sender_that_is_fast_enough_is_waited_for() -> None:
    async with life(reply(Cache_Control="no-store"), pool=ONE) as scene:
        client = await scene.send("/upload", "POST", "Content-Length: 200000", content=b"x" * 70_000)
        await until(lambda: scene.leased == 1)
        await asyncio.sleep(0.06)
        await client.send(b"x" * 100_000)
        await turns()
        waiting = await scene.send("/small")
        await until(lambda: scene.waiting)
        await client.send(b"x" * 30_000)
        assert (await client.response()).status == 200
        assert (await waiting.response()).status == 200
