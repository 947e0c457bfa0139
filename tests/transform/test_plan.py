"""Which responses go through a chain, and what their heads say then."""

from __future__ import annotations

import pytest

from flyby.proxy.transform.chain import Chain
from flyby.proxy.transform.plan import Filter, announced_length, chain_for, changed_head, forbidden
from flyby.wire import Fields
from tests.transform.doubles import Upper

TEXT = Filter(Upper, frozenset((b"text/html", b"text/css")))
ANY = Filter(Upper)


def fields(**given: str) -> Fields:
    return Fields([(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()])


@pytest.mark.parametrize(
    ("status", "head", "request_fields", "changed"),
    [
        (200, {"Content_Type": "text/html"}, None, True),
        (200, {"Content_Type": "Text/HTML ; charset=utf-8"}, None, True),
        (404, {"Content_Type": "text/html"}, None, True),
        (200, {"Content_Type": "text/html5"}, None, False),
        (200, {"Content_Type": "image/png"}, None, False),
        (200, {}, None, False),
        (103, {"Content_Type": "text/html"}, None, False),
        (204, {"Content_Type": "text/html"}, None, False),
        (206, {"Content_Type": "text/html"}, None, False),
        (304, {"Content_Type": "text/html"}, None, False),
        (200, {"Content_Type": "text/html", "Content_Encoding": "gzip"}, None, False),
        (200, {"Content_Type": "text/html", "Content_Encoding": "identity"}, None, True),
        (200, {"Content_Type": "text/html", "Cache_Control": "public, no-transform"}, None, False),
        (200, {"Content_Type": "text/html"}, {"Cache_Control": "No-Transform"}, False),
        (200, {"Content_Type": "text/html"}, {"Cache_Control": "max-age=0"}, True),
    ],
)
def test_which_responses_are_changed(
    status: int, head: dict[str, str], request_fields: dict[str, str] | None, changed: bool
) -> None:
    asked = fields(**request_fields) if request_fields is not None else None
    assert (chain_for((TEXT,), status, fields(**head), asked) is not None) is changed


def test_a_filter_for_any_type_needs_none() -> None:
    assert chain_for((ANY,), 200, Fields()) is not None
    assert chain_for((), 200, Fields()) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("no-transform", True),
        ("max-age=1,no-transform ,public", True),
        ("NO-TRANSFORM", True),
        ("no-transform=1", True),  # RFC 9111 5.2: an argument that is not expected is ignored
        ("no-transformer", False),
        ("x-no-transform", False),
        ('ext="a, no-transform, b"', False),
        ('ext="\\", no-transform, "', False),
        ('ext="a", no-transform', True),
        ("", False),
    ],
)
def test_no_transform_is_read_as_a_directive(value: str, expected: bool) -> None:
    assert forbidden(fields(Cache_Control=value)) is expected


@pytest.mark.parametrize(("tag", "after"), [('"a"', b'W/"a"'), ('W/"a"', b'W/"a"')])
def test_what_was_said_of_other_bytes_goes(tag: str, after: bytes) -> None:
    head = fields(
        ETag=tag,
        Content_Length="3",
        Accept_Ranges="bytes",
        Content_MD5="x",
        Digest="x",
        Content_Digest="x",
        Repr_Digest="x",
        Last_Modified="Sun, 06 Nov 1994 08:49:37 GMT",
        Content_Type="text/html",
    )
    assert changed_head(Chain([Upper(b"!")]), head, 3) == 4
    assert [(name.lower(), value) for name, value in head] == [
        (b"etag", after),
        (b"last-modified", b"Sun, 06 Nov 1994 08:49:37 GMT"),
        (b"content-type", b"text/html"),
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0", 0), ("17", 17), ("", -1), ("+1", -1), ("1_0", -1), (" 1", -1), ("9" * 19, -1), ("\u0661", -1)],
)
def test_a_malformed_length_is_ignored(value: str, expected: int) -> None:
    assert announced_length(Fields([(b"Content-Length", value.encode())])) == expected
