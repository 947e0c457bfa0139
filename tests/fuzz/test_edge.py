"""Requests through an edge: whole, byte by byte and cut anywhere, to an origin that says what it saw.

The origin answers each request with what it has read, so the responses that come back tell both what the edge made of
the client's bytes and what it sent on. Nothing is stored. Where the edge refuses, it must refuse in every cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.desync.client import split
from tests.e2e.stage import Message, Origin, Stage, stage
from tests.fuzz import EXAMPLES, TIMEOUT_S
from tests.wire.test_properties import CHUNKED, mutated

pytestmark = pytest.mark.timeout(TIMEOUT_S)

ENDED_S = 5.0
TURNS, TURN_S = (
    10,
    0.002,
)  # edge and origin are in this loop: in so many turns of it something comes of what is under way
GET = b"GET /a?b=c HTTP/1.1\r\nHost: shop.test\r\nAccept: */*\r\n\r\n"
REQUESTS = [
    GET,
    b"HEAD /h HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n",
    b"GET http://shop.test/p HTTP/1.1\r\nHost: shop.test\r\nCookie: a=b; c\r\n\r\n",
    b"GET /old HTTP/1.0\r\nHost: shop.test\r\nConnection: keep-alive\r\n\r\n",
    b"POST /l HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT /c HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED[0],
    GET + b"POST /l HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 3\r\n\r\nabc" + GET,
]


async def saying(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
    """What the origin saw, without what the edge says of itself and of the connection."""
    own = ("via", "x-forwarded", "forwarded", "x-request", "connection")
    fields = sorted((name.lower(), value) for name, value in request.fields if not name.lower().startswith(own))
    said = repr((request.start, fields, request.body)).encode()
    body = b"" if request.method == "HEAD" else said
    writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: %d\r\n\r\n%b" % (len(said), body))


class Received(asyncio.Protocol):
    """Keeps what comes, also when the connection then ends by a reset."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> None:
        self.ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


class Played:
    """An edge in a loop of its own, for all examples of a test."""

    def __init__(self, runner: asyncio.Runner, scene: Stage) -> None:
        self._runner = runner
        self._scene = scene

    def verdict(self, pieces: list[bytes]) -> list[tuple[int, bytes]]:
        """Status and content of each response, on a connection of its own; FIN follows when all is quiet."""
        return self._runner.run(asyncio.wait_for(self._play(pieces), ENDED_S))

    async def _play(self, pieces: list[bytes]) -> list[tuple[int, bytes]]:
        host, port = self._scene.edge.addresses[0]
        loop = asyncio.get_running_loop()
        transport, received = await loop.create_connection(Received, host, port)
        for piece in pieces:
            transport.write(piece)
            for _ in range(3):  # the edge, in this loop, reads it
                await asyncio.sleep(0)
            if received.ended.is_set():
                break
        before = -1
        while not received.ended.is_set() and before != len(received.data):
            before = len(received.data)
            for _ in range(TURNS):
                await asyncio.sleep(TURN_S)
        if not transport.is_closing():
            transport.write_eof()
        await received.ended.wait()
        transport.close()
        head = b"".join(pieces).lstrip(b"\r\n").startswith(b"HEAD")
        return [(each.status, each.body) for each in split(received.data, head=head) if each.final]


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        scene = stage(saying)
        yield Played(runner, runner.run(scene.__aenter__()))
        runner.run(scene.__aexit__(None, None, None))


def sliced(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(cut % len(data) for cut in cuts)}) if data else [0, 0]
    return [data[first:last] for first, last in pairwise(marks)]


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=mutated(REQUESTS), cuts=st.lists(st.integers(0, 1000), min_size=1, max_size=4))
def test_no_cut_changes_what_an_edge_does(played: Played, data: bytes, cuts: list[int]) -> None:
    whole = played.verdict([data])
    assert played.verdict(sliced(data, cuts)) == whole
    assert played.verdict(sliced(data, [*range(len(data))])) == whole


@pytest.mark.parametrize("data", REQUESTS, ids=lambda data: data[:8].decode())
def test_what_is_not_damaged_is_answered(played: Played, data: bytes) -> None:
    statuses = [status for status, _ in played.verdict([data])]
    assert statuses == [200] * (3 if data.count(b"HTTP/1.1") == 3 else 1)
