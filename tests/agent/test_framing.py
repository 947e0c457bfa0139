"""Where messages end: every case whole, byte by byte, and with bytes behind it."""

from __future__ import annotations

import pytest

from flyby_agent.framing import (
    CHUNKED,
    CLOSE,
    LENGTH,
    MOST_LINE,
    MOST_TRAILERS,
    NONE,
    Body,
    request_head,
    response_head,
)

CHUNKS = [
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;name=value\r\nhello\r\n0;last\r\n\r\n",
    b"5 ;name\r\nhello\r\n0\r\n\r\n",
    b"00A\r\n0\r\n\r\n56789\r\na\r\n0123456789\r\n0\r\n\r\n",
    b"1\r\n\n\r\n2\r\n\r\n\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n",
]
NOT_CHUNKS = [
    b"g\r\n",
    b"-1\r\n",
    b"+1\r\nx\r\n",
    b"0x1\r\nx\r\n",
    b" 1\r\nx\r\n",
    b"\r\n",
    b"1\nx\r\n",
    b"1\r\nxy\r\n",
    b"1\r\nx\n0\r\n\r\n",
    b"1;a\rb\r\nx\r\n",
    b"1000000000000000\r\n",
    b"0\r\nTrailer: x\n\r\n",
    b"0\r\n\n",
    b"1;" + b"x" * MOST_LINE,
    b"0\r\n" + b"a: %s\r\n" % (b"x" * 1000) * (MOST_TRAILERS // 1000 + 1),
]


def consumed(body: Body, data: bytes, size: int) -> int:
    """How much of the data belongs to the message, fed in pieces of a size."""
    taken = 0
    for at in range(0, len(data), size):
        if body.done:
            break
        piece = data[at : at + size]
        taken += body.feed(piece)
    return taken


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize("data", CHUNKS)
def test_chunks_end_where_they_say(data: bytes, size: int) -> None:
    body = Body(CHUNKED)
    assert consumed(body, data + b"HTTP/1.1 200 OK\r\n\r\n", size) == len(data)
    assert body.done
    assert not body.broken
    assert not any(consumed(cut := Body(CHUNKED), data[:end], size) < end or cut.done for end in range(len(data)))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100_000])
@pytest.mark.parametrize("data", NOT_CHUNKS)
def test_what_is_no_chunk_is_passed_on_and_never_ends(data: bytes, size: int) -> None:
    body = Body(CHUNKED)
    after = b"0\r\n\r\n0\r\n\r\n"
    assert consumed(body, data + after, size) == len(data + after)
    assert body.broken
    assert not body.done


@pytest.mark.parametrize("size", [1, 3, 100])
def test_length_is_counted(size: int) -> None:
    body = Body(LENGTH, 10)
    assert consumed(body, b"0123456789next", size) == 10
    assert body.done
    assert Body(LENGTH, 0).done
    assert Body(NONE).done


def test_content_until_the_end_never_ends_by_itself() -> None:
    body = Body(CLOSE)
    assert consumed(body, b"0\r\n\r\n", 2) == 5
    assert not body.done


def request(fields: bytes, line: bytes = b"POST / HTTP/1.1") -> bytes:
    return line + b"\r\nHost: x\r\n" + fields + b"\r\n"


@pytest.mark.parametrize(
    ("fields", "kind", "length"),
    [
        (b"", NONE, 0),
        (b"Content-Length: 5\r\n", LENGTH, 5),
        (b"content-LENGTH:5 \t\r\n", LENGTH, 5),
        (b"Content-Length: 0\r\n", LENGTH, 0),
        (b"Transfer-Encoding: chunked\r\n", CHUNKED, 0),
        (b"transfer-encoding:\tCHUNKED\r\n", CHUNKED, 0),
        (b"X-Content-Length: 5\r\n", NONE, 0),
        (b"X: content-length: 5\r\n", NONE, 0),
    ],
)
def test_requests_that_can_be_framed(fields: bytes, kind: int, length: int) -> None:
    found = request_head(request(fields))
    assert found.framed
    assert (found.body.kind, found.body.left) == (kind, length)


