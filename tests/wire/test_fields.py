"""Fields: order, spelling and look-up of field lines."""

from __future__ import annotations

import pytest

from flyby.wire import HOP_BY_HOP, Fields, strip_hop_by_hop


def lines() -> Fields:
    return Fields([(b"Vary", b"Accept"), (b"ETag", b'"a"'), (b"vary", b"Cookie")])


def test_look_up_is_by_lower_case_and_keeps_spelling() -> None:
    fields = lines()
    assert fields.get(b"vary") == b"Accept"
    assert fields.get_all(b"vary") == [b"Accept", b"Cookie"]
    assert fields.combined(b"vary") == b"Accept, Cookie"
    assert fields.combined(b"etag") == b'"a"'
    assert fields.get(b"Vary") is None
    assert fields.get(b"age") is None
    assert fields.combined(b"age") is None
    assert fields.get_all(b"age") == []
    assert b"etag" in fields
    assert b"age" not in fields
    assert list(fields) == [(b"Vary", b"Accept"), (b"ETag", b'"a"'), (b"vary", b"Cookie")]
    assert len(fields) == 3


def test_set_replaces_the_first_and_drops_the_others() -> None:
    fields = lines()
    fields.set(b"VARY", b"*")
    fields.set(b"Age", b"1")
    assert list(fields) == [(b"VARY", b"*"), (b"ETag", b'"a"'), (b"Age", b"1")]
    assert fields.get_all(b"vary") == [b"*"]


def test_remove_tells_whether_there_was_one() -> None:
    fields = lines()
    assert fields.remove(b"vary") is True
    assert fields.remove(b"vary") is False
    assert list(fields) == [(b"ETag", b'"a"')]


def test_a_copy_is_independent() -> None:
    fields = lines()
    copied = fields.copy()
    assert copied == fields
    copied.add(b"Age", b"1")
    copied.remove(b"etag")
    assert fields == lines()
    assert copied != fields


def test_equality_sees_spelling_and_order() -> None:
    assert Fields([(b"A", b"1")]) != Fields([(b"a", b"1")])
    assert Fields([(b"A", b"1"), (b"B", b"2")]) != Fields([(b"B", b"2"), (b"A", b"1")])
    assert Fields() != 1


def test_only_bytes_are_taken() -> None:
    with pytest.raises(TypeError):
        Fields().add("A", b"1")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Fields([(b"A", None)])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        Fields().set(b"A", None)  # type: ignore[arg-type]


def test_hop_by_hop_fields_go_and_what_connection_names_goes_with_them() -> None:
    kept = strip_hop_by_hop(
        Fields(
            [
                (b"Connection", b"close, X-Private,\tx-other"),
                (b"Connection", b"TE"),
                *((name.title(), b"1") for name in sorted(HOP_BY_HOP)),
                (b"X-Private", b"1"),
                (b"X-OTHER", b"1"),
                (b"Accept", b"*/*"),
            ]
        )
    )
    assert list(kept) == [(b"Accept", b"*/*")]


@pytest.mark.parametrize(
    "name", [b"Host", b"Content-Length", b"Authorization", b"Cookie", b"X-Forwarded-For", b"Via", b"Cache-Control"]
)
def test_connection_cannot_take_a_protected_field_away(name: bytes) -> None:
    kept = strip_hop_by_hop(Fields([(b"Connection", name.lower()), (name, b"1")]))
    assert list(kept) == [(name, b"1")]


def test_stripping_leaves_the_original() -> None:
    fields = Fields([(b"Connection", b"close")])
    assert len(strip_hop_by_hop(fields)) == 0
    assert len(fields) == 1
