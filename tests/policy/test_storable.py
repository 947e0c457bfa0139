"""What is stored, with which freshness (RFC 9111 3, 4.2), and what the default profile refuses."""

from __future__ import annotations

import pytest

from flyby.clock import steady_ms
from flyby.policy import CacheRules, EntryFlag, Plan, Reason, format_http_date, guessed, storable
from flyby.policy.rules import ProfileName
from flyby.wire import Fields
from tests.policy.heads import DEFAULT, LETTER, NOW_MS, Lines, Request, answer, at, decide, get, lifetime_s, planned

CC = b"Cache-Control"
LM = (b"Last-Modified", at(-86400))
ETAG = (b"ETag", b'"x"')


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        pytest.param([(CC, b"max-age=60")], 60, id="9111-5.2.2.1-max-age"),
        pytest.param([(CC, b"max-age=60, s-maxage=9")], 9, id="9111-5.2.2.10-s-maxage-first"),
        pytest.param([(CC, b"max-age=0, s-maxage=9"), (b"Expires", at(-10))], 9, id="s-maxage-over-expires"),
        pytest.param([(CC, b"max-age=60"), (b"Expires", b"0")], 60, id="9111-5.3-max-age-over-expires"),
        pytest.param([(b"Expires", at(90))], 90, id="9111-5.3-expires"),
        pytest.param([(b"Expires", at(-90)), ETAG], -90, id="expires-past"),
        pytest.param([(b"Expires", b"0"), ETAG], 0, id="expires-invalid-is-past"),
        pytest.param([(b"Expires", at(5)), (b"Expires", at(6)), ETAG], 0, id="two-expires"),
        pytest.param([(CC, b"max-age=60"), (b"Age", b"25")], 35, id="9111-4.2.3-age"),
        pytest.param([(CC, b"max-age=60"), (b"Age", b"2147483648"), ETAG], 60 - (1 << 31), id="age-overflow"),
        pytest.param([LM], 8640, id="9111-4.2.2-tenth"),
        pytest.param([(b"Last-Modified", at(-86400 * 1000))], 7 * 86400, id="4.2.2-bounded"),
        pytest.param([(CC, b"max-age=x"), LM], 0, id="9111-4.2.1-invalid-is-stale"),
        pytest.param([(CC, b"max-age=5, max-age=6"), LM], 0, id="contradiction-is-stale"),
        pytest.param([(CC, b"foobar, max-age=60")], 60, id="9111-5.2.3-extension"),
        pytest.param([(b"CDN-Cache-Control", b"max-age=60"), (CC, b"max-age=1")], 60, id="9213-targeted-first"),
        pytest.param([(b"CDN-Cache-Control", b"max-age=60"), (CC, b"no-store")], 60, id="9213-over-no-store"),
        pytest.param([(b"CDN-Cache-Control", b"max-age=60"), (b"Expires", at(-9))], 60, id="9213-over-expires"),
        pytest.param([(b"CDN-Cache-Control", b"max-age=60, &&"), (CC, b"max-age=1")], 1, id="9213-invalid-ignored"),
        pytest.param([(b"CDN-Cache-Control", b""), (CC, b"max-age=1")], 1, id="9213-empty-ignored"),
        pytest.param([(b"Surrogate-Control", b"max-age=60"), (CC, b"max-age=1")], 60, id="surrogate-control"),
        pytest.param(
            [(b"Surrogate-Control", b"max-age=60"), (b"CDN-Cache-Control", b"max-age=9")], 9, id="9213-order-of-list"
        ),
    ],
)
def test_lifetime(lines: Lines, seconds: int) -> None:
    assert lifetime_s(answer(*lines)) == seconds


