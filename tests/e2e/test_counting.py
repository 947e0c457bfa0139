"""Plays: each request is counted once in the worker's page, whichever way it took, with what became of it."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from typing import Any

from flyby.config import Redirect, Route
from flyby.metrics import MetricsSnapshot
from tests.e2e.stage import Message, Origin, Stage, play, reply, stage
from tests.e2e.test_crowds import BODY, PLAIN, Gate, owner, waiting, whole

FRESH: dict[str, Any] = {"Cache_Control": "public, max-age=600", "ETag": '"v1"'}
PRIVATE: dict[str, Any] = {"Cache_Control": "private"}
ROUTES = [
    Route(path="/api", backend="app"),
    Route(path="/old", redirect=Redirect(to="/new")),
    Route(host="shop.test", backend="app"),
]


def counted(scene: Stage) -> MetricsSnapshot:
    return scene.edge.statistics().requests


async def settled(scene: Stage, requests: int) -> MetricsSnapshot:
    """The counts, once so many requests are among them: a response is read before the edge has counted it."""
    while counted(scene).requests < requests:
        await asyncio.sleep(0.005)
    return counted(scene)


@play
async def test_by_outcome_reason_status_and_route() -> None:
    async with stage(reply(**FRESH), routes=ROUTES) as scene:
        await scene.ask("/a")
        await scene.ask("/a")
        await scene.ask("/a", If_None_Match='"v1"')
        await scene.ask("/api/b", "POST", b"x")
        await scene.ask("/old")
        await scene.ask("/nowhere", Host="other.test")
        found = await settled(scene, 6)
        assert found.statuses == {
            "miss": (0, 0, 1, 0, 0, 0),
            "hit": (0, 0, 1, 1, 0, 0),
            "pass": (0, 0, 1, 0, 0, 0),
            "local": (0, 0, 0, 1, 0, 0),
            "error": (0, 0, 0, 0, 1, 0),
        }
        assert found.reasons == {"uri-miss": 1, "method": 1}
        assert found.routes == {
            "shop.test app": {"miss": 1, "hit": 2},
            "*/api app": {"pass": 1},
            "*/old redirect": {"local": 1},
            "other": {"error": 1},  # no route
        }
        assert (found.hits.count, found.others.count, found.origins.count) == (2, 4, 2)


@play
async def test_the_bytes_that_were_sent() -> None:
    """A head alone, a part, and all of it: what the client read is what is counted, by either way."""
    async with stage(reply(body=bytes(10_000), **FRESH)) as scene:
        await scene.ask("/a")
        before = (await settled(scene, 1)).sent["miss"]
        assert 10_000 < before < 10_500
        sizes = []
        for number, request in enumerate(
            [
                "HEAD /a HTTP/1.1\r\nHost: shop.test\r\n\r\n",
                "\r\nHEAD /a HTTP/1.1\r\nHost: shop.test\r\n\r\n",  # an empty line before it: the long way
                "GET /a HTTP/1.1\r\nHost: shop.test\r\nRange: bytes=0-0\r\n\r\n",
                "GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n",
                "\r\nGET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n",
            ]
        ):
            client = await scene.connect()
            await client.send(request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))
            sizes.append(len(await client.reader.read()))
            found = await settled(scene, number + 2)
            assert found.sent["hit"] == sum(sizes)
        assert max(sizes[:3]) < 600 < 10_000 < min(sizes[3:])
        assert found.outcomes == {"miss": 1, "hit": 5}


@play
async def test_what_goes_on_to_the_origin_is_counted_with_its_route_and_times() -> None:
    async with stage(reply(body=b"x" * 500, Cache_Control="no-store"), routes=ROUTES) as scene:
        client = await scene.connect()
        for _ in range(5):
            await client.send("GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            await client.response()
        found = await settled(scene, 5)
        assert found.reasons == {"no-store": 5}
        assert sum(found.routes["shop.test app"].values()) == 5
        assert (found.others.count, found.origins.count, found.hits.count) == (5, 5, 0)
        assert 0 < found.origins.sum_us <= found.others.sum_us
        assert sum(found.sent.values()) > 2500


@play
async def test_pipelined_hits_are_counted_each() -> None:
    async with stage(reply(body=b"x" * 5000, **FRESH)) as scene:
        await scene.ask("/a")
        client = await scene.connect()
        await client.send(b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n" * 100)
        for _ in range(100):
            assert (await client.response()).status == 200
        found = await settled(scene, 101)
        assert (found.outcomes, found.hits.count) == ({"miss": 1, "hit": 100}, 100)


@play
async def test_a_hit_that_the_socket_takes_a_part_of_is_counted_when_it_is_over() -> None:
    body = random.Random(1).randbytes(4_000_000)  # not packed: a hit for the lane
    loop = asyncio.get_running_loop()
    async with stage(reply(body=body, **FRESH), cache={"max_object": "8MiB"}) as scene:
        await scene.ask("/a")
        with socket.socket() as slow, socket.socket() as gone:
            for client in (slow, gone):
                client.setblocking(False)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                await loop.sock_connect(client, scene.edge.addresses[0])
                await loop.sock_sendall(client, b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n")
                assert await loop.sock_recv(client, 8) == b"HTTP/1.1"
            assert counted(scene).outcomes == {"miss": 1}
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.close()
            left = await settled(scene, 2)
            assert 0 < left.sent["hit"] < len(body)
            read = b""
            while not read.endswith(body):
                read += await loop.sock_recv(slow, 1 << 20)
            found = await settled(scene, 3)
        assert found.outcomes == {"miss": 1, "hit": 2}
        assert found.sent["hit"] - left.sent["hit"] == len(b"HTTP/1.1" + read)
        assert scene.edge._lane.hits == 2


@play
async def test_followers_are_counted_each_under_their_route() -> None:
    gate = Gate(BODY[:5000])
    async with stage(gate, routes=ROUTES) as scene:
        clients = [await owner(scene, gate)]
        for _ in range(4):
            clients.append(await scene.connect())
            await clients[-1].send(PLAIN)
        await waiting(scene, 4)
        gate.begin.set()
        gate.end.set()
        for client in clients:
            assert (await whole(client)).endswith(gate.body)
        found = await settled(scene, 5)
        assert (found.outcomes, found.reasons["collapsed"]) == ({"miss": 5}, 4)
        assert found.routes == {"shop.test app": {"miss": 5}}


@play
async def test_what_broke_says_so() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if request.target == "/half":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000))
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.close()

    async with stage(script) as scene:
        assert (await scene.ask("/none")).status == 502
        assert not (await scene.ask("/half")).complete
        found = await settled(scene, 2)
        assert found.statuses["error"] == (0, 0, 0, 0, 0, 1)
        assert found.reasons["incomplete"] == 1


@play
async def test_a_client_that_has_gone_is_counted_once() -> None:
    gate = Gate(BODY[:5000])
    async with stage(gate) as scene:
        client = await owner(scene, gate)
        client.reset()
        found = await settled(scene, 1)
        assert found.statuses == {"error": (0, 0, 0, 0, 1, 0)}
        assert found.reasons == {"client-left": 1}


@play
async def test_connections_and_what_was_no_request() -> None:
    async with stage(reply(**PRIVATE)) as scene:
        first, second = await scene.connect(), await scene.connect()
        await first.send("GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        await first.response()
        await second.send("NONSENSE\r\n\r\n")
        assert (await second.response()).status == 400
        found = counted(scene)
        assert (found.connections_total, found.requests, found.refused) == (2, 1, 1)
        await first.close()
        await second.close()
        while counted(scene).connections_open:
            await asyncio.sleep(0.005)
        assert counted(scene).connections_total == 2


@play
async def test_a_reload_keeps_each_route_its_counts() -> None:
    async with stage(reply(**FRESH), routes=ROUTES) as scene:
        await scene.ask("/a")
        await settled(scene, 1)
        config = scene.edge._config
        changed = [Route(path="/first", backend="app"), *reversed(ROUTES)]
        await scene.edge.reload(type(config)(server=config.server, backends=config.backends, routes=changed))
        await scene.ask("/a")
        await scene.ask("/first")
        found = await settled(scene, 3)
        assert found.routes == {"shop.test app": {"miss": 1, "hit": 1}, "*/first app": {"miss": 1}}
