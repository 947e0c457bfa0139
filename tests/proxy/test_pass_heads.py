"""A head that is written from the bytes that came is the head that is made of the parsed message, byte for byte.

Each test counts how many of the heads were recognised: a writer that recognises nothing would agree with everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flyby.config import HeaderRules
from flyby.metrics import Metrics
from flyby.policy import UNKEYED, CacheRules, Outcome, Plan, Reason, facts_of, format_http_date, storable
from flyby.policy.template import template_for
from flyby.proxy.fetching._response import content_length, response_head, status_field
from flyby.proxy.fetching._verdict import Verdicts
from flyby.proxy.fetching.request import SHARED_LEFT_OUT
from flyby.proxy.road.client import Client
from flyby.proxy.routing import forwarding
from flyby.proxy.routing._onward_head import onward_head
from flyby.proxy.routing._upstream_fields import HOPS_SAID, OURS
from flyby.wire import HOP_BY_HOP, STANDARD_LIMITS, HeadReader, RequestHead, ResponseHead, serialise_request

NOW_MS = 1_767_225_600_123
IDENTITY = b"0123456789abcdef0123"
CLIENT = Client("198.51.100.7", 50_000, b"http", 80)

# ---- the request -----------------------------------------------------------------------------------------------------

# What frames the content is given by `FRAMINGS`; the glance leaves a request with Expect or Upgrade to the parser.
UNUSUAL = sorted(
    {*OURS, *HOP_BY_HOP, *SHARED_LEFT_OUT} - {b"expect", b"upgrade", b"content-length", b"transfer-encoding"}
)
USUAL = [
    b"x-forwarded-for",
    b"forwarded",
    b"via",
    b"cdn-loop",
    b"accept",
    b"cookie",
    b"x_alias",
    b"x-y",
    b"user-agent",
    b"referer",
]
FRAMINGS = {
    b"GET": [b""],
    b"HEAD": [b""],
    b"DELETE": [b"", b"Content-Length: 3\r\n"],
    b"POST": [b"", b"Content-Length: 003\r\n", b"Transfer-Encoding: chunked\r\n"],
    b"PUT": [b"", b"Content-Length: 0\r\n", b"Transfer-Encoding: Chunked\r\n"],
    b"PATCH": [b"", b"content-length:3\r\n"],
}


def field_lines(names: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(
        st.sampled_from(names).flatmap(lambda name: st.sampled_from([name, name.title(), name.upper()])),
        st.sampled_from([b":", b": ", b":\t "]),
        st.sampled_from([b"", b"a", b"192.0.2.1, 192.0.2.2", b"close", b"\xff"]),
        st.sampled_from([b"", b" "]),
    ).map(lambda parts: b"".join(parts) + b"\r\n")


def mostly(
    lines: Callable[[list[bytes]], st.SearchStrategy[bytes]], usual: list[bytes], rest: list[bytes]
) -> st.SearchStrategy[bytes]:
    """Lines of `usual` names, and one in eight of the rest."""
    return st.integers(0, 7).flatmap(lambda number: lines(rest if number == 7 else usual))


def parsed_request(data: bytes) -> RequestHead:
    reader = HeadReader(STANDARD_LIMITS, "request")
    reader.feed(data)
    return reader.take_request(b"http")


@pytest.mark.parametrize("left_out", [SHARED_LEFT_OUT, UNKEYED, ()], ids=["to store", "marked", "forwarded"])
def test_the_origin_is_told_the_same(left_out: Container[bytes]) -> None:
    recognised: Counter[bool] = Counter()

    @given(
        st.lists(mostly(field_lines, USUAL, UNUSUAL), max_size=8),
        st.sampled_from(sorted(FRAMINGS)).flatmap(
            lambda method: st.tuples(st.just(method), st.sampled_from(FRAMINGS[method]))
        ),
        st.sampled_from([b"shop.test", b"shop.test:8080"]),
        st.sampled_from([None, b"origin.test:3000"]),
    )
    @example(
        [b"X-Forwarded-For: \r\n", b"X-Forwarded-For: a\r\n", b"Via: 1.1 x\r\n"], (b"GET", b""), b"shop.test", None
    )
    @settings(derandomize=True, max_examples=300, deadline=None)
    def compare(lines: list[bytes], asked: tuple[bytes, bytes], name: bytes, host: bytes | None) -> None:
        method, framing = asked
        data = b"%b /a?b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n" % (method, name, b"".join(lines), framing)
        port = forwarding.port_of(name, b"http", CLIENT.server_port)
        written = onward_head(data, STANDARD_LIMITS, host, CLIENT.address.encode(), port, IDENTITY, NOW_MS, left_out)
        recognised[written is not None] += 1
        if written is None:
            return
        request = parsed_request(data)
        # What a client says of earlier hops is taken out of its fields when it arrives (`road.arrival`).
        given = request.fields.without(frozenset(HOPS_SAID))
        fields = forwarding.upstream_fields(
            request, given, CLIENT, CLIENT.address, IDENTITY, host or request.host, NOW_MS, left_out
        )
        assert written == serialise_request(request.method, request.path, fields)

    compare()
    assert recognised[True] >= recognised.total() / 2, recognised


def test_a_plain_request_is_written() -> None:
    data = b"GET / HTTP/1.1\r\nHost: shop.test\r\nAccept:*/*\r\nX_A: 1\r\n\r\n"
    written = onward_head(data, STANDARD_LIMITS, None, b"198.51.100.7", b"80", IDENTITY, NOW_MS)
    assert written is not None
    assert written.startswith(b"GET / HTTP/1.1\r\nHost: shop.test\r\nAccept: */*\r\nX-Forwarded-For: 198.51.100.7\r\n")


# ---- the response ----------------------------------------------------------------------------------------------------

CONTROLS = [
    *(b"no-store", b"private", b"max-age=5", b"public", b"no-cache", b'private="set-cookie"', b"no-store=1"),
    *(b"no-store, must-understand", b'"', b"s-maxage=1", b"NO-STORE", b"public, no-store", b"public, max-age=60"),
]
PLAIN_FIELDS = [b"Set-Cookie", b"Keep-Alive", b"NEL", b"Cache-Status", b"X_Y", b"ETag", b"Trailer", b"Report-To"]
PLAIN_FIELDS += [b"Proxy-Authenticate", b"Content-Type", b"Last-Modified", b"Content-Encoding"]
# Beside each of these the head is read by the parser.
DECIDING_FIELDS = [
    b"Vary",
    b"Surrogate-Key",
    b"Cache-Tag",
    b"Age",
    b"CDN-Cache-Control",
    b"Location",
    b"Via",
    b"Expires",
]
DATES = [
    b"",
    b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n",
    b"date:Thu, 01 Jan 2026 00:00:00 GMT\r\n",
    b"DATE:Sun, 01 Jan 2023 00:00:00 GMT\r\n",
]
VALUES = [b"", b"a", b"*", b"max-age=60", b"Thu, 01 Jan 2026 00:00:00 GMT", b'"v1"', b"text/html"]


def response_lines(names: list[bytes], values: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(
        st.sampled_from(names), st.sampled_from([b": ", b":", b":\t"]), st.sampled_from(values), st.just(b"\r\n")
    ).map(b"".join)


def exchange_for(asked: bytes, rules: CacheRules) -> SimpleNamespace:
    """What the writers read of an exchange."""
    request = parsed_request(b"GET / HTTP/1.1\r\nHost: shop.test\r\n%b\r\n" % asked)
    match = SimpleNamespace(route=SimpleNamespace(response_headers=HeaderRules()))
    return SimpleNamespace(request=request, rules=rules, match=match, own_lines=b"")


def parsed_response(data: bytes) -> ResponseHead:
    """The head as a fetch has it: with a Date (RFC 9110 6.6.1)."""
    reader = HeadReader(STANDARD_LIMITS, "response")
    reader.feed(data)
    head = reader.take_response()
    if not head.fields.get(b"date"):
        head.fields.set(b"Date", format_http_date(NOW_MS // 1000))
    return head


def made_of(data: bytes, exchange: SimpleNamespace, why: Reason) -> tuple[Reason | None, bytes]:
    """The reason why the response is not stored, and its head for the client, made of the parsed message."""
    head = parsed_response(data)
    judged = template_for(facts_of(exchange.request, head, exchange.rules), exchange.rules)
    reason = judged if isinstance(judged, Reason) else None
    detail = reason.value if reason is not None else None
    status = status_field(Outcome.MISS, why, head.status, reason is None, detail)
    length = content_length(head, b"GET")
    framing = b"Content-Length: %d\r\n" % length if length >= 0 else b"Transfer-Encoding: chunked\r\n"
    return reason, response_head(exchange, head, status) + framing


@pytest.mark.parametrize("profile", ["default", "rfc9111"])
@pytest.mark.parametrize("strip_tags", [True, False])
def test_the_client_is_told_the_same(profile: str, strip_tags: bool) -> None:
    recognised: Counter[bool] = Counter()
    reasons: Counter[Reason | None] = Counter()
    rules = CacheRules.compile(profile=profile, strip_tags=strip_tags)
    exchange = exchange_for(b"", rules)
    shared = Verdicts(rules, STANDARD_LIMITS, Metrics())

    @given(
        st.lists(response_lines([b"Cache-Control"], CONTROLS), max_size=1),
        st.lists(
            mostly(lambda names: response_lines(names, VALUES), PLAIN_FIELDS, DECIDING_FIELDS),
            max_size=5,
        ),
        st.sampled_from([200, 203, 301, 302, 226, 404]),
        st.sampled_from([b"Content-Length: 005\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"]),
        st.sampled_from(DATES),
        st.sampled_from([Reason.URI_MISS, Reason.HIT_FOR_MISS]),
    )
    @settings(derandomize=True, max_examples=400, deadline=None)
    def compare(
        control: list[bytes], lines: list[bytes], status: int, framing: bytes, date: bytes, why: Reason
    ) -> None:
        data = b"HTTP/1.1 %d Fine\r\n%b%b\r\n" % (status, b"".join([*control, date, *lines]), framing)
        found = shared.passed_head(data, exchange, why, NOW_MS)
        recognised[found is not None] += 1
        if found is None:
            return
        # A verdict is remembered for all responses of its kind: what was learnt of others must hold for this one.
        assert found == Verdicts(rules, STANDARD_LIMITS, Metrics()).passed_head(data, exchange, why, NOW_MS)
        assert found == made_of(data, exchange, why)
        reasons[found[0]] += 1

    compare()
    assert recognised[True] >= recognised.total() / 4, recognised
    assert {None, Reason.NO_STORE, Reason.PRIVATE} <= reasons.keys()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"Cache-Control: no-store", Reason.NO_STORE),
        (b"Cache-Control: private, max-age=5", Reason.PRIVATE),
        (b"Set-Cookie: a=1", Reason.SET_COOKIE),
        (b"Cache-Control: max-age=5\r\nSet-Cookie: a=1", Reason.SET_COOKIE),
        (b"Cache-Control: max-age=5", None),
    ],
)
def test_the_verdicts_that_show_at_once(line: bytes, reason: Reason | None) -> None:
    rules = CacheRules()
    exchange = exchange_for(b"", rules)
    data = b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 0\r\n\r\n" % line
    found = Verdicts(rules, STANDARD_LIMITS, Metrics()).passed_head(data, exchange, Reason.URI_MISS, NOW_MS)
    assert found is not None
    assert found[0] is reason
    judged = storable(exchange.request, parsed_response(data), request_ms=NOW_MS, response_ms=NOW_MS, rules=rules)
    assert judged is reason or (reason is None and isinstance(judged, Plan))


@pytest.mark.parametrize(
    "line",
    [
        b"Cache-Control: no-store\r\nCDN-Cache-Control: max-age=5",
        b"Cache-Control: max-age=5\r\nSurrogate-Key: a",
        b"Cache-Control: max-age=5\r\nVary: Accept",
        b"Cache-Control: no-store\r\nLocation: /a",
        b"Cache-Control: no-store\r\nCache-Control: private",
        b"Cache-Control: no-store\r\nDate: ",
        b"Cache-Control: max-age=5\r\nAge: 1",
    ],
)
def test_no_verdict_where_another_field_decides(line: bytes) -> None:
    rules = CacheRules()
    data = b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 0\r\n\r\n" % line
    verdicts = Verdicts(rules, STANDARD_LIMITS, Metrics())
    assert verdicts.passed_head(data, exchange_for(b"", rules), Reason.URI_MISS, NOW_MS) is None


def test_values_are_read_anew_when_many_have_come() -> None:
    rules = CacheRules()
    exchange = exchange_for(b"", rules)
    verdicts = Verdicts(rules, STANDARD_LIMITS, Metrics())
    for number in (*range(600), *range(600)):
        word = b"no-store" if number % 2 else b"private"
        head = b"HTTP/1.1 200 OK\r\nCache-Control: %s, x=%d\r\nContent-Length: 0\r\n\r\n" % (word, number)
        found = verdicts.passed_head(head, exchange, Reason.URI_MISS, NOW_MS)
        assert found is not None
        assert found[0] is (Reason.NO_STORE if number % 2 else Reason.PRIVATE)


def test_an_operators_odd_name_leaves_every_head_to_the_parser() -> None:
    rules = CacheRules(targeted=(b"x_cache",))
    data = b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 0\r\n\r\n"
    verdicts = Verdicts(rules, STANDARD_LIMITS, Metrics())
    assert verdicts.passed_head(data, exchange_for(b"", rules), Reason.URI_MISS, NOW_MS) is None
