"""Response heads: status lines, framing and persistence (RFC 9112 4, 6.3, 9.3)."""

from __future__ import annotations

import pytest

from flyby.wire import STANDARD_LIMITS, BodyKind, HeadReader, ResponseHead
from flyby.wire.limits import StandardLimits

from .reading import refused, response


def head(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"".join(line + b"\r\n" for line in (start, *lines)) + b"\r\n"


@pytest.mark.parametrize(
    ("start", "status", "reason", "version"),
    [
        (b"HTTP/1.1 200 OK", 200, b"OK", 11),
        (b"HTTP/1.1 200 ", 200, b"", 11),
        (b"HTTP/1.0 404 Not\tFound caf\xe9", 404, b"Not\tFound caf\xe9", 10),
        (b"HTTP/1.1 100 Continue", 100, b"Continue", 11),
        (b"HTTP/1.1 199 Odd", 199, b"Odd", 11),
        (b"HTTP/1.1 499 X", 499, b"X", 11),
        (b"HTTP/1.1 599 X", 599, b"X", 11),
    ],
)
def test_status_lines(start: bytes, status: int, reason: bytes, version: int) -> None:
    read = response(head(start=start))
    assert (read.status, read.reason, read.version) == (status, reason, version)


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"HTTP/1.1 20 OK", "status"), (b"HTTP/1.1 2000 OK", "status"), (b"HTTP/1.1 -20 OK", "status"),
        (b"HTTP/1.1 999 X", "status"), (b"HTTP/1.1 600 X", "status"), (b"HTTP/1.1 099 X", "status"),
        (b"HTTP/1.1 000 X", "status"), (b"HTTP/1.1  200 OK", "status"), (b"HTTP/1.1 200 \rOK", "bare-cr"),
        (b"HTTP/1.1 20", "status"), (b"HTTP/1.1 200\rOK", "bare-cr"), (b"HTTP/1.1 600", "status"),
        (b"HTTP/1.1 200\tOK", "status"), (b"HTTP/1.1 2\xb20 OK", "status"), (b"HTTP/1.1\t200 OK", "version"),
        (b"HTTP/2.0 200 OK", "version"), (b"http/1.1 200 OK", "version"), (b"HTTP/1.10 200 OK", "version"),
        (b"HTTP/1.2 200 OK", "version"), (b"ICY 200 OK", "version"), (b"<html>", "version"), (b"", "version"),
        (b"\r\nHTTP/1.1 200 OK", "version"), (b"HTTP/1.1 200 O\x00K", "reason"), (b"HTTP/1.1 200 OK\x7f", "reason"),
        (b"HTTP/1.1 200 OK\r", "bare-cr"),
    ],
)  # fmt: skip
def test_status_lines_that_are_refused(start: bytes, reason: str) -> None:
    assert refused(head(start=start), "response") == (502, reason)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"X-A: b\x00c", "field-value"), (b"X-A: b\nX-C: d", "field-value"), (b"X-A: b\r\n c", "field-fold"),
        (b": x", "field-name"), (b"Foo", "field-name"), (b"X[A]: b", "field-name"), (b"X :\x00b", "field-value"),
        (b"X \r\n: b", "field-name"), (b"X\x0b: b", "field-name"), (b"X y: b", "field-name"), (b" X: b", "field-fold"),
        (b"X: b\rc", "bare-cr"),
    ],
)  # fmt: skip
def test_field_lines_that_are_refused(line: bytes, reason: str) -> None:
    assert refused(head(line), "response") == (502, reason)


def test_obs_text_survives() -> None:
    assert response(head(b'ETag: "\xfc\x80"')).fields.get(b"etag") == b'"\xfc\x80"'


@pytest.mark.parametrize(
    ("lines", "kind", "length"),
    [
        ([], BodyKind.CLOSE, -1),
        ([b"Content-Length: 5"], BodyKind.LENGTH, 5),
        ([b"Content-Length: 0"], BodyKind.LENGTH, 0),
        ([b"Content-Length: 5", b"content-length: 5"], BodyKind.LENGTH, 5),
        ([b"Content-Length: 5, 5"], BodyKind.LENGTH, 5),
        ([b"Transfer-Encoding: Chunked"], BodyKind.CHUNKED, -1),
        ([b"Transfer-Encoding:\tchunked\t"], BodyKind.CHUNKED, -1),
        ([b"Transfer-Encoding: cow"], BodyKind.CLOSE, -1),
    ],
)
def test_framing(lines: list[bytes], kind: BodyKind, length: int) -> None:
    read = response(head(*lines))
    assert read.framing(b"GET") == (kind, length)
    assert read.framing(b"HEAD") == (BodyKind.NONE, -1)
    for status in (b"204 No Content", b"304 Not Modified", b"103 Early Hints"):
        assert response(head(*lines, start=b"HTTP/1.1 " + status)).framing(b"GET") == (BodyKind.NONE, -1)


