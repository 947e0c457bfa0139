"""Request heads: what is read out of them, and what is refused (RFC 9112 2, 3, 5, 6)."""

from __future__ import annotations

import time

import pytest

from flyby.errors import WireError
from flyby.wire import STANDARD_LIMITS, BodyKind, Fields, HeadReader
from flyby.wire.limits import StandardLimits

from .reading import refused, request


def get(*lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bytes | None = b"Host: edge.test") -> bytes:
    shown = (start, *([] if host is None else [host]), *lines)
    return b"".join(line + b"\r\n" for line in shown) + b"\r\n"


def post(*lines: bytes, start: bytes = b"POST /p HTTP/1.1") -> bytes:
    return get(*lines, start=start)


def test_a_plain_request() -> None:
    head = request(get(b"X-Name:\t caf\xe9 \t", b"X-Empty:", b"x-name:b"))
    assert (head.method, head.target, head.version) == (b"GET", b"/", 11)
    assert (head.scheme, head.host, head.path) == (b"http", b"edge.test", b"/")
    assert (head.body, head.length) == (BodyKind.NONE, -1)
    assert head.keep_alive
    assert not head.expect_continue
    assert head.upgrade is None
    assert head.fields == Fields(
        [(b"Host", b"edge.test"), (b"X-Name", b"caf\xe9"), (b"X-Empty", b""), (b"x-name", b"b")]
    )
    assert head.fields.combined(b"x-name") == b"caf\xe9, b"


@pytest.mark.parametrize("count", range(5))
def test_a_few_empty_lines_may_come_first(count: int) -> None:
    assert request(b"\r\n" * count + get()).path == b"/"


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (b"Host:edge.test", b"edge.test"),
        (b"HOST: EDGE.Test", b"edge.test"),
        (b"Host: edge.test.", b"edge.test"),
        (b"Host: edge.test:80", b"edge.test"),
        (b"Host: edge.test:0080", b"edge.test"),
        (b"Host: edge.test:", b"edge.test"),
        (b"Host: edge.test.:8080", b"edge.test:8080"),
        (b"Host: edge.test:443", b"edge.test:443"),
        (b"Host: my_app.test", b"my_app.test"),
        (b"Host: 127.0.0.1:8080", b"127.0.0.1:8080"),
        (b"Host: [::1]", b"[::1]"),
        (b"Host: [2001:DB8:0::1]:8080", b"[2001:db8::1]:8080"),
        (b"Host: [::1]:80", b"[::1]"),
    ],
)
def test_an_authority_has_one_spelling(sent: bytes, read: bytes) -> None:
    assert request(get(host=sent)).host == read


def test_the_default_port_is_the_scheme_s() -> None:
    assert request(get(host=b"Host: edge.test:443"), b"https").host == b"edge.test"
    assert request(get(host=b"Host: edge.test:80"), b"https").host == b"edge.test:80"


@pytest.mark.parametrize(
    "host",
    [
        None, b"Host:", b"Host: edge.test evil.test", b"Host: edge.test, evil.test", b"Host: edge.test,evil.test",
        b"Host: edge.test@evil.test", b"Host: edge.test:abc", b"Host: edge.test:80:81", b"Host: edge.test#x",
        b"Host: http://edge.test", b"Host: edge.test/x", b"Host: edge.test?x", b"Host: \xffedge.test",
        b"Host: [::1]evil", b"Host: [::1", b"Host: ::1", b"Host: [g::1]", b"Host: [::1%25eth0]", b"Host: []",
        b"Host: edge.test\\evil", b"Host: <edge.test>", b"Host: edge\ttest", b"Host: edge.test:99999", b"Host: :80",
        b"Host: edge.test:0", b"Host: edge.test:-1", b"Host: edge.test:18446744073709551696", b"Host: edge%2etest",
        b"Host: .edge.test", b"Host: edge..test", b"Host: edge.test..", b"Host: .", b"Host: *",
        b"Host: " + b"a" * 256, b"Host: edge.test:\xb2", b"Host: edge.test:80 ;",
    ],
)  # fmt: skip
def test_a_request_needs_one_good_host(host: bytes | None) -> None:
    assert refused(get(host=host)) == (400, "host")