DOUBTFUL = [
    b"Content-Length: 5\r\nContent-Length: 5\r\n",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding: \x0bchunked\r\n",
    b"Content-Length : 5\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Content-Length: \r\n",
    b"Content-Length: 9999999999999999999\r\n",
    b"Content-Length:\r\n 5\r\n",
    b"X: a\r\n\tb\r\n",
    b"X: a\nContent-Length: 5\r\n",
    b"X: a\rContent-Length: 5\r\n",
]


@pytest.mark.parametrize("fields", DOUBTFUL)
def test_requests_in_doubt_are_passed_on_and_end_the_link(fields: bytes) -> None:
    found = request_head(request(fields))
    assert not found.framed
    assert found.close
    assert not found.replayable
    assert found.body.kind == CLOSE


@pytest.mark.parametrize(
    "line", [b"GET  / HTTP/1.1", b"GET / HTTP/1.0", b"GET /", b"G@T / HTTP/1.1", b"GET / HTTP/2.0"]
)
def test_request_lines_in_doubt(line: bytes) -> None:
    assert not request_head(request(b"", line)).framed


@pytest.mark.parametrize(
    ("line", "fields", "replayable"),
    [
        (b"GET / HTTP/1.1", b"", True),
        (b"HEAD / HTTP/1.1", b"", True),
        (b"OPTIONS * HTTP/1.1", b"", True),
        (b"DELETE / HTTP/1.1", b"", True),
        (b"PUT / HTTP/1.1", b"Content-Length: 3\r\n", False),
        (b"GET / HTTP/1.1", b"Transfer-Encoding: chunked\r\n", False),
        (b"POST / HTTP/1.1", b"", False),
        (b"PATCH / HTTP/1.1", b"", False),
        (b"CONNECT x:1 HTTP/1.1", b"", False),
        (b"GET / HTTP/1.1", b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n", False),
        (b"get / HTTP/1.1", b"", False),
    ],
)
def test_what_may_be_sent_twice(line: bytes, fields: bytes, replayable: bool) -> None:
    assert request_head(request(fields, line)).replayable is replayable


def response(fields: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return line + b"\r\nServer: x\r\n" + fields + b"\r\n"


@pytest.mark.parametrize(
    ("line", "fields", "method", "kind", "persistent"),
    [
        (b"HTTP/1.1 200 OK", b"Content-Length: 5\r\n", b"GET", LENGTH, True),
        (b"HTTP/1.1 200 ", b"Content-Length: 5\r\n", b"GET", LENGTH, True),
        (b"HTTP/1.1 200", b"Content-Length: 5\r\n", b"GET", LENGTH, True),
        (b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked\r\n", b"GET", CHUNKED, True),
        (b"HTTP/1.1 200 OK", b"Content-Length: 5\r\n", b"HEAD", NONE, True),
        (b"HTTP/1.1 200 OK", b"", b"HEAD", NONE, True),
        (b"HTTP/1.1 204 No Content", b"", b"GET", NONE, True),
        (b"HTTP/1.1 304 Not Modified", b"Content-Length: 5\r\n", b"GET", NONE, True),
        (b"HTTP/1.1 304 Not Modified", b"Transfer-Encoding: chunked\r\n", b"GET", NONE, True),
        (b"HTTP/1.1 200 OK", b"Content-Length: 5\r\nConnection: close\r\n", b"GET", LENGTH, False),
        (b"HTTP/1.1 200 OK", b"Content-Length: 5\r\nConnection:\tCLOSE \r\n", b"GET", LENGTH, False),
        (b"HTTP/1.0 200 OK", b"Content-Length: 5\r\n", b"GET", LENGTH, False),
        (b"HTTP/1.0 200 OK", b"Content-Length: 5\r\nConnection: Keep-Alive\r\n", b"GET", LENGTH, True),
    ],
)
def test_responses_that_keep_the_link(line: bytes, fields: bytes, method: bytes, kind: int, persistent: bool) -> None:
    found = response_head(response(fields, line), method)
    assert found is not None
    assert found.framed
    assert (found.body.kind, found.persistent) == (kind, persistent)
    assert found.head.startswith(b"HTTP/1.1 ")
    assert b"connection" not in found.head.lower()


@pytest.mark.parametrize("fields", DOUBTFUL)
def test_responses_in_doubt_end_with_the_connection(fields: bytes) -> None:
    found = response_head(response(fields), b"GET")
    assert found is not None
    assert (found.framed, found.persistent, found.body.kind) == (False, False, CLOSE)
    assert found.head == response(fields)
    head = response_head(response(fields), b"HEAD")
    assert head is not None
    assert (head.framed, head.body.done) == (False, True)


@pytest.mark.parametrize(
    ("line", "fields", "method"),
    [
        (b"HTTP/1.1 200 OK", b"", b"GET"),
        (b"HTTP/1.0 200 OK", b"", b"GET"),
        (b"HTTP/1.0 200 OK", b"Transfer-Encoding: chunked\r\n", b"GET"),
        (b"HTTP/1.1 200 OK", b"Content-Length: 0\r\n", b"CONNECT"),
    ],
)
def test_responses_without_framing_end_with_the_connection(line: bytes, fields: bytes, method: bytes) -> None:
    found = response_head(response(fields, line), method)
    assert found is not None
    assert (found.framed, found.persistent, found.body.kind) == (False, False, CLOSE)
    assert found.head == response(fields, line)


def test_close_among_other_options_ends_the_link() -> None:
    found = response_head(response(b"Content-Length: 1\r\nConnection: close, x-own\r\n"), b"GET")
    assert found is not None
    assert (found.framed, found.persistent) == (False, False)


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_interim_responses_have_no_content(status: int) -> None:
    found = response_head(response(b"Link: </a>\r\n", b"HTTP/1.1 %d X" % status), b"GET")
    assert found is not None
    assert (found.status, found.framed, found.body.done) == (status, True, True)


@pytest.mark.parametrize(
    "line", [b"HTTP/2 200 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1 20 OK", b"200 OK", b"HTTP/1.1 099 X"]
)
def test_what_is_no_response(line: bytes) -> None:
    assert response_head(response(b"", line), b"GET") is None


@pytest.mark.parametrize(
    "fields",
    [
        b"Flyby-Refused: dial\r\n",
        b"flyby-anything: 1\r\nFLYBY-Refused: dial\r\n",
        b"Flyby-Refused: a\r\n b\r\n\tc\r\n",
        b"Flyby-: x\r\n",
    ],
)
def test_fields_of_the_tunnel_are_taken_out_of_a_response(fields: bytes) -> None:
    for status in (b"200 OK", b"103 Early Hints", b"101 Switching Protocols"):
        head = response(b"A: 1\r\n" + fields + b"B: 2 flyby-x\r\n", b"HTTP/1.1 " + status)
        found = response_head(head, b"GET")
        assert found is not None
        assert found.head == response(b"A: 1\r\nB: 2 flyby-x\r\n", b"HTTP/1.1 " + status)


def test_a_field_of_the_tunnel_behind_a_bare_line_end_is_taken_out_too() -> None:
    found = response_head(response(b"A: 1\nFlyby-Refused: dial\r\n"), b"GET")
    assert found is not None
    assert b"Flyby" not in found.head


def test_a_plain_head_is_passed_on_as_it_is() -> None:
    head = response(b"Content-Length: 5\r\n")
    found = response_head(head, b"GET")
    assert found is not None
    assert found.head is head
