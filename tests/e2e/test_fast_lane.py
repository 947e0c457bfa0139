"""Plays of the fast lane: it answers what the long way would, byte for byte, and leaves to that what is not its own.

An empty line before a request sends it the long way (`long`), so both answers to the same request can be compared.
`hits` counts what the lane has answered, so that a play knows which way a request went.
"""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import pytest
from msgspec.structs import replace

from flyby.config import Limits, Route, RouteCache, Timeouts
from flyby.log import AccessRecord
from tests.e2e.stage import Client, Message, Origin, Stage, play, reply, stage
from tests.e2e.test_tls import secure_stage

FRESH = {"Cache_Control": "public, max-age=600", "ETag": '"v1"'}
PLAIN = b"GET /a?b HTTP/1.1\r\nHost: shop.test\r\n\r\n"


def lane_hits(scene: Stage) -> int:
    connections = scene.edge._connections
    assert connections is not None
    return connections.lane.hits


async def answer(client: Client, request: bytes) -> bytes:
    """The bytes of one whole answer; the numbers that tell the time are levelled."""
    await client.send(request)
    head = await client.reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: ([0-9]+)", head)
    bodiless = request.startswith((b"HEAD", b"\r\nHEAD")) or head.startswith(b"HTTP/1.1 304")
    body = b"" if bodiless or length is None else await client.reader.readexactly(int(length[1]))
    return re.sub(rb"(Age: |ttl=)[0-9]+", rb"\1N", head) + body


async def both(scene: Stage, request: bytes) -> bytes:
    """The answer of the fast lane, once it is sure that the long way gives the same."""
    client = await scene.connect()
    before = lane_hits(scene)
    slow = await answer(client, b"\r\n" + request)
    assert lane_hits(scene) == before
    fast = await answer(client, request)
    assert lane_hits(scene) == before + 1
    assert fast == slow
    await client.close()
    return fast


@pytest.mark.parametrize(
    ("size", "text"),
    [*((size, text) for size in (0, 1, 1024, 4096, 4097, 65_536) for text in (True, False)), (100_000, False)],
)
def test_the_same_answer(size: int, text: bool) -> None:
    # Text is packed once it is asked for again, the other bytes do not become smaller.
    body = (b"hello, world\n" * size)[:size] if text else random.Random(1).randbytes(size)

    async def story() -> None:
        async with stage(reply(body=body, Content_Type="text/plain", **FRESH)) as scene:
            await scene.ask("/a?b")
            assert (await both(scene, PLAIN)).endswith(b"\r\n\r\n" + body)
            assert (await both(scene, PLAIN.replace(b"GET", b"HEAD"))).endswith(b"\r\n\r\n")
            for tag in (b'"v1"', b'W/"v1"'):
                request = PLAIN[:-2] + b"If-None-Match: %s\r\nIf-Modified-Since: junk\r\n\r\n" % tag
                assert (await both(scene, request)).startswith(b"HTTP/1.1 304 Not Modified\r\n")
            other = await both(scene, PLAIN[:-2] + b'If-None-Match: "v2"\r\n\r\n')
            assert other.startswith(b"HTTP/1.1 200")
            assert other.endswith(body)
            assert len(scene.origin.requests) == 1

    play(story)()


@play
async def test_long_text_that_is_packed_is_unpacked_at_the_clients_pace() -> None:
    body = b"hello, world\n" * 10_000
    async with stage(reply(body=body, Content_Type="text/plain", **FRESH)) as scene:

        def compressed() -> int:
            found = scene.edge.statistics().store
            assert found is not None
            return found.compressed

        for _ in range(2):
            assert (await scene.ask("/a?b")).body == body
        async with asyncio.timeout(5):
            while not compressed():
                await asyncio.sleep(0)
        before = lane_hits(scene)
        client = await scene.connect()
        assert (await answer(client, PLAIN)).endswith(b"\r\n\r\n" + body)
        assert lane_hits(scene) == before
        assert len(scene.origin.requests) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: Basic eDp5",
        b"Range: bytes=0-1",
        b'If-None-Match: "a", "v1"',
        b"If-None-Match: *",
        b"If-None-Match: v1",
        b"If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT",
        b"If-Modified-Since: junk",
        b'If-Match: "v1"',
        b"CDN-Loop: other",
        b"Expect: 100-continue",
    ],
)
def test_the_rest_goes_the_long_way(line: bytes) -> None:
    async def story() -> None:
        async with stage(reply(**FRESH)) as scene:
            await scene.ask("/a?b")
            client = await scene.connect()
            head = await answer(client, PLAIN[:-2] + line + b"\r\n\r\n")
            assert head[:12] in (b"HTTP/1.1 200", b"HTTP/1.1 206", b"HTTP/1.1 304")
            assert lane_hits(scene) == 0

    play(story)()


DATE = "Thu, 01 Jan 2015 00:00:00 GMT"


