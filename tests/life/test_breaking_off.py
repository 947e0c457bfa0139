"""Plays: the origin breaks a response off, and the client can tell; the record says so, and a warning."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.e2e.stage import Message, Origin, Script, play
from tests.life.stage import CHUNKED, HEAD, PASSED, STORED, chunk, every_way, head_of, life, rest_of, until


def broken(fields: bytes, go_on: asyncio.Event) -> Script:
    """A script: half of a content of ten bytes, and the end of the connection when `go_on` is set."""

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + fields + (chunk(b"first") if fields.endswith(CHUNKED) else b"first"))
        await go_on.wait()
        writer.close()

    return script


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("cached", [STORED, PASSED], ids=["stored", "passed"])
@pytest.mark.parametrize("framing", [CHUNKED, b"Content-Length: 10\r\n\r\n"], ids=["chunked", "length"])
def test_a_response_that_is_broken_off_never_looks_whole(
    version: str, cached: bytes, framing: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    @play
    async def story() -> None:
        go_on = asyncio.Event()
        async with life(broken(cached + framing, go_on)) as scene:
            client = await scene.send("/one", version=version)
            head = await head_of(client)
            assert await client.reader.readuntil(b"first")
            go_on.set()
            rest = await rest_of(client)
            # RFC 9112 8: there is no last chunk, or less than the length; where the close would end the
            # content, and for an HTTP/1.0 client, a reset says so.
            assert not rest.endswith(b"0\r\n\r\n<FIN>")
            if version == "1.0":
                assert b"chunked" not in head
                assert rest.endswith(b"<RST>")
            outcome = "miss" if cached is STORED else "pass"
            await until(lambda: scene.of("/one") == [(200, outcome, "incomplete")])
            assert scene.edge.statistics().store.objects == 0 or cached is PASSED  # type: ignore[union-attr]

    with caplog.at_level(logging.WARNING, "flyby"):
        story()
    assert "was cut off" in caplog.text


@every_way
async def test_followers_of_what_is_broken_off_are_broken_off_too(way: dict[str, bool]) -> None:
    go_on = asyncio.Event()
    async with life(broken(STORED + b"Content-Length: 10\r\n\r\n", go_on), **way) as scene:
        owner = await scene.send("/one")
        await head_of(owner)
        followers = [await scene.send("/one"), await scene.send("/one", "GET", 'If-None-Match: "another"')]
        for client in (owner, *followers):
            await client.reader.readuntil(b"first")
        go_on.set()
        for client in (owner, *followers):
            assert (await rest_of(client))[:-5] == b""
        await until(lambda: len(scene.records) == 3)
        assert scene.of("/one") == [(200, "miss", "incomplete")] * 3


@every_way
async def test_a_broken_chunk_beside_the_head_is_an_error_of_the_origin(way: dict[str, bool]) -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + PASSED + CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n")

    async with life(script, **way) as scene:
        assert (await scene.ask("/bad")).status == 502
        assert [record.status for record in scene.records] == [502]


@every_way
async def test_a_silent_origin_is_a_timeout_before_the_head_and_a_break_after_it(way: dict[str, bool]) -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if request.target == "/middle":
            writer.write(HEAD + PASSED + b"Content-Length: 10\r\n\r\nfirst")
        await asyncio.Event().wait()

    async with life(script, backend={"first_byte_s": 0.1, "between_bytes_s": 0.1}, **way) as scene:
        assert (await scene.ask("/before")).status == 504
        answer = await scene.ask("/middle")
        assert (answer.status, answer.body, answer.complete) == (200, b"first", False)
        await scene.freed()
        assert scene.of("/middle") == [(200, "pass", "incomplete")]
