"""A glance at a response sees what the full parser and llhttp see, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flyby.wire import STANDARD_LIMITS, BodyKind, HeadReader
from flyby.wire._names import NameTable, fit
from flyby.wire._plain import plain_at
from flyby.wire.agreement import agree_response

OPENING = b"HTTP/1.1 200 OK\r\n"
COUNTED = b"Content-Length: 5\r\n\r\n"


NOTES = (b"etag", b"set-cookie", b"vary", b"date", b"cache-tag")
NOT_PASSED = (b"cache-tag", b"keep-alive")


def held_against_the_parser(data: bytes, asked_head: bool = False) -> bool:
    """Whether the glance recognised it; then both parsers must, and see the same."""
    seen = plain_at(data, STANDARD_LIMITS, NOTES, NOT_PASSED, asked_head)
    plain = plain_at(data, STANDARD_LIMITS, NOTES, NOT_PASSED, plain=True)
    if seen is None:
        assert plain is None or asked_head
        return False
    length, status, reason, content, closes, fields, passed, notes = seen
    reader = HeadReader(STANDARD_LIMITS, "response")
    assert reader.feed(data) == length
    head = reader.take_response()
    agree_response(data[:length], status)
    assert (head.status, head.reason, list(head.fields)) == (status, reason, fields)
    assert (head.version, head.keep_alive) == (11, not closes)
    kind, size = head.framing(b"HEAD" if asked_head else b"GET")
    assert content[0] == kind
    assert content[1] == (size if kind is BodyKind.LENGTH else int(head.fields.get(b"content-length") or -1))
    hidden = {*NOT_PASSED, b"content-length", b"transfer-encoding", b"connection"}
    assert passed == [name.lower() not in hidden for name, _ in fields]
    values = {name: head.fields.get_all(name) for name in NOTES}
    assert notes == {name: (found[0], len(found) > 1) for name, found in values.items() if found}
    if not asked_head:
        assert plain == (seen if kind is not BodyKind.NONE and status < 500 and not closes else None)
    return True


@pytest.mark.parametrize(
    "head",
    [
        OPENING + COUNTED,
        b"HTTP/1.1 404 \r\n" + COUNTED,
        b"HTTP/1.1 499 Caf\xe9 \t!\r\n" + COUNTED,
        OPENING + b"Transfer-Encoding: Chunked\r\n\r\n",
        OPENING + b"Connection: Keep-Alive\r\n" + COUNTED,
        OPENING + b"A:\r\nB:x\r\nC: \t x \t\r\nD: \xff\t\r\n" + COUNTED,
        OPENING + b"Content_Length: 7\r\n" + COUNTED,
        OPENING + b"content-length: 000000000000000005\r\n\r\n",
        OPENING + b"Set-Cookie: a\r\nSet-Cookie: b\r\n" + COUNTED + b"hello",
        OPENING + b'Cache-Tag: a\r\nETag: "x"\r\nVary: Accept\r\nvary: Origin\r\nKeep-Alive: 5\r\n' + COUNTED,
    ],
)
def test_what_is_recognised(head: bytes) -> None:
    assert held_against_the_parser(head)
    assert plain_at(head, STANDARD_LIMITS, plain=True) is not None
    for cut in range(len(head.partition(b"\r\n\r\n")[0]) + 4):
        assert plain_at(head[:cut], STANDARD_LIMITS) is None


@pytest.mark.parametrize(
    ("head", "asked_head"),
    [
        (OPENING + b"Connection: close\r\n" + COUNTED, False),
        (b"HTTP/1.1 500 X\r\n" + COUNTED, False),
        (b"HTTP/1.1 599 X\r\nTransfer-Encoding: chunked\r\n\r\n", False),
        (b"HTTP/1.1 204 X\r\n\r\n", False),
        (b"HTTP/1.1 204 X\r\nContent-Length: 0\r\n\r\n", False),
        (b'HTTP/1.1 304 X\r\nETag: "x"\r\n\r\n', False),
        (b'HTTP/1.1 304 X\r\nETag: "x"\r\n' + COUNTED, False),
        (b"HTTP/1.1 304 X\r\nTransfer-Encoding: chunked\r\n\r\n", False),
        (OPENING + b"\r\n", True),
        (OPENING + COUNTED, True),
        (OPENING + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n", True),
        (b"HTTP/1.1 204 X\r\n\r\n", True),
        (b"HTTP/1.1 304 X\r\n\r\n", True),
    ],
)
def test_what_is_recognised_but_not_passed_on_at_once(head: bytes, asked_head: bool) -> None:
    assert held_against_the_parser(head, asked_head)
    for cut in range(len(head)):
        assert plain_at(head[:cut], STANDARD_LIMITS, asked_head=asked_head) is None
    assert asked_head or plain_at(head, STANDARD_LIMITS, plain=True) is None


@pytest.mark.parametrize("asked_head", [False, True])
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 204 X\r\n" + COUNTED,
        b"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 304 X\r\nTransfer-Encoding: chunked\r\n" + COUNTED,
        b"HTTP/1.1 304 X\r\nContent-Length: x\r\n\r\n",
        OPENING + b"Content-Length: 5\r\n" + COUNTED,
        OPENING + b"Transfer-Encoding: chunked\r\n" + COUNTED,
        OPENING + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OPENING + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        OPENING + b"Transfer-Encoding:\tchunked\r\n\r\n",
        OPENING + b"Transfer-Encoding: chunked \r\n\r\n",
        OPENING + b"Content-Length: +5\r\n\r\n",
        OPENING + b"Content-Length: 5, 5\r\n\r\n",
        OPENING + b"Content-Length: 5 \r\n\r\n",
        OPENING + b"Content-Length:  5\r\n\r\n",
        OPENING + b"Content-Length:5\r\n\r\n",
        OPENING + b"Content-Length: \r\n\r\n",
        OPENING + b"Content-Length: 0x5\r\n\r\n",
        OPENING + b"Content-Length: " + b"1" * 19 + b"\r\n\r\n",
        OPENING + b"Content-Length : 5\r\n\r\n",
        OPENING + b" Content-Length: 5\r\n\r\n",
        OPENING + b"A: b\r\n c\r\n" + COUNTED,
        OPENING + b"A: b\nB: c\r\n" + COUNTED,
        OPENING + b"A: b\rB: c\r\n" + COUNTED,
        OPENING + b"A: b\x00\r\n" + COUNTED,
        OPENING + b": b\r\n" + COUNTED,
        OPENING + b"A\r\n" + COUNTED,
        OPENING + b"Connection: close\r\nConnection: close\r\n" + COUNTED,
        OPENING + b"Connection: close, x\r\n" + COUNTED,
        OPENING + b"Connection: keep-alive, x\r\n" + COUNTED,
        OPENING + b"Connection: keep-alive\r\nConnection: keep-alive\r\n" + COUNTED,
        OPENING + b"Upgrade: h2c\r\n" + COUNTED,
        b"HTTP/1.0 200 OK\r\n" + COUNTED,
        b"HTTP/1.1  200 OK\r\n" + COUNTED,
        b"HTTP/1.1 200\r\n" + COUNTED,
        b"HTTP/1.1 2x0 OK\r\n" + COUNTED,
        b"HTTP/1.1 200 O\x00K\r\n" + COUNTED,
        *(b"HTTP/1.1 %d X\r\n" % status + COUNTED for status in (100, 101, 199, 600)),
        OPENING + b"A: " + b"x" * 32_768 + b"\r\n" + COUNTED,
        OPENING + b"A: b\r\n" * 64 + COUNTED,
        b"\r\n" + OPENING + COUNTED,
        b"http/1.1 200 OK\r\n" + COUNTED,
    ],
)
def test_what_is_not(head: bytes, asked_head: bool) -> None:
    assert plain_at(head, STANDARD_LIMITS, asked_head=asked_head) is None


def test_a_response_without_framing_has_content_until_the_connection_ends() -> None:
    assert plain_at(OPENING + b"\r\n", STANDARD_LIMITS) is None
    assert plain_at(OPENING + b"Connection: close\r\n\r\n", STANDARD_LIMITS) is None


PIECES = st.sampled_from(
    [
        *(b"HTTP/1.1 ", b"HTTP/1.0 ", b"200", b"404", b"304", b" ", b"OK", b"\r\n", b"\r", b"\n", b"\t", b"\x00"),
        *(b"Content-Length", b"content-length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"Set-Cookie", b"X"),
        *(b":", b": ", b"5", b"0", b"chunked", b"keep-alive", b"close", b",", b"\xff", b"\x7f", b"a b", b";"),
    ]
)
LINES = st.tuples(
    st.sampled_from(
        [b"Content-Length", b"Transfer-Encoding", b"Connection", b"Date", b"X-A", b"x_b", b"Vary", b"Cache-Tag"]
    ),
    st.sampled_from([b": ", b": ", b":", b":  ", b" : ", b":\t"]),
    st.sampled_from([b"5", b"0", b"chunked", b"keep-alive", b"close", b"", b"a, b", b"\xe9", b"5,5", b"x y"]),
    st.sampled_from([b"\r\n", b"\r\n", b" \r\n", b"\t\r\n", b"\n", b"\r\n "]),
).map(b"".join)


@given(st.one_of(st.lists(PIECES), st.lists(LINES).map(lambda lines: [OPENING, *lines, COUNTED])).map(b"".join))
@example(OPENING + COUNTED)
def test_the_glance_never_sees_more_than_the_parsers(data: bytes) -> None:
    held_against_the_parser(data)
    held_against_the_parser(data, asked_head=True)


@given(st.sampled_from([200, 204, 206, 304, 404, 503]), st.lists(LINES), st.booleans())
def test_framing_lines_under_every_kind_of_status(status: int, lines: list[bytes], asked_head: bool) -> None:
    held_against_the_parser(b"HTTP/1.1 %d X\r\n%b\r\n" % (status, b"".join(lines)), asked_head)


def test_a_table_of_names() -> None:
    told = {b"x-%d" % number: number + 1 for number in range(100)}
    table = NameTable(told)
    for name, what in told.items():
        assert table.of(name) == table.of(name.upper()) == what
    for other in (b"", b"x", b"x-100", b"x_1", b"x-1 ", b"\r-1"):
        assert table.of(other) == 0
    assert not fit({b"x_y": 1})
    with pytest.raises(ValueError, match="not for the table"):
        NameTable({b"X": 1})
    with pytest.raises(ValueError, match="not for the table"):
        NameTable({b"x": 0})
    assert not fit([b"%d" % number for number in range(129)])