def test_a_switch_has_no_content_and_names_its_protocol() -> None:
    start = b"HTTP/1.1 101 Switching Protocols"
    read = response(head(b"Connection: Upgrade", b"Upgrade: websocket", start=start))
    assert (read.status, read.framing(b"GET")) == (101, (BodyKind.NONE, -1))
    assert refused(head(start=start), "response") == (502, "head")


def test_repeated_lengths_collapse_to_one_line() -> None:
    read = response(head(b"Content-Length: 5, 5", b"A: b", b"Content-Length: 5"))
    assert list(read.fields) == [(b"Content-Length", b"5"), (b"A", b"b")]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([b"Content-Length: -5"], "content-length"), ([b"Content-Length: 0x5"], "content-length"),
        ([b"Content-Length: 0_5"], "content-length"), ([b"Content-Length: five"], "content-length"),
        ([b"Content-Length:"], "content-length"), ([b"Content-Length: 5,"], "content-length"),
        ([b"Content-Length: 18446744073709551621"], "content-length"),
        ([b"Content-Length: 5", b"Content-Length: 6"], "content-length"),
        ([b"Content-Length: 5, 6"], "content-length"), ([b"Content-Length: 5, 05"], "content-length"),
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], "framing"),
        ([b"Transfer-Encoding: cow", b"Content-Length: 5"], "framing"),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], "transfer-coding"),
        ([b"Transfer-Encoding: gzip, chunked"], "transfer-coding"),
        ([b"Transfer-Encoding: chunked, gzip"], "transfer-coding"),
        ([b"Transfer-Encoding: cow", b"Transfer-Encoding: pig"], "transfer-coding"),
        ([b"Transfer-Encoding: xchunked"], "transfer-coding"),
    ],
)  # fmt: skip
def test_framing_that_is_refused(lines: list[bytes], reason: str) -> None:
    assert refused(head(*lines), "response") == (502, reason)


def test_transfer_encoding_in_http_1_0_is_refused() -> None:
    assert refused(head(b"Transfer-Encoding: chunked", start=b"HTTP/1.0 200 OK"), "response") == (502, "framing")


@pytest.mark.parametrize(
    ("start", "lines", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK", [], True),
        (b"HTTP/1.1 200 OK", [b"Connection: X-Secret, close"], False),
        (b"HTTP/1.1 200 OK", [b"Connection: keep-alive"], True),
        (b"HTTP/1.1 200 OK", [b"Connection: keep-alive;"], False),
        (b"HTTP/1.1 200 OK", [b"Connection: Content-Length", b"Content-Length: 1"], False),
        (b"HTTP/1.0 200 OK", [], False),
        (b"HTTP/1.0 200 OK", [b"Connection: keep-alive"], True),
    ],
)
def test_persistence(start: bytes, lines: list[bytes], keep_alive: bool) -> None:
    assert response(head(*lines, start=start)).keep_alive is keep_alive


def test_limits() -> None:
    small = StandardLimits(response_line=30, response_header_line=30, response_block=120, response_fields=3)
    assert response(head(b"A: " + b"b" * 27, b"B: 2", b"C: 3"), small).status == 200
    assert refused(head(b"A: " + b"b" * 28), "response", small) == (502, "field-line-too-long")
    assert refused(head(b"A: 1", b"B: 2", b"C: 3", b"D: 4"), "response", small) == (502, "too-many-fields")
    assert refused(head(start=b"HTTP/1.1 200 " + b"x" * 18), "response", small) == (502, "status-line-too-long")
    wide = StandardLimits(response_line=100, response_block=50)
    assert refused(head(b"A: " + b"b" * 60), "response", wide) == (502, "fields-too-large")
    assert response(head(start=b"HTTP/1.1 200 " + b"x" * 60), wide).status == 200
    long_line = StandardLimits(response_line=20, response_header_line=70)
    assert response(head(b"A: " + b"b" * 60), long_line).status == 200


def test_interim_and_final_heads_follow_each_other() -> None:
    data = head(b"Link: </a>", start=b"HTTP/1.1 103 Early Hints") + head(b"Content-Length: 5") + b"hello"
    reader = HeadReader(STANDARD_LIMITS, "response")
    assert reader.empty
    used = reader.feed(data)
    assert not reader.empty
    assert reader.take_response().status == 103
    used += reader.feed(data[used:])
    final: ResponseHead = reader.take_response()
    assert final.status == 200
    assert data[used:] == b"hello"


def test_a_reader_knows_two_sides() -> None:
    with pytest.raises(ValueError, match="a request or a response"):
        HeadReader(STANDARD_LIMITS, "neither")  # type: ignore[arg-type]