def test_a_second_host_is_refused_even_when_it_is_the_same() -> None:
    assert refused(get(b"Host: edge.test")) == (400, "host")
    assert refused(get(b"hOST: other.test")) == (400, "host")
    assert refused(get(b"Host:", start=b"GET / HTTP/1.0")) == (400, "host")


@pytest.mark.parametrize(
    ("start", "host", "read", "path"),
    [
        (b"GET / HTTP/1.0", None, b"", b"/"),
        (b"GET / HTTP/1.0", b"Host:", b"", b"/"),
        (b"HEAD /a HTTP/1.0", b"Host: \t", b"", b"/a"),
        (b"OPTIONS / HTTP/1.0", None, b"", b"/"),  # HAProxy's health check
        (b"OPTIONS * HTTP/1.0", None, b"", b"*"),
        (b"POST /a HTTP/1.0", None, b"", b"/a"),
        (b"GET / HTTP/1.0", b"Host: Edge.test", b"edge.test", b"/"),
        (b"GET http://Edge.test:80/x HTTP/1.0", None, b"edge.test", b"/x"),
        (b"GET http://edge.test:81 HTTP/1.0", b"Host:", b"edge.test:81", b"/"),
    ],
)
def test_http_1_0_may_have_no_host(start: bytes, host: bytes | None, read: bytes, path: bytes) -> None:
    head = request(get(start=start, host=host))
    assert (head.version, head.host, head.path) == (10, read, path)


@pytest.mark.parametrize("host", [b"Host: a b", b"Host: a/b", b"Host: a:x", b"Host: ,"])
def test_a_host_of_http_1_0_is_a_host(host: bytes) -> None:
    assert refused(get(start=b"GET / HTTP/1.0", host=host)) == (400, "host")
    assert refused(get(start=b"GET http://edge.test/ HTTP/1.0", host=host)) == (400, "host")


@pytest.mark.parametrize(
    ("target", "host", "read"),
    [
        (b"http://other.test/p", b"Host: edge.test", b"other.test"),
        (b"http://OTHER.test:80/p", b"Host: edge.test", b"other.test"),
        (b"http://other.test:81/p", b"Host: other.test", b"other.test:81"),
        (b"http://edge.test/p", b"Host: edge.test:80", b"edge.test"),
        (b"http://[::1]:8080/p", b"Host: edge.test", b"[::1]:8080"),
        (b"HTTP://a.b./p", b"Host: edge.test", b"a.b"),
    ],
)
def test_the_target_s_authority_takes_the_place_of_host(target: bytes, host: bytes, read: bytes) -> None:
    """RFC 9112 3.2.2; no rule can then see the Host that was received."""
    head = request(get(b"A: b", start=b"GET %b HTTP/1.1" % target, host=host))
    assert (head.host, head.path, head.target) == (read, b"/p", target)
    assert list(head.fields) == [(b"Host", read), (b"A", b"b")]


def test_an_absolute_target_excuses_no_fault_of_host() -> None:
    start = b"GET http://edge.test/ HTTP/1.1"
    for host in (None, b"Host:", b"Host: a b", b"Host: a\r\nHost: a"):
        assert refused(get(start=start, host=host)) == (400, "host")


@pytest.mark.parametrize("method", [b"FOO", b"BREW", b"BATCH", b"A", b"X-1_Y", b"M-SEARCH", b"DESCRIBE", b"PROPFIND"])
def test_any_method_in_upper_case_is_taken(method: bytes) -> None:
    for version in (b"1.0", b"1.1"):
        head = request(get(b"Content-Length: 5", start=b"%b /p HTTP/%b" % (method, version)))
        assert (head.method, head.body, head.length) == (method, BodyKind.LENGTH, 5)
    assert request(get(b"Transfer-Encoding: chunked", start=method + b" / HTTP/1.1")).body is BodyKind.CHUNKED
    assert request(get(start=method + b" / HTTP/1.1")).body is BodyKind.NONE
    for lines in (
        [b"Content-Length: 5", b"Content-Length: 5"],
        [b"Content-Length: 5, 5"],
        [b"Content-Length : 5"],
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: identity"],
        [b"A: \x01"],
    ):
        assert refused(get(*lines, start=method + b" / HTTP/1.1"))[0] in (400, 501)


