"""What is packed already is told by its fields."""

from __future__ import annotations

import pytest

from flyby.policy import worth_packing
from flyby.wire import Fields

TRIED = [
    [],
    [(b"Content-Type", b"text/html; charset=utf-8")],
    [(b"Content-Type", b"application/json")],
    [(b"Content-Type", b"application/octet-stream")],
    [(b"Content-Type", b"image/svg+xml")],
    [(b"Content-Type", b"image/x-icon")],
    [(b"Content-Type", b"application/x-zipper")],
    [(b"Content-Type", b"text/image/png")],
    [(b"Content-Type", b"text/css"), (b"Content-Encoding", b"identity")],
]
LEFT = [
    [(b"Content-Type", b"image/png")],
    [(b"content-type", b"IMAGE/JPEG")],
    [(b"Content-Type", b"video/mp4")],
    [(b"Content-Type", b"font/woff2")],
    [(b"Content-Type", b"application/zip")],
    [(b"Content-Type", b"application/vnd.openxmlformats-officedocument.wordprocessingml.document")],
    [(b"Content-Type", b"text/html"), (b"Content-Encoding", b"gzip")],
    [(b"Content-Type", b"text/html"), (b"content-encoding", b"BR")],
    [(b"Content-Encoding", b"identity, gzip")],
]


@pytest.mark.parametrize("fields", TRIED)
def test_what_is_tried(fields: list[tuple[bytes, bytes]]) -> None:
    assert worth_packing(Fields(fields))


@pytest.mark.parametrize("fields", LEFT)
def test_what_is_left_as_it_is(fields: list[tuple[bytes, bytes]]) -> None:
    assert not worth_packing(Fields(fields))