@pytest.mark.parametrize(
    ("date", "expires", "age", "seconds"),
    [
        pytest.param(400, 300, None, -100, id="9111-4.2.1-negative"),
        pytest.param(-10, 10, b"25", -5, id="age-slow-date"),
        pytest.param(10, 20, b"15", -5, id="age-fast-date"),
        pytest.param(-10, 10, None, 10, id="9111-4.2.3-apparent-age"),
        pytest.param(400, 460, None, 60, id="date-ahead"),
    ],
)
def test_expires_is_measured_from_date(date: int, expires: int, age: bytes | None, seconds: int) -> None:
    lines = [(b"Date", at(date)), (b"Expires", at(expires)), ETAG] + ([(b"Age", age)] if age is not None else [])
    assert lifetime_s(answer(*lines, date=False)) == seconds


def test_expires_with_an_invalid_date_counts_from_arrival() -> None:
    assert lifetime_s(answer((b"Date", b"foo"), (b"Expires", at(10)), date=False)) == 10


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
def test_heuristic_statuses(status: int) -> None:
    plan = planned(answer(LM, status=status))
    assert plan.flags & EntryFlag.HEURISTIC
    assert plan.times.fresh_ms == NOW_MS + 8_640_000


@pytest.mark.parametrize("status", [201, 202, 302, 403, 502, 503, 504, 599])
def test_no_heuristic_for_other_statuses_unless_public(status: int) -> None:
    assert lifetime_s(answer(LM, status=status)) == 0
    assert lifetime_s(answer(LM, (CC, b"public"), status=status)) == 8640


def test_heuristic_206() -> None:
    request = get((b"Range", b"bytes=0-4"))
    plan = planned(answer(LM, (b"Content-Range", b"bytes 0-4/10"), status=206), request)
    assert plan.flags & EntryFlag.PARTIAL
    assert plan.flags & EntryFlag.HEURISTIC


FRESH = (CC, b"max-age=60")


@pytest.mark.parametrize(
    ("lines", "status", "request_lines", "reason"),
    [
        pytest.param([(CC, b"No-StOrE")], 200, [], Reason.NO_STORE, id="9111-5.2.2.5"),
        pytest.param(
            [(CC, b"max-age=9, no-store"), (b"Expires", at(9))], 200, [], Reason.NO_STORE, id="no-store-fresh"
        ),
        pytest.param([(CC, b"private, max-age=9")], 200, [], Reason.PRIVATE, id="9111-5.2.2.7"),
        pytest.param([(b"CDN-Cache-Control", b"private"), FRESH], 200, [], Reason.PRIVATE, id="9213-private"),
        pytest.param([(b"CDN-Cache-Control", b"no-store"), FRESH], 200, [], Reason.NO_STORE, id="9213-no-store"),
        pytest.param([(b"Vary", b"*"), FRESH], 200, [], Reason.VARY_STAR, id="9111-4.1-star"),
        pytest.param([(b"Vary", b""), (b"Vary", b"*"), FRESH], 200, [], Reason.VARY_STAR, id="empty-and-star-lines"),
        pytest.param([FRESH], 200, [(CC, b"no-store")], Reason.REQUEST_NO_STORE, id="9111-5.2.1.5"),
        pytest.param([FRESH], 304, [], Reason.STATUS, id="304"),
        pytest.param([FRESH], 416, [], Reason.STATUS, id="416"),
        pytest.param([FRESH], 412, [], Reason.STATUS, id="412"),
        pytest.param([FRESH], 101, [], Reason.STATUS, id="9111-3-final"),
        pytest.param([(CC, b"max-age=9, must-understand")], 599, [], Reason.NOT_UNDERSTOOD, id="9111-5.2.2.3"),
        pytest.param(
            [(CC, b"max-age=9, no-store, must-understand")], 599, [], Reason.NOT_UNDERSTOOD, id="5.2.2.3-both"
        ),
        pytest.param([], 200, [], Reason.NO_FRESHNESS, id="9111-3-nothing-said"),
        pytest.param([(CC, b"no-cache")], 200, [], Reason.NO_FRESHNESS, id="no-cache-without-validator"),
        pytest.param([(b"Expires", at(99))], 200, [(b"Authorization", b"x")], Reason.AUTHORIZATION, id="9111-3.5"),
        pytest.param([(CC, b'x="y, max-age=60')], 200, [], Reason.MALFORMED, id="unterminated-quote"),
        pytest.param([FRESH], 206, [], Reason.CONTENT_RANGE, id="9111-3.3-206-unasked"),
        pytest.param([FRESH], 206, [(b"Range", b"bytes=0-1")], Reason.CONTENT_RANGE, id="206-without-content-range"),
        pytest.param([FRESH], 200, [(b"Content-Length", b"3")], Reason.CONTENT, id="fat-get"),
        pytest.param([FRESH], 200, [(b"Transfer-Encoding", b"chunked")], Reason.CONTENT, id="fat-get-chunked"),
    ],
)
@pytest.mark.parametrize("rules", [LETTER, DEFAULT], ids=["rfc9111", "default"])
def test_refused(lines: Lines, status: int, request_lines: Lines, reason: Reason, rules: CacheRules) -> None:
    assert decide(answer(*lines, status=status), get(*request_lines), rules) is reason