@pytest.mark.parametrize(
    ("start", "path"),
    [
        (b"GET /a%20b/%E2%82%AC HTTP/1.1", b"/a%20b/%E2%82%AC"),
        (b"GET //a//b/../c%2fd HTTP/1.1", b"//a//b/../c%2fd"),
        (b"GET /s?q={a}^b|c`d[]=\\e'~? HTTP/1.1", b"/s?q={a}^b|c`d[]=\\e'~?"),
        (b"GET /a|b[c] HTTP/1.1", b"/a|b[c]"),
        (b"GET http://edge.test/p?q HTTP/1.1", b"/p?q"),
        (b"GET HTTP://EDGE.test:80/p HTTP/1.1", b"/p"),
        (b"GET http://edge.test HTTP/1.1", b"/"),
        (b"GET http://edge.test?x=1 HTTP/1.1", b"/?x=1"),
        (b"OPTIONS * HTTP/1.1", b"*"),
        (b"OPTIONS http://edge.test HTTP/1.1", b"*"),
        (b"OPTIONS /x HTTP/1.1", b"/x"),
        (b"TRACE / HTTP/1.1", b"/"),
    ],
)
def test_targets(start: bytes, path: bytes) -> None:
    head = request(get(start=start))
    assert head.path == path
    assert head.target == start.split(b" ")[1]
    assert head.host == b"edge.test"


