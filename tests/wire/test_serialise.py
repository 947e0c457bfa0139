"""What is written: complete heads, chunk framing, and nothing that splits them."""

from __future__ import annotations

import pytest

from flyby.wire import (
    LAST_CHUNK,
    REASONS,
    BodyKind,
    Fields,
    chunk_head,
    last_chunk,
    serialise_request,
    serialise_response,
)

from .reading import content, request, response


def test_a_request_reads_back() -> None:
    fields = Fields([(b"Host", b"edge.test"), (b"X-Name", b"caf\xe9"), (b"X-Empty", b"")])
    written = serialise_request(b"GET", b"/a?b", fields)
    assert written == b"GET /a?b HTTP/1.1\r\nHost: edge.test\r\nX-Name: caf\xe9\r\nX-Empty: \r\n\r\n"
    assert request(written).fields == fields


@pytest.mark.parametrize("status", sorted(REASONS.keys() - {101}))
def test_every_reason_reads_back(status: int) -> None:
    read = response(serialise_response(status, REASONS[status], Fields([(b"A", b"b")])))
    assert (read.status, read.reason) == (status, REASONS[status])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"A", b"b\r\nC: d"), (b"A", b"b\nC: d"), (b"A", b"b\rc"), (b"A", b"b\x00"), (b"A", b"b\r\n"),
        (b"A", b"\x01\n"),
        (b"", b"b"), (b"A ", b"b"), (b"A: b\r\nC", b"d"), (b"A: b", b"c"), (b"A\n", b"b"), (b"\xe9", b"b"),
        (b"A\x00", b"b"),
    ],
)  # fmt: skip
def test_a_field_cannot_split_a_head(name: bytes, value: bytes) -> None:
    fields = Fields([(b"Good", b"1"), (name, value)])
    with pytest.raises(ValueError, match="a field cannot be written"):
        serialise_request(b"GET", b"/", fields)
    with pytest.raises(ValueError, match="a field cannot be written"):
        serialise_response(200, b"OK", fields)
    with pytest.raises(ValueError, match="a field cannot be written"):
        last_chunk(fields)


@pytest.mark.parametrize("byte", [1, 8, 11, 12, 14, 31, 127])
def test_a_control_byte_of_an_origin_s_value_is_passed_on_to_clients_alone(byte: int) -> None:
    fields = Fields([(b"A", b"b%bc" % bytes([byte]))])
    assert response(serialise_response(200, b"OK", fields)).fields == fields
    with pytest.raises(ValueError, match="a field cannot be written"):
        serialise_request(b"GET", b"/", fields)


@pytest.mark.parametrize(("method", "path"), [
    (b"GET /x", b"/"), (b"", b"/"), (b"GET\r\n", b"/"), (b"GET", b"/ HTTP/1.1\r\nA: b"), (b"GET", b"/a b"),
    (b"GET", b""),    (b"GET", b"/\n"), (b"GET", b"/\xe9"),
])  # fmt: skip
def test_a_request_line_cannot_be_split(method: bytes, path: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        serialise_request(method, path, Fields())


@pytest.mark.parametrize(("status", "reason"), [(200, b"OK\r\nA: b"), (200, b"\n"), (99, b""), (600, b""), (-1, b"")])
def test_a_status_line_cannot_be_split(status: int, reason: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        serialise_response(status, reason, Fields())


def test_chunk_framing() -> None:
    assert chunk_head(1) == b"1\r\n"
    assert chunk_head(65536) == b"10000\r\n"
    for length in (0, -1):
        with pytest.raises(ValueError, match="a chunk needs data"):
            chunk_head(length)
    assert last_chunk() == last_chunk(Fields()) == LAST_CHUNK
    trailers = Fields([(b"X-Sum", b"1")])
    assert content(last_chunk(trailers), BodyKind.CHUNKED) == (b"", trailers)