@pytest.mark.parametrize(
    ("lines", "path", "status", "request_lines", "reason"),
    [
        pytest.param([FRESH, (b"Set-Cookie", b"a=b")], b"/", 200, [], Reason.SET_COOKIE, id="set-cookie"),
        pytest.param([LM], b"/", 200, [(b"Cookie", b"a=b")], Reason.COOKIE, id="guess-beside-cookie"),
        pytest.param([FRESH], b"/a/../b", 200, [], Reason.PATH, id="dot-segments"),
        pytest.param([FRESH], b"/static/..%2Faccount", 200, [], Reason.PATH, id="encoded-slash"),
        pytest.param([FRESH], b"/a/%2e%2E/b", 200, [], Reason.PATH, id="encoded-dots"),
        pytest.param([FRESH], b"/a\\..\\b", 200, [], Reason.PATH, id="backslash"),
        pytest.param([FRESH, (b"Vary", b"Cookie")], b"/", 200, [], Reason.VARY_PERSONAL, id="vary-cookie"),
        pytest.param([FRESH, (b"Vary", b"A, B, C, D, E, F, G, H, I")], b"/", 200, [], Reason.VARY_FIELDS, id="vary-9"),
        pytest.param([FRESH, (b"Location", b"/x")], b"/x", 301, [], Reason.REDIRECT_LOOP, id="loop-path"),
        pytest.param(
            [FRESH, (b"Location", b"HTTPS://Shop.Example.:443/x#f")],
            b"/x",
            302,
            [],
            Reason.REDIRECT_LOOP,
            id="loop-uri",
        ),
        pytest.param([LM], b"/", 404, [], Reason.NO_FRESHNESS, id="404-needs-explicit"),
        pytest.param([LM], b"/", 301, [], Reason.NO_FRESHNESS, id="301-needs-explicit"),
        pytest.param([FRESH], b"/", 500, [(b"X", b"\xff")], Reason.PROVOKED, id="500-odd-byte"),
        pytest.param([FRESH], b"/", 500, [(b"X", b"a" * 2000)], Reason.PROVOKED, id="500-oversize"),
        pytest.param([FRESH], b"/", 503, [(b"Range", b"bytes=0-")], Reason.PROVOKED, id="503-range"),
    ],
)
def test_default_refuses(lines: Lines, path: bytes, status: int, request_lines: Lines, reason: Reason) -> None:
    request = get(*request_lines, path=path)
    assert decide(answer(*lines, status=status), request, DEFAULT) is reason
    planned(answer(*lines, LM, status=status), request, LETTER)


@pytest.mark.parametrize("status", [400, 403, 405, 406, 407, 408, 411, 413, 414, 415, 417, 421, 426])
def test_default_refuses_errors_that_a_request_provokes(status: int) -> None:
    assert decide(answer(FRESH, status=status), rules=DEFAULT) is Reason.PROVOKED
    assert lifetime_s(answer(FRESH, status=status), rules=LETTER) == 60


@pytest.mark.parametrize("status", [200, 299, 301, 404, 410, 500, 503])
def test_default_stores_explicit_freshness(status: int) -> None:
    assert lifetime_s(answer(FRESH, status=status), rules=DEFAULT) == 60


