"""Plays: as many client connections as are allowed, and one more."""

from __future__ import annotations

import asyncio
import logging

from flyby.config import Limits
from tests.e2e.stage import Client, Message, Origin, Stage, play, reply, stage

REQUEST = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"


async def idle(scene: Stage) -> Client:
    """A connection that has had its answer."""
    client = await scene.connect()
    await client.send(REQUEST)
    assert (await client.response()).status == 200
    return client


@play
async def test_the_longest_idle_makes_room_for_a_new_one() -> None:
    async with stage(reply(Cache_Control="max-age=60"), limits=Limits(connections=3)) as scene:
        first, second, third = [await idle(scene) for _ in range(3)]
        newcomer = await idle(scene)
        assert await first.closed()
        for client in (second, third, newcomer):
            await client.send(REQUEST)
            assert (await client.response()).status == 200
        assert scene.edge.statistics().connections_turned_away == 0


@play
async def test_a_newcomer_that_finds_none_idle_is_turned_away_and_nobody_else_is_hurt() -> None:
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("flyby.proxy").addHandler(handler)
    asked, go = asyncio.Semaphore(0), asyncio.Event()

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        asked.release()
        await go.wait()
        await reply(Cache_Control="no-store")(origin, request, writer)

    try:
        async with stage(script, limits=Limits(connections=2)) as scene:
            busy = [await scene.connect() for _ in range(2)]
            for number, client in enumerate(busy):
                await client.send(REQUEST.replace("/", f"/{number}", 1))
                await asked.acquire()
            for _ in range(3):
                assert await (await scene.connect()).closed()
            go.set()
            for client in busy:
                assert (await client.response()).status == 200
            assert scene.edge.statistics().connections_turned_away == 3
    finally:
        logging.getLogger("flyby.proxy").removeHandler(handler)
    told = "2 client connections are open, as many as server.limits.connections allows: new ones are turned away"
    assert records == [told]
