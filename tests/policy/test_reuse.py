"""What a stored response may be used for, now (RFC 9111 4, 4.2.4, 5.2.1, RFC 5861)."""

from __future__ import annotations

import pytest

from flyby.policy import (
    CacheRules,
    EntryFlag,
    Reuse,
    Times,
    current_age_s,
    may_join,
    only_if_cached,
    reuse,
    stale_on_error_allowed,
)
from tests.policy.heads import DEFAULT, LETTER, NOW_MS, Lines, get

NONE = 0
CC = b"Cache-Control"


def judge(
    left_s: float, flags: int = NONE, *lines: tuple[bytes, bytes], rules: CacheRules = LETTER, swr_s: int = 0
) -> Reuse:
    """A response of age 100 s that has `left_s` of freshness."""
    times = Times(NOW_MS - 100_000, NOW_MS + round(left_s * 1000), swr_s=swr_s)
    return reuse(get(*lines), times, flags, 200, NOW_MS, rules)


@pytest.mark.parametrize(
    ("left_s", "flags", "lines", "expected"),
    [
        pytest.param(1, NONE, [], Reuse.FRESH, id="9111-4.2-fresh"),
        pytest.param(0, NONE, [], Reuse.REVALIDATE, id="4.2-age-equals-lifetime"),
        pytest.param(-1, NONE, [], Reuse.REVALIDATE, id="stale"),
        pytest.param(60, EntryFlag.NO_CACHE, [], Reuse.REVALIDATE, id="5.2.2.4-no-cache"),
        pytest.param(60, EntryFlag.MUST_REVALIDATE, [], Reuse.FRESH, id="5.2.2.2-fresh"),
        pytest.param(60, NONE, [(CC, b"no-cache")], Reuse.REVALIDATE, id="5.2.1.4-no-cache"),
        pytest.param(60, NONE, [(CC, b"max-age=0")], Reuse.REVALIDATE, id="5.2.1.1-zero"),
        pytest.param(60, NONE, [(CC, b"max-age=99")], Reuse.REVALIDATE, id="5.2.1.1-too-old"),
        pytest.param(60, NONE, [(CC, b"max-age=100")], Reuse.FRESH, id="5.2.1.1-old-enough"),
        pytest.param(60, NONE, [(CC, b"min-fresh=61")], Reuse.REVALIDATE, id="5.2.1.3-not-for-long"),
        pytest.param(60, NONE, [(CC, b"min-fresh=60")], Reuse.FRESH, id="5.2.1.3"),
        pytest.param(60, NONE, [(CC, b"max-age=x, nothing-to-see")], Reuse.FRESH, id="junk"),
        pytest.param(60, NONE, [(b"Pragma", b"no-cache")], Reuse.FRESH, id="5.4-pragma-deprecated"),
        pytest.param(60, NONE, [(CC, b"no-store")], Reuse.FRESH, id="5.2.1.5-stores-nothing-more"),
        pytest.param(-10, NONE, [(CC, b"max-stale")], Reuse.STALE, id="5.2.1.2-bare"),
        pytest.param(-10, NONE, [(CC, b"max-stale=10")], Reuse.STALE, id="5.2.1.2"),
        pytest.param(-10, NONE, [(CC, b"max-stale=9")], Reuse.REVALIDATE, id="5.2.1.2-exceeded"),
        pytest.param(
            -10, EntryFlag.MUST_REVALIDATE, [(CC, b"max-stale")], Reuse.REVALIDATE, id="5.2.2.2-over-max-stale"
        ),
        pytest.param(-10, EntryFlag.NO_STALE, [(CC, b"max-stale")], Reuse.REVALIDATE, id="invalid-freshness"),
        pytest.param(60, EntryFlag.VARY_MARKER, [], Reuse.MISS, id="marker"),
        pytest.param(60, EntryFlag.HIT_FOR_MISS, [], Reuse.MISS, id="hit-for-miss"),
    ],
)
def test_reuse(left_s: float, flags: int, lines: Lines, expected: Reuse) -> None:
    assert judge(left_s, flags, *lines) is expected


def test_stale_while_revalidate_window() -> None:
    assert judge(-4.999, swr_s=5) is Reuse.STALE_REVALIDATE_BEHIND
    assert judge(-5, swr_s=5) is Reuse.REVALIDATE


@pytest.mark.parametrize("directive", [b"no-cache", b"max-age=0", b"max-age=1", b"min-fresh=1000"])
def test_default_keeps_a_clients_reload_from_the_origin(directive: bytes) -> None:
    assert judge(60, NONE, (CC, directive), rules=DEFAULT) is Reuse.FRESH


