"""Content: counted, chunked and until the close (RFC 9112 6, 7.1)."""

from __future__ import annotations

import pytest

from flyby.errors import WireError
from flyby.wire import STANDARD_LIMITS, BodyKind, BodyReader, Fields
from flyby.wire.limits import StandardLimits

from .reading import content, refused_content


def test_no_content_is_done_at_once() -> None:
    for kind, length in ((BodyKind.NONE, -1), (BodyKind.LENGTH, 0)):
        reader = BodyReader(kind, length, STANDARD_LIMITS)
        assert reader.done
        assert reader.feed(b"next") == ([], 0)
        assert reader.received == 0
        reader.eof()


def test_counted_content() -> None:
    assert content(b"hello", BodyKind.LENGTH, 5) == (b"hello", None)


def test_content_until_the_close() -> None:
    reader = BodyReader(BodyKind.CLOSE, -1, STANDARD_LIMITS, "response")
    assert reader.feed(b"hel")[1] == 3
    assert reader.feed(b"lo")[1] == 2
    assert not reader.done
    reader.eof()
    assert reader.done
    assert reader.received == 5


def test_slices_are_the_caller_s_memory() -> None:
    buffer = bytearray(b"5\r\nhello\r\n0\r\n\r\n")
    slices, _ = BodyReader(BodyKind.CHUNKED, -1, STANDARD_LIMITS).feed(memoryview(buffer))
    buffer[3:8] = b"HELLO"
    assert [bytes(part) for part in slices] == [b"HELLO"]


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789"),
        (b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
        (b"0000000000000005\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5;name=val\r\nhello\r\n0;last\r\n\r\n", b"hello"),
        (b'5 ; n = "a;b \\" c" \t; m\r\nhello\r\n0\r\n\r\n', b"hello"),
        (b'5;a="";b=c;d\r\nhello\r\n0\r\n\r\n', b"hello"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"1\r\nx\r\n" * 200 + b"0\r\n\r\n", b"x" * 200),
    ],
)
def test_chunked_content(data: bytes, read: bytes) -> None:
    assert content(data, BodyKind.CHUNKED) == (read, None)


def test_trailers() -> None:
    data = b"5\r\nhello\r\n0\r\nX-Sum: 1 \r\nx-other:\r\n\r\n"
    assert content(data, BodyKind.CHUNKED) == (b"hello", Fields([(b"X-Sum", b"1"), (b"x-other", b"")]))


@pytest.mark.parametrize(
    "size",
    [
        b"+5", b"-5", b"0x5", b"0_5", b" 5", b"\t5", b"5 ", b"5\t", b"5\x00", b"\xa05", b"g", b"5zz", b"5,6", b"5.0",
        b"", b";x", b"5\r", b"5\x0b", b"10000000000000005", b"8000000000000000", b"ffffffffffffffff", b"f" * 300,
        b"00000000000000005", b"5;a=\x00", b"5;a=\x01", b"5;a b c", b"5;", b"5;a=", b"5;a;", b"5;=b", b'5;a="b',
        b"5;a\rb",
        b'5;a="b"c', b'5;a="\x7f"', b'5;a="\\\x00"', b"5;a ", b"5;a==b", b"5 a", b"5 \r;a", b"\xef\xbc\x95",
    ],
)  # fmt: skip
def test_chunk_lines_that_are_refused(size: bytes) -> None:
    assert refused_content(size + b"\r\nhello\r\n0\r\n\r\n") == (400, "chunk")


@pytest.mark.parametrize(
    "data",
    [
        b"5\nhello\r\n0\r\n\r\n", b"5\rhello\r\n0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n", b"5\r\nhello world\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"5\r\nhello\r\n0\n\r\n",
        b"5;a\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n\r\n0\r\n\r\n",
    ],
)  # fmt: skip
def test_line_ends_are_crlf(data: bytes) -> None:
    assert refused_content(data) == (400, "chunk")
    assert refused_content(data, "response") == (502, "chunk")


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "field-name"), (b"X: y\r\n z\r\n\r\n", "field-fold"),
        (b"X: y\n\r\n", "field-value"),
        (b"X: y\x00\r\n\r\n", "field-value"), (b"X : y\r\n\r\n", "field-name"), (b"\n", "field-name"),
        (b"\rX", "bare-cr"),
    ],
)  # fmt: skip
def test_trailers_that_are_refused(section: bytes, reason: str) -> None:
    assert refused_content(b"5\r\nhello\r\n0\r\n" + section) == (400, reason)


