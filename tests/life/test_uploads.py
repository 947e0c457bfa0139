"""Plays: a request's content on its way: what is worth a connection, who says 100, which limits count, who is kept."""

from __future__ import annotations

import asyncio
import socket

import pytest

from flyby.config import Limits
from tests.e2e.stage import play, read_head, reply
from tests.life.stage import every_way, head_of, life, listening, turns, until

OK = b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\nok"
CONTINUE = "HTTP/1.1 100 Continue"
LEFT = (499, "error", "client-left")
EARLY = {"early": 2}


# ---- when a connection is taken --------------------------------------------------------------------------------------


@play
async def test_no_connection_is_taken_for_content_that_is_still_to_come() -> None:
    """Whole content, or 64 KiB of it, is worth a connection at once; anything less is not."""
    async with life(reply(), pool={"early": 0}) as scene:
        slow = await scene.send("/slow", "POST", "Content-Length: 10", content=b"12345")
        large = await scene.send("/large", "POST", "Content-Length: 70000", content=b"x" * 65_536)
        await until(lambda: scene.leased == 1)
        assert (await scene.ask("/whole", "POST", "Content-Length: 3", content=b"abc")).status == 200
        await large.send(b"x" * (70_000 - 65_536))
        assert (await large.response()).status == 200
        assert [request.target for request in scene.origin.requests] == ["/whole", "/large"]
        await slow.send(b"67890")
        assert (await slow.response()).status == 200
        assert scene.origin.requests[2].body == b"1234567890"


@play
async def test_silent_clients_go_ahead_as_far_as_the_early_share_goes() -> None:
    async with life(reply(), pool=EARLY) as scene:
        slow = [await scene.send("/slow", "POST", "Content-Length: 2", content=b"1") for _ in range(6)]
        await until(lambda: scene.leased == 2)
        await asyncio.sleep(0.3)  # the others have been silent for longer than 250 ms, too
        assert (scene.leased, scene.early) == (2, 2)
        assert (await scene.ask("/beside")).status == 200
        for client in slow:
            await client.send(b"2")
            assert (await client.response()).status == 200
        assert scene.early == 0


@every_way
async def test_a_client_that_leaves_in_its_content_is_recorded_as_such(way: dict[str, bool]) -> None:
    async with life(reply(), **way) as scene:
        before = await scene.send("/before", "POST", "Content-Length: 10", content=b"12345")
        during = await scene.send("/during", "POST", "Content-Length: 70000", content=b"x" * 66_000)
        await until(lambda: scene.leased >= 1)
        for client in (before, during):
            client.reset()
        await scene.freed()
        await until(lambda: len(scene.records) == 2)
        assert scene.of("/before") == scene.of("/during") == [LEFT]


@every_way
async def test_an_end_within_the_content_is_the_clients_fault(way: dict[str, bool]) -> None:
    async with life(reply(), **way) as scene:
        client = await scene.send("/half", "POST", "Content-Length: 70000", content=b"x" * 66_000)
        await until(lambda: scene.leased)
        client.writer.write_eof()
        assert (await client.response()).status == 400
        await scene.freed()
        assert scene.origin.requests == []


# ---- 100 (Continue) --------------------------------------------------------------------------------------------------


