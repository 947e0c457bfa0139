"""Conditions (RFC 9110 13), ranges (14), updates (RFC 9111 3.2, 4.3), invalidation (4.4), Cache-Status (RFC 9211)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyby.policy import (
    MAX_PARTS,
    UNSAFE_METHODS,
    UNSATISFIABLE,
    ContentRange,
    HeadEffect,
    Outcome,
    Reason,
    cache_status,
    combine,
    completion_fields,
    evaluate,
    freshen,
    head_effect,
    if_range_matches,
    invalidation_targets,
    multipart,
    parse_content_range,
    parse_range,
    resolve,
    serve_partial,
    validates,
    validators_for,
)
from flyby.wire import Fields
from tests.policy.heads import Lines, Request, Response, at, get

STORED = Fields([(b"Date", at(0)), (b"ETag", b'"abc"'), (b"Last-Modified", at(-3000))])
INM, IMS, IM, IUS = b"If-None-Match", b"If-Modified-Since", b"If-Match", b"If-Unmodified-Since"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([], None, id="none"),
        pytest.param([(INM, b'"abc"')], 304, id="9110-13.1.2"),
        pytest.param([(INM, b'W/"abc"')], 304, id="9110-8.8.3.2-weak"),
        pytest.param([(INM, b'"1", "abc", "2"')], 304, id="list"),
        pytest.param([(INM, b'"1"'), (INM, b'"abc"')], 304, id="lines"),
        pytest.param([(INM, b'"a,b" , "abc"')], 304, id="comma-in-tag"),
        pytest.param([(INM, b"*")], 304, id="any"),
        pytest.param([(INM, b'"x"')], None, id="differs"),
        pytest.param([(INM, b"abc")], None, id="unquoted"),
        pytest.param([(INM, b'"x"'), (IMS, at(0))], None, id="9110-13.2.2-inm-over-ims"),
        pytest.param([(INM, b'"abc"'), (IMS, at(-9000))], 304, id="13.2.2-inm-over-ims-match"),
        pytest.param([(IMS, at(-3000))], 304, id="9110-13.1.3"),
        pytest.param([(IMS, at(-2000))], 304, id="ims-later"),
        pytest.param([(IMS, at(-3001))], None, id="ims-earlier"),
        pytest.param([(IMS, b"yesterday")], None, id="ims-no-date"),
        pytest.param([(IMS, at(0)), (IMS, at(0))], None, id="ims-twice"),
        pytest.param([(IM, b'"abc"')], None, id="9110-13.1.1"),
        pytest.param([(IM, b"*")], None, id="im-any"),
        pytest.param([(IM, b'"x"')], 412, id="im-differs"),
        pytest.param([(IM, b'W/"abc"')], 412, id="im-strong"),
        pytest.param([(IUS, at(-3000))], None, id="9110-13.1.4"),
        pytest.param([(IUS, at(-3001))], 412, id="ius-modified"),
        pytest.param([(IUS, b"x")], None, id="ius-no-date"),
        pytest.param([(IM, b'"abc"'), (IUS, at(-9000))], None, id="13.2.2-im-over-ius"),
        pytest.param([(IM, b'"abc"'), (INM, b'"abc"')], 304, id="13.2.2-both"),
        pytest.param([(IM, b'"x"'), (INM, b'"abc"')], 412, id="13.2.2-im-first"),
    ],
)
def test_conditions(lines: Lines, expected: int | None) -> None:
    assert evaluate(get(*lines), STORED, 200) == expected


def test_conditions_of_what_is_no_success_are_ignored() -> None:
    assert evaluate(get((INM, b"*")), STORED, 404) is None


def test_date_stands_in_for_last_modified() -> None:
    dated = Fields([(b"Date", at(0))])
    assert evaluate(get((IMS, at(0))), dated, 200) == 304
    assert evaluate(get((IMS, at(-3000))), dated, 200) is None  # against cache-tests' conditional-lm-fresh-no-lm


def test_obs_text_in_tags_survives() -> None:
    assert evaluate(get((INM, b'"abcdef\xfc"')), Fields([(b"ETag", b'"abcdef\xfc"')]), 200) == 304


def test_validators() -> None:
    assert validators_for(STORED) == [(INM, b'"abc"'), (IMS, at(-3000))]
    assert validators_for(Fields()) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b"bytes=0-1", [(0, 1)], id="9110-14.1.2"),
        pytest.param(b"bytes=5-", [(5, 9)], id="open"),
        pytest.param(b"bytes=-3", [(7, 9)], id="suffix"),
        pytest.param(b"bytes=-30", [(0, 9)], id="long-suffix"),
        pytest.param(b"bytes=8-30", [(8, 9)], id="beyond"),
        pytest.param(b"Bytes=0-0", [(0, 0)], id="9110-14.1-unit-case"),
        pytest.param(b"bytes=0-1, ,4-5", [(0, 1), (4, 5)], id="two"),
        pytest.param(b"bytes=4-5,0-1", [(4, 5), (0, 1)], id="order-kept"),
        pytest.param(b"bytes=0-1,20-", [(0, 1)], id="one-satisfiable"),
        pytest.param(b"bytes=10-", UNSATISFIABLE, id="9110-15.5.17"),
        pytest.param(b"bytes=-0", UNSATISFIABLE, id="empty-suffix"),
        pytest.param(b"bytes=0-5,3-8", None, id="overlapping"),
        pytest.param(b"bytes=0-,-1", None, id="overlapping-suffix"),
        pytest.param(b"bytes=5-4", None, id="backwards"),
        pytest.param(b"bytes=", None, id="empty"),
        pytest.param(b"bytes=a-b", None, id="letters"),
        pytest.param(b"bytes=-", None, id="dash"),
        pytest.param(b"bytes=+1-2", None, id="sign"),
        pytest.param(b"lines=0-1", None, id="unit"),
        pytest.param(b"bytes=0-1\n", None, id="newline"),
        pytest.param(b"bytes=" + b",".join(b"%d-%d" % (i, i) for i in range(0, 40, 2)), None, id="many"),
        pytest.param(b"bytes=9999999999999999999-", UNSATISFIABLE, id="19-digits"),
        pytest.param(b"bytes=0-9999999999999999999", [(0, 9)], id="last-of-19-digits"),
        pytest.param(b"bytes=-9999999999999999999", [(0, 9)], id="suffix-of-19-digits"),
        pytest.param(b"bytes=00000000000000000001-2", None, id="20-digits"),
        pytest.param(b"bytes=0-00000000000000000002", None, id="last-of-20-digits"),
        pytest.param(b"bytes=-00000000000000000002", None, id="suffix-of-20-digits"),
        pytest.param(b"bytes= 0-1\t,", [(0, 1)], id="white-space-and-empty-elements"),
        pytest.param(b"bytes= , ,", None, id="nothing-but-empty-elements"),
        pytest.param(b"bytes =0-1", None, id="space-behind-the-unit"),
        pytest.param(b"bytes=0 -1", None, id="space-within"),
        pytest.param(b"bytes=0-1-2", None, id="two-dashes"),
        pytest.param(b"bytes=--1", None, id="dash-before-suffix"),
        pytest.param(b"bytes=0-1;2-3", None, id="semicolon"),
        pytest.param(b"bytes:0-1", None, id="colon"),
        pytest.param(b"bytes", None, id="unit-alone"),
        pytest.param(b"", None, id="no-value"),
        pytest.param(b"\x42ytes=0-0", [(0, 0)], id="one-capital"),
        pytest.param(b"\x02ytes=0-0", None, id="a-control-that-folds"),
        pytest.param(None, None, id="absent"),
    ],
)
def test_range(value: bytes | None, expected: object) -> None:
    assert parse_range(value, 10) == expected


@pytest.mark.parametrize("value", [b"bytes=0-1", b"bytes=-1", b"bytes=0-"])
def test_no_range_selects_bytes_of_nothing(value: bytes) -> None:
    assert parse_range(value, 0) is UNSATISFIABLE


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=MAX_PARTS), st.integers(0, 60))
def test_ranges_lie_inside_and_apart(pairs: list[tuple[int, int]], length: int) -> None:
    ranges = parse_range(b"bytes=" + b",".join(b"%d-%d" % pair for pair in pairs), length)
    if isinstance(ranges, list):
        covered = [byte for first, last in ranges for byte in range(first, last + 1)]
        assert covered
        assert len(covered) == len(set(covered))
        assert all(0 <= byte < length for byte in covered)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(None, True, id="absent"),
        pytest.param(b'"abc"', True, id="9110-13.1.5"),
        pytest.param(b'W/"abc"', False, id="weak"),
        pytest.param(b'"x"', False, id="differs"),
        pytest.param(at(-3000), True, id="strong-date"),
        pytest.param(at(-2000), False, id="later-date"),
        pytest.param(b"abc", False, id="junk"),
    ],
)
def test_if_range(value: bytes | None, expected: bool) -> None:
    assert if_range_matches(value, STORED) is expected


def test_if_range_date_of_the_same_second_is_weak() -> None:
    assert not if_range_matches(at(0), Fields([(b"Date", at(0)), (b"Last-Modified", at(0))]))


def test_if_range_weak_tag() -> None:
    assert not if_range_matches(b'W/"x"', Fields([(b"ETag", b'W/"x"')]))


def test_multipart() -> None:
    heads, closing = multipart([(0, 1), (4, 5)], 10, b"text/plain", b"B")
    content = heads[0] + b"01" + heads[1] + b"45" + closing
    part = b"--B\r\nContent-Type: text/plain\r\nContent-Range: bytes %s/10\r\n\r\n%s\r\n"
    assert content == part % (b"0-1", b"01") + part % (b"4-5", b"45") + b"--B--\r\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b"bytes 0-4/10", ContentRange(0, 4, 10), id="9110-14.4"),
        pytest.param(b"bytes 0-4/*", ContentRange(0, 4, None), id="unknown-length"),
        pytest.param(b"bytes */10", None, id="unsatisfied"),
        pytest.param(b"bytes 4-0/10", None, id="backwards"),
        pytest.param(b"bytes 0-10/10", None, id="beyond"),
        pytest.param(b"lines 0-4/10", None, id="unit"),
        pytest.param(None, None, id="absent"),
    ],
)
def test_content_range(value: bytes | None, expected: ContentRange | None) -> None:
    assert parse_content_range(value) == expected
    assert expected is None or bytes(expected) == value


@pytest.mark.parametrize(
    ("value", "strict", "lenient"),
    [
        # The origin of cache-tests' partial-store-partial-*: five bytes said to be 4-9 of 10.
        pytest.param(b"bytes=-5", None, (4, 8), id="suffix-of-stored-length"),
        pytest.param(b"bytes=6-8", None, (6, 8), id="inside"),
        pytest.param(b"bytes=6-", None, (6, 8), id="open"),
        pytest.param(b"bytes=-1", None, (8, 8), id="last-byte"),
        pytest.param(b"bytes=0-5", None, None, id="before"),
        pytest.param(b"bytes=4-4,6-6", None, None, id="two-parts"),
    ],
)
def test_partial_that_counts_wrongly(value: bytes, strict: None, lenient: tuple[int, int] | None) -> None:
    held = ContentRange(4, 9, 10)
    assert serve_partial(value, held, 5, lenient=False) is strict
    found = serve_partial(value, held, 5, lenient=True)
    assert ((found.first, found.last) if found else None) == lenient


@pytest.mark.parametrize(
    ("value", "held", "expected"),
    [
        pytest.param(b"bytes=5-7", ContentRange(4, 9, 10), (5, 7), id="9111-3.3-inside"),
        pytest.param(b"bytes=-2", ContentRange(4, 9, 10), (8, 9), id="suffix"),
        pytest.param(b"bytes=8-99", ContentRange(4, 9, 10), (8, 9), id="to-the-end"),
        pytest.param(b"bytes=-8", ContentRange(4, 9, 10), None, id="suffix-too-long"),
        pytest.param(b"bytes=2-", ContentRange(0, 4, 10), None, id="end-not-held"),
        pytest.param(b"bytes=2-4", ContentRange(0, 4, None), (2, 4), id="total-unknown"),
        pytest.param(b"bytes=-2", ContentRange(0, 4, None), None, id="suffix-of-unknown"),
        pytest.param(None, ContentRange(0, 4, 10), None, id="whole"),
    ],
)
def test_serve_partial(value: bytes | None, held: ContentRange, expected: tuple[int, int] | None) -> None:
    found = serve_partial(value, held, held.length, lenient=False)
    assert ((found.first, found.last) if found else None) == expected


STRONG = Fields([(b"ETag", b'"s"')])


@pytest.mark.parametrize(
    ("stored", "new", "expected"),
    [
        pytest.param((0, 4), (5, 9), (0, 9), id="9111-3.4-adjacent"),
        pytest.param((5, 9), (0, 4), (0, 9), id="adjacent-before"),
        pytest.param((0, 6), (4, 9), (0, 9), id="overlap"),
        pytest.param((0, 9), (3, 5), (0, 9), id="inside"),
        pytest.param((3, 5), (0, 9), (0, 9), id="around"),
        pytest.param((0, 3), (5, 9), None, id="gap"),
    ],
)
def test_combine(stored: tuple[int, int], new: tuple[int, int], expected: tuple[int, int] | None) -> None:
    join = combine(ContentRange(*stored, 10), STRONG, ContentRange(*new, 10), STRONG)
    if expected is None:
        assert join is None
        return
    assert join is not None
    whole = b"0123456789"
    sources = {False: whole[stored[0] : stored[1] + 1], True: whole[new[0] : new[1] + 1]}
    joined = b"".join(sources[is_new][offset : offset + length] for is_new, offset, length in join.slices)
    assert joined == whole[expected[0] : expected[1] + 1]
    assert (join.held.first, join.held.last, join.held.complete) == (*expected, True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param([(b"ETag", b'W/"s"')], [(b"ETag", b'W/"s"')], id="weak"),
        pytest.param([(b"ETag", b'"s"')], [(b"ETag", b'"t"')], id="differs"),
        pytest.param([], [], id="none"),
        pytest.param(
            [(b"Last-Modified", at(0)), (b"Date", at(0))], [(b"Last-Modified", at(0)), (b"Date", at(0))], id="date"
        ),
    ],
)
def test_parts_without_a_shared_strong_validator_are_never_joined(one: Lines, other: Lines) -> None:
    assert combine(ContentRange(0, 4, 10), Fields(one), ContentRange(5, 9, 10), Fields(other)) is None


def test_parts_of_different_lengths_are_never_joined() -> None:
    assert combine(ContentRange(0, 4, 10), STRONG, ContentRange(5, 9, 11), STRONG) is None


def test_completion() -> None:
    strong = [(b"Range", b"bytes=5-"), (b"If-Range", b'"s"')]
    assert completion_fields(ContentRange(0, 4, 10), STRONG) == strong
    assert completion_fields(ContentRange(4, 9, 10), STRONG)[0] == (b"Range", b"bytes=0-3")
    assert completion_fields(ContentRange(4, 6, 10), STRONG) == []
    assert completion_fields(ContentRange(0, 4, 10), Fields()) == []
    assert completion_fields(ContentRange(0, 4, 10), Fields(), lenient=True) == strong[:1]


def test_freshen() -> None:
    stored = Fields(
        [(b"A", b"1"), (b"B", b"1"), (b"ETag", b'"s"'), (b"Content-Encoding", b"gzip"), (b"Via", b"1.1 flyby")]
    )
    update = Fields(
        [
            (b"a", b"2"),
            (b"A", b"3"),
            (b"ETag", b'"t"'),
            (b"Content-Encoding", b"br"),
            (b"Content-Length", b"0"),
            (b"Connection", b"x"),
            (b"X", b"9"),
            (b"NEL", b"{}"),
            (b"Via", b"1.1 other"),
            (b"Set-Cookie", b"a=b"),
            (b"Content-MD5", b"z"),
            (b"Content-Range", b"bytes 0-1/2"),
            (b"Age", b"7"),
            (b"Content-Type", b"t"),
        ]
    )
    kept = [line for line in freshen(stored, update, set_cookie=True) if line[0] != b"Set-Cookie"]
    assert list(freshen(stored, update)) == kept
    assert list(freshen(stored, update, set_cookie=True)) == [
        (b"B", b"1"),
        (b"ETag", b'"s"'),
        (b"Content-Encoding", b"gzip"),
        (b"Via", b"1.1 flyby"),
        (b"a", b"2"),
        (b"A", b"3"),
        (b"Set-Cookie", b"a=b"),
        (b"Age", b"7"),
        (b"Content-Type", b"t"),
    ]


LM1, LM2 = (b"Last-Modified", at(-3000)), (b"Last-Modified", at(-2000))


@pytest.mark.parametrize(
    ("stored", "new", "expected"),
    [
        pytest.param([], [], True, id="no-validator"),
        pytest.param([(b"ETag", b'"a"')], [], True, id="304-without-one"),
        pytest.param([(b"ETag", b'"a"')], [(b"ETag", b'"a"')], True, id="9111-4.3.4-same"),
        pytest.param([(b"ETag", b'"a"')], [(b"ETag", b'"b"')], False, id="9111-4.3.4-other"),
        pytest.param([(b"ETag", b'"a"')], [(b"ETag", b'"a-gzip"')], False, id="mod_deflate"),
        pytest.param([(b"ETag", b'W/"a"')], [(b"ETag", b'"a"')], True, id="nginx-gzip"),
        pytest.param([(b"ETag", b'"a"')], [(b"ETag", b'W/"a"')], True, id="weakened"),
        pytest.param([(b"ETag", b'W/"a"')], [(b"ETag", b'W/"b"')], False, id="other-weak"),
        pytest.param([(b"ETag", b'"a"'), LM1], [(b"ETag", b'"b"'), LM1], False, id="other-of-the-same-date"),
        pytest.param([(b"ETag", b'"a"'), LM1], [(b"ETag", b'"a"'), LM2], True, id="same-of-another-date"),
        pytest.param([LM1], [LM1], True, id="same-date"),
        pytest.param([LM1], [LM2], False, id="other-date"),
        pytest.param([LM1], [], True, id="304-without-date"),
        pytest.param([LM1], [(b"ETag", b'"b"'), LM1], True, id="a-tag-that-is-new-beside-the-date"),
        pytest.param([LM1], [(b"ETag", b'"b"')], False, id="a-tag-that-is-new"),
        pytest.param([(b"ETag", b"a")], [(b"ETag", b"a")], False, id="no-tag-at-all"),
    ],
)
def test_which_stored_response_a_304_validates(stored: Lines, new: Lines, expected: bool) -> None:
    assert validates(Fields(stored), Fields(new)) is expected


@pytest.mark.parametrize(
    ("status", "lines", "effect"),
    [
        pytest.param(200, [], HeadEffect.UPDATE, id="9111-4.3.5-nothing-differs"),
        pytest.param(200, [(b"ETag", b'"abc"'), (b"Content-Length", b"10")], HeadEffect.UPDATE, id="same"),
        pytest.param(200, [(b"ETag", b'"x"')], HeadEffect.INVALIDATE, id="etag"),
        pytest.param(200, [(b"Last-Modified", at(0))], HeadEffect.INVALIDATE, id="last-modified"),
        pytest.param(200, [(b"Content-Length", b"11")], HeadEffect.INVALIDATE, id="length"),
        pytest.param(410, [(b"ETag", b'"x"')], HeadEffect.NONE, id="other-status"),
    ],
)
def test_head(status: int, lines: Lines, effect: HeadEffect) -> None:
    assert head_effect(STORED, 10, 200, status, Fields(lines)) is effect


def shop(path: bytes) -> tuple[bytes, bytes, bytes]:
    return b"https", b"shop.example", path


@pytest.mark.parametrize(
    ("method", "status", "lines", "paths"),
    [
        pytest.param(b"POST", 200, [], [b"/a/b?c=d"], id="9111-4.4"),
        pytest.param(b"M-SEARCH", 204, [], [b"/a/b?c=d"], id="unknown-method"),
        pytest.param(b"PUT", 303, [(b"Location", b"/x")], [b"/a/b?c=d", b"/x"], id="location"),
        pytest.param(b"PUT", 201, [(b"Content-Location", b"../x")], [b"/a/b?c=d", b"/x"], id="content-location"),
        pytest.param(b"PUT", 201, [(b"Location", b"https://evil.example/x")], [b"/a/b?c=d"], id="other-host"),
        pytest.param(b"PUT", 201, [(b"Location", b"http://shop.example/x")], [b"/a/b?c=d"], id="other-scheme"),
        pytest.param(b"POST", 500, [(b"Location", b"/x")], [], id="failed"),
        pytest.param(b"POST", 404, [], [], id="refused"),
        pytest.param(b"HEAD", 200, [], [], id="safe"),
        pytest.param(b"OPTIONS", 200, [], [], id="safe-too"),
    ],
)
def test_invalidation(method: bytes, status: int, lines: Lines, paths: list[bytes]) -> None:
    found = invalidation_targets(get(method=method), Response(status, Fields(lines)))
    assert found == [shop(path) for path in paths]


def test_unknown_methods_are_unsafe() -> None:
    assert b"FOO" in UNSAFE_METHODS
    assert b"GET" not in UNSAFE_METHODS


@pytest.mark.parametrize(
    ("reference", "target"),
    [
        pytest.param(b"", shop(b"/a/b?c=d"), id="3986-5.4-empty"),
        pytest.param(b"?x", shop(b"/a/b?x"), id="query"),
        pytest.param(b"x", shop(b"/a/x"), id="relative"),
        pytest.param(b"./x/.", shop(b"/a/x/"), id="dot"),
        pytest.param(b"../../../x", shop(b"/x"), id="above-root"),
        pytest.param(b"/x?y#z", shop(b"/x?y"), id="fragment"),
        pytest.param(b"//SHOP.example:443/x", shop(b"/x"), id="authority"),
        pytest.param(b"https://shop.example", shop(b"/"), id="no-path"),
        pytest.param(b"http://shop.example:443/", (b"http", b"shop.example:443", b"/"), id="foreign-port"),
        pytest.param(b"mailto:x@y", None, id="scheme"),
        pytest.param(b"https:x", None, id="no-authority"),
        pytest.param(b"https:///x", None, id="empty-authority"),
    ],
)
def test_resolve(reference: bytes, target: object) -> None:
    assert resolve(Request(), reference) == target


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(cache_status(Outcome.HIT, ttl_s=30), b"flyby; hit; ttl=30", id="9211-2.1-hit"),
        pytest.param(
            cache_status(Outcome.HIT, Reason.GUESSED, ttl_s=30), b"flyby; hit; ttl=30; detail=guessed", id="guessed-hit"
        ),
        pytest.param(
            cache_status(Outcome.MISS, Reason.URI_MISS, stored=True, detail=Reason.GUESSED.value),
            b"flyby; fwd=uri-miss; stored; detail=guessed",
            id="guessed-miss",
        ),
        pytest.param(
            cache_status(Outcome.MISS, Reason.URI_MISS, fwd_status=200, stored=True),
            b"flyby; fwd=uri-miss; fwd-status=200; stored",
            id="9211-2.2-miss",
        ),
        pytest.param(
            cache_status(Outcome.MISS, Reason.COLLAPSED, collapsed=True), b"flyby; fwd=miss; collapsed", id="9211-2.6"
        ),
        pytest.param(
            cache_status(Outcome.STALE, Reason.STALE, ttl_s=-5), b"flyby; hit; ttl=-5", id="9211-2.5-negative"
        ),
        pytest.param(
            cache_status(Outcome.STALE, Reason.ORIGIN_FAILED), b"flyby; fwd=stale; detail=origin-failed", id="failed"
        ),
        pytest.param(
            cache_status(Outcome.REVALIDATED, Reason.STALE, fwd_status=304),
            b"flyby; fwd=stale; fwd-status=304",
            id="304",
        ),
        pytest.param(cache_status(Outcome.PASS, Reason.METHOD), b"flyby; fwd=method", id="method"),
        pytest.param(
            cache_status(Outcome.MISS, Reason.URI_MISS, detail=Reason.SET_COOKIE.value),
            b"flyby; fwd=uri-miss; detail=set-cookie",
            id="9211-2.8",
        ),
        pytest.param(
            cache_status(Outcome.ERROR, Reason.ONLY_IF_CACHED), b"flyby; detail=only-if-cached", id="not-forwarded"
        ),
        pytest.param(cache_status(Outcome.LOCAL, detail='a "b"\r\n'), b'flyby; detail="a \\"b\\"??"', id="string"),
    ],
)
def test_cache_status(value: bytes, expected: bytes) -> None:
    assert value == expected


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("outcome", list(Outcome))
def test_cache_status_is_one_member_and_never_both_hit_and_fwd(outcome: Outcome, reason: Reason) -> None:
    value = cache_status(outcome, reason, ttl_s=1, stored=True, fwd_status=200)
    assert b"," not in value
    assert (b"; hit" in value) + (b"; fwd=" in value) <= 1