@pytest.mark.parametrize(
    ("start", "verdict"),
    [
        (b"GET\t/\tHTTP/1.1", (400, "method")),
        (b"GET  / HTTP/1.1", (400, "target")),
        (b"GET /  HTTP/1.1", (400, "version")),
        (b" GET / HTTP/1.1", (400, "method")),
        (b"GET / HTTP/1.1 ", (400, "version")),
        (b"GET / HTTP/1.1 HTTP/1.1", (400, "version")),
        (b"GET /a\x01b HTTP/1.1", (400, "target")),
        (b"GET /a\x7fb HTTP/1.1", (400, "target")),
        (b"GET /caf\xc3\xa9 HTTP/1.1", (400, "target")),
        (b"GET /\nHTTP/1.1", (400, "target")),
        (b"GET /", (400, "target")),
        (b"GET", (400, "method")),
        (b"GET foo HTTP/1.1", (400, "target")),
        (b"GET ?x=1 HTTP/1.1", (400, "target")),
        (b"GET :80/ HTTP/1.1", (400, "target")),
        (b"GET @edge.test/ HTTP/1.1", (400, "target")),
        (b"GET * HTTP/1.1", (400, "target")),
        (b"GET edge.test:80 HTTP/1.1", (400, "target")),
        (b"GET /a#frag HTTP/1.1", (400, "target")),
        (b"GET /?a#frag HTTP/1.1", (400, "target")),
        (b'GET /<x>"y" HTTP/1.1', (400, "target")),
        (b"GET /a\\b HTTP/1.1", (400, "target")),
        (b"GET /a^b HTTP/1.1", (400, "target")),
        (b"GET /{a} HTTP/1.1", (400, "target")),
        (b"GET /a`b HTTP/1.1", (400, "target")),
        (b"GET http://edge.test@evil.test/ HTTP/1.1", (400, "host")),
        (b"GET http://u:p@edge.test/ HTTP/1.1", (400, "host")),
        (b"GET http://edge.test:x/ HTTP/1.1", (400, "host")),
        (b"GET http:///p HTTP/1.1", (400, "host")),
        (b"GET https://edge.test/p HTTP/1.1", (400, "target")),
        (b"GET ftp://edge.test/p HTTP/1.1", (400, "target")),
        (b"GET http:/p HTTP/1.1", (400, "target")),
        (b"CONNECT edge.test:443 HTTP/1.1", (405, "method")),
        (b"CONNECT / HTTP/1.1", (400, "target")),
        (b"CONNECT edge.test HTTP/1.1", (400, "target")),
        (b"G\x00T / HTTP/1.1", (400, "method")),
        (b"GET: / HTTP/1.1", (400, "method")),
        (b"G\xc9T / HTTP/1.1", (400, "method")),
        (b"get / HTTP/1.1", (501, "method")),
        (b"Patch / HTTP/1.1", (501, "method")),
        (b"1X / HTTP/1.1", (501, "method")),
        (b"PRI / HTTP/1.1", (400, "head")),
        (b"GET / HTTP/0.9", (505, "version")),
        (b"GET / HTTP/1.2", (505, "version")),
        (b"GET / HTTP/2.0", (505, "version")),
        (b"PRI * HTTP/2.0", (505, "version")),
        (b"GET / HTTP/1.10", (400, "version")),
        (b"GET / HTTP/11", (400, "version")),
        (b"GET / HTTP/1.", (400, "version")),
        (b"GET / http/1.1", (400, "version")),
        (b"GET / XHTTP/1.1", (400, "version")),
        (b"OPTIONS / RTSP/1.0", (400, "version")),
        (b"GET / HTTP/1.1\r", (400, "bare-cr")),
        (b"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1", (400, "empty-lines")),
        (b"\nGET / HTTP/1.1", (400, "method")),
        (b"\rGET / HTTP/1.1", (400, "bare-cr")),
    ],
)
def test_request_lines_that_are_refused(start: bytes, verdict: tuple[int, str]) -> None:
    assert refused(get(start=start)) == verdict


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b": x", "field-name"), (b"Foo", "field-name"), (b"X-A : b", "field-name"), (b"X-A\t: b", "field-name"),
        (b"@X: b", "field-name"), (b"X[A]: b", "field-name"), (b"\xefoo: b", "field-name"), (b"X\x01: b", "field-name"),
        (b'"X": b', "field-name"), (b"X\r-A: b", "field-name"), (b" X-A: b", "field-fold"), (b"\tX: b", "field-fold"),
        (b"X: b\r\n c", "field-fold"), (b"X: b\x00c", "field-value"), (b"X: b\x00", "field-value"),
        (b"X: b\x0bc", "field-value"), (b"X: b\x7f", "field-value"), (b"X: b\nY: c", "field-value"),
        (b"X: b\rY: c", "bare-cr"), (b"X: b\r", "bare-cr"), (b"\rX: b", "bare-cr"), (b"\nX: b", "field-name"),
        (b"Content_Length: 5", "field-name-alias"), (b"Transfer_Encoding: chunked", "field-name-alias"),
        (b"Content.Length: 5", "field-name-alias"), (b"'Transfer-Encoding': chunked", "field-name-alias"),
        (b"Connection: close;", "connection"), (b"Connection: close, Content-Length", "connection"),
        (b"Connection: host", "connection"), (b"Connection: a b", "connection"),
        (b"Connection: Transfer-Encoding", "connection"),
    ],
)  # fmt: skip
def test_field_lines_that_are_refused(line: bytes, reason: str) -> None:
    assert refused(get(line)) == (400, reason)


def test_bare_line_feeds_end_nothing() -> None:
    assert refused(b"GET / HTTP/1.1\nHost: edge.test\n\n") == (400, "version")
    assert refused(b"GET / HTTP/1.1\r\nHost: edge.test\r\n\n") == (400, "field-name")
    assert refused(b"GET / HTTP/1.1\r\nHost: edge.test\r\n\rZ") == (400, "bare-cr")


