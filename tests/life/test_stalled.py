"""Plays: nothing is heard of a fetch that others wait for: one of them asks beside it, and at most three ask at all."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.stage import Message, Origin, play
from tests.life.stage import HEAD, STORED, every_way, life, until

IMPATIENT = {"collapse_wait_s": 0.1}
FRESH = HEAD + STORED + b"Content-Length: 5\r\n\r\nhello"


class Silent:
    """A script: the first so many requests are not answered before `release` is set; the others are at once."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.release = asyncio.Event()

    async def __call__(self, origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if len(origin.requests) <= self.first:
            await self.release.wait()
        writer.write(FRESH)


@every_way
async def test_one_of_the_waiters_asks_beside_a_fetch_that_stalls(way: dict[str, bool]) -> None:
    async with life(silent := Silent(1), cache=IMPATIENT, **way) as scene:
        owner = await scene.send("/one")
        await scene.asked_for(1)
        lane = [await scene.send("/one") for _ in range(3)]
        long_way = [await scene.send("/one", "GET", 'If-None-Match: "another"') for _ in range(3)]
        for client in (*lane, *long_way):
            assert (await client.response()).body == b"hello"
        assert len(scene.origin.requests) == 2
        # Whoever comes now finds what it has stored.
        assert "hit" in ((await scene.ask("/one")).get("cache-status") or "")
        silent.release.set()
        assert (await owner.response()).body == b"hello"


@pytest.mark.xfail(strict=True, reason="a fetch beside another does not serve the client of the one that stalls")
@play
async def test_whichever_fetch_has_a_response_first_serves_all() -> None:
    async with life(Silent(1), cache=IMPATIENT) as scene:
        owner = await scene.send("/one")
        await scene.asked_for(1)
        follower = await scene.send("/one")
        assert (await follower.response()).body == b"hello"
        assert (await asyncio.wait_for(owner.response(), 1)).body == b"hello"
        await scene.freed()


@pytest.mark.parametrize("line", [(), ('If-None-Match: "another"',)], ids=["lane", "long way"])
def test_a_fetch_beside_another_may_stall_too_and_never_more_than_three_are_made(line: tuple[str, ...]) -> None:
    @play
    async def story() -> None:
        async with life(silent := Silent(100), cache=IMPATIENT) as scene:
            clients = [await scene.send("/one")]
            await scene.asked_for(1)
            clients += [await scene.send("/one", "GET", *line) for _ in range(6)]
            await scene.asked_for(3)
            await asyncio.sleep(0.4)  # each has waited for as long as it would for all three
            assert len(scene.origin.requests) == 3
            silent.release.set()
            for client in clients:
                assert (await client.response()).body == b"hello"
            assert len(scene.origin.requests) == 3

    story()


@every_way
async def test_an_interim_response_is_a_sign_of_progress(way: dict[str, bool]) -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        for _ in range(6):
            writer.write(b"HTTP/1.1 103 Early\r\nLink: </a.css>\r\n\r\n")
            await asyncio.sleep(0.06)
        writer.write(FRESH)

    async with life(script, cache={"collapse_wait_s": 0.2}, **way) as scene:
        owner = await scene.send("/one")
        await scene.asked_for(1)
        followers = [await scene.send("/one"), await scene.send("/one", "GET", 'If-None-Match: "another"')]
        for client in (owner, *followers):
            assert (await client.response()).body == b"hello"
        assert len(scene.origin.requests) == 1


@every_way
async def test_a_timeout_is_504_for_all_who_waited_for_it(way: dict[str, bool]) -> None:
    async with life(Silent(100), backend={"first_byte_s": 0.2}, **way) as scene:
        clients = [await scene.send("/one")]
        await scene.asked_for(1)
        clients += [await scene.send("/one") for _ in range(2)]
        clients += [await scene.send("/one", "GET", 'If-None-Match: "another"') for _ in range(2)]
        assert {(await client.response()).status for client in clients} == {504}
        await until(lambda: len(scene.records) == 5)
        assert {record.status for record in scene.records} == {504}
        assert len(scene.origin.requests) == 1


@every_way
async def test_a_failure_of_the_origin_is_502_for_all_who_waited_for_it(way: dict[str, bool]) -> None:
    fail = asyncio.Event()

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await fail.wait()
        writer.write(b"junk\r\n\r\n")
        writer.close()

    async with life(script, **way) as scene:
        clients = [await scene.send("/one")]
        await scene.asked_for(1)
        clients += [await scene.send("/one"), await scene.send("/one", "GET", 'If-None-Match: "another"')]
        await scene.followed(2)
        fail.set()
        assert {(await client.response()).status for client in clients} == {502}
        assert len(scene.origin.requests) == 1


@play
async def test_the_owner_of_a_fetch_beside_another_leaves() -> None:
    """The others elect anew, and nobody is forgotten."""
    async with life(silent := Silent(2), cache=IMPATIENT) as scene:
        clients = [await scene.send("/one")]
        await scene.asked_for(1)
        beside = await scene.send("/one", "GET", 'If-None-Match: "first"')
        await scene.asked_for(2)
        clients += [await scene.send("/one", "GET", 'If-None-Match: "another"') for _ in range(2)]
        await scene.followed(3)
        beside.reset()
        for client in clients[1:]:
            assert (await client.response()).body == b"hello"
        silent.release.set()
        assert (await clients[0].response()).body == b"hello"
