"""Properties that hold for any bytes: no crash, the same verdict in any cut, and what is written reads back."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from flyby.errors import WireError
from flyby.wire import STANDARD_LIMITS, BodyKind, BodyReader, Fields, HeadReader, chunk_head, last_chunk
from flyby.wire import serialise_request as write_request
from flyby.wire.limits import Side

HEADS = [
    b"GET /a?b=c HTTP/1.1\r\nHost: edge.test:8080\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n",
    b"\r\nPOST http://edge.test/p HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: edge.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nETag: \"\xe9\"\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 304 \r\nTransfer-Encoding: cow\r\n\r\n",
]  # fmt: skip
CHUNKED = [
    b'5;a="b c";d=e\r\nhello\r\n0a\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n',
    b"1\r\nx\r\n0\r\n\r\n",
]
TELLING = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"\x80",
    b"0",
    b"5",
    b"f",
    b"\x0b",
    b'"',
    b"=",
]


@st.composite
def mutated(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    data = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        drop = draw(st.integers(0, 2))
        data = data[:at] + draw(st.one_of(st.sampled_from(TELLING), st.binary(max_size=3))) + data[at + drop :]
    return data


def sliced(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[first:last] for first, last in pairwise(marks)]


def head_verdict(pieces: list[bytes], side: Side) -> object:
    reader = HeadReader(STANDARD_LIMITS, side)
    taken = 0
    try:
        for piece in pieces:
            taken += reader.feed(piece)
            if reader.complete:
                break
        if not reader.complete:
            return "incomplete", taken, reader.empty
        if side == "request":
            request = reader.take_request(b"http")
            return taken, request.method, request.host, request.path, request.body, request.length, list(request.fields)
        response = reader.take_response()
        return taken, response.status, response.framing(b"GET"), response.keep_alive, list(response.fields)
    except WireError as error:
        return error.status, error.reason


def body_verdict(pieces: list[bytes]) -> object:
    reader = BodyReader(BodyKind.CHUNKED, -1, STANDARD_LIMITS)
    taken = 0
    content = b""
    try:
        for piece in pieces:
            slices, used = reader.feed(piece)
            content += b"".join(slices)
            taken += used
    except WireError as error:
        return error.status, error.reason
    return taken, reader.done, content, reader.received, reader.trailers and list(reader.trailers)


CUTS = st.lists(st.integers(0, 1000), max_size=6)


@settings(max_examples=400, deadline=None)
@given(data=st.one_of(mutated(HEADS), st.binary(max_size=60)), cuts=CUTS, side=st.sampled_from(["request", "response"]))
def test_a_head_gets_one_verdict_in_any_cut(data: bytes, cuts: list[int], side: Side) -> None:
    whole = head_verdict([data], side)
    assert head_verdict(sliced(data, cuts), side) == whole
    assert head_verdict([data[at : at + 1] for at in range(len(data))], side) == whole


@settings(max_examples=400, deadline=None)
@given(data=st.one_of(mutated(CHUNKED), st.binary(max_size=60)), cuts=CUTS)
def test_chunked_content_gets_one_verdict_in_any_cut(data: bytes, cuts: list[int]) -> None:
    whole = body_verdict([data])
    assert body_verdict(sliced(data, cuts)) == whole
    assert body_verdict([data[at : at + 1] for at in range(len(data))]) == whole


@settings(max_examples=200, deadline=None)
@given(data=mutated(HEADS))
def test_what_is_accepted_can_be_written_and_reads_back_the_same(data: bytes) -> None:
    reader = HeadReader(STANDARD_LIMITS, "request")
    try:
        reader.feed(data)
        if not reader.complete:
            return
        head = reader.take_request(b"http")
    except WireError:
        return
    fields = head.fields.copy()
    fields.set(b"Host", head.host)
    written = write_request(head.method, head.path, fields)
    assert reader.feed(written) == len(written)
    again = reader.take_request(b"http")
    assert (again.method, again.host, again.path) == (head.method, head.host, head.path)
    assert (again.body, again.length) == (head.body, head.length)


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(st.binary(min_size=1, max_size=300), max_size=8), cuts=CUTS, trailer=st.booleans())
def test_chunks_round_trip(parts: list[bytes], cuts: list[int], trailer: bool) -> None:
    trailers = Fields([(b"X-Sum", b"1")]) if trailer else None
    data = b"".join(chunk_head(len(part)) + part + b"\r\n" for part in parts) + last_chunk(trailers)
    content = b"".join(parts)
    expected = (len(data), True, content, len(content), [(b"X-Sum", b"1")] if trailer else None)
    assert body_verdict([*sliced(data, cuts), b"GET /next"]) == expected


@settings(max_examples=300, deadline=None)
@given(size=st.integers(1, 1 << 80))
def test_a_chunk_size_is_exact_or_refused(size: int) -> None:
    reader = BodyReader(BodyKind.CHUNKED, -1, STANDARD_LIMITS)
    try:
        reader.feed(b"%x\r\n" % size)
    except WireError:
        assert size >= 1 << 63
        return
    assert size < 1 << 63
    slices, _ = reader.feed(b"x" * min(size, 64))
    assert sum(map(len, slices)) == min(size, 64)
    assert not reader.done


@settings(max_examples=300, deadline=None)
@given(length=st.integers(0, 1 << 80))
def test_a_content_length_is_exact_or_refused(length: int) -> None:
    verdict = head_verdict([b"POST / HTTP/1.1\r\nHost: e\r\nContent-Length: %d\r\n\r\n" % length], "request")
    assert isinstance(verdict, tuple)
    assert verdict == (400, "content-length") if length >= 10**18 else verdict[4:6] == (BodyKind.LENGTH, length)
