"""The pass lane: a key that is marked hit-for-miss changes how fast a request is passed on, and nothing else."""

from __future__ import annotations

import asyncio
import re

import pytest

from flyby.config import Pool
from tests.e2e.stage import Message, Origin, Stage, play, reply, stage

CHANGING = ("x-request-id", "x-request-start")


def passed(scene: Stage) -> int:
    """Requests that took the lane."""
    assert scene.edge._connections is not None
    return scene.edge._connections.lane.passed


def told(request: Message) -> list[tuple[str, str]]:
    """What the origin was told, but for what is new each time; in no order."""
    return sorted((name.lower(), value) for name, value in request.fields if name.lower() not in CHANGING)


@play
async def test_the_origin_and_the_client_see_the_same_on_either_way() -> None:
    answer = reply(Cache_Control="no-store", Set_Cookie=["a=1", "b=2"], Surrogate_Key="x", Location="/elsewhere")
    async with stage(answer) as scene:
        fields = {
            "Cookie": "s=1", "Accept": "*/*", "X_Alias": "1", "X-Forwarded-For": "192.0.2.1", "Via": "1.1 a",
            "X-Forwarded-Host": "evil.test", "X-Original-URL": "/x", "If-None-Match": '"1"', "Connection": "keep-alive",
        }  # fmt: skip
        client = await scene.connect()
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        seen = []
        for _ in range(3):
            await client.send(f"GET /page?a=1 HTTP/1.1\r\nHost: shop.test\r\n{lines}\r\n")
            seen.append(await client.response())
        assert passed(scene) == 2
        first, *others = map(told, scene.origin.requests)
        assert ("cookie", "s=1") in first
        assert not {"x_alias", "x-original-url", "if-none-match"} & {name for name, _ in first}
        # Nothing was known of the page when it was first asked for; then the client's own condition goes on.
        assert others == [sorted([*first, ("if-none-match", '"1"')])] * 2
        for response in seen:
            assert (response.status, response.body, response.get("location")) == (200, b"hello", "/elsewhere")
            assert [value for name, value in response.fields if name.lower() == "set-cookie"] == ["a=1", "b=2"]
            assert response.get("surrogate-key") is None
            assert response.get("via") == "1.1 flyby"
        assert seen[0].get("cache-status") == "flyby; fwd=uri-miss; fwd-status=200; detail=no-store"
        assert seen[1].get("cache-status") == "flyby; fwd=miss; fwd-status=200; detail=no-store"
        assert [name for name, _ in seen[0].fields] == [name for name, _ in seen[1].fields]
        assert scene.edge.statistics().requests.outcomes["pass"] == 3