@pytest.mark.parametrize(
    ("lines", "kind", "length"),
    [
        ([], BodyKind.NONE, -1),
        ([b"Content-Length: 0"], BodyKind.LENGTH, 0),
        ([b"Content-Length:\t5 "], BodyKind.LENGTH, 5),
        ([b"Content-Length: 010"], BodyKind.LENGTH, 10),
        ([b"Content-Length: 999999999999999999"], BodyKind.LENGTH, 999999999999999999),
        ([b"Transfer-Encoding: chunked"], BodyKind.CHUNKED, -1),
        ([b"transfer-encoding:\t  ChunKed \t"], BodyKind.CHUNKED, -1),
    ],
)
@pytest.mark.parametrize("method", [b"POST", b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PURGE"])
def test_framing_does_not_depend_on_the_method(lines: list[bytes], kind: BodyKind, length: int, method: bytes) -> None:
    head = request(post(*lines, start=method + b" /p HTTP/1.1"))
    if length == 0 and method in (b"GET", b"HEAD"):
        kind, length = BodyKind.NONE, -1  # see below
    assert (head.body, head.length) == (kind, length)


@pytest.mark.parametrize("value", [b"0", b"00", b"000000000000000000"])
def test_a_length_of_zero_on_get_and_head_is_no_content(value: bytes) -> None:
    for method in (b"GET", b"HEAD"):
        head = request(post(b"A: b", b"Content-Length: " + value, b"C: d", start=method + b" /p HTTP/1.1"))
        assert (head.body, head.length) == (BodyKind.NONE, -1)
        assert list(head.fields) == [(b"Host", b"edge.test"), (b"A", b"b"), (b"C", b"d")]
    head = request(post(b"Content-Length: " + value, start=b"DELETE /p HTTP/1.1"))
    assert (head.body, head.length) == (BodyKind.LENGTH, 0)
    assert b"content-length" in head.fields


@pytest.mark.parametrize(
    "value",
    [
        b"", b"-5", b"+5", b"-0", b"a", b"0x5", b"5.0", b"5abc", b'"5"', b"0_5", b"5 5", b"\xa05", b"5\x85", b"\xb2",
        b"\xd9\xa5", b"chunked", b",", b"5, 5", b",5", b"9223372036854775813", b"18446744073709551621", b"1e2",
        b"00000000000000000000000000000000000000005", b"4" * 200,
    ],
)  # fmt: skip
def test_content_length_is_a_plain_number(value: bytes) -> None:
    assert refused(post(b"Content-Length: " + value)) == (400, "content-length")


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        ([b"Content-Length: 5", b"Content-Length: 5"], (400, "content-length")),
        ([b"Content-Length: 0", b"content-length: 56"], (400, "content-length")),
        ([b"Content-Length:", b"Content-Length: 56"], (400, "content-length")),
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], (400, "framing")),
        ([b"Transfer-Encoding: cow", b"Content-Length: 0"], (400, "framing")),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], (400, "transfer-coding")),
        ([b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"], (400, "transfer-coding")),
        ([b"Transfer-Encoding: gzip, chunked"], (501, "transfer-coding")),
        ([b"Transfer-Encoding: cow"], (501, "transfer-coding")),
        ([b"Transfer-Encoding: identity"], (501, "transfer-coding")),
        ([b"Transfer-Encoding: chunked, gzip"], (400, "transfer-coding")),
        ([b"Transfer-Encoding: chunked, chunked"], (400, "transfer-coding")),
        ([b"Transfer-Encoding: , chunked"], (400, "transfer-coding")),
        ([b"Transfer-Encoding: xchunked"], (400, "transfer-coding")),
        ([b"Transfer-Encoding: chunked;q=1"], (400, "transfer-coding")),
        ([b'Transfer-Encoding: "chunked"'], (400, "transfer-coding")),
        ([b"Transfer-Encoding: chunked chunked"], (400, "transfer-coding")),
        ([b"Transfer-Encoding: \xa0chunked"], (400, "transfer-coding")),
        ([b"Transfer-Encoding:"], (400, "transfer-coding")),
        ([b"Transfer-Encoding: \x0bchunked"], (400, "field-value")),
    ],
)
def test_framing_that_two_servers_read_differently(lines: list[bytes], verdict: tuple[int, str]) -> None:
    assert refused(post(*lines)) == verdict


