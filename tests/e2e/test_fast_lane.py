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
        b"Range: bytes=0-0, 2-2",
        b"Range: bytes=1-0",
        b"Range: lines=0-0",
        b"Range: bytes=0-0\r\nRange: bytes=2-2",
        b'Range: bytes=0-0\r\nIf-None-Match: "v2"',
        b'Range: bytes=0-0\r\nIf-Range: "v2"',
        b'Range: bytes=0-0\r\nIf-Range: W/"v1"',
        b"Range: bytes=0-0\r\nIf-Range: v1",
        b'If-Range: "v1"',
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
    body = random.Random(1).randbytes(1 << 20)  # which stays as it is in the store
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


LATER = "Fri, 01 Jan 2100 00:00:00 GMT"  # than Date: no strong validator
SIZE = 100_000
RANGES = [
    (b"bytes=0-0", 0, 0),
    (b"bytes=0-511", 0, 511),
    (b"bytes=100-4195", 100, 4195),
    (b"bytes=1-4097", 1, 4097),
    (b"bytes=60000-65535", 60_000, 65_535),
    (b"BYTES= 65536-65540 ,", 65_536, 65_540),
    (b"bytes=99999-", SIZE - 1, SIZE - 1),
    (b"bytes=70000-999999", 70_000, SIZE - 1),
    (b"bytes=-1", SIZE - 1, SIZE - 1),
    (b"bytes=-30000", SIZE - 30_000, SIZE - 1),
]