@pytest.mark.parametrize(
    ("setting", "told_host"), [("origin", "127.0.0.1:{port}"), ("client", "shop.test"), ("app.test", "app.test")]
)
def test_every_request_of_a_kept_connection_tells_the_same_host(setting: str, told_host: str) -> None:
    async def story() -> None:
        async with stage(reply(Cache_Control="no-store"), backend={"host": setting}) as scene:
            client = await scene.connect()
            for method in ("GET", "GET", "DELETE"):
                await client.send(f"{method} / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
                assert (await client.response()).body == b"hello"
            assert passed(scene) == 2
            [port] = {writer.get_extra_info("sockname")[1] for writer in scene.origin.writers}
            assert [request.get("host") for request in scene.origin.requests] == [told_host.format(port=port)] * 3

    play(story)()


@play
async def test_a_half_closed_client_holds_no_connection_that_others_wait_for() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if request.target == "/silent":
            await asyncio.Event().wait()
        await reply(Cache_Control="no-store")(origin, request, writer)

    async with stage(script, backend={"pool": Pool(max_connections=1)}) as scene:
        client = await scene.connect()
        await client.send("GET /silent HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        client.writer.write_eof()
        async with asyncio.timeout(5):
            while not scene.origin.requests:
                await asyncio.sleep(0)
        assert (await scene.ask("/")).status == 200
        assert await client.closed()


HEADS = {
    "no-store": b"HTTP/1.1 200 OK\r\nCache-Control:no-store\r\nX-A: \t b \r\nContent-Length: 5\r\n\r\nhello",
    "private": b"HTTP/1.1 404 Not here\r\nCache-Control: private\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n",
    "cookie": b"HTTP/1.1 200 \r\nConnection: keep-alive\r\nSet-Cookie: a\r\nNEL: {}\r\nContent-Length: 05\r\n\r\nhello",
    "chunked": b"HTTP/1.1 200 OK\r\nCache-Control: private\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\nhe\r\n3\r\nllo\r\n0\r\nT: x\r\n\r\n",
    "location": b"HTTP/1.1 302 Go\r\nCache-Control: no-store\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
    "via": b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nVia: 1.0 x\r\nContent-Length: 5\r\n\r\nhello",
    "named": b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nConnection: x-a\r\nX-A: b\r\nContent-Length: 0\r\n\r\n",
    "failure": b"HTTP/1.1 503 No\r\nCache-Control: no-store\r\nContent-Length: 5\r\n\r\nhello",
    "empty": b"HTTP/1.1 204 No\r\nCache-Control: no-store\r\n\r\n",
    "large": b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000,
}


@pytest.mark.parametrize("name", HEADS)
def test_the_client_gets_the_same_bytes_on_either_way(name: str) -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(HEADS[name])
        await writer.drain()

    async def story() -> None:
        async with stage(script) as scene:
            await scene.ask("/")
            if name == "failure":
                await scene.ask("/")
            client = await scene.connect()
            seen = []
            # An empty line before a request sends it the long way.
            for before, took in ((b"", 1), (b"\r\n", 1)):
                await client.send(before + b"GET / HTTP/1.1\r\nHost: shop.test\r\nTE: trailers\r\n\r\n")
                data = await client.reader.readuntil(b"\r\n\r\n")
                counted = re.search(rb"\r\nContent-Length: ([0-9]+)", data)
                if b"\r\nTransfer-Encoding" in data:
                    data += await client.reader.readuntil(b"\r\n0\r\n")
                    data += await client.reader.readuntil(b"\r\n\r\n")
                elif counted is not None:
                    data += await client.reader.readexactly(int(counted[1]))
                seen.append(re.sub(rb"(\r\nDate: )[^\r]*", rb"\1now", data))
                assert passed(scene) >= took
            assert seen[0] == seen[1]
            assert b"; fwd=miss; fwd-status=" in seen[0]

    play(story)()


@play
async def test_a_response_that_is_storable_after_all_is_stored() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        storing = len(origin.requests) > 1
        await reply(Cache_Control="max-age=60" if storing else "private")(origin, request, writer)

    async with stage(script) as scene:
        answers = [await scene.ask("/") for _ in range(4)]
        assert passed(scene) == 1
        assert [answer.body for answer in answers] == [b"hello"] * 4
        assert "stored" in (answers[1].get("cache-status") or "")
        assert "; hit" in (answers[3].get("cache-status") or "")
        assert len(scene.origin.requests) == 2


@play
async def test_a_kept_connection_that_dies_in_silence_costs_a_second_try() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if len(origin.requests) == 2:
            writer.close()
            return
        await reply(Cache_Control="no-store")(origin, request, writer)

    async with stage(script) as scene:
        answers = [await scene.ask("/") for _ in range(2)]
        assert passed(scene) == 1
        assert [(answer.status, answer.body) for answer in answers] == [(200, b"hello")] * 2
        assert (len(scene.origin.requests), scene.origin.connections) == (3, 2)


@play
async def test_what_breaks_off_is_seen_as_such_and_recorded() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if len(origin.requests) == 1:
            await reply(Cache_Control="no-store")(origin, request, writer)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 10\r\n\r\nhello")
        await writer.drain()
        writer.close()

    async with stage(script) as scene:
        await scene.ask("/")
        broken = await scene.ask("/")
        assert passed(scene) == 1
        assert (broken.status, broken.body, broken.complete) == (200, b"hello", False)
        assert scene.edge.statistics().requests.outcomes["pass"] == 2


@play
async def test_a_client_that_leaves_ends_the_request_that_nobody_else_waits_for() -> None:
    gone = asyncio.Event()

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if len(origin.requests) == 1:
            await reply(Cache_Control="no-store")(origin, request, writer)
            return
        try:
            while True:
                writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            gone.set()
            raise

    async with stage(script) as scene:
        await scene.ask("/")
        client = await scene.connect()
        await client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        while passed(scene) == 0:
            await asyncio.sleep(0.01)
        client.reset()
        await asyncio.wait_for(gone.wait(), 10)
        backend = scene.edge.statistics().backends["app"].origins[0]
        assert (backend.leased, backend.in_flight) == (0, 0)
        assert scene.edge.statistics().requests.outcomes["error"] == 1


@play
async def test_pipelined_requests_are_answered_in_order_by_both_lanes() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        path = request.target
        storing = path == "/kept"
        body = path.encode()
        await reply(Cache_Control="max-age=60" if storing else "no-store", body=body)(origin, request, writer)

    async with stage(script) as scene:
        for path in ("/kept", "/passed"):
            await scene.ask(path)
        client = await scene.connect()
        paths = ["/kept", "/passed", "/kept", "/kept", "/passed", "/kept"]
        await client.send("".join(f"GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n" for path in paths))
        for path in paths:
            assert (await client.response()).body == path.encode()
        assert passed(scene) >= 1


@play
async def test_hints_are_relayed_and_a_switch_that_nobody_asked_for_is_not() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if len(origin.requests) == 2:
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        if len(origin.requests) == 3:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
            return
        await reply(Cache_Control="no-store")(origin, request, writer)

    async with stage(script) as scene:
        answers = [await scene.ask("/") for _ in range(3)]
        assert passed(scene) == 2
        assert [head.status for head in answers[1].interim] == [103]
        assert [answer.status for answer in answers] == [200, 200, 502]


@play
async def test_a_slow_reader_of_a_passed_response_does_not_fill_memory() -> None:
    size = 64 << 20

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        body = b"x" * (size if len(origin.requests) > 1 else 5)
        await reply(Cache_Control="no-store", body=body)(origin, request, writer)

    async with stage(script) as scene:
        await scene.ask("/")
        client = await scene.connect()
        await client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        client.writer.transport.pause_reading()
        while passed(scene) == 0:
            await asyncio.sleep(0.01)
        most = 0
        for _ in range(20):
            await asyncio.sleep(0.02)
            most = max(most, scene.edge.statistics().buffered)
        assert 0 < most <= 262_144
        client.writer.transport.resume_reading()
        response = await client.response()
        assert (len(response.body), response.complete) == (size, True)
