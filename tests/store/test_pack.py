"""Packed bodies: what is unpacked in place is what was packed, and what is damaged is not unpacked."""

from __future__ import annotations

import pytest

from flyby.store._pack import packed, unpacked

TEXT = b"".join(b"<li>%d of many</li>\n" % number for number in range(2000))


@pytest.mark.parametrize("length", [1024, 1500, 4096, 32_768])
def test_in_place(length: int) -> None:
    body = packed(TEXT[:length])
    assert body is not None
    assert len(body) < length
    assert unpacked(body, length) == TEXT[:length]


@pytest.mark.parametrize("length", [1023, 1025, 300_000])
def test_another_length_than_it_has(length: int) -> None:
    body = packed(TEXT[:1024])
    assert body is not None
    assert unpacked(body, length) is None


def test_what_is_cut_short_or_damaged_is_not_unpacked_in_place() -> None:
    body = packed(TEXT[:1024])
    assert body is not None
    for damaged in (
        b"",
        body[:3],
        body[:-1],
        b"\xff" * 4 + body[4:],
        body[:4] + b"\xff" * (len(body) - 4),
    ):
        assert unpacked(damaged, 1024) is None
    long = packed(TEXT * 20)
    assert long is not None
    assert unpacked(long, len(TEXT) * 20) == TEXT * 20
    assert unpacked(long, len(TEXT) * 40) is None
    assert unpacked(long[:-1], len(TEXT) * 20) is None
