"""Which stored response a request selects: the key (RFC 9111 2), Vary (4.1), and what is kept from the origin."""

from __future__ import annotations

import pytest

from flyby.policy import (
    UNKEYED,
    CacheRules,
    drop_unkeyed,
    filter_cookies,
    has_dot_segments,
    language_key,
    primary_key,
    stored_language_key,
    variant_key,
    vary_names,
)
from flyby.wire import Fields
from tests.policy.heads import DEFAULT


def of(name: bytes, *values: bytes) -> Fields:
    return Fields([(name, value) for value in values])


@pytest.mark.parametrize(
    ("name", "one", "other", "same"),
    [
        pytest.param(b"Foo", [b"1, 2"], [b"1", b"2"], True, id="9111-4.1-combined"),
        pytest.param(b"Foo", [b"1,2"], [b" 1, 2 "], True, id="white-space"),
        pytest.param(b"Foo", [b"1"], [b"2"], False, id="differs"),
        pytest.param(b"Foo", [b"1"], [], False, id="absent"),
        pytest.param(b"Foo", [b""], [], False, id="empty-is-not-absent"),
        pytest.param(b"Foo", [b"a"], [b"A"], False, id="case-kept"),
        pytest.param(b"Foo", [b'"a, b"'], [b'"a,b"'], False, id="quoted-kept"),
        pytest.param(b"Foo", [b"1, 2"], [b"2, 1"], False, id="order-kept"),
        pytest.param(b"Accept-Encoding", [b"gzip, br"], [b"br,gzip"], True, id="9110-12.5.3-order"),
        pytest.param(b"Accept-Encoding", [b"gzip;q=1.0, br; Q=0.5"], [b"br, GZip"], True, id="weights"),
        pytest.param(b"Accept-Encoding", [b"x-gzip"], [b"gzip"], True, id="9110-8.4.1-alias"),
        pytest.param(b"Accept-Encoding", [b"gzip, br;q=0"], [b"gzip"], True, id="refused-is-absent"),
        pytest.param(b"Accept-Encoding", [b"identity"], [], True, id="identity-absent"),
        pytest.param(b"Accept-Encoding", [b""], [], True, id="empty-absent"),
        pytest.param(b"Accept-Encoding", [b"gzip"], [b"br"], False, id="other-coding"),
        pytest.param(b"Accept-Encoding", [b"gzip"], [], False, id="some-coding"),
        pytest.param(b"Accept-Encoding", [b"gzip"], [b"gzip, identity;q=0"], False, id="identity-refused"),
        pytest.param(b"Accept-Encoding", [b"*"], [b"*, br;q=0"], False, id="all-but-one"),
        pytest.param(b"Accept-Encoding", [b"gzip"], [b"gzip;q=2"], False, id="malformed-weight"),
        pytest.param(b"Accept-Language", [b"en, de"], [b"de, en"], True, id="9110-12.5.4-equal-weights"),
        pytest.param(b"Accept-Language", [b"en, de"], [b"eN, De"], True, id="language-case"),
        pytest.param(b"Accept-Language", [b"en, de"], [b" en ,   de"], True, id="language-space"),
        pytest.param(b"Accept-Language", [b"en, de;q=0.5"], [b"de;q=0.1 , en"], True, id="rank-not-number"),
        pytest.param(b"Accept-Language", [b"en, de;q=0.5"], [b"de, en;q=0.5"], False, id="rank-differs"),
        pytest.param(b"Accept-Language", [b"en, de;q=0"], [b"en"], False, id="language-refused"),
        pytest.param(b"Accept-Language", [b"en"], [], False, id="no-language"),
    ],
)
def test_variants(name: bytes, one: list[bytes], other: list[bytes], same: bool) -> None:
    names = (name.lower(),)
    assert (variant_key(names, of(name, *one)) == variant_key(names, of(name, *other))) is same


def test_values_do_not_run_into_one_another() -> None:
    names = (b"a", b"b")
    one = variant_key(names, Fields([(b"A", b"x"), (b"B", b"yz")]))
    assert one != variant_key(names, Fields([(b"A", b"xy"), (b"B", b"z")]))


@pytest.mark.parametrize("value", [b"*", b"*, *", b", *", b"Foo, *", b"*, Foo", b"a b", b'"a"'])
def test_vary_that_no_request_matches(value: bytes) -> None:
    assert vary_names(of(b"Vary", value)) is None


