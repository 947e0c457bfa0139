"""Feeds heads and content to the readers in every cut that the tests need: whole, byte by byte, with bytes behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flyby.errors import WireError
from flyby.wire import STANDARD_LIMITS, BodyKind, BodyReader, Fields, HeadReader, RequestHead, ResponseHead
from flyby.wire.limits import Side, StandardLimits

BEHIND = b"GET /next HTTP/1.1\r\n"


def cuts(data: bytes) -> Iterator[list[bytes]]:
    for step in (len(data) or 1, 1, 2, 7):
        yield [data[at : at + step] for at in range(0, len(data), step)]


def read_head(pieces: list[bytes], side: Side, limits: StandardLimits) -> tuple[HeadReader, int]:
    """The reader, and how many bytes it took. Bytes behind a complete head stay untouched."""
    reader = HeadReader(limits, side)
    taken = 0
    for piece in pieces:
        used = reader.feed(memoryview(piece))
        taken += used
        if reader.complete:
            break
        assert used == len(piece)
    return reader, taken


def request(data: bytes, scheme: bytes = b"http", limits: StandardLimits = STANDARD_LIMITS) -> RequestHead:
    """The head in `data`, the same for every cut and whatever stands behind it."""
    heads = []
    for behind in (b"", BEHIND):
        for pieces in cuts(data + behind):
            reader, taken = read_head(pieces, "request", limits)
            assert reader.complete
            assert taken == len(data)
            heads.append(reader.take_request(scheme))
            assert reader.empty
    seen = {tuple(getattr(head, name) for name in _REQUEST) for head in heads}
    assert len(seen) == 1
    assert all(head.fields == heads[0].fields for head in heads)
    return heads[0]


_REQUEST = ("method", "target", "version", "scheme", "host", "path", "body", "length", "keep_alive")


def response(data: bytes, limits: StandardLimits = STANDARD_LIMITS) -> ResponseHead:
    heads = []
    for behind in (b"", b"hello"):
        for pieces in cuts(data + behind):
            reader, taken = read_head(pieces, "response", limits)
            assert reader.complete
            assert taken == len(data)
            heads.append(reader.take_response())
            assert reader.empty
    assert all(head.fields == heads[0].fields and head.status == heads[0].status for head in heads)
    return heads[0]


def take(pieces: list[bytes], side: Side, limits: StandardLimits) -> RequestHead | ResponseHead:
    reader, _ = read_head(pieces, side, limits)
    assert reader.complete, "neither refused nor complete"
    return reader.take_request(b"http") if side == "request" else reader.take_response()


def refused(data: bytes, side: Side = "request", limits: StandardLimits = STANDARD_LIMITS) -> tuple[int, str]:
    """(status, reason) of the fault in `data`, the same for every cut and whatever stands behind it."""
    verdicts = set()
    for behind in (b"", BEHIND):
        for pieces in cuts(data + behind):
            with pytest.raises(WireError) as caught:
                take(pieces, side, limits)
            verdicts.add((caught.value.status, caught.value.reason))
    assert len(verdicts) == 1, verdicts
    return verdicts.pop()


def read_body(
    pieces: list[bytes],
    kind: BodyKind,
    length: int = -1,
    side: Side = "request",
    limits: StandardLimits = STANDARD_LIMITS,
) -> tuple[BodyReader, bytes, int]:
    reader = BodyReader(kind, length, limits, side)
    content = b""
    taken = 0
    for piece in pieces:
        if reader.done:
            break
        slices, used = reader.feed(memoryview(piece))
        content += b"".join(slices)
        taken += used
        assert reader.done or used == len(piece)
    assert reader.received == len(content)
    return reader, content, taken


def content(data: bytes, kind: BodyKind, length: int = -1) -> tuple[bytes, Fields | None]:
    """The content and trailers in `data`, the same for every cut and whatever stands behind it."""
    seen = []
    for behind in (b"", BEHIND):
        for pieces in cuts(data + behind):
            reader, read, taken = read_body(pieces, kind, length)
            assert reader.done
            assert taken == len(data)
            reader.eof()
            seen.append((read, reader.trailers))
    assert all(one == seen[0] for one in seen)
    return seen[0]


def refused_content(data: bytes, side: Side = "request", limits: StandardLimits = STANDARD_LIMITS) -> tuple[int, str]:
    verdicts = set()
    for behind in (b"", BEHIND):
        for pieces in cuts(data + behind):
            with pytest.raises(WireError) as caught:
                read_body(pieces, BodyKind.CHUNKED, -1, side, limits)
            verdicts.add((caught.value.status, caught.value.reason))
    assert len(verdicts) == 1, verdicts
    return verdicts.pop()