def test_transfer_encoding_in_http_1_0_is_refused() -> None:
    assert refused(post(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0")) == (400, "framing")


@pytest.mark.parametrize(
    ("version", "lines", "keep_alive"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"Connection: Keep-Alive"], True),
        (b"1.1", [b"Connection: Close"], False),
        (b"1.1", [b"Connection: TE,\t, CLOSE"], False),
        (b"1.1", [b"Connection: te", b"Connection: close"], False),
        (b"1.1", [b"Connection: closed"], True),
        (b"1.0", [], False),
        (b"1.0", [b"Connection: keep-alive"], True),
        (b"1.0", [b"Connection: keep-alive, close"], False),
        (b"1.0", [b"Connection: x"], False),
    ],
)
def test_persistence(version: bytes, lines: list[bytes], keep_alive: bool) -> None:
    assert request(get(*lines, start=b"GET / HTTP/" + version)).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("lines", "upgrade"),
    [
        ([b"Connection: Upgrade", b"Upgrade: websocket"], b"websocket"),
        ([b"Connection: keep-alive, upgrade", b"Upgrade: WebSocket"], b"websocket"),
        ([b"Connection: upgrade", b"Upgrade: h2c, websocket"], b"websocket"),
        ([b"Connection: upgrade", b"Upgrade: Flyby-Tunnel/1"], b"flyby-tunnel/1"),
        ([b"Connection: upgrade", b"Upgrade: h2c, flyby-tunnel/1, websocket"], b"flyby-tunnel/1"),
        ([b"Connection: upgrade", b"Upgrade: flyby-tunnel"], None),
        ([b"Connection: upgrade", b"Upgrade: flyby-tunnel/2"], None),
        ([b"Upgrade: flyby-tunnel/1"], None),
        ([b"Connection: upgrade", b"Upgrade: h2c"], None),
        ([b"Connection: upgrade", b"Upgrade: websocket/13"], None),
        ([b"Connection: upgrade", b"Upgrade: foo", b"Content-Length: 0"], None),
        ([b"Upgrade: websocket"], None),
        ([b"Connection: upgrade"], None),
    ],
)
def test_only_known_protocols_are_ever_switched_to(lines: list[bytes], upgrade: bytes | None) -> None:
    assert request(get(*lines)).upgrade == upgrade


def test_upgrades_that_are_ignored() -> None:
    offer = (b"Connection: Upgrade", b"Upgrade: websocket")
    assert request(get(*offer, start=b"GET / HTTP/1.0")).upgrade is None
    assert request(get(*offer, start=b"POST / HTTP/1.1")).upgrade is None


def test_content_with_an_upgrade() -> None:
    assert refused(post(b"Connection: Upgrade", b"Upgrade: foo", b"Content-Length: 5")) == (400, "upgrade")
    assert refused(post(b"Connection: Upgrade", b"Upgrade: foo", b"Transfer-Encoding: chunked")) == (400, "upgrade")
    # Java's client offers h2c with everything it sends.
    head = request(post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"Content-Length: 5"))
    assert (head.body, head.length, head.upgrade) == (BodyKind.LENGTH, 5, None)


def test_expectations() -> None:
    length = b"Content-Length: 5"
    assert request(post(b"Expect: 100-Continue", length)).expect_continue
    assert request(post(b"Expect: 100-continue", b"Expect: 100-continue", length)).expect_continue
    assert not request(post(b"Expect: 100-continue", length, start=b"POST / HTTP/1.0")).expect_continue
    for value in (b"banana", b"y 100-continue", b"100-continue, banana", b""):
        assert refused(post(b"Expect: " + value, length)) == (417, "expect")


SMALL = StandardLimits(request_line=40, header_line=45, header_block=150, fields=4)


def test_each_limit_is_met_exactly() -> None:
    def line(length: int) -> bytes:
        return b"GET /" + b"a" * (length - 14) + b" HTTP/1.1"

    assert len(request(get(start=line(40)), limits=SMALL).path) == 27
    assert refused(get(start=line(41)), limits=SMALL) == (414, "target-too-long")
    assert refused(b"A" * 60 + b" / HTTP/1.1\r\n", limits=SMALL) == (400, "method")
    assert request(get(b"A: " + b"b" * 42), limits=SMALL).fields.get(b"a") == b"b" * 42
    assert refused(get(b"A: " + b"b" * 43), limits=SMALL) == (431, "field-line-too-long")
    assert refused(get(b"N" * 200 + b": b"), limits=SMALL) == (431, "field-line-too-long")
    assert len(request(get(b"A: 1", b"B: 2", b"C: 3"), limits=SMALL).fields) == 4
    assert refused(get(b"A: 1", b"B: 2", b"C: 3", b"D: 4"), limits=SMALL) == (431, "too-many-fields")
    fields = (b"A: " + b"a" * 40, b"B: " + b"b" * 37, b"C: " + b"c" * 39)
    full = get(*fields, start=line(40))
    assert len(full) == 42 + 150
    assert len(request(full, limits=SMALL).fields) == 4
    assert refused(full.replace(b"C: ", b"C: c"), limits=SMALL) == (431, "fields-too-large")