@play
async def test_the_very_date_that_is_stored_is_a_condition_too() -> None:
    async with stage(reply(Cache_Control="max-age=600", Last_Modified=DATE)) as scene:
        await scene.ask("/a?b")
        request = PLAIN[:-2] + b"If-Modified-Since: %s\r\n\r\n" % DATE.encode()
        for _ in range(2):
            assert (await both(scene, request)).startswith(b"HTTP/1.1 304")


@play
async def test_the_same_nonsense_is_no_date() -> None:
    async with stage(reply(Cache_Control="max-age=600", Last_Modified="yesterday")) as scene:
        await scene.ask("/a?b")
        client = await scene.connect()
        assert (await answer(client, PLAIN[:-2] + b"If-Modified-Since: yesterday\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("line", [b"Cache-Control: no-cache", b"Cache-Control: max-age=0, foo", b"Pragma: no-cache"])
def test_a_reload_is_a_hit_unless_the_profile_lets_it_through(line: bytes) -> None:
    async def story() -> None:
        request = PLAIN[:-2] + line + b"\r\n\r\n"
        async with stage(reply(**FRESH)) as scene:
            await scene.ask("/a?b")
            assert (await both(scene, request)).startswith(b"HTTP/1.1 200")
        if line.startswith(b"Pragma"):
            return
        async with stage(reply(**FRESH), profile="rfc9111") as scene:
            await scene.ask("/a?b")
            client = await scene.connect()
            await answer(client, request)
            assert len(scene.origin.requests) == 2

    play(story)()


@play
async def test_each_variant_to_whom_it_is_for() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        coding = request.get("accept-encoding") or "none"
        await reply(body=coding.encode() * 9, Vary="Accept-Encoding, X_Kind, X-Kind", **FRESH)(origin, request, writer)

    async with stage(script) as scene:
        offers = ["gzip", "gzip, br", "br", "br;q=1.0, gzip"]
        for offer in offers:
            await scene.ask("/a?b", Accept_Encoding=offer)
        fetched = len(scene.origin.requests)
        for offer in [*offers, *offers]:
            found = await both(scene, PLAIN[:-2] + b"accept-encoding: %s\r\n\r\n" % offer.encode())
            assert b"Vary: Accept-Encoding, X_Kind, X-Kind" in found
        assert len(scene.origin.requests) == fetched
        # A field with an underscore does not reach the origin, so it is no other variant, whatever its value.
        client = await scene.connect()
        before = lane_hits(scene)
        await answer(client, PLAIN[:-2] + b"Accept-Encoding: gzip\r\nX_Kind: other\r\n\r\n")
        assert len(scene.origin.requests) == fetched
        # Another value of a field that does reach it is another response.
        await answer(client, PLAIN[:-2] + b"Accept-Encoding: gzip\r\nX-Kind: other\r\n\r\n")
        assert lane_hits(scene) == before
        assert len(scene.origin.requests) == fetched + 1


@play
async def test_a_guessed_lifetime_is_not_for_who_has_a_cookie() -> None:
    modified = "Thu, 01 Jan 2015 00:00:00 GMT"
    async with stage(reply(Last_Modified=modified)) as scene:
        await scene.ask("/a?b")
        await both(scene, PLAIN)
        client = await scene.connect()
        before = lane_hits(scene)
        await answer(client, PLAIN[:-2] + b"Cookie: a=b\r\n\r\n")
        assert lane_hits(scene) == before
        assert len(scene.origin.requests) == 2


@play
async def test_pipelined_requests_are_answered_in_order_whichever_way_they_go() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        fields: dict[str, Any] = {"Cache_Control": "no-store"} if request.target.startswith("/miss") else FRESH
        await reply(body=request.target.encode() * 500, **fields)(origin, request, writer)

    async with stage(script) as scene:
        for number in range(3):
            await scene.ask(f"/hit{number}")
        paths = [f"/{('hit', 'hit', 'miss')[at % 3]}{at % 3}" for at in range(300)]
        client = await scene.connect()
        await client.send("".join(f"GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n" for path in paths))
        for path in paths:
            assert (await client.response()).body == path.encode() * 500


@play
async def test_many_hits_of_one_read_leave_together() -> None:
    async with stage(reply(body=b"x" * 100, **FRESH)) as scene:
        await scene.ask("/a?b")
        client = await scene.connect()
        await client.send(PLAIN * 200)
        for _ in range(200):
            assert (await client.response()).body == b"x" * 100
        assert lane_hits(scene) == 200


@play
async def test_a_client_that_reads_slowly_gets_it_all_and_holds_no_memory() -> None:
    body = bytes(range(256)) * 4096
    records: list[AccessRecord] = []
    async with stage(reply(body=body, **FRESH), access_log=records.append) as scene:
        await scene.ask("/a?b")
        client = await scene.connect()
        await client.send(PLAIN * 24)
        await asyncio.sleep(0.2)
        assert scene.edge.statistics().buffered < 512 * 1024
        for _ in range(24):
            assert (await client.response()).body == body
        # The lane is open again.
        before = lane_hits(scene)
        await client.send(PLAIN)
        assert (await client.response()).body == body
        assert lane_hits(scene) == before + 1
    assert [record.outcome for record in records] == ["miss"] + ["hit"] * 25
    assert {record.bytes_sent - len(body) for record in records} <= set(range(100, 400))


@play
async def test_both_ways_tell_the_log_the_same() -> None:
    records: list[AccessRecord] = []
    async with stage(reply(**FRESH), access_log=records.append) as scene:
        await scene.ask("/a?b")
        records.clear()
        await both(scene, PLAIN[:-2] + b"User-Agent: a\r\nReferer: b\r\nX-Request-ID: 0123456789abcdefghij\r\n\r\n")
        outcomes = scene.edge.statistics().requests.outcomes
    assert outcomes == {"miss": 1, "hit": 2}
    for record in records:
        assert record.request_id == b"0123456789abcdefghij"
        assert record.duration_ms < 1000
        record.time_ms = 0
        record.duration_ms = 0.0
    assert records[0] == records[1]


@play
async def test_a_client_that_leaves_in_the_middle_leaves_no_pin() -> None:
    body = bytes(range(256)) * 4096
    async with stage(reply(body=body, **FRESH)) as scene:
        await scene.ask("/a?b")
        for _ in range(3):
            client = await scene.connect()
            await client.send(PLAIN * 24)
            await asyncio.sleep(0.05)
            client.writer.transport.abort()
        for _ in range(100):
            if len(scene.edge._connections or ()) == 0:
                break
            await asyncio.sleep(0.02)
        assert scene.edge.purge_all() >= 1
        assert (await scene.ask("/a?b")).body == body
        statistics = scene.edge.statistics().store
        assert statistics is not None
        assert scene.edge._store is not None
        assert scene.edge._store.check() == []


@play
async def test_what_is_purged_or_stale_is_not_served() -> None:
    async with stage(reply(Cache_Control="max-age=1")) as scene:
        await scene.ask("/a?b")
        await both(scene, PLAIN)
        scene.edge.purge_all()
        client = await scene.connect()
        await answer(client, PLAIN)
        assert len(scene.origin.requests) == 2
        await asyncio.sleep(1.1)
        await answer(client, PLAIN)
        assert len(scene.origin.requests) == 3


@play
async def test_half_a_request_is_finished_the_long_way() -> None:
    async with stage(reply(**FRESH)) as scene:
        await scene.ask("/a?b")
        client = await scene.connect()
        for cut in range(1, len(PLAIN)):
            await client.send(PLAIN[:cut])
            await asyncio.sleep(0.001)
            await client.send(PLAIN[cut:])
            assert (await client.response()).status == 200


@play
async def test_a_carriage_return_alone_does_not_open_the_lane() -> None:
    async with stage(reply(**FRESH)) as scene:
        await scene.ask("/a?b")
        client = await scene.connect()
        await client.send(b"\r")
        await asyncio.sleep(0.02)
        await client.send(PLAIN)
        assert (await client.response()).status == 400
        assert lane_hits(scene) == 0


@play
async def test_an_idle_connection_is_closed_after_hits_too() -> None:
    async with stage(reply(**FRESH), timeouts=Timeouts(idle_s=0.8, drain_s=0.1)) as scene:
        await scene.ask("/a?b")
        client = await scene.connect()
        for _ in range(3):
            await client.send(PLAIN)
            assert (await client.response()).status == 200
            await asyncio.sleep(0.4)
        assert await client.closed()


@play
async def test_limits_hold() -> None:
    async with stage(reply(**FRESH), limits=Limits(fields=2)) as scene:
        await scene.ask("/a?b")
        client = await scene.connect()
        await client.send(PLAIN[:-2] + b"A: b\r\nC: d\r\n\r\n")
        assert (await client.response()).status == 431


@play
async def test_a_reload_holds_for_the_lane_at_once() -> None:
    async with stage(reply(**FRESH)) as scene:
        await scene.ask("/a?b")
        client = await scene.connect()
        await answer(client, PLAIN)
        assert lane_hits(scene) == 1
        off = Route(backend="app", cache=RouteCache(off=True))
        await scene.edge.reload(replace(scene.edge._config, routes=[off]))
        await answer(client, PLAIN)
        assert lane_hits(scene) == 1
        assert len(scene.origin.requests) == 2


@play
async def test_the_lane_is_open_under_tls_too() -> None:
    body = b"hello, world\n" * 3000
    async with secure_stage(reply(body=body, **FRESH)) as secure:
        await secure.ask("/a?b")
        client = await secure.connect()
        slow = await answer(client, b"\r\n" + PLAIN)
        assert lane_hits(secure.scene) == 0
        assert await answer(client, PLAIN) == slow
        assert lane_hits(secure.scene) == 1
        await client.send(PLAIN * 100)
        await asyncio.sleep(0.1)
        for _ in range(100):
            assert (await client.response()).body == body
        assert await answer(client, PLAIN) == slow