@pytest.mark.parametrize(("value", "first", "last"), RANGES)
@pytest.mark.parametrize("text", [True, False])
def test_one_range_is_the_same_answer(value: bytes, first: int, last: int, text: bool) -> None:
    # Text is packed once it is hit, in pieces of 64 KiB; the other bytes stay as they are.
    lines = b"".join(b"%07d hello, world\n" % number for number in range(SIZE // 20))[:SIZE]
    body = lines if text else random.Random(1).randbytes(SIZE)
    records: list[AccessRecord] = []

    async def story() -> None:
        script = reply(body=body, Content_Type="text/plain", **FRESH)
        async with stage(script, access_log=records.append) as scene:
            for _ in range(2):
                await scene.ask("/a?b")
            await packed(scene, int(text))
            fast = await both(scene, PLAIN[:-2] + b"Range: %s\r\n\r\n" % value)
            head, _, content = fast.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 206 Partial Content\r\n")
            assert b"\r\nContent-Range: bytes %d-%d/%d\r\n" % (first, last, SIZE) in head
            assert content == body[first : last + 1]
            slow, quick = records[-2:]
            assert quick.status == 206
            assert quick.bytes_sent == slow.bytes_sent
            assert len(scene.origin.requests) == 1

    play(story)()


@play
async def test_a_range_over_several_packed_pieces_goes_the_long_way() -> None:
    body = b"hello, world\n" * 10_000
    async with stage(reply(body=body, Content_Type="text/plain", **FRESH)) as scene:
        for _ in range(2):
            await scene.ask("/a?b")
        await packed(scene, 1)
        before = lane_hits(scene)
        client = await scene.connect()
        request = PLAIN[:-2] + b"Range: bytes=65535-65536\r\n\r\n"
        assert (await answer(client, request)).endswith(b"\r\n\r\n" + body[65535:65537])
        assert lane_hits(scene) == before


async def packed(scene: Stage, objects: int) -> None:
    """Wait until so many objects are packed."""
    async with asyncio.timeout(5):
        while True:
            found = scene.edge.statistics().store
            assert found is not None
            if found.compressed == objects:
                return
            await asyncio.sleep(0)


@play
async def test_a_range_that_nothing_satisfies_or_that_has_many_parts_goes_the_long_way() -> None:
    async with stage(reply(body=b"0123456789", **FRESH)) as scene:
        await scene.ask("/a?b")
        client = await scene.connect()
        for value, status in ((b"10-", 416), (b"-0", 416), (b"0-0,2-2", 206), (b"0-5,3-", 200)):
            head = await answer(client, PLAIN[:-2] + b"Range: bytes=%s\r\n\r\n" % value)
            assert head.startswith(b"HTTP/1.1 %d " % status)
        head = await answer(client, PLAIN.replace(b"GET", b"HEAD")[:-2] + b"Range: bytes=0-0\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert lane_hits(scene) == 0


@pytest.mark.parametrize(
    ("fields", "validator", "holds"),
    [
        ({"ETag": '"v1"'}, b'"v1"', True),
        ({"ETag": '"v1"'}, b'"v2"', False),
        ({"ETag": 'W/"v1"'}, b'W/"v1"', False),
        ({"ETag": 'W/"v1"'}, b'"v1"', False),
        ({}, b'"v1"', False),
        ({"Last_Modified": DATE}, DATE.encode(), True),
        ({"Last_Modified": DATE, "ETag": '"v1"'}, DATE.encode(), True),
        ({"Last_Modified": LATER}, LATER.encode(), False),
        ({"Last_Modified": DATE}, b"Thursday, 01-Jan-15 00:00:00 GMT", False),
        ({"Last_Modified": "yesterday"}, b"yesterday", False),
        ({"ETag": "v1"}, b"v1", False),
    ],
)
def test_if_range_holds_for_a_strong_validator_alone(fields: dict[str, str], validator: bytes, holds: bool) -> None:
    # RFC 9110 13.1.5, 8.8.2.2, 8.8.3.2
    async def story() -> None:
        async with stage(reply(body=b"0123456789", Cache_Control="public, max-age=999999999", **fields)) as scene:
            await scene.ask("/a?b")
            request = PLAIN[:-2] + b"Range: bytes=2-3\r\nIf-Range: %s\r\n\r\n" % validator
            for _ in range(2):
                if holds:
                    assert (await both(scene, request)).endswith(b"\r\n\r\n23")
                else:
                    client = await scene.connect()
                    assert (await answer(client, request)).endswith(b"\r\n\r\n0123456789")
            assert lane_hits(scene) == (2 if holds else 0)

    play(story)()


@play
async def test_pipelined_ranges_leave_together_and_a_slow_client_gets_all() -> None:
    body = random.Random(1).randbytes(1 << 20)
    async with stage(reply(body=body, **FRESH)) as scene:
        await scene.ask("/a?b")
        client = await scene.connect()
        cuts = [(number * 7, number * 40_000) for number in range(1, 25)]
        await client.send(b"".join(PLAIN[:-2] + b"Range: bytes=%d-%d\r\n\r\n" % cut for cut in cuts))
        await asyncio.sleep(0.1)
        for first, last in cuts:
            assert (await client.response()).body == body[first : last + 1]
        assert lane_hits(scene) == len(cuts)


@play
async def test_a_response_with_set_cookie_is_for_routes_that_keep_it() -> None:
    script = reply(Cache_Control="public, max-age=600", Set_Cookie="a=b")
    keeping = Route(backend="app", cache=RouteCache(set_cookie="store"))
    async with stage(script, routes=[keeping]) as scene:
        await scene.ask("/a?b")
        assert b"\r\nSet-Cookie: a=b\r\n" in await both(scene, PLAIN)
        await scene.edge.reload(replace(scene.edge._config, routes=[Route(backend="app")]))
        client = await scene.connect()
        before = lane_hits(scene)
        await answer(client, PLAIN)
        assert lane_hits(scene) == before
        assert len(scene.origin.requests) == 2


@play
async def test_a_route_with_an_ending_before_all_others_leaves_the_lane_open() -> None:
    ending = Route(path="*.css", backend="app", cache=RouteCache(ttl_s=60))
    async with stage(reply(**FRESH), routes=[ending, Route(backend="app")]) as scene:
        for target in ("/a?b", "/a/b.css?c", "/a?b.css"):
            await scene.ask(target)
            await both(scene, PLAIN.replace(b"/a?b", target.encode()))


@pytest.mark.parametrize("size", [16_000, 65_000, 65_536, 131_072, 300_000, 2_000_000])
def test_a_hit_of_any_size_stays_in_the_lane_under_tls(size: int) -> None:
    body = random.Random(1).randbytes(size)

    async def story() -> None:
        async with secure_stage(reply(body=body, **FRESH)) as secure:
            await secure.ask("/a?b")
            client = await secure.connect()
            slow = await answer(client, b"\r\n" + PLAIN)
            for count in range(1, 4):
                assert await answer(client, PLAIN) == slow
                assert lane_hits(secure.scene) == count
            await client.send(PLAIN * 5 + PLAIN[:-2] + b"Range: bytes=7-\r\n\r\n")
            for _ in range(5):
                assert (await client.response()).body == body
            assert (await client.response()).body == body[7:]

    play(story)()


@play
async def test_a_slow_reader_under_tls_holds_no_memory_and_is_told_of_once() -> None:
    body = random.Random(1).randbytes(2_000_000)
    records: list[AccessRecord] = []
    async with secure_stage(reply(body=body, **FRESH), access_log=records.append) as secure:
        await secure.ask("/a?b")
        records.clear()
        client = await secure.connect()
        await client.send(PLAIN * 12)
        await asyncio.sleep(0.2)
        assert secure.scene.edge.statistics().buffered < 256 * 1024
        for _ in range(12):
            assert (await client.response()).body == body
        for _ in range(100):
            if len(records) == 12:
                break
            await asyncio.sleep(0.01)
    assert [record.outcome for record in records] == ["hit"] * 12
    assert {record.bytes_sent - len(body) for record in records} <= set(range(100, 400))