COOKIES = [(b"Set-Cookie", b"a=b"), (b"Set-Cookie", b"c=d")]


@pytest.mark.parametrize(
    "line",
    [
        (CC, b"public, max-age=60"), (CC, b"s-maxage=60"), (CC, b"max-age=60, public, immutable"), (CC, b"no-cache"),
        (CC, b'public, max-age=60, no-cache="Set-Cookie"'), (b"CDN-Cache-Control", b"public, max-age=60"),
        (b"Expires", at(60)), (b"Vary", b"Cookie"), LM,
    ],
)  # fmt: skip
def test_default_never_stores_set_cookie(line: tuple[bytes, bytes]) -> None:
    response = answer(line, ETAG, *COOKIES)
    assert decide(response, rules=DEFAULT) is Reason.SET_COOKIE
    assert decide(response, rules=CacheRules.compile(ttl_s=60)) is Reason.SET_COOKIE


def test_a_route_says_what_becomes_of_set_cookie() -> None:
    response = answer(FRESH, *COOKIES)
    for profile in ("default", "rfc9111"):
        plan = planned(response, rules=CacheRules(profile=profile, set_cookie="store"))
        assert plan.head.get_all(b"set-cookie") == [b"a=b", b"c=d"]
        assert plan.withheld == frozenset()
        assert plan.flags & EntryFlag.SET_COOKIE
        plan = planned(response, rules=CacheRules(profile=profile, set_cookie="strip"))
        assert b"set-cookie" not in plan.head
        assert plan.withheld == {b"set-cookie"}
        assert not plan.flags & EntryFlag.SET_COOKIE
    assert planned(answer(FRESH), rules=CacheRules(set_cookie="strip")).withheld == frozenset()
    assert planned(response, rules=LETTER).head.get_all(b"set-cookie") == [b"a=b", b"c=d"]
    private = answer((CC, b"private, max-age=60"), *COOKIES)
    assert decide(private, rules=CacheRules(set_cookie="strip")) is Reason.PRIVATE


@pytest.mark.parametrize(
    ("rules", "keeps", "refuses"),
    [
        (DEFAULT, False, True),
        (LETTER, True, False),
        (CacheRules(set_cookie="store"), True, False),
        (CacheRules(set_cookie="strip"), False, False),
        (CacheRules(profile="rfc9111", set_cookie="strip"), False, False),
    ],
)
def test_what_a_304_may_bring(rules: CacheRules, keeps: bool, refuses: bool) -> None:
    assert (rules.keeps_set_cookie, rules.refuses_set_cookie) == (keeps, refuses)


@pytest.mark.parametrize("status", [428, 429, 431, 511])
@pytest.mark.parametrize("rules", [LETTER, DEFAULT, CacheRules(ttl_override_s=60)], ids=["rfc9111", "default", "ttl"])
def test_rfc_6585_forbids_storing(status: int, rules: CacheRules) -> None:
    for directive in (b"public, max-age=60", b"s-maxage=60", b"max-age=60, must-understand"):
        assert decide(answer((CC, directive), status=status), rules=rules) is Reason.STATUS


@pytest.mark.parametrize("directive", [b"no-cache", b"private"])
@pytest.mark.parametrize("name", [b"Content-Type", b"content-encoding", b"Content-Range", b"ETag", b"VARY"])
def test_a_field_that_the_content_needs_cannot_be_withheld(directive: bytes, name: bytes) -> None:
    value = b'public, max-age=60, %b="X-A, %b"' % (directive, name)
    assert decide(answer((CC, value), ETAG)) is Reason.NEEDED_FIELD


def test_withheld_fields_go_to_the_client_that_caused_the_fetch() -> None:
    response = answer((CC, b'max-age=60, no-cache="X-A", private="x-b, X-C"'), (b"X-A", b"1"), (b"X-B", b"2"))
    plan = planned(response)
    assert plan.withheld == {b"x-a", b"x-b"}
    assert [name for name, _ in plan.head] == [b"Date", CC]