@pytest.mark.parametrize(
    ("accept", "language", "found"),
    [
        pytest.param(b"fr;q=0.5, de;q=1.0", b"de", True, id="favourite"),
        pytest.param(b"DE", b"de", True, id="case"),
        pytest.param(b"fr, de", b"de", False, id="two-favourites"),
        pytest.param(b"fr, de;q=0.9", b"de", False, id="other-favourite"),
        pytest.param(b"de;q=0", b"de", False, id="refused"),
        pytest.param(b"de-AT", b"de", False, id="narrower"),
        pytest.param(b"de", b"de, en", False, id="two-languages"),
        pytest.param(b"*", b"*", False, id="no-language"),
    ],
)
def test_language_that_the_request_likes_best(accept: bytes, language: bytes, found: bool) -> None:
    names = (b"accept-language", b"foo")
    stored = stored_language_key(
        names, Fields([(b"Accept-Language", b"en, de"), (b"Foo", b"1")]), of(b"Content-Language", language)
    )
    asked = language_key(names, Fields([(b"Accept-Language", accept), (b"Foo", b"1")]))
    assert (stored is not None and stored == asked) is found
    assert asked is None or asked != language_key(names, of(b"Accept-Language", accept))


def test_key_parts_do_not_run_into_one_another() -> None:
    assert primary_key(b"http", b"a", b"/b", DEFAULT)[0] != primary_key(b"http", b"a/", b"b", DEFAULT)[0]


@pytest.mark.parametrize("other", [b"/A", b"/%61", b"/a?", b"/a?x=1&y=2", b"/a?y=2&x=1", b"//a", b"/./a", b"/a/"])
def test_paths_are_keyed_byte_for_byte(other: bytes) -> None:
    key, path = primary_key(b"http", b"h", other, DEFAULT)
    assert path == other
    assert key != primary_key(b"http", b"h", b"/a", DEFAULT)[0]


@pytest.mark.parametrize(
    ("allow", "deny", "path", "forwarded"),
    [
        pytest.param(["a"], None, b"/p?a=1&b=2&a=3", b"/p?a=1&a=3", id="allow"),
        pytest.param(None, ["utm_*"], b"/p?utm_x=1&b=2", b"/p?b=2", id="deny-any-ending"),
        pytest.param(None, ["b"], b"/p?b=1", b"/p", id="nothing-left"),
        pytest.param(None, ["b"], b"/p?b=1;c=2&d", b"/p?d", id="semicolon-is-no-separator"),
        pytest.param(None, ["b"], b"/p?%62=1", b"/p?%62=1", id="no-decoding"),
        pytest.param(None, ["b"], b"/p?a&&b&=c", b"/p?a&&=c", id="odd-parts-kept"),
        pytest.param(["a"], ["a"], b"/p?a=1", b"/p", id="both"),
        pytest.param([], None, b"/p", b"/p", id="no-query"),
    ],
)
def test_excluded_parameters_reach_neither_key_nor_origin(
    allow: list[str] | None, deny: list[str] | None, path: bytes, forwarded: bytes
) -> None:
    rules = CacheRules.compile(query_allow=allow, query_deny=deny)
    key, sent = primary_key(b"http", b"h", path, rules)
    assert sent == forwarded
    assert key == primary_key(b"http", b"h", forwarded, DEFAULT)[0]


@pytest.mark.parametrize(
    "name",
    [b"X-Forwarded-Host", b"x-original-url", b"X_HTTP_Method_Override", b"Forwarded", b"X-Rewrite-URL", b"X_Host"],
)
def test_fields_that_steer_past_the_key_are_dropped(name: bytes) -> None:
    fields = Fields([(b"Accept", b"x"), (name, b"evil"), (b"Test-ID", b"1")])
    assert list(drop_unkeyed(fields)) == [(b"Accept", b"x"), (b"Test-ID", b"1")]
    assert name in [sent for sent, _ in fields], "the request itself is not changed"


def test_unkeyed_names_are_in_lookup_form() -> None:
    assert all(name == name.lower() and b"_" not in name for name in UNKEYED)
    assert b"x-forwarded-for" not in UNKEYED  # appended to, not dropped


@pytest.mark.parametrize(
    ("ignore", "keep", "expected"),
    [
        pytest.param(["_ga*"], None, b"sid=1; theme=x", id="ignore"),
        pytest.param(None, ["sid"], b"sid=1", id="keep"),
        pytest.param(["*"], None, None, id="all"),
        pytest.param(None, None, b"sid=1; _ga=2; _gat=3;theme=x", id="untouched"),
    ],
)
def test_cookies(ignore: list[str] | None, keep: list[str] | None, expected: bytes | None) -> None:
    rules = CacheRules.compile(ignore_cookies=ignore, keep_cookies=keep)
    assert filter_cookies(of(b"Cookie", b"sid=1; _ga=2; _gat=3;theme=x"), rules).get(b"cookie") == expected


@pytest.mark.parametrize(
    "path", [b"/..", b"/a/./b", b"/%2e%2e/a", b"/.%2E", b"/a\\..", b"/a%2f..%2Fb", b"/..;/a", b"/."]
)
def test_dot_segments(path: bytes) -> None:
    assert has_dot_segments(path)


@pytest.mark.parametrize("path", [b"/...", b"/a.b", b"/.well-known/x", b"/a?b=/../c", b"/a..b/", b"*"])
def test_no_dot_segments(path: bytes) -> None:
    assert not has_dot_segments(path)