@play
async def test_the_app_may_refuse_what_is_announced() -> None:
    """RFC 9110 10.1.1: a final status instead of 100; the content is not waited for."""

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await read_head(reader)).get("expect") == "100-continue"
        writer.write(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with listening(app) as backend, life(reply(), backend=backend) as scene:
        client = await scene.send("/secret", "POST", "Expect: 100-continue", "Content-Length: 5")
        answer = await client.response()
        assert (answer.status, answer.interim) == (401, [])
        assert answer.get("connection") == "close"
        await scene.freed()


@play
async def test_the_apps_100_is_passed_on_before_content_is_sent() -> None:
    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await reader.readexactly(5) == b"hello"
        writer.write(OK)

    async with listening(app) as backend, life(reply(), backend=backend) as scene:
        client = await scene.send("/in", "POST", "Expect: 100-continue", "Content-Length: 5")
        assert (await head_of(client)).startswith(CONTINUE.encode())
        await client.send(b"hello")
        assert (await client.response()).body == b"ok"


@play
async def test_an_app_that_says_nothing_gets_the_content_all_the_same() -> None:
    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        assert await reader.readexactly(5) == b"hello"
        writer.write(OK)

    async with listening(app) as backend, life(reply(), backend=backend) as scene:
        client = await scene.send("/in", "POST", "Expect: 100-continue", "Content-Length: 5")
        assert (await head_of(client)).startswith(CONTINUE.encode())
        assert scene.early == 1
        await client.send(b"hello")
        assert (await client.response()).body == b"ok"


@play
async def test_who_finds_the_early_share_used_up_is_told_100_by_flyby() -> None:
    async with life(reply(), pool={"early": 0}) as scene:
        client = await scene.send("/in", "POST", "Expect: 100-continue", "Content-Length: 5")
        assert (await head_of(client)).startswith(CONTINUE.encode())
        assert scene.leased == 0
        await client.send(b"hello")
        answer = await client.response()
        assert (answer.status, answer.interim) == (200, [])


@play
async def test_content_that_comes_without_waiting_is_not_answered_by_100() -> None:
    async with life(reply()) as scene:
        client = await scene.send("/in", "POST", "Expect: 100-continue", "Content-Length: 5", content=b"hello")
        # The origin of the stage waits for no content where 100 is expected: what comes is its next request's.
        answer = await client.response()
        assert (answer.status, answer.interim) == (200, [])


# ---- limits ----------------------------------------------------------------------------------------------------------


@every_way
async def test_first_byte_s_runs_from_the_requests_last_byte(way: dict[str, bool]) -> None:
    async with life(reply(), backend={"first_byte_s": 0.4}, **way) as scene:
        client = await scene.send("/up", "POST", "Content-Length: 70000", content=b"x" * 66_000)
        await until(lambda: scene.leased)
        await asyncio.sleep(0.5)  # longer than the limit, which is the app's and not the client's
        await client.send(b"x" * 4_000)
        assert (await client.response()).status == 200
        assert len(scene.origin.requests[0].body) == 70_000


@play
async def test_an_app_that_has_the_whole_request_has_first_byte_s() -> None:
    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(app) as backend, life(reply(), backend={**backend, "first_byte_s": 0.1}) as scene:
        assert (await scene.ask("/up", "POST", "Content-Length: 5", content=b"hello")).status == 504
        await scene.freed()


LIMITS = Limits(body=100_000)


@pytest.mark.parametrize(
    ("lines", "content"),
    [
        (["Content-Length: 100001"], b""),
        (["Content-Length: 100001", "Expect: 100-continue"], b""),
        (["Transfer-Encoding: chunked"], b"1\r\nx\r\n" * 3 + b"186a0\r\n" + b"y" * 100_000),
    ],
    ids=["announced", "expected", "chunked"],
)
def test_content_beyond_the_limit_is_refused(lines: list[str], content: bytes) -> None:
    @play
    async def story() -> None:
        async with life(reply(), limits=LIMITS) as scene:
            client = await scene.send("/up", "POST", *lines, content=content)
            head = await head_of(client)
            assert head.startswith(b"HTTP/1.1 413 ")
            assert b"\r\nConnection: close\r\n" in head
            await scene.freed()
            assert scene.origin.requests == []
            # A request that is refused by its head alone is counted as refused, and has no record.
            await turns()
            scene.asked = len(scene.records)
            assert scene.asked + scene.edge.statistics().requests.refused == 1

    story()


@play
async def test_content_up_to_the_limit_is_passed_on() -> None:
    async with life(reply(), limits=LIMITS) as scene:
        answer = await scene.ask("/up", "POST", "Content-Length: 100000", content=b"y" * 100_000)
        assert (answer.status, len(scene.origin.requests[0].body)) == (200, 100_000)


# ---- early answers, and connections that are kept --------------------------------------------------------------------


@play
async def test_an_answer_that_came_before_the_origin_closed_on_the_upload_is_read() -> None:
    """The app answers and closes with the upload unread, so its kernel resets what is sent to it."""

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbig!")

    async with listening(app) as backend, life(reply(), backend=backend) as scene:
        for _ in range(5):
            client = await scene.send("/up", "POST", "Content-Length: 2097152", content=b"x" * 2_097_152)
            answer = await client.response()
            assert (answer.status, answer.body, answer.complete) == (413, b"big!", True)
        await scene.freed()
        assert {record.status for record in scene.records} == {413}


@play
async def test_a_client_that_sends_on_and_reads_late_finds_the_early_answer() -> None:
    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbig!")

    def upload(address: tuple[str, int]) -> bytes:
        head = b"POST /up HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 4194304\r\n\r\n"
        data = b""
        with socket.create_connection(address, 5) as client:
            client.sendall(head + b"x" * 4_194_304)
            while more := client.recv(65_536):
                data += more
        return data

    async with listening(app) as backend, life(reply(), backend=backend) as scene:
        scene.asked += 1
        answer = await asyncio.to_thread(upload, scene.edge.addresses[0])
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert answer.endswith(b"\r\n\r\nbig!")


@play
async def test_one_connection_serves_the_posts_of_an_app_that_answers_on_the_head() -> None:
    connections = 0

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            head = await read_head(reader)
            writer.write(OK)
            await reader.readexactly(int(head.get("content-length") or 0))

    async with listening(app) as backend, life(reply(), backend=backend) as scene:
        for size in (200, 65_536, 200_000, 5):
            for _ in range(3):
                client = await scene.send("/in", "POST", f"Content-Length: {size}", content=b"x" * size)
                assert (await client.response()).body == b"ok"
                await client.close()
        await scene.freed()
        assert connections == 1


@play
async def test_a_client_that_leaves_its_content_unfinished_costs_the_connection() -> None:
    """The app has answered on the head, and waits for content that will not come: nobody else's request may follow."""
    connections = 0
    bodies: list[bytes] = []

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            head = await read_head(reader)
            writer.write(OK)
            bodies.append(await reader.readexactly(int(head.get("content-length") or 0)))

    async with listening(app) as backend, life(reply(), backend=backend) as scene:
        client = await scene.send("/in", "POST", "Content-Length: 80000", content=b"x" * 70_000)
        await head_of(client)
        client.reset()
        await scene.freed()
        assert (await scene.ask("/in", "POST", "Content-Length: 3", content=b"abc")).body == b"ok"
        assert (connections, bodies) == (2, [b"abc"])


@play
async def test_an_upload_is_sent_at_the_origins_pace() -> None:
    """An app that reads nothing holds the client back: what waits here is bounded."""
    go_on = asyncio.Event()

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        await go_on.wait()
        left = 30_000_000
        while left and (data := await reader.read(1 << 20)):
            left -= len(data)
        writer.write(OK)

    # With a small limit the stream reader of this process holds its sender back, too.
    async with listening(app, limit=65_536) as backend, life(reply(), backend=backend) as scene:
        client = await scene.send("/up", "POST", "Content-Length: 30000000")
        sending = asyncio.create_task(client.send(b"x" * 30_000_000))
        await until(lambda: scene.leased)
        most = 0
        for _ in range(50):
            await turns(5)
            most = max(most, scene.edge.statistics().buffered)
        assert not sending.done()
        assert most <= 256 * 1024
        go_on.set()
        assert (await client.response()).body == b"ok"
        await sending