@pytest.mark.parametrize(
    ("lines", "cookie", "verdict"),
    [
        pytest.param([(CC, b"no-cache"), ETAG], True, 0, id="tag"),
        pytest.param([(CC, b"no-cache"), (b"ETag", b'W/"x"')], True, 0, id="weak-tag"),
        pytest.param([(CC, b"no-cache"), ETAG, LM], True, 0, id="tag-and-date"),
        pytest.param([(CC, b"no-cache, max-age=60"), ETAG], True, 0, id="tag-and-lifetime"),
        pytest.param([(CC, b"max-age=0"), ETAG], True, 0, id="never-fresh-tag"),
        pytest.param([(CC, b"no-cache"), LM], True, Reason.COOKIE, id="date"),
        pytest.param([(CC, b"no-cache"), LM], False, EntryFlag.COOKIELESS, id="date-without-cookie"),
        pytest.param([(CC, b"max-age=0"), LM], True, Reason.COOKIE, id="never-fresh-date"),
        pytest.param([(CC, b"max-age=0"), LM], False, EntryFlag.COOKIELESS, id="never-fresh-date-without-cookie"),
        pytest.param([(b"Expires", at(-9)), LM], True, Reason.COOKIE, id="expired-date"),
        pytest.param([(CC, b"max-age=60"), LM], True, 0, id="fresh-date"),
        pytest.param([(CC, b"max-age=60, no-cache"), LM], True, Reason.COOKIE, id="fresh-but-validated-date"),
        pytest.param([(CC, b"no-cache, public"), LM], True, 0, id="public-date"),
        pytest.param([(CC, b"max-age=0, stale-while-revalidate=9"), LM], True, 0, id="served-while-validated"),
        pytest.param([(CC, b"max-age=0, stale-if-error=9"), LM], True, Reason.COOKIE, id="served-on-error"),
        pytest.param([LM], False, EntryFlag.COOKIELESS, id="guess"),
        pytest.param([LM], True, Reason.COOKIE, id="guess-beside-cookie"),
        pytest.param([LM, ETAG], True, Reason.COOKIE, id="guess-with-tag"),
        pytest.param([LM, (CC, b"public")], True, 0, id="public-guess"),
        pytest.param([], True, Reason.NO_FRESHNESS, id="nothing"),
        pytest.param([ETAG], True, Reason.NO_FRESHNESS, id="tag-alone"),
        pytest.param([(CC, b"no-cache")], True, Reason.NO_FRESHNESS, id="no-cache-alone"),
        pytest.param([(b"Last-Modified", b"yesterday")], True, Reason.NO_FRESHNESS, id="no-date"),
    ],
)
def test_default_beside_a_cookie(lines: Lines, cookie: bool, verdict: int | Reason) -> None:
    decided = decide(answer(*lines), get((b"Cookie", b"a=b")) if cookie else get(), DEFAULT)
    if isinstance(verdict, Reason):
        assert decided is verdict
    else:
        assert isinstance(decided, Plan)
        assert decided.flags & EntryFlag.COOKIELESS == verdict


@pytest.mark.parametrize("status", [301, 302, 404, 500])
def test_a_cookie_is_no_reason_where_nothing_would_be_guessed(status: int) -> None:
    assert decide(answer(LM, status=status), get((b"Cookie", b"a=b")), DEFAULT) is Reason.NO_FRESHNESS


@pytest.mark.parametrize(
    ("age_s", "profile", "guess_s", "seconds"),
    [
        (6000, "default", None, 600),
        (60000, "default", None, 600),
        (1000, "default", None, 100),
        (60000, "rfc9111", None, 6000),
        (86400 * 1000, "rfc9111", None, 7 * 86400),
        (60000, "default", 3600, 3600),
        (60000, "rfc9111", 30, 30),
        (60000, "default", 0, 0),
    ],
)
def test_a_guess_has_a_cap(age_s: int, profile: ProfileName, guess_s: float | None, seconds: int) -> None:
    rules = CacheRules.compile(profile=profile, guess_s=guess_s)
    assert lifetime_s(answer((b"Last-Modified", at(-age_s))), rules=rules) == seconds
    assert lifetime_s(answer((b"Last-Modified", at(-age_s)), (CC, b"max-age=9999")), rules=rules) == 9999


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([LM], True),
        ([LM, (CC, b"public")], True),
        ([LM, FRESH], False),
        ([LM, ETAG, (CC, b"no-cache")], False),
        ([ETAG], False),
        ([(b"Last-Modified", at(0)), ETAG], False),
        ([(b"Expires", at(60))], False),
    ],
)
def test_which_freshness_is_a_guess(lines: Lines, expected: bool) -> None:
    plan = planned(answer(*lines))
    assert guessed(plan.times, plan.flags) is expected


