"""Plays: parts that are stored, joined and completed (RFC 9111 3.3, 3.4)."""

from __future__ import annotations

import asyncio

from tests.e2e.stage import Message, Origin, Script, play, reply, stage

WHOLE = b"0123456789"


def ranges(etags: list[str]) -> Script:
    """An origin that answers ranges of ten digits; the request's number picks the ETag."""

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        etag = etags[min(len(origin.requests), len(etags)) - 1]
        wanted = request.get("range")
        if wanted is None or request.get("if-range") not in (None, etag):
            await reply(200, WHOLE, ETag=etag, Cache_Control="max-age=60")(origin, request, writer)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), int(last or 9)
        content_range = f"bytes {start}-{end}/10"
        part = WHOLE[start : end + 1]
        await reply(206, part, ETag=etag, Cache_Control="max-age=60", Content_Range=content_range)(
            origin, request, writer
        )

    return script


@play
async def test_two_parts_that_touch_become_one() -> None:
    async with stage(ranges(['"a"'])) as scene:
        for value, body in (("bytes=2-4", b"234"), ("bytes=5-7", b"567"), ("bytes=1-3", b"123")):
            answer = await scene.ask("/", Range=value)
            assert (answer.status, answer.body) == (206, body)
        joined = await scene.ask("/", Range="bytes=1-7")
        assert (joined.body, joined.get("content-range")) == (b"1234567", "bytes 1-7/10")
        assert len(scene.origin.requests) == 3


@play
async def test_parts_of_different_versions_are_never_joined() -> None:
    async with stage(ranges(['"a"', '"b"'])) as scene:
        await scene.ask("/", Range="bytes=2-4")
        await scene.ask("/", Range="bytes=5-7")
        assert (await scene.ask("/", Range="bytes=5-6")).body == b"56"
        assert len(scene.origin.requests) == 2
        await scene.ask("/", Range="bytes=2-4")
        assert len(scene.origin.requests) == 3


@play
async def test_the_last_part_makes_the_whole() -> None:
    async with stage(ranges(['"a"'])) as scene:
        await scene.ask("/", Range="bytes=0-5")
        assert (await scene.ask("/", Range="bytes=6-9")).body == b"6789"
        whole = await scene.ask("/")
        assert (whole.status, whole.body, whole.get("content-range")) == (200, WHOLE, None)
        assert (whole.get("cache-status") or "").startswith("flyby; hit")
        assert len(scene.origin.requests) == 2


@play
async def test_a_request_for_the_whole_asks_only_for_the_rest() -> None:
    async with stage(ranges(['"a"'])) as scene:
        await scene.ask("/", Range="bytes=0-5")
        whole = await scene.ask("/")
        assert (whole.status, whole.body, whole.get("content-length")) == (200, WHOLE, "10")
        asked = scene.origin.requests[1]
        assert (asked.get("range"), asked.get("if-range")) == ("bytes=6-", '"a"')
        assert (await scene.ask("/")).body == WHOLE
        assert len(scene.origin.requests) == 2


@play
async def test_a_changed_whole_replaces_the_part() -> None:
    async with stage(ranges(['"a"', '"b"'])) as scene:
        await scene.ask("/", Range="bytes=0-5")
        whole = await scene.ask("/")
        assert (whole.status, whole.body, whole.get("etag")) == (200, WHOLE, '"b"')
