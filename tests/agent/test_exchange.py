"""One link and the app behind it: what passes, how it ends, and what the edge can tell from that."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from tests.agent.conftest import Line, LinkTo, Stage
from tests.agent.dyno import answer, read_head
from tests.agent.edge import until

GET = b"GET /a?b HTTP/1.1\r\nHost: app.example\r\n\r\n"
CHUNKED = b"3\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n"


def said(data: bytes) -> object:
    """A script that says this and keeps the connection."""
    return lambda connection, request: connection.sendall(data)


def said_and_closed(data: bytes) -> object:
    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    return script


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


KEPT = [
    (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
    (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Trailer\r\n\r\n" + CHUNKED),
    (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
    (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n"),
    (b"GET", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
]


@pytest.mark.parametrize("size", [1, 5, 10_000])
@pytest.mark.parametrize(("method", "response"), KEPT)
def test_a_framed_response_passes_unchanged_and_both_connections_are_used_again(
    line: Line, method: bytes, response: bytes, size: int
) -> None:
    def script(connection: socket.socket, request: bytes) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(response), size):
            connection.sendall(response[at : at + size])

    link = line.link(script)
    request = method + GET[3:]
    for _ in range(2):
        link.send(request)
        assert link.read(len(response)) == response
    assert line.app.requests == [request, request]
    line.app.script = answer()
    assert link.ask(GET)[2] == b"hello"


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("fields", "content"),
    [(b"Content-Length: 10\r\n", b"0123456789"), (b"Transfer-Encoding: chunked\r\n", CHUNKED), (b"", b"")],
)
def test_a_request_passes_unchanged_however_it_arrives(line: Line, fields: bytes, content: bytes, size: int) -> None:
    whole = b"POST / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n" + content
    seen = b""

    def script(connection: socket.socket, request: bytes) -> None:
        nonlocal seen
        seen = request
        while len(seen) < len(whole):
            seen += connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    link = line.link(script)
    for at in range(0, len(whole), size):
        link.send(whole[at : at + size])
    assert link.response()[2] == b"ok"
    assert seen == whole
    line.app.script = answer()
    assert link.ask(GET)[0] == 200


def test_a_response_without_framing_ends_the_link_and_a_broken_one_resets_it(link_to: LinkTo) -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    link = link_to(said_and_closed(head + b"all of it"))
    link.send(GET)
    assert link.read_to_end() == (head + b"all of it", "eof")

    def broken(connection: socket.socket, request: bytes) -> None:
        connection.sendall(head + b"half of it")
        link.read_until(b"half of it")
        reset(connection)

    link = link_to(broken)
    link.send(GET)
    assert link.read_to_end() == (b"", "reset")


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n012",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\r\n",
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
    ],
)
def test_a_response_that_is_broken_off_resets_the_link(link_to: LinkTo, response: bytes) -> None:
    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(response)
        if b"\r\n\r\n" in response:
            link.read_until(response[-3:])
        connection.close()

    link = link_to(script)
    link.send(GET)
    assert link.read_to_end()[1] == "reset"


def test_an_app_that_accepts_and_closes_at_once_leaves_no_request_hanging(stage: Stage) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def close_all() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                listener.accept()[0].close()

    threading.Thread(target=close_all, daemon=True).start()
    edge = stage.edge()
    try:
        stage.agent(edge, listener.getsockname()[1])
        for _ in range(20):
            edge.taken.clear()
            link = edge.take()
            link.received.clear()
            link.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            # Handed back, or not answered: which of them depends on when its end was seen.
            until(lambda link=link: b"Flyby-Refused: dial" in link.received or link.ended)
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_an_app_that_closes_before_a_byte_ends_the_link_without_one(link_to: LinkTo) -> None:
    link = link_to(lambda connection, request: connection.close())
    link.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert link.read_to_end() == (b"", "eof")
    link = link_to(lambda connection, request: reset(connection))
    link.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert link.read_to_end() == (b"", "eof")


def test_an_app_that_closes_after_each_response_does_not_cost_the_link(line: Line) -> None:
    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        connection.close()

    link = line.link(script)
    for _ in range(3):
        link.send(GET)
        assert link.read_until(b"ok") == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert len(line.app.requests) == 3


def test_what_follows_a_response_is_not_passed_on(line: Line) -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    link = line.link(said(response + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"))
    link.send(GET)
    assert link.read(len(response)) == response
    line.app.script = answer()
    assert link.ask(GET)[2] == b"hello"


def test_a_response_nobody_asked_for_is_not_the_answer_to_the_next_request(line: Line) -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    spoken = threading.Event()

    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(response)
        link.read(len(response))
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
            connection.recv(1)  # until the agent has given this connection up
        spoken.set()

    link = line.link(script)
    link.send(GET)
    assert spoken.wait(10)
    line.app.script = answer()
    assert link.ask(GET)[2] == b"hello"


def test_framing_in_doubt_passes_and_ends_the_link(link_to: LinkTo) -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"
    link = link_to(said_and_closed(response))
    link.send(GET)
    assert link.read_to_end() == (response, "eof")
    link = link_to(answer())
    link.send(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na")
    assert link.read_to_end() == (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "eof")


def test_what_is_not_http_resets_the_link_and_shows_nothing(link_to: LinkTo) -> None:
    link = link_to(said(b"SSH-2.0-OpenSSH_9\r\n\r\n"))
    link.send(GET)
    assert link.read_to_end() == (b"", "reset")


def test_a_field_of_the_tunnel_from_the_app_is_taken_out(link_to: LinkTo) -> None:
    link = link_to(answer(fields=b"flyby-refused: dial\r\nServer: x\r\n"))
    assert link.ask(GET) == (200, {"server": "x", "content-length": "5"}, b"hello")


def test_expect_100_continue_is_answered_by_the_app(link_to: LinkTo) -> None:
    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        content = connection.recv(100)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))

    link = link_to(script)
    link.send(b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    assert link.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    link.send(b"1234")
    assert link.response()[2] == b"1234"


def test_a_response_before_the_request_is_over_leaves_the_link_usable(line: Line) -> None:
    link = line.link(said(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"))
    link.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234")
    assert link.response()[0] == 413
    line.app.script = answer()
    link.send(b"56789")
    assert link.ask(GET)[2] == b"hello"


def test_a_request_that_comes_early_waits_for_its_turn(link_to: LinkTo) -> None:
    link = link_to(answer())
    link.send(GET + b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    assert [link.response()[2] for _ in range(3)] == [b"hello"] * 3


def test_websocket_is_a_pipe_after_the_101(link_to: LinkTo) -> None:
    def echo(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nfirst")
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.sendall(b"last")
        connection.close()

    link = link_to(echo)
    link.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    assert link.read_until(b"first").startswith(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgr"
    )
    for size in (1, 100, 300_000):
        link.send(b"x" * size)
        assert link.read(size) == b"x" * size
    link.send(b"GET / HTTP/1.1\r\n\r\n")  # only bytes now
    assert link.read(18) == b"GET / HTTP/1.1\r\n\r\n"
    if link.transport.can_write_eof():  # half closed: the app still speaks
        link.write_eof()
        assert link.read_to_end() == (b"last", "eof")
    else:
        link.close()  # TLS has no halves


def test_a_pipe_closes_with_the_edge(link_to: LinkTo) -> None:
    ended = threading.Event()

    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
        with contextlib.suppress(OSError):
            while connection.recv(100):
                pass
        ended.set()

    link = link_to(script)
    link.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    link.read_until(b"\r\n\r\n")
    link.close()
    assert ended.wait(10)


def test_an_edge_that_closes_the_link_cancels_the_request(link_to: LinkTo) -> None:
    cancelled = threading.Event()

    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        with contextlib.suppress(OSError):
            connection.recv(1)
        cancelled.set()

    link = link_to(script)
    link.send(GET)
    link.read_until(b"01234")
    link.close()
    assert cancelled.wait(10)


def test_an_edge_that_does_not_read_slows_the_app_down(link_to: LinkTo) -> None:
    sent = 0
    stuck = threading.Event()
    total = 32 * 1024 * 1024

    def script(connection: socket.socket, request: bytes) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        connection.settimeout(1.0)
        piece = bytes(65536)
        while sent < total:
            try:
                sent += connection.send(piece[: total - sent])
            except TimeoutError:
                stuck.set()

    link = link_to(script)
    link.send(GET)
    link.read_until(b"\r\n\r\n")
    link.pause()
    assert stuck.wait(20)
    assert sent < total
    link.resume()
    assert link.read(total).count(0) == total


def test_an_app_that_does_not_read_slows_the_edge_down(line: Line) -> None:
    go = threading.Event()
    total = 64 * 1024 * 1024
    got = 0

    def script(connection: socket.socket, request: bytes) -> None:
        nonlocal got
        got = len(request.partition(b"\r\n\r\n")[2])
        go.wait(20)
        while got < total:
            got += len(connection.recv(1024 * 1024))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    link = line.link(script)
    before = line.agent.memory("VmRSS")
    link.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % total)
    link.send(bytes(total))
    threading.Event().wait(0.5)  # for the agent to take more than it should, if it does
    go.set()
    assert link.response()[2] == b"ok"
    assert got == total
    assert line.agent.memory("VmHWM") - before < total // 4


def test_a_kept_connection_that_died_is_replaced_for_what_may_be_sent_twice(line: Line) -> None:
    """The app closes a kept connection without a word when the next request comes: as if it timed out just then."""
    served: set[int] = set()

    def once(connection: socket.socket, request: bytes) -> None:
        if id(connection) in served:
            connection.close()
            return
        served.add(id(connection))
        keep.append(connection)  # so that its id stays its own
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    keep: list[socket.socket] = []
    link = line.link(once)
    for _ in range(4):
        assert link.ask(GET)[2] == b"ok"
    assert len(line.app.requests) > 4  # some were sent twice
    line.app.requests.clear()
    for _ in range(3):
        assert link.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")[2] == b"ok"
    assert len(line.app.requests) == 3  # each once, on a connection of its own


def test_a_fresh_connection_that_dies_is_not_tried_again(line: Line) -> None:
    line.link(answer(fields=b"Connection: close\r\n"))
    link = line.link(lambda connection, request: connection.close())
    link.send(GET)
    assert link.read_to_end() == (b"", "eof")
    assert len(line.app.requests) <= 2


def test_kept_connections_close_within_five_seconds(stage: Stage) -> None:
    ended = threading.Event()

    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        assert read_head(connection) == b""
        ended.set()

    edge, app = stage.edge(), stage.app(script)
    stage.agent(edge, app, FLY_LOCAL_KEEPALIVE="0.2")
    assert edge.take().ask(GET)[2] == b"ok"
    assert ended.wait(5)


def test_the_app_may_listen_on_a_unix_socket(stage: Stage, tmp_path: object) -> None:
    path = f"{tmp_path}/app.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                if read_head(connection):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix")
                    read_head(connection)

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    edge = stage.edge()
    agent = stage.agent(edge, 1, FLY_LOCAL_ENDPOINT=f"unix:{path}")
    assert edge.take().ask(GET)[2] == b"unix"
    agent.stop()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    serving.join(10)
