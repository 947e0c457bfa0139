"""The heads that the pass lane writes straight from the wire are those that the long way makes, byte for byte."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from flyby.metrics import Metrics
from flyby.policy import TAG_FIELDS, CacheRules, Outcome, Reason, format_http_date, storable
from flyby.proxy.fetching._response import status_field
from flyby.proxy.fetching._verdict import Verdicts
from flyby.proxy.fetching.request import SHARED_LEFT_OUT
from flyby.proxy.routing._onward_head import onward_head
from flyby.proxy.routing._upstream_fields import HOPS_SAID, OURS, VIA, upstream_fields
from flyby.wire import (
    HOP_BY_HOP,
    STANDARD_LIMITS,
    BodyKind,
    Fields,
    HeadReader,
    RequestHead,
    serialise_request,
    serialise_response,
)

NOW_MS = 1_767_225_600_123
IDENTITY = b"0123456789abcdef0123"

# ---- the request -----------------------------------------------------------------------------------------------------

NAMES = sorted(
    {*OURS, *HOP_BY_HOP, *SHARED_LEFT_OUT} - {b"expect", b"upgrade", b"content-length", b"transfer-encoding"}
)
REQUEST_LINES = st.tuples(
    st.sampled_from(
        [*NAMES, b"x-forwarded-for", b"via", b"cdn-loop", b"accept", b"cookie", b"x_alias", b"x-y"]
    ).flatmap(lambda name: st.sampled_from([name, name.title(), name.upper()])),
    st.sampled_from([b":", b": ", b":\t "]),
    st.sampled_from([b"", b"a", b"192.0.2.1, 192.0.2.2", b"keep-alive", b"\xff"]),
    st.sampled_from([b"", b" "]),
).map(lambda parts: b"".join(parts) + b"\r\n")


@given(
    st.lists(REQUEST_LINES, max_size=8),
    st.sampled_from([b"shop.test", b"shop.test:8080"]),
    st.sampled_from([None, b"origin.test:3000"]),
)
@example([b"X-Forwarded-For: \r\n", b"X-Forwarded-For: a\r\n", b"Via: 1.1 x\r\n"], b"shop.test", None)
def test_the_origin_is_told_the_same(lines: list[bytes], name: bytes, host: bytes | None) -> None:
    data = b"GET /a?b HTTP/1.1\r\nHost: " + name + b"\r\n" + b"".join(lines) + b"\r\n"
    written = onward_head(data, STANDARD_LIMITS, host, b"198.51.100.7", b"80", IDENTITY, NOW_MS, SHARED_LEFT_OUT)
    if written is None:
        return
    reader = HeadReader(STANDARD_LIMITS, "request")
    reader.feed(data)
    request = reader.take_request(b"http")
    # What a client says of earlier hops is taken out on its arrival.
    came = request.fields.without(HOPS_SAID)
    fields = upstream_fields(
        request, came, "198.51.100.7", b"80", IDENTITY, host or request.host, NOW_MS, SHARED_LEFT_OUT
    )
    assert written == serialise_request(request.method, request.path, fields)


def test_a_plain_request_is_written() -> None:
    data = b"GET / HTTP/1.1\r\nHost: shop.test\r\nAccept:*/*\r\nX_A: 1\r\n\r\n"
    written = onward_head(data, STANDARD_LIMITS, None, b"198.51.100.7", b"80", IDENTITY, NOW_MS)
    assert written is not None
    assert written.startswith(b"GET / HTTP/1.1\r\nHost: shop.test\r\nAccept: */*\r\nX-Forwarded-For: 198.51.100.7\r\n")


# ---- the response ----------------------------------------------------------------------------------------------------

RESPONSE_LINES = st.one_of(
    st.tuples(
        st.sampled_from([b"Cache-Control"]),
        st.sampled_from(
            [
                *(
                    b"no-store",
                    b"private",
                    b"max-age=5",
                    b"public",
                    b"no-cache",
                    b'private="set-cookie"',
                    b"no-store=1",
                ),
                *(b"no-store, must-understand", b'"', b"s-maxage=1", b"NO-STORE", b"public, no-store", b"no-store=1"),
            ]
        ),
    ),
    st.tuples(
        st.sampled_from(
            [
                *(b"Set-Cookie", b"Date", b"Vary", b"Surrogate-Key", b"Cache-Tag", b"Keep-Alive", b"Age", b"NEL"),
                *(b"CDN-Cache-Control", b"Location", b"Via", b"Cache-Status", b"X_Y", b"Expires", b"ETag", b"Trailer"),
                *(b"Proxy-Authenticate", b"Content-Type", b"Report-To"),
            ]
        ),
        st.sampled_from([b"", b"a", b"max-age=60", b"Thu, 01 Jan 2026 00:00:00 GMT", b"*"]),
    ),
).flatmap(lambda line: st.sampled_from([b": ", b":", b":\t"]).map(lambda gap: line[0] + gap + line[1] + b"\r\n"))


def the_long_way(data: bytes, rules: CacheRules) -> tuple[Reason, bytes] | None:
    """What the fetch makes of it, for a plain GET of a key that is marked hit-for-miss."""
    reader = HeadReader(STANDARD_LIMITS, "response")
    reader.feed(data)
    head = reader.take_response()
    request = RequestHead(
        b"GET", b"/", 11, Fields([(b"Host", b"shop.test")]), scheme=b"http", host=b"shop.test", path=b"/"
    )
    if not head.fields.get(b"date"):
        head.fields.set(b"Date", format_http_date(NOW_MS // 1000))
    reason = storable(request, head, request_ms=NOW_MS, response_ms=NOW_MS, rules=rules)
    if not isinstance(reason, Reason):
        return None
    kind, length = head.framing(b"GET")
    fields = head.fields.without(HOP_BY_HOP | {b"content-length"} | (TAG_FIELDS if rules.strip_tags else frozenset()))
    fields.add(b"Via", VIA)
    fields.add(b"Cache-Status", status_field(Outcome.MISS, Reason.HIT_FOR_MISS, head.status, False, reason.value))
    if kind is BodyKind.LENGTH:
        fields.add(b"Content-Length", b"%d" % length)
    else:
        fields.add(b"Transfer-Encoding", b"chunked")
    return reason, serialise_response(head.status, head.reason, fields)[:-2]


@given(
    st.lists(RESPONSE_LINES, max_size=6),
    st.sampled_from([200, 203, 206, 302, 404, 412, 429]),
    st.sampled_from([b"Content-Length: 005\r\n", b"Transfer-Encoding: chunked\r\n"]),
    st.sampled_from(["default", "rfc9111"]),
    st.booleans(),
)
def test_the_client_is_told_the_same(
    lines: list[bytes], status: int, framing: bytes, profile: str, strip_tags: bool
) -> None:
    data = b"HTTP/1.1 %d Fine\r\n" % status + b"".join(lines) + framing + b"\r\n"
    rules = CacheRules(profile=profile, strip_tags=strip_tags)
    verdicts = Verdicts(rules, STANDARD_LIMITS, Metrics())
    found = verdicts.passed_head(data, NOW_MS)
    assert verdicts.passed_head(data, NOW_MS) == found
    if found is not None:
        assert found == the_long_way(data, rules)


def test_the_reasons_that_show_at_once() -> None:
    rules = CacheRules()
    verdicts = Verdicts(rules, STANDARD_LIMITS, Metrics())
    for line, reason in (
        (b"Cache-Control: no-store", Reason.NO_STORE),
        (b"Cache-Control: private, max-age=5", Reason.PRIVATE),
        (b"Set-Cookie: a=1", Reason.SET_COOKIE),
        (b"Cache-Control: max-age=5\r\nSet-Cookie: a=1", Reason.SET_COOKIE),
        (b"Cache-Control: public\r\nSet-Cookie: a=1", None),
        (b"Cache-Control: max-age=5", None),
        (b"Cache-Control: no-store\r\nSurrogate-Control: max-age=5", None),
        (b"X: y", None),
    ):
        found = verdicts.passed_head(b"HTTP/1.1 200 OK\r\n" + line + b"\r\nContent-Length: 0\r\n\r\n", NOW_MS)
        assert (found and found[0]) == reason


def test_values_are_read_anew_when_many_have_come() -> None:
    verdicts = Verdicts(CacheRules(), STANDARD_LIMITS, Metrics())
    for number in (*range(40), *range(40)):
        word = b"no-store" if number % 2 else b"private"
        head = b"HTTP/1.1 200 OK\r\nCache-Control: %s, x=%d\r\nContent-Length: 0\r\n\r\n" % (word, number)
        found = verdicts.passed_head(head, NOW_MS)
        assert found is not None
        assert found[0] is (Reason.NO_STORE if number % 2 else Reason.PRIVATE)


def test_an_operators_odd_name_sends_all_the_long_way() -> None:
    verdicts = Verdicts(CacheRules(targeted=(b"x_cache",)), STANDARD_LIMITS, Metrics())
    assert verdicts.passed_head(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 0\r\n\r\n", 0) is None
