"""Every payload behaves, sent whole and byte by byte; and the runner itself can tell a proxy that does not."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.desync.client import exchange
from tests.desync.payloads import load
from tests.desync.play import Lane, Played, lanes, play, play_all
from tests.desync.upstream import Malformed, Upstream, parse

PAYLOADS = load()

# The first test of a mode waits for the whole play.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def flybys() -> Iterator[list[Lane]]:
    with lanes() as made:
        yield made


@pytest.fixture(scope="module")
def whole(flybys: list[Lane]) -> dict[str, Played]:
    return {played.payload.name: played for played in play_all(PAYLOADS, flybys, bytewise=False)}


@pytest.fixture(scope="module")
def bytewise(flybys: list[Lane]) -> dict[str, Played]:
    return {played.payload.name: played for played in play_all(PAYLOADS, flybys, bytewise=True)}


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.name)
def test_whole(payload, whole: dict[str, Played]) -> None:
    played = whole[payload.name]
    assert played.verdict == "pass", f"{played}\n{payload.expect} ({payload.rfc}): {payload.why}"


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.name)
def test_byte_by_byte(payload, bytewise: dict[str, Played]) -> None:
    played = bytewise[payload.name]
    assert played.verdict == "pass", f"{played}\n{payload.expect} ({payload.rfc}): {payload.why}"


def test_pipelined_requests_stay_in_order_however_their_bytes_arrive(flybys: list[Lane]) -> None:
    # The second request arrives while the first is with the upstream, and its last bytes as the answer leaves.
    request = b"GET /%d HTTP/1.1\r\nHost: edge.test\r\n\r\n"
    lane = flybys[0]
    for _ in range(60):
        lane.upstream.begin()
        data = b"".join(request % number for number in range(6))
        responses, closed = exchange(lane.proxy, data, bytewise=True, answers=lambda: 6)
        assert [response.body for response in responses] == [b"seen:/%d" % number for number in range(6)]
        assert not closed
    assert not lane.upstream.malformed


class Relay:
    """The worst proxy of all: it copies bytes both ways, and keeps one upstream connection for everybody."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                with client, socket.create_connection(("127.0.0.1", self.port)) as upstream, suppress(OSError):
                    self.copy(client, upstream)

    def copy(self, client: socket.socket, upstream: socket.socket) -> None:
        other = {client: upstream, upstream: client}
        while True:
            for ready in select.select([client, upstream], [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    return
                other[ready].sendall(data)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        self.listener.close()


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("control-get-min", "pass"),
        ("resp-control-chunked", "pass"),
        ("te-lead-comma", "FAIL-forward"),
        ("cl-minus", "FAIL-forward"),
        ("resp-cl-minus", "FAIL-lenient"),
        ("resp-cl-te-poison", "FAIL-desync"),
    ],
)
def test_a_proxy_that_only_relays_is_found_out(name: str, verdict: str) -> None:
    upstream = Upstream()
    relay = Relay(upstream.port)
    [payload] = [each for each in PAYLOADS if each.name == name]
    try:
        played = play(payload, relay.listener.getsockname(), upstream, bytewise=False)
    finally:
        upstream.close()
        relay.close()
    assert played.verdict == verdict, played


GOOD = b"POST /p?q HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    ("data", "rest"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nnext", b"next"),
        (b"GET / HTTP/1.0\r\n\r\n", b""),
        (GOOD + b"Content-Length: 3\r\n\r\nabcnext", b"next"),
        (GOOD + b"Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\nT: x\r\n\r\nnext", b"next"),
    ],
)
def test_the_upstream_takes_what_is_valid_however_it_arrives(data: bytes, rest: bytes) -> None:
    parsed = parse(data)
    assert parsed is not None
    assert parsed[1] == rest
    assert all(parse(data[:end]) is None for end in range(len(data) - len(rest)))


@pytest.mark.parametrize(
    "data",
    [
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        GOOD + b"Content-Length: +3\r\n\r\nabc",
        GOOD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        GOOD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        GOOD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        GOOD + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        GOOD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    ],
)
def test_the_upstream_is_strict(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse(data)
