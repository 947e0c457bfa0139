"""Plays: messages on their way through, both directions, whole and in pieces."""

from __future__ import annotations

import asyncio
import socket

import pytest

from flyby.config import Limits, Timeouts
from tests.e2e.stage import Client, Message, Origin, go_on, play, reply, stage


@play
async def test_keep_alive_and_pipelining_answer_in_order() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02 if request.target == "/slow" else 0)
        await reply(body=request.target.encode())(origin, request, writer)

    async with stage(script) as scene:
        client = await scene.connect()
        paths = ["/slow", "/a", "/slow", "/b", "/c"]
        await client.send("".join(f"GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n" for path in paths))
        assert [(await client.response()).body.decode() for _ in paths] == paths


@play
async def test_bodies_pass_in_both_framings() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(request.body), 1000):
            part = request.body[start : start + 1000]
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        writer.write(b"0\r\nX-Sum: 7\r\nSet-Cookie: a=b\r\n\r\n")

    body = bytes(range(256)) * 40
    async with stage(script) as scene:
        fixed = await scene.ask("/", method="POST", body=body)
        assert fixed.body == body
        client = await scene.connect()
        await client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 777):
            part = body[start : start + 777]
            await client.send(b"%x\r\n%b\r\n" % (len(part), part))
        await client.send(b"0\r\nX-Sent: 1\r\n\r\n")
        answer = await client.response()
        assert answer.body == body
        assert answer.get("trailer:X-Sum") == "7"
        assert answer.get("trailer:Set-Cookie") is None
        assert scene.origin.requests[1].get("transfer-encoding") == "chunked"
        assert scene.origin.requests[1].get("trailer:X-Sent") == "1"


@play
async def test_a_request_arrives_byte_by_byte() -> None:
    async with stage(reply(Cache_Control="max-age=60")) as scene:
        for _ in range(2):
            client = await scene.connect()
            for octet in b"POST /p HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 3\r\n\r\nabc":
                await client.send(bytes([octet]))
                await asyncio.sleep(0)
            assert (await client.response()).status == 200
        assert scene.origin.requests[-1].body == b"abc"


@play
async def test_expect_continue_is_answered_before_the_body() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        # The head goes first, for the app to refuse the content or to ask for it.
        assert request.get("expect") == "100-continue"
        await go_on(request, writer)
        await reply(body=request.body)(origin, request, writer)

    async with stage(script) as scene:
        client = await scene.connect()
        await client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await client.send("data")
        assert (await client.response()).body == b"data"


@play
async def test_early_hints_are_relayed_but_not_to_http_10() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
        await reply()(origin, request, writer)

    async with stage(script) as scene:
        answer = await scene.ask("/")
        assert [(hint.status, hint.get("link")) for hint in answer.interim] == [(103, "</a.css>; rel=preload")]
        old = await scene.connect()
        await old.send("GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n")
        assert (await old.response()).interim == []
        assert await old.closed()


@play
async def test_http_10_gets_no_chunks() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")

    async with stage(script) as scene:
        client = await scene.connect()
        await client.send("GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n")
        answer = await client.response()
        assert (answer.get("transfer-encoding"), answer.body) == (None, b"abc")


@play
async def test_what_the_dyno_sees() -> None:
    async with stage(reply()) as scene:
        await scene.ask(
            "/x", X_Forwarded_For="192.0.2.7", X_Forwarded_Proto="https", X_Forwarded_Host="evil.test", Via="1.0 old",
            X_Request_Id="short", Connection="X-Drop", X_Drop="1", X_Orig_Url="/y",
        )  # fmt: skip
        seen = scene.origin.requests[0]
        assert seen.get_all("x-forwarded-for") == ["127.0.0.1"]
        assert seen.get_all("x-forwarded-proto") == ["http"]
        assert seen.get_all("x-forwarded-host") == ["shop.test"]
        assert seen.get_all("via") == ["1.0 old, 1.1 flyby"]
        assert seen.get_all("cdn-loop") == ["flyby"]
        assert len(seen.get("x-request-id") or "") == 32
        assert (seen.get("x-request-start") or "").isdecimal()
        assert (seen.get("x-drop"), seen.get("connection")) == (None, None)
        kept = "a-request-id-of-a-good-length"
        await scene.ask("/x", X_Request_Id=kept)
        assert scene.origin.requests[1].get("x-request-id") == kept
        assert (await scene.ask("/x", CDN_Loop="other, flyby; a=1")).status == 508
        assert len(scene.origin.requests) == 2


@play
async def test_max_forwards_counts_the_hops_of_options() -> None:
    async with stage(reply()) as scene:
        seen = {}
        for value in ("0", "1", "007", "x"):
            answer = await scene.ask("/", method="OPTIONS", **{"Max-Forwards": value})
            seen[value] = (answer.status, len(scene.origin.requests))
        assert seen == {"0": (204, 0), "1": (200, 1), "007": (200, 2), "x": (200, 3)}
        assert [request.get("max-forwards") for request in scene.origin.requests] == ["0", "6", "x"]
        # Only OPTIONS and TRACE count.
        await scene.ask("/", **{"Max-Forwards": "0"})
        assert scene.origin.requests[-1].get("max-forwards") == "0"