@pytest.mark.parametrize(
    ("line", "ended"),
    [((b"Content-Length", b"10"), True), ((b"Transfer-Encoding", b"chunked"), True), ((b"X", b"y"), False)],
)
def test_the_whole_in_answer_to_a_range(line: tuple[bytes, bytes], ended: bool) -> None:
    """RFC 9110 14.2: an origin may ignore Range, and has then sent the whole."""
    request = get((b"Range", b"bytes=0-1"))
    assert lifetime_s(answer(FRESH, line), request, LETTER) == 60
    decided = decide(answer(FRESH, line), request, DEFAULT)
    assert isinstance(decided, Plan) if ended else decided is Reason.UNENDED
    assert lifetime_s(answer(FRESH, line), rules=DEFAULT) == 60


def test_a_wall_clock_that_was_set_back_makes_nothing_younger() -> None:
    """Dates are compared with the wall clock, ages and freshness with the clock that never steps back."""
    steady, ahead = steady_ms(NOW_MS, 5_000, 0)
    assert (steady, ahead) == (NOW_MS, NOW_MS - 5_000)
    an_hour_back = NOW_MS - 3_600_000 + 1_000
    steady, ahead = steady_ms(an_hour_back, 6_000, ahead)
    assert (steady, ahead) == (NOW_MS + 1_000, NOW_MS - 5_000)
    steady, ahead = steady_ms(NOW_MS + 60_000, 7_000, ahead)
    assert (steady, ahead) == (NOW_MS + 60_000, NOW_MS + 53_000)
    response = answer((b"Date", format_http_date(an_hour_back // 1000)), FRESH, date=False)
    plan = storable(get(), response, request_ms=NOW_MS, response_ms=NOW_MS, rules=LETTER, skew_ms=NOW_MS - an_hour_back)
    assert isinstance(plan, Plan)
    assert (plan.times.born_ms, plan.times.fresh_ms) == (NOW_MS, NOW_MS + 60_000)


def test_default_stores_explicit_freshness_beside_a_cookie() -> None:
    assert lifetime_s(answer(FRESH), get((b"Cookie", b"a=b")), DEFAULT) == 60


@pytest.mark.parametrize("directive", [b"max-age=60, public", b"max-age=60, must-revalidate", b"s-maxage=60"])
def test_authorization_is_shared_by_directive(directive: bytes) -> None:
    plan = planned(answer((CC, directive)), get((b"Authorization", b"x")))
    assert plan.flags & EntryFlag.AUTHORIZED


def test_must_understand_overrides_no_store_of_a_known_status() -> None:
    assert lifetime_s(answer((CC, b"max-age=60, no-store, must-understand"))) == 60


def test_post_described_by_content_location_may_be_stored() -> None:
    lines = [(b"Expires", at(60)), (b"Content-Location", b"https://shop.example/a/b?c=d")]
    request = Request(Fields([(b"Content-Length", b"5")]), method=b"POST")
    assert lifetime_s(answer(*lines), request) == 60
    assert decide(answer(*lines), request, DEFAULT) is Reason.METHOD
    assert decide(answer((b"Expires", at(60))), request) is Reason.METHOD
    assert decide(answer(LM, lines[1]), request) is Reason.NO_FRESHNESS


def test_what_is_stored_of_the_head() -> None:
    plan = planned(
        answer(
            (b"Connection", b"a, close"),
            (b"A", b"1"),
            (b"B", b"2"),
            (b"Age", b"3"),
            (b"Content-Length", b"4"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Keep-Alive", b"x"),
            (b"Upgrade", b"x"),
            (b"TE", b"x"),
            (b"Proxy-Authenticate", b"x"),
            (b"NEL", b"{}"),
            (b"Report-To", b"{}"),
            (b"Reporting-Endpoints", b"x"),
            (b"Content-Range", b"bytes 0-1/2"),
            (CC, b'max-age=60, no-cache="secret", private="mine"'),
            (b"Secret", b"s"),
            (b"Mine", b"m"),
        )
    )
    assert [name for name, _ in plan.head] == [b"Date", b"B", b"Content-Range", CC]


def test_profile_default_takes_qualified_private_for_private() -> None:
    assert decide(answer((CC, b'max-age=60, private="mine"')), rules=DEFAULT) is Reason.PRIVATE


@pytest.mark.parametrize(
    ("directives", "windows", "flags"),
    [
        pytest.param(b"max-age=1, stale-while-revalidate=5, stale-if-error=9", (5, 9), 0, id="5861"),
        pytest.param(
            b"max-age=1, stale-if-error=9, must-revalidate", (0, 0), EntryFlag.MUST_REVALIDATE, id="9111-5.2.2.2"
        ),
        pytest.param(b"max-age=1, stale-if-error=9, proxy-revalidate", (0, 0), EntryFlag.MUST_REVALIDATE, id="5.2.2.8"),
        pytest.param(b"s-maxage=1, stale-if-error=9", (0, 0), EntryFlag.MUST_REVALIDATE, id="5.2.2.10"),
        pytest.param(b"max-age=1, stale-if-error=9, no-cache", (0, 0), EntryFlag.NO_CACHE, id="5.2.2.4"),
    ],
)
def test_stale_windows(directives: bytes, windows: tuple[int, int], flags: int) -> None:
    plan = planned(answer((CC, directives), ETAG))
    assert (plan.times.swr_s, plan.times.sie_s) == windows
    assert plan.flags & flags == flags


def test_default_lets_the_windows_stand_beside_s_maxage() -> None:
    plan = planned(answer((CC, b"s-maxage=1, stale-while-revalidate=5")), rules=DEFAULT)
    assert plan.times.swr_s == 5


def test_partial_whose_length_belies_its_range() -> None:
    lines = [FRESH, (b"Content-Range", b"bytes 4-9/10"), (b"Content-Length", b"5")]
    request = get((b"Range", b"bytes=-5"))
    assert planned(answer(*lines, status=206), request).flags & EntryFlag.PARTIAL
    assert decide(answer(*lines, status=206), request, DEFAULT) is Reason.CONTENT_RANGE


def test_route_ttl_counts_from_arrival_and_obeys_no_store() -> None:
    rules = CacheRules.compile(ttl_s=1.5)
    assert lifetime_s(answer((b"Age", b"900")), rules=rules) == 1.5
    assert lifetime_s(answer((CC, b"max-age=1")), rules=rules) == 1.5
    assert decide(answer((CC, b"no-store")), rules=rules) is Reason.NO_STORE
    assert decide(answer(status=500), rules=rules) is Reason.NO_FRESHNESS


def test_route_vary_list() -> None:
    rules = CacheRules.compile(vary_allow=["Cookie"])
    assert planned(answer(FRESH, (b"Vary", b"Cookie")), rules=rules).vary == (b"cookie",)
    assert decide(answer(FRESH, (b"Vary", b"Accept")), rules=rules) is Reason.VARY_REFUSED


def test_vary_names_are_sorted_and_lower_case() -> None:
    assert planned(answer(FRESH, (b"Vary", b"Foo, bar"), (b"Vary", b",foo"))).vary == (b"bar", b"foo")


def test_targets_are_configurable() -> None:
    rules = CacheRules.compile(profile="rfc9111", targeted=[])
    assert lifetime_s(answer((b"CDN-Cache-Control", b"max-age=60"), (CC, b"max-age=1")), rules=rules) == 1