@pytest.mark.parametrize(
    ("name", "within", "verdict"),
    [
        ("request_line", get(start=b"GET /" + b"a" * 60 + b" HTTP/1.1"), (414, "target-too-long")),
        ("header_line", get(b"Cookie: " + b"a" * 60), (431, "field-line-too-long")),
        ("header_block", get(b"A: 1", b"B: " + b"b" * 40), (431, "fields-too-large")),
        ("fields", get(*[b"A: b"] * 60), (431, "too-many-fields")),
    ],
)
def test_a_limit_limits_what_it_says(name: str, within: bytes, verdict: tuple[int, str]) -> None:
    """Each of them alone is small, and the others are as wide as the head needs."""
    wide = {"request_line": 1000, "header_line": 1000, "header_block": 1000, "fields": 1000}
    assert request(within, limits=StandardLimits(**wide)).path
    assert refused(within, limits=StandardLimits(**{**wide, name: 50})) == verdict


def test_too_much_is_refused_before_its_end_arrives() -> None:
    reader = HeadReader(STANDARD_LIMITS, "request")
    with pytest.raises(WireError) as caught:
        reader.feed(b"GET /" + b"a" * 70000)
    assert caught.value.status == 414
    reader = HeadReader(STANDARD_LIMITS, "request")
    line = b"A: " + b"b" * 8000 + b"\r\n"
    reader.feed(b"GET / HTTP/1.1\r\nHost: e\r\n" + line * 4)
    with pytest.raises(WireError) as caught:
        reader.feed(line)
    assert caught.value.status == 431


def test_empty_tells_a_connection_at_rest_from_one_in_a_head() -> None:
    reader = HeadReader(STANDARD_LIMITS, "request")
    assert reader.empty
    reader.feed(b"\r\n")
    assert reader.empty
    reader.feed(b"G")
    assert not reader.empty
    assert not reader.complete
    with pytest.raises(ValueError, match="no complete head"):
        reader.take_request(b"http")


def test_heads_come_one_at_a_time() -> None:
    data = get(start=b"GET /one HTTP/1.1") + get(start=b"GET /two HTTP/1.1")
    reader = HeadReader(STANDARD_LIMITS, "request")
    used = reader.feed(data)
    assert reader.complete
    assert reader.feed(data[used:]) == 0
    assert reader.take_request(b"http").path == b"/one"
    assert reader.feed(data[used:]) == len(data) - used
    assert reader.take_request(b"http").path == b"/two"


@pytest.mark.serial
def test_a_head_byte_by_byte_costs_linear_time() -> None:
    def seconds(size: int) -> float:
        limits = StandardLimits(header_line=size * 2, header_block=size * 2)
        reader = HeadReader(limits, "request")
        data = get(b"A: " + b"b" * size)
        begun = time.perf_counter()
        for at in range(len(data)):
            reader.feed(data[at : at + 1])
        assert reader.complete
        return time.perf_counter() - begun

    small = min(seconds(10_000) for _ in range(3))
    # Ten times the bytes take ten times as long; a buffer that is copied or scanned anew would take a hundred.
    assert min(seconds(100_000) for _ in range(3)) < small * 40


def test_a_fault_is_final() -> None:
    reader = HeadReader(STANDARD_LIMITS, "request")
    with pytest.raises(WireError):
        reader.feed(get(b"X: y\x00"))
    with pytest.raises(ValueError, match="after a fault"):
        reader.feed(b"\r\n")