@play
async def test_location_of_the_origin_is_mapped_back() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await reply(302, b"", Location=f"http://{request.get('host')}/next?a=1")(origin, request, writer)

    async with stage(script) as scene:
        assert (await scene.ask("/")).get("location") == "http://shop.test/next?a=1"


@pytest.mark.parametrize(
    ("name", "request_bytes", "status"),
    [
        ("line", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a.test\r\n\r\n", 414),
        ("block", b"GET / HTTP/1.1\r\nHost: a.test\r\n" + b"X: " + b"b" * 40_000 + b"\r\n\r\n", 431),
        ("fields", b"GET / HTTP/1.1\r\nHost: a.test\r\n" + b"X: y\r\n" * 120 + b"\r\n", 431),
        ("length", b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5000\r\n\r\n", 413),
        ("connect", b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", 405),
        ("trace", b"TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n", 405),
        ("expect", b"GET / HTTP/1.1\r\nHost: a.test\r\nExpect: cake\r\n\r\n", 417),
        ("both", b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ],
)
def test_limits_and_refusals(name: str, request_bytes: bytes, status: int) -> None:
    @play
    async def story() -> None:
        async with stage(reply(), limits=Limits(body=4000)) as scene:
            client = await scene.connect()
            await client.send(request_bytes)
            assert (await client.response()).status == status
            if status not in (405, 417):
                assert await client.closed()
            assert scene.origin.requests == []

    story()


@play
async def test_content_that_breaks_its_framing_is_400_and_nothing_after_it_is_read() -> None:
    async with stage(reply()) as scene:
        client = await scene.connect()
        await client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.sleep(0.05)
        await client.send("zz\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n")
        answer = await client.response()
        assert (answer.status, answer.get("connection")) == (400, "close")
        assert await client.closed()
        assert not any(request.complete for request in scene.origin.requests)


@play
async def test_slow_heads_and_stalled_bodies_are_408() -> None:
    times = Timeouts(head_s=0.1, body_s=0.1, idle_s=30, drain_s=0.1)
    async with stage(reply(), timeouts=times) as scene:
        head = await scene.connect()
        await head.send("GET / HTTP/1.1\r\nHo")
        body = await scene.connect()
        await body.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc")
        for client in (head, body):
            assert (await client.response()).status == 408
            assert await client.closed()


@play
async def test_a_slow_reader_does_not_fill_memory() -> None:
    sent = 0

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 67108864\r\n\r\n")
        for _ in range(1024):
            writer.write(b"z" * 65_536)
            await writer.drain()
            sent += 65_536

    async with stage(script) as scene:
        client: Client = await scene.connect()
        client.writer.transport.pause_reading()
        await client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        last = -1
        while sent != last:
            last = sent
            await asyncio.sleep(0.2)
        # What was taken lies in socket buffers of the kernel, and in at most 256 KiB of the edge's.
        assert sent < 24 << 20
        assert scene.edge.statistics().buffered <= 256 << 10
        client.writer.transport.resume_reading()
        await client.reader.readuntil(b"\r\n\r\n")
        left = 67_108_864
        while left:
            left -= len(await client.reader.read(1 << 20))


@play
async def test_an_idempotent_request_is_retried_on_a_fresh_connection_and_a_post_never() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if request.get("x-break") and len(origin.requests) in (2, 5):
            writer.close()
            return
        await reply()(origin, request, writer)

    async with stage(script) as scene:
        await scene.ask("/")
        assert (await scene.ask("/", X_Break="1")).status == 200
        assert len(scene.origin.requests) == 3
        await scene.ask("/")
        assert (await scene.ask("/", method="POST", body=b"x", X_Break="1")).status == 502
        assert len(scene.origin.requests) == 5


@play
async def test_an_unreachable_origin_is_a_designed_page() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    async with stage(reply(), backend={"origins": [f"http://127.0.0.1:{port}"]}) as scene:
        plain = await scene.ask("/")
        assert plain.status in (502, 503)
        assert "error=connection_refused" in (plain.get("proxy-status") or "")
        assert plain.body.startswith(b"50")
        page = await scene.ask("/", Accept="text/html")
        assert page.body.startswith(b"<!doctype html>")


@play
async def test_websocket_passes_both_ways() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        assert request.get("upgrade") == "websocket"
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-A: 1\r\n\r\nhi!"
        )

    async with stage(script) as scene:
        client = await scene.connect()
        await client.send("GET /ws HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        switched = await client.response()
        assert (switched.status, switched.get("upgrade"), switched.get("x-a")) == (101, "websocket", "1")
        assert await client.reader.readexactly(3) == b"hi!"
        # What the client now says is read by the origin as its next request: bytes pass unread.
        await client.send("GET /through-the-pipe HTTP/1.1\r\nHost: b.test\r\nUpgrade: websocket\r\n\r\n")
        while len(scene.origin.requests) < 2:
            await asyncio.sleep(0.005)
        assert scene.origin.requests[1].target == "/through-the-pipe"
        assert scene.origin.requests[1].get("host") == "b.test"


@play
async def test_a_fault_after_a_good_request_is_answered_too() -> None:
    async with stage(reply()) as scene:
        client = await scene.connect()
        await client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        assert (await client.response()).status == 200
        await client.send("GET / HTTP/1.1\r\nHost: shop.test\r\nBad Name: x\r\n\r\n")
        assert (await client.response()).status == 400
        assert await client.closed()