@pytest.mark.parametrize(
    "line",
    [
        b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked", b"Content-Length: 5", b"content-LENGTH: x",
        b"Host: other.test", b"Content_Length: 5", b"Transfer.Encoding: chunked", b"'Content-Length': 5",
    ],
)  # fmt: skip
def test_a_forbidden_trailer_field_is_dropped_and_the_content_stays(line: bytes) -> None:
    section = b"X:GET / HTTP/1.1\r\n%b\r\nY: z\r\n\r\n" % line
    kept = Fields([(b"X", b"GET / HTTP/1.1"), (b"Y", b"z")])
    assert content(b"5\r\nhello\r\n0\r\n" + section, BodyKind.CHUNKED) == (b"hello", kept)
    assert content(b"5\r\nhello\r\n0\r\n%b\r\n\r\n" % line, BodyKind.CHUNKED) == (b"hello", None)


def test_a_trailer_of_a_response_is_corrected_as_a_field_is() -> None:
    data = b"5\r\nhello\r\n0\r\nX-T : 1\x01\r\nContent-Length : 5\r\n\r\n"
    reader = BodyReader(BodyKind.CHUNKED, -1, STANDARD_LIMITS, "response")
    assert reader.feed(data)[1] == len(data)
    assert reader.trailers == Fields([(b"X-T", b"1\x01")])
    assert refused_content(data) == (400, "field-name")


def test_limits_of_extensions() -> None:
    small = StandardLimits(chunk_line=20, chunk_extensions=50)
    line = b"1;" + b"e" * 18 + b"\r\nx\r\n"
    reader = BodyReader(BodyKind.CHUNKED, -1, small)
    reader.feed(line * 2)
    with pytest.raises(WireError):
        reader.feed(line)  # 3 * 19 bytes of extensions
    assert refused_content(b"1;" + b"e" * 19 + b"\r\nx\r\n0\r\n\r\n", limits=small) == (400, "chunk")


def test_limits_of_trailers() -> None:
    small = StandardLimits(header_line=20, header_block=60, fields=3)
    assert refused_content(b"0\r\nA: " + b"b" * 18 + b"\r\n\r\n", limits=small) == (431, "field-line-too-long")
    assert refused_content(b"0\r\n" + b"A: b\r\n" * 4 + b"\r\n", limits=small) == (431, "too-many-fields")
    block = b"0\r\n" + (b"A: " + b"b" * 17 + b"\r\n") * 3 + b"\r\n"
    assert refused_content(block, limits=small) == (431, "fields-too-large")


@pytest.mark.parametrize("data", [b"", b"5", b"5\r\nhel", b"5\r\nhello\r\n", b"5\r\nhello\r\n0\r\n", b"0\r\nA: b\r\n"])
def test_an_early_end_is_an_error(data: bytes) -> None:
    for side, status in (("request", 400), ("response", 502)):
        reader = BodyReader(BodyKind.CHUNKED, -1, STANDARD_LIMITS, side)  # type: ignore[arg-type]
        reader.feed(data)
        with pytest.raises(WireError) as caught:
            reader.eof()
        assert (caught.value.status, caught.value.reason) == (status, "content-incomplete")


def test_counted_content_that_ends_early() -> None:
    reader = BodyReader(BodyKind.LENGTH, 100, STANDARD_LIMITS)
    reader.feed(b"short")
    with pytest.raises(WireError):
        reader.eof()


def test_kinds_are_checked() -> None:
    with pytest.raises(ValueError, match="length"):
        BodyReader(BodyKind.LENGTH, -1, STANDARD_LIMITS)
    with pytest.raises(ValueError, match="kind"):
        BodyReader(7, -1, STANDARD_LIMITS)  # type: ignore[arg-type]


def test_a_fault_is_final() -> None:
    reader = BodyReader(BodyKind.CHUNKED, -1, STANDARD_LIMITS)
    with pytest.raises(WireError):
        reader.feed(b"0\r\nX: y\x00")
    with pytest.raises(ValueError, match="after a fault"):
        reader.feed(b"\r\n\r\n")
