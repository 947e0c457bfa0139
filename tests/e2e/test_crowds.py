"""Plays: followers of many kinds read one fetch, and each gets what it would have got alone, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from flyby.config import Timeouts
from flyby.log import AccessRecord
from flyby.store import Fill, Store
from tests.e2e.stage import Client, Message, Origin, Stage, play, reply, stage
from tests.edge import served

BODY = random.Random(1).randbytes(3_000_000)
REST = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n"
PLAIN = REST + b"\r\n"
# A condition that no entity tag meets takes the long way, and must not be seen in the response.
LONG_WAY = REST + b'If-None-Match: "another"\r\n\r\n'
KEY = b"http shop.test /a\0app"


class Gate:
    """An origin's script that keeps the shared fetch waiting: `begin` lets the head go, `end` the second half."""

    def __init__(self, body: bytes, head: str = "", chunked: bool = False) -> None:
        self.begin, self.end = asyncio.Event(), asyncio.Event()
        self.body = body
        self.head = f'HTTP/1.1 200 Fine\r\nCache-Control: max-age=60\r\nETag: "one"\r\n{head}'
        self.head += "Transfer-Encoding: chunked\r\n\r\n" if chunked else f"Content-Length: {len(body)}\r\n\r\n"
        self.chunked = chunked
        self.shared = 0

    def _part(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self.chunked and data else data

    async def __call__(self, origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        alone = request.method == "HEAD" or request.get("range") is not None
        if not alone:
            self.shared += 1
            await self.begin.wait()
        half = len(self.body) // 2
        if request.get("range") is not None:
            fields = f'ETag: "one"\r\nContent-Range: bytes 10-19/{len(self.body)}\r\nContent-Length: 10\r\n\r\n'
            writer.write(b"HTTP/1.1 206 Part\r\n" + fields.encode() + self.body[10:20])
            return
        writer.write(self.head.encode())
        if request.method == "HEAD":
            return
        writer.write(self._part(self.body[:half]))
        if not alone:
            await writer.drain()
            await self.end.wait()
        writer.write(self._part(self.body[half:]) + (b"0\r\n\r\n" if self.chunked else b""))


async def waiting(scene: Stage, count: int) -> None:
    """Until so many requests wait in the followers' lane."""
    while scene.edge._connections is None or scene.edge._connections.lane.passed < count:
        await asyncio.sleep(0.005)


async def owner(scene: Stage, gate: Gate) -> Client:
    """The client whose request is sent to the origin."""
    client = await scene.connect()
    await client.send(PLAIN)
    while not gate.shared:
        await asyncio.sleep(0.005)
    return client


async def whole(client: Client) -> bytes:
    """All bytes of one response with a Content-Length, or with chunks."""
    head = await client.reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.startswith(b"Content-Length: "):
            return head + await client.reader.readexactly(int(line[16:]))
    return head + await client.reader.readuntil(b"\r\n0\r\n\r\n")


def unchunked(response: bytes) -> bytes:
    head, _, rest = response.partition(b"\r\n\r\n")
    content = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        content, rest = content + rest[:length], rest[length + 2 :]
    return head + b"\r\n\r\n" + content


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [0, 1, 1000, 200_000])
def test_the_lane_and_the_long_way_say_the_same(size: int, chunked: bool) -> None:
    @play
    async def story() -> None:
        gate = Gate(BODY[:size], chunked=chunked)
        async with stage(gate) as scene:
            await owner(scene, gate)
            plain, long_way = [await scene.connect() for _ in range(2)]
            await plain.send(PLAIN)
            await waiting(scene, 1)
            await long_way.send(LONG_WAY)
            await asyncio.sleep(0.05)
            gate.begin.set()
            # How long it is may be known by the time that followers look: not while half of it is there.
            await asyncio.sleep(0.05 if size > 1 else 0)
            gate.end.set()
            lane, road = await whole(plain), await whole(long_way)
            if chunked and size > 1:
                lane, road = unchunked(lane), unchunked(road)
            assert lane == road
            assert lane.startswith(b"HTTP/1.1 200 Fine\r\n")
            assert b"\r\nAge: 0\r\nCache-Status: flyby; fwd=" in lane
            assert b"; collapsed" in lane
            assert lane.endswith(b"\r\n\r\n" + BODY[:size])
            assert gate.shared == 1
            # Both connections go on.
            for client in (plain, long_way):
                await client.send(PLAIN)
                assert b"; hit; " in await whole(client)

    story()


@play
async def test_a_mixed_crowd_is_answered_byte_for_byte() -> None:
    gate = Gate(BODY)
    async with stage(gate, cache={"max_object": "8MiB"}) as scene:
        first = await owner(scene, gate)

        async def plain(client: Client) -> None:
            await client.send(PLAIN)
            assert (await client.response()).body == BODY

        async def fresh_copy(client: Client) -> None:
            await client.send(REST + b'If-None-Match: "one"\r\n\r\n')
            assert (await client.response()).status == 304

        async def changed(client: Client) -> None:
            await client.send(LONG_WAY)
            assert (await client.response()).body == BODY

        async def part(client: Client) -> None:
            await client.send(REST + b"Range: bytes=10-19\r\n\r\n")
            answer = await client.response()
            assert (answer.status, answer.body) in ((206, BODY[10:20]), (200, BODY))

        async def head(client: Client) -> None:
            await client.send(b"HEAD" + PLAIN[3:])
            answer = await client.response("HEAD")
            assert (answer.status, answer.get("content-length")) == (200, str(len(BODY)))

        async def slow(client: Client) -> None:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(PLAIN)
            await gate.end.wait()
            await asyncio.sleep(0.2)
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert (await client.response()).body == BODY

        async def gone_early(client: Client) -> None:
            await client.send(PLAIN)
            await asyncio.sleep(0.05)
            client.reset()

        async def gone_midway(client: Client) -> None:
            await client.send(PLAIN)
            await client.reader.readexactly(1000)
            client.reset()

        async def half_closed(client: Client) -> None:
            await client.send(PLAIN)
            client.writer.write_eof()
            answer = await client.response()
            assert (answer.body, answer.get("connection")) == (BODY, "close")
            assert await client.closed()

        async def pipelined(client: Client) -> None:
            await client.send(PLAIN + LONG_WAY + PLAIN)
            for _ in range(3):
                assert (await client.response()).body == BODY

        kinds: list[Callable[[Client], object]] = [plain, plain, fresh_copy, changed, part, head, slow]
        kinds += [gone_early, gone_midway, half_closed, pipelined]
        crowd = [asyncio.ensure_future(kind(await scene.connect())) for kind in kinds * 8]  # type: ignore[call-overload]
        await waiting(scene, 7 * 8)
        await asyncio.sleep(0.1)
        gate.begin.set()
        await asyncio.sleep(0.1)
        gate.end.set()
        await asyncio.gather(*crowd)
        assert (await first.response()).body == BODY
        assert gate.shared == 1
        store = scene.edge._store
        assert store is not None
        assert store.check() == []


@play
async def test_each_variant_goes_to_those_who_select_it() -> None:
    release = asyncio.Event()

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        coding = request.get("accept-encoding") or "none"
        await reply(body=coding.encode(), Cache_Control="max-age=60", Vary="Accept-Encoding")(origin, request, writer)

    async with stage(script) as scene:
        codings = ["gzip", "br", "gzip", "zstd", "br", "gzip"] * 5
        asked = [asyncio.create_task(scene.ask("/a", Accept_Encoding="gzip"))]
        while not scene.origin.requests:
            await asyncio.sleep(0.005)
        asked += [asyncio.create_task(scene.ask("/a", Accept_Encoding=coding)) for coding in codings]
        await waiting(scene, len(codings))
        release.set()
        answers = await asyncio.gather(*asked)
        assert [answer.body.decode() for answer in answers] == ["gzip", *codings]
        assert len(scene.origin.requests) == 3


@play
async def test_a_cookie_has_no_part_in_what_is_stored_by_guess() -> None:
    """Neither in the lane nor on the long way, and not only once the response is whole."""
    release, rest = asyncio.Event(), asyncio.Event()

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        name = (request.get("cookie") or "nobody").encode()
        head = f"HTTP/1.1 200 OK\r\nLast-Modified: Thu, 01 Jan 2015 00:00:00 GMT\r\nContent-Length: {len(name)}\r\n\r\n"
        writer.write(head.encode() + name[:2])
        if name == b"nobody":
            await writer.drain()
            await rest.wait()
        writer.write(name[2:])

    async with stage(script) as scene:
        asked = [asyncio.create_task(scene.ask("/a"))]
        while not scene.origin.requests:
            await asyncio.sleep(0.005)
        theirs = [
            asyncio.create_task(scene.ask("/a", Cookie="a=1")),
            asyncio.create_task(scene.ask("/a", Cookie="b=2")),
            asyncio.create_task(scene.ask("/a", Cookie="c=3", If_None_Match='"another"')),
        ]
        asked += [asyncio.create_task(scene.ask("/a"))]
        await waiting(scene, 3)
        release.set()
        # While the shared one is still arriving.
        assert [answer.body for answer in await asyncio.gather(*theirs)] == [b"a=1", b"b=2", b"c=3"]
        rest.set()
        assert [answer.body for answer in await asyncio.gather(*asked)] == [b"nobody", b"nobody"]


@play
async def test_a_crowd_breaks_off_when_its_fetch_does() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100\r\n\r\nonly this")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    release = asyncio.Event()
    async with stage(script) as scene:
        asked = [asyncio.create_task(scene.ask("/a"))]
        while not scene.origin.requests:
            await asyncio.sleep(0.005)
        asked += [asyncio.create_task(scene.ask("/a")) for _ in range(20)]
        await waiting(scene, 20)
        release.set()
        for answer in await asyncio.gather(*asked):
            assert (answer.body, answer.complete) == (b"only this", False)


def unanswered(store: Store) -> Fill:
    """The fetch of an owner that was stopped in its tracks."""
    fill = store.claim(KEY)
    assert fill is not None
    assert fill.owner
    return fill


@play
async def test_an_owner_that_is_stopped_does_not_keep_its_crowd() -> None:
    async with stage(reply(Cache_Control="max-age=60"), cache={"collapse_wait_s": 0.2}) as scene:
        assert scene.edge._store is not None
        fill = unanswered(scene.edge._store)
        answers = await asyncio.gather(*(scene.ask("/a") for _ in range(5)))
        assert [answer.body for answer in answers] == [b"hello"] * 5
        # One of them fetches beside it, for all.
        assert sum("collapsed" in (answer.get("cache-status") or "") for answer in answers) == 4
        assert len(scene.origin.requests) == 1
        await waiting(scene, 5)
        fill.release()


@play
async def test_an_owner_that_is_lost_leaves_the_fetch_to_one_of_its_crowd() -> None:
    async with stage(reply(Cache_Control="max-age=60")) as scene:
        assert scene.edge._store is not None
        fill = unanswered(scene.edge._store)
        asked = [asyncio.create_task(scene.ask("/a")) for _ in range(20)]
        await waiting(scene, 20)
        fill.release()
        assert [answer.body for answer in await asyncio.gather(*asked)] == [b"hello"] * 20
        assert len(scene.origin.requests) == 1


@play
async def test_who_comes_while_it_arrives_gets_all_of_it() -> None:
    gate = Gate(BODY[:400_000])
    async with stage(gate) as scene:
        first = await owner(scene, gate)
        gate.begin.set()
        await first.reader.readuntil(b"\r\n\r\n")
        late = [await scene.connect() for _ in range(10)]
        for client in late:
            await client.send(PLAIN)
        for client in late:
            await client.reader.readuntil(b"\r\n\r\n")
        gate.end.set()
        for client in late:
            assert await client.reader.readexactly(400_000) == gate.body
        await waiting(scene, 10)
        assert gate.shared == 1


@play
async def test_a_purge_parts_those_before_it_from_those_behind_it() -> None:
    gates = [asyncio.Event(), asyncio.Event()]

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        number = len(origin.requests)
        await gates[number - 1].wait()
        await reply(body=b"%d" % number, Cache_Control="max-age=60")(origin, request, writer)

    async with stage(script) as scene:
        asked = []
        for turn in (1, 2):
            asked.append(asyncio.create_task(scene.ask("/a")))
            while len(scene.origin.requests) < turn:
                await asyncio.sleep(0.005)
            asked += [asyncio.create_task(scene.ask("/a")) for _ in range(4)]
            await waiting(scene, 4 * turn)
            scene.edge.purge_all() if turn == 1 else None
        for gate in gates:
            gate.set()
        assert [answer.body for answer in await asyncio.gather(*asked)] == [b"1"] * 5 + [b"2"] * 5


@play
async def test_each_follower_is_recorded_once() -> None:
    records: list[AccessRecord] = []
    gate = Gate(BODY[:500])
    async with stage(gate, access_log=records.append, timeouts=Timeouts(drain_s=0.1)) as scene:
        first = await owner(scene, gate)
        clients = [await scene.connect() for _ in range(3)]
        for client in clients:
            await client.send(REST + b"User-Agent: one\r\nX-Request-Id: abc-%d\r\n\r\n" % 7)
        await waiting(scene, 3)
        clients[2].reset()
        await asyncio.sleep(0.05)
        gate.begin.set()
        gate.end.set()
        sizes = [len(await whole(client)) for client in clients[:2]]
        await first.response()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while len(records) < 4:
                    await asyncio.sleep(0.01)
        followers = [record for record in records if record.user_agent == b"one"]
        assert [(record.outcome, record.status) for record in followers] == [
            ("error", 499),
            ("miss", 200),
            ("miss", 200),
        ]
        assert [record.bytes_sent for record in followers[1:]] == sizes
        assert {(record.path, record.host, record.backend) for record in followers} == {(b"/a", b"shop.test", "app")}
        assert {record.reason for record in followers[1:]} == {"collapsed"}


@play
async def test_a_crowd_over_two_workers_survives_the_owner() -> None:
    """Followers in both workers read along; when the owner's is killed, one of the others fetches in its place."""
    halves, over = asyncio.Event(), asyncio.Event()

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if request.target == "/whole":
            await halves.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 300000\r\n\r\n")
            writer.write(BODY[:150_000])
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.write(BODY[150_000:300_000])
        elif len(origin.requests) == 2:
            await over.wait()  # the owner, and its worker, are not going to see an answer
        else:
            await reply(Cache_Control="max-age=60")(origin, request, writer)

    origin = Origin(script)
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = f'[server]\nlog = "off"\n[backends.app]\norigins = ["http://127.0.0.1:{port}"]\n'
    loop = asyncio.get_running_loop()
    running = served(config=config, workers=2)
    clients: list[Client] = []
    edge = await loop.run_in_executor(None, running.__enter__)
    try:
        clients += [Client(*await asyncio.open_connection("127.0.0.1", edge.port)) for _ in range(60)]
        for client in clients:
            await client.send(b"GET /whole HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        await asyncio.sleep(0.3)
        halves.set()
        answers = [await client.response() for client in clients]
        assert {answer.body for answer in answers} == {BODY[:300_000]}
        assert len(origin.requests) == 1

        await clients[0].send(b"GET /lost HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        while len(origin.requests) < 2:
            await asyncio.sleep(0.005)
        for client in clients[1:]:
            await client.send(b"GET /lost HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        await asyncio.sleep(0.3)
        os.kill(worker_of(edge.port, clients[0]), signal.SIGKILL)
        bodies = []
        for client in clients:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                bodies.append((await client.response()).body)
        # Those of the dead worker are gone with it; the others have one answer, fetched once.
        assert bodies
        assert set(bodies) == {b"hello"}
        assert len(origin.requests) == 3
    finally:
        over.set()
        for client in clients:
            await client.close()
        await loop.run_in_executor(None, running.__exit__, None, None, None)
        for writer in list(origin.writers):
            writer.close()
        server.close()


def worker_of(port: int, client: Client) -> int:
    """The process at the other end of a client's connection."""
    local = client.writer.get_extra_info("sockname")[1]
    wanted = f"0100007F:{port:04X} 0100007F:{local:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inode = next(line.split()[9] for line in lines if " ".join(line.split()[1:3]) == wanted)
    for each in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if each.readlink().name == f"socket:[{inode}]":
                return int(each.parts[2])
    raise AssertionError("nobody has that connection")