@pytest.mark.parametrize(
    ("flags", "line", "expected"),
    [
        pytest.param(EntryFlag.COOKIELESS, (b"Cookie", b"a=b"), Reuse.MISS, id="guess-and-cookie"),
        pytest.param(EntryFlag.COOKIELESS, (b"X", b"a=b"), Reuse.FRESH, id="guess-without-cookie"),
        pytest.param(EntryFlag.HEURISTIC, (b"Cookie", b"a=b"), Reuse.FRESH, id="public-guess"),
        pytest.param(NONE, (b"Cookie", b"a=b"), Reuse.FRESH, id="explicit-and-cookie"),
        pytest.param(NONE, (b"Authorization", b"x"), Reuse.MISS, id="authorization"),
        pytest.param(EntryFlag.AUTHORIZED, (b"Authorization", b"x"), Reuse.FRESH, id="9111-3.5-shared"),
    ],
)
def test_default_asks_whose_response_it_is(flags: int, line: tuple[bytes, bytes], expected: Reuse) -> None:
    assert judge(60, flags, line, rules=DEFAULT) is expected
    assert judge(60, flags, line, rules=LETTER) is Reuse.FRESH


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (DEFAULT, Reuse.MISS),
        (LETTER, Reuse.FRESH),
        (CacheRules(set_cookie="store"), Reuse.FRESH),
        (CacheRules(profile="rfc9111", set_cookie="strip"), Reuse.MISS),
    ],
)
def test_a_stored_set_cookie_is_given_only_where_it_would_be_stored(rules: CacheRules, expected: Reuse) -> None:
    assert judge(60, EntryFlag.SET_COOKIE, rules=rules) is expected


@pytest.mark.parametrize("rules", [DEFAULT, LETTER], ids=["default", "rfc9111"])
def test_who_may_join_a_fetch(rules: CacheRules) -> None:
    """RFC 9111 5.2.2.4: what is validated before each use is not given to a request that only waited."""
    assert may_join(get(), EntryFlag.VALIDATOR, rules)
    assert not may_join(get(), EntryFlag.NO_CACHE | EntryFlag.VALIDATOR, rules)
    assert not may_join(get((b"Cookie", b"a=b")), EntryFlag.NO_CACHE | EntryFlag.PUBLIC, rules)
    assert may_join(get((b"Cookie", b"a=b")), EntryFlag.COOKIELESS, rules) is (rules is LETTER)


@pytest.mark.parametrize(
    ("stale_s", "sie_s", "flags", "lines", "status", "expected"),
    [
        pytest.param(10, 0, NONE, [], 502, True, id="9111-4.2.4-disconnected"),
        pytest.param(10, 0, NONE, [], 503, True, id="9111-4.3.3-server-error"),
        pytest.param(10, 0, NONE, [], 404, False, id="not-an-error"),
        pytest.param(10, 0, NONE, [], 501, False, id="5861-4-not-an-error"),
        pytest.param(10, 20, NONE, [], 503, True, id="5861-4-inside"),
        pytest.param(20, 20, NONE, [], 503, False, id="5861-4-outside"),
        pytest.param(20, 20, NONE, [(CC, b"stale-if-error=30")], 503, True, id="5861-4-request"),
        pytest.param(86_400, 0, NONE, [], 502, False, id="too-long-ago"),
        pytest.param(10, 0, EntryFlag.MUST_REVALIDATE, [], 502, False, id="9111-5.2.2.2"),
        pytest.param(10, 0, EntryFlag.NO_CACHE, [], 502, False, id="9111-5.2.2.4"),
        pytest.param(10, 0, EntryFlag.NO_STALE, [], 502, False, id="invalid-freshness"),
        pytest.param(10, 0, NONE, [(CC, b"no-cache")], 502, False, id="5.2.1.4-client-forbids"),
    ],
)
def test_stale_on_error(stale_s: int, sie_s: int, flags: int, lines: Lines, status: int, expected: bool) -> None:
    times = Times(NOW_MS - 900_000_000, NOW_MS - stale_s * 1000, sie_s=sie_s)
    assert stale_on_error_allowed(get(*lines), times, flags, NOW_MS, LETTER, status) is expected


def test_default_ignores_a_clients_no_cache_when_the_origin_fails() -> None:
    times = Times(NOW_MS - 9000, NOW_MS - 1000)
    assert stale_on_error_allowed(get((CC, b"no-cache")), times, NONE, NOW_MS, DEFAULT, 502)


def test_default_gives_no_guess_to_a_cookie_when_the_origin_fails() -> None:
    times = Times(NOW_MS - 9000, NOW_MS - 1000)
    assert not stale_on_error_allowed(get((b"Cookie", b"a")), times, EntryFlag.COOKIELESS, NOW_MS, DEFAULT, 502)


def test_age_is_never_negative_nor_beyond_31_bits() -> None:
    assert current_age_s(Times(NOW_MS + 5000, 0), NOW_MS) == 0
    assert current_age_s(Times(NOW_MS - 2999, 0), NOW_MS) == 2
    assert current_age_s(Times(NOW_MS - (1 << 42), 0), NOW_MS) == 1 << 31


def test_only_if_cached() -> None:
    assert only_if_cached(get((CC, b"Only-If-Cached")))
    assert not only_if_cached(get((CC, b'x="only-if-cached"')))
