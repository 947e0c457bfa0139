"""Plays: a crowd asks for one thing."""

from __future__ import annotations

import asyncio

from tests.e2e.stage import Message, Origin, play, reply, stage


@play
async def test_two_hundred_clients_make_one_fetch() -> None:
    release = asyncio.Event()

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await reply(body=b"x" * 100_000, Cache_Control="max-age=60")(origin, request, writer)

    async with stage(script) as scene:
        crowd = [asyncio.create_task(scene.ask("/")) for _ in range(200)]
        # All but one in their lane: the first has claimed its fetch before it waits for anything.
        assert scene.edge._connections is not None
        while not scene.origin.requests or scene.edge._connections.lane.passed < 199:
            await asyncio.sleep(0.005)
        release.set()
        answers = await asyncio.gather(*crowd)
        assert {(answer.status, answer.body) for answer in answers} == {(200, b"x" * 100_000)}
        assert len(scene.origin.requests) == 1
        assert sum("collapsed" in (answer.get("cache-status") or "") for answer in answers) == 199


@play
async def test_followers_read_while_it_is_still_arriving() -> None:
    rest = asyncio.Event()

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nfirst")
        await writer.drain()
        await rest.wait()
        writer.write(b"-last")

    async with stage(script) as scene:
        clients = [await scene.connect() for _ in range(5)]
        for client in clients:
            await client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        for client in clients:
            await client.reader.readuntil(b"\r\n\r\n")
            assert await client.reader.readexactly(5) == b"first"
        rest.set()
        for client in clients:
            assert await client.reader.readexactly(5) == b"-last"
        assert len(scene.origin.requests) == 1


@play
async def test_an_uncacheable_answer_does_not_serialise_its_crowd() -> None:
    waiting = 0
    together = asyncio.Event()

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        nonlocal waiting
        if len(origin.requests) > 1:
            waiting += 1
            if waiting == 9:
                together.set()
            # Each of the nine waits for the others: served one after the other, they would wait for ever.
            await together.wait()
        await reply(body=b"%d" % len(origin.requests), Cache_Control="no-store")(origin, request, writer)

    async with stage(script) as scene:
        answers = await asyncio.gather(*(scene.ask("/") for _ in range(10)))
        assert [answer.status for answer in answers] == [200] * 10
        assert len(scene.origin.requests) == 10


@play
async def test_a_failed_fetch_frees_its_followers_at_once() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.close()

    async with stage(script) as scene:
        answers = await asyncio.gather(*(scene.ask("/") for _ in range(10)))
        assert {answer.status for answer in answers} == {502}
        assert len(scene.origin.requests) <= 2


@play
async def test_a_truncated_response_is_seen_as_such_and_never_stored() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if len(origin.requests) == 1:
            writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100\r\n\r\nonly this")
            writer.close()
        else:
            await reply(Cache_Control="max-age=60")(origin, request, writer)

    async with stage(script) as scene:
        broken = await scene.ask("/")
        assert not broken.complete
        assert scene.edge.statistics().requests.outcomes["miss"] == 1
        whole = await scene.ask("/")
        assert (whole.body, whole.complete) == (b"hello", True)


@play
async def test_the_owner_leaves_and_the_others_are_served() -> None:
    release = asyncio.Event()

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await reply(Cache_Control="max-age=60")(origin, request, writer)

    async with stage(script) as scene:
        owner = await scene.connect()
        await owner.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        while not scene.origin.requests:
            await asyncio.sleep(0.005)
        follower = asyncio.create_task(scene.ask("/"))
        await asyncio.sleep(0.05)
        await owner.close()
        await asyncio.sleep(0.05)
        release.set()
        assert (await follower).body == b"hello"
        assert len(scene.origin.requests) == 1
