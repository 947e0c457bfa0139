"""The parsers: dates, Cache-Control, structured dictionaries, Age; and that no bytes make any of them raise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyby.policy import (
    CacheRules,
    age_value,
    evaluate,
    format_http_date,
    parse_cache_control,
    parse_content_range,
    parse_dictionary,
    parse_http_date,
    parse_range,
    parse_targeted,
    resolve,
    storable,
    variant_key,
    vary_names,
)
from flyby.policy.cache_control import INVALID
from flyby.policy.structured import Date, Decimal, DisplayString, Token
from flyby.wire import Fields
from tests.policy.heads import DEFAULT, LETTER, NOW_MS, Request, Response

DATE_S = 784_111_777


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 GMT", DATE_S, id="9110-5.6.7-imf"),
        pytest.param(b"Sunday, 06-Nov-94 08:49:37 GMT", DATE_S, id="9110-5.6.7-rfc850"),
        pytest.param(b"Sun Nov  6 08:49:37 1994", DATE_S, id="9110-5.6.7-asctime"),
        pytest.param(b"SUN, 06 nOV 1994 08:49:37 gmt", DATE_S, id="any-case"),
        pytest.param(b"Thu, 01 Jan 1970 00:00:00 GMT", 0, id="epoch"),
        pytest.param(b"Thu, 29 Feb 2024 00:00:00 GMT", 1_709_164_800, id="leap-day"),
        pytest.param(b"Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_799, id="leap-second"),
        pytest.param(b"Fri, 29 Feb 2019 00:00:00 GMT", None, id="no-leap-day"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 UTC", None, id="utc"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 AEST", None, id="aest"),
        pytest.param(b"Sun, 06 Nov 94 08:49:37 GMT", None, id="two-digit-year"),
        pytest.param(b"Sun 06 Nov 1994 08:49:37 GMT", None, id="no-comma"),
        pytest.param(b"Sun, 06  Nov  1994 08:49:37 GMT", None, id="spaces"),
        pytest.param(b"Sun, 06-Nov-1994 08:49:37 GMT", None, id="dashes"),
        pytest.param(b"Sun, 06 Nov 1994 08.49.37 GMT", None, id="periods"),
        pytest.param(b"Sun, 06 Nov 1994 8:49:37 GMT", None, id="one-digit-hour"),
        pytest.param(b"Sun, 06 Nov 1994 08:49:37 GMT\n", None, id="newline"),
        pytest.param(b"Sun, 06 Nov 1994 24:00:00 GMT", None, id="hour-24"),
        pytest.param(b"0", None, id="9111-5.3-zero"),
        pytest.param(b"", None, id="empty"),
    ],
)
def test_date(value: bytes, seconds: int | None) -> None:
    assert parse_http_date(value) == seconds


@pytest.mark.parametrize(
    ("year", "expected"), [(b"50", 2050), (b"77", 2077), (b"78", 1978), (b"94", 1994)], ids=lambda v: str(v)
)
def test_two_digit_year_is_at_most_fifty_years_ahead(year: bytes, expected: int) -> None:
    now_ms = 1_800_000_000_000  # 2027
    parsed = parse_http_date(b"Monday, 01-Jan-" + year + b" 00:00:00 GMT", now_ms)
    assert parsed is not None
    assert format_http_date(parsed).endswith(b"%d 00:00:00 GMT" % expected)


@given(st.integers(min_value=-60_000_000_000, max_value=250_000_000_000))
def test_dates_round_trip(seconds: int) -> None:
    assert parse_http_date(format_http_date(seconds)) == seconds


@pytest.mark.parametrize(
    ("value", "attribute", "expected"),
    [
        pytest.param(b"max-age=60", "max_age", 60, id="9111-5.2.2.1"),
        pytest.param(b"MaX-aGe=60", "max_age", 60, id="any-case"),
        pytest.param(b'max-age="60"', "max_age", 60, id="9111-5.2-quoted"),
        pytest.param(b"max-age=003600", "max_age", 3600, id="leading-zeros"),
        pytest.param(b"max-age=99999999999", "max_age", 1 << 31, id="9111-1.2.2-overflow"),
        pytest.param(b"max-age=" + b"9" * 5000, "max_age", 1 << 31, id="very-long"),
        pytest.param(b"max-age='60'", "max_age", INVALID, id="single-quotes"),
        pytest.param(b"max-age=-60", "max_age", INVALID, id="negative"),
        pytest.param(b"max-age=60.5", "max_age", INVALID, id="decimal"),
        pytest.param(b"max-age =60", "max_age", INVALID, id="space-before"),
        pytest.param(b"max-age= 60", "max_age", INVALID, id="space-after"),
        pytest.param(b"max-age", "max_age", INVALID, id="bare"),
        pytest.param(b"max-age=60; public", "max_age", INVALID, id="semicolon"),
        pytest.param(b"max-age=60, max-age=60", "max_age", 60, id="twice-the-same"),
        pytest.param(b"max-age=60, max-age=90", "max_age", INVALID, id="9111-4.2.1-contradiction"),
        pytest.param(b'x="max-age=9", max-age=1', "max_age", 1, id="in-quotes-before"),
        pytest.param(b'max-age=1, x="max-age=9, no-store"', "no_store", False, id="in-quotes-after"),
        pytest.param(b'x="a\\", no-store, b"', "no_store", False, id="escaped-quote"),
        pytest.param(b"no-store=1", "no_store", True, id="restriction-with-argument"),
        pytest.param(b"public; max-age=60", "public", False, id="permission-with-junk"),
        pytest.param(b",, ,no-store,", "no_store", True, id="empty-members"),
        pytest.param(b'no-cache="a, B"', "no_cache_fields", (b"a", b"b"), id="9111-5.2.2.4-qualified"),
        pytest.param(b'no-cache="a"', "no_cache", False, id="qualified-is-not-whole"),
        pytest.param(b'no-cache=""', "no_cache", True, id="qualified-by-nothing"),
        pytest.param(b'no-cache="a, max-age=60', "no_cache", True, id="unterminated-restricts"),
        pytest.param(b'x="a, max-age=60', "malformed", True, id="unterminated"),
        pytest.param(b"max-stale", "max_stale", 1 << 31, id="9111-5.2.1.2-bare"),
        pytest.param(b"max-stale=5", "max_stale", 5, id="9111-5.2.1.2"),
        pytest.param(b"max-stale=x", "max_stale", None, id="max-stale-junk"),
        pytest.param(b"no-store-ever", "no_store", False, id="longer-name"),
    ],
)
def test_cache_control(value: bytes, attribute: str, expected: object) -> None:
    assert getattr(parse_cache_control(value), attribute) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(b"a=1, b=-2;x=y;z", {b"a": 1, b"b": -2}, id="9651-3.2-integers"),
        pytest.param(b"  a=1 \t,\t b  ", {b"a": 1, b"b": True}, id="9651-4.2.2-spaces"),
        pytest.param(b"a=1, a=2", {b"a": 2}, id="9651-4.2.2-last-wins"),
        pytest.param(b"a=1.5", {b"a": Decimal(1500)}, id="9651-3.3.2"),
        pytest.param(b'a="x\\"y"', {b"a": 'x"y'}, id="9651-3.3.3"),
        pytest.param(b"a=foo/bar", {b"a": Token(b"foo/bar")}, id="9651-3.3.4"),
        pytest.param(b"a=:aGk:", {b"a": b"hi"}, id="9651-4.2.7-no-padding"),
        pytest.param(b"a=?0, b=?1", {b"a": False, b"b": True}, id="9651-3.3.6"),
        pytest.param(b"a=@1659578233", {b"a": Date(1659578233)}, id="9651-3.3.7"),
        pytest.param(b'a=%"f%c3%bc"', {b"a": DisplayString("fü")}, id="9651-3.3.8"),
        pytest.param(b"a=(1 x  ?0;p)", {b"a": (1, Token(b"x"), False)}, id="9651-3.1.1"),
        pytest.param(b"", {}, id="empty"),
        pytest.param(b"a=1,", None, id="trailing-comma"),
        pytest.param(b"a=1,,b", None, id="empty-member"),
        pytest.param(b"a=1 b=2", None, id="no-comma"),
        pytest.param(b"max-age=10000, &&&&&", None, id="junk"),
        pytest.param(b"MaX-aGe=1", None, id="upper-case-key"),
        pytest.param(b"a =1", None, id="space-before-equals"),
        pytest.param(b"a= 1", None, id="space-after-equals"),
        pytest.param(b"a=1.", None, id="no-fraction"),
        pytest.param(b"a=1.2345", None, id="long-fraction"),
        pytest.param(b"a=" + b"1" * 16, None, id="16-digits"),
        pytest.param(b'a="x', None, id="unterminated"),
        pytest.param(b'a="\x80"', None, id="8-bit-string"),
        pytest.param(b'a=%"%ff"', None, id="not-utf-8"),
        pytest.param(b"a=@1.5", None, id="decimal-date"),
        pytest.param(b"a=(1", None, id="open-list"),
        pytest.param(b"a=(1)x", None, id="junk-after-list"),
        pytest.param(b"a=1\n", None, id="newline"),
    ],
)
def test_dictionary(value: bytes, expected: object) -> None:
    assert parse_dictionary(value) == expected


@pytest.mark.parametrize(
    ("value", "max_age"),
    [
        pytest.param(b"max-age=60", 60, id="9213-2.1"),
        pytest.param(b"foobar, max-age=60;x", 60, id="unknown-and-parameter"),
        pytest.param(b'max-age="60"', None, id="wrong-type"),
        pytest.param(b"max-age=-1", None, id="negative"),
        pytest.param(b"max-age", None, id="boolean"),
        pytest.param(b"max-age=60, no-store=?0", None, id="false-restriction"),
        pytest.param(b"", None, id="empty"),
    ],
)
def test_targeted(value: bytes, max_age: int | None) -> None:
    control = parse_targeted(value)
    assert (control.max_age if control is not None else None) == max_age


@pytest.mark.parametrize(
    ("lines", "letter", "strict"),
    [
        pytest.param([b"30"], 30, 30, id="9111-5.1"),
        pytest.param([], 0, 0, id="none"),
        pytest.param([b"7200, 0"], 7200, 1 << 31, id="first-of-list"),
        pytest.param([b"0,7200"], 0, 1 << 31, id="first-of-list-fresh"),
        pytest.param([b"0", b"7200"], 0, 1 << 31, id="first-of-lines"),
        pytest.param([b"abc"], 0, 1 << 31, id="alphabetic-ignored"),
        pytest.param([b"-7200"], 0, 1 << 31, id="negative-ignored"),
        pytest.param([b"7200.0"], 0, 1 << 31, id="float-ignored"),
        pytest.param([b"2147483647"], (1 << 31) - 1, (1 << 31) - 1, id="below-overflow"),
        pytest.param([b"2147483649"], 1 << 31, 1 << 31, id="9111-1.2.2-overflow"),
    ],
)
def test_age(lines: list[bytes], letter: int, strict: int) -> None:
    assert (age_value(tuple(lines)), age_value(tuple(lines), strict=True)) == (letter, strict)


ODD = st.one_of(
    st.binary(max_size=64),
    st.lists(
        st.sampled_from(
            [
                b"max-age",
                b"=",
                b",",
                b";",
                b'"',
                b"\\",
                b" ",
                b"\t",
                b"0",
                b"9",
                b"-",
                b"bytes=",
                b"W/",
                b"*",
                b"a",
                b":",
                b"(",
                b")",
                b"?",
                b"@",
                b"%",
                b"q=0.",
                b"/",
                b"//",
                b"..",
                b"\xff",
                b"\n",
                b"no-cache",
                b"Sun, ",
            ]
        ),
        max_size=24,
    ).map(b"".join),
)


@given(ODD)
def test_parsers_never_raise(value: bytes) -> None:
    parse_http_date(value)
    parse_cache_control(value)
    parse_dictionary(value)
    parse_targeted(value)
    parse_range(value, 100)
    parse_content_range(value)
    resolve(Request(), value)


NAMES = [
    b"cache-control",
    b"cdn-cache-control",
    b"age",
    b"date",
    b"expires",
    b"last-modified",
    b"etag",
    b"vary",
    b"range",
]
NAMES += [
    b"content-range",
    b"location",
    b"if-none-match",
    b"if-modified-since",
    b"if-match",
    b"accept-language",
    b"cookie",
]


@given(st.lists(st.tuples(st.sampled_from(NAMES), ODD), max_size=6), st.sampled_from([200, 206, 301, 404, 500]))
def test_decisions_never_raise(lines: list[tuple[bytes, bytes]], status: int) -> None:
    fields = Fields(lines)
    request = Request(fields)
    for rules in (DEFAULT, LETTER):
        storable(request, Response(status, fields), request_ms=NOW_MS, response_ms=NOW_MS, rules=rules)
    evaluate(request, fields, status)
    variant_key(vary_names(fields) or (b"accept-language", b"accept-encoding"), fields)


@pytest.mark.serial
def test_no_parser_is_quadratic() -> None:
    # Each of these took a naive expression minutes; the suite's time limit is the assertion.
    for unit in (b'"', b"a,", b'a="', b"\\", b'\\"', b'"a\\",', b" ,", b"1-2,", b"W/", b'"a",', b";q", b"(", b"/.."):
        value = unit * (60_000 // len(unit))
        test_parsers_never_raise.hypothesis.inner_test(value)  # type: ignore[attr-defined]
        fields = Fields([(b"If-None-Match", value), (b"Accept-Language", value), (b"Vary", value)])
        evaluate(Request(fields), Fields([(b"ETag", b'"x"')]), 200)
        vary_names(fields)
        variant_key((b"accept-language", b"foo"), fields)


def test_profile_by_name() -> None:
    assert CacheRules.compile(profile="rfc9111").points.strict_age is False
