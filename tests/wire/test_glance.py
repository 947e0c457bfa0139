"""A glance accepts nothing that the full parser refuses, and sees in it what the full parser sees."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyby.errors import WireError
from flyby.wire import STANDARD_LIMITS, BodyKind, HeadReader
from flyby.wire._glance import glance_at
from flyby.wire.agreement import agree_request
from flyby.wire.limits import StandardLimits

BROWSER = (
    b"GET /a/b.css?v=1&w[]=2 HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: Mozilla/5.0 (X11; Linux)\r\n"
    b"Accept: text/css,*/*;q=0.1\r\nAccept-Language: en-GB,en;q=0.7\r\nAccept-Encoding: gzip, br\r\n"
    b'Referer: http://shop.test/\r\nCookie: a="b"; c=d\r\nIf-None-Match: W/"x"\r\nSec-Fetch-Dest: style\r\n'
    b"X-Request-Id: 0123456789abcdef0123\r\nConnection: Keep-Alive\r\n\r\n"
)
PLAIN = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /x?y HTTP/1.1\r\nhost:127.0.0.1:8080\r\nAccept:\r\nX:  y \t\r\n\r\n",
    b"GET /%2e%2e//a HTTP/1.1\r\nHOST: a-b.c_d.example\r\nX: \xe9\xff\r\nX: 2\r\n\r\n",
    b"GET /? HTTP/1.1\r\nConnection: keep-alive\r\nHost: a.b:81\r\nRange: bytes=0-1\r\nAuthorization: x\r\n\r\n",
    BROWSER,
]
# Plain, but more than a look-up: `glance` leaves them alone.
WITH_MORE = [
    b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n",
    b"PUT /x?y HTTP/1.1\r\ncontent-length: 000000000000000005\r\nHost: a\r\nOrigin: http://b\r\n\r\n",
    b"PATCH / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nTrailer: x\r\n\r\n",
    b"DELETE /1 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n\r\n",
    b"OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: null\r\nContent-Length: 0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 999999999999999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nContent-Length: 00\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
]
# What a request may hold and a glance leaves to the full parser, though that accepts it or not.
OTHERWISE = [
    b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"post / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"QUERY / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GETS / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: A\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a:80\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a:081\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a:70000\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
    b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    *(
        b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % lines
        for lines in (
            b"Content-Length: 5\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 5",
            b"Content-Length: 5\r\nContent-Length: 5",
            b"Content-Length: 5, 5",
            b"Content-Length: +5",
            b"Content-Length: 0x5",
            b"Content-Length: 5_0",
            b"Content-Length: \xb2",
            b"Content-Length: -1",
            b"Content-Length:",
            b"Content-Length:5",
            b"Content-Length:  5",
            b"Content-Length:\t5",
            b"Content-Length: 5 ",
            b"Content-Length : 5",
            b"Content-Length: 1000000000000000000",
            b"Content_Length: 5",
            b"Content-Length\r\n : 5",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: identity",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: chunked, chunked",
            b"Transfer-Encoding: chunked;q=1",
            b'Transfer-Encoding: "chunked"',
            b"Transfer-Encoding: \x0bchunked",
            b"Transfer-Encoding:\tchunked",
            b"Transfer-Encoding: chunked\t",
            b"Transfer.Encoding: chunked",
            b"Connection: close, keep-alive",
            b"Connection: close\r\nConnection: keep-alive",
            b"Connection: content-length\r\nContent-Length: 5",
            b"Connection: upgrade\r\nUpgrade: h2c",
            b"Upgrade: h2c",
            b"Expect: 100-continue\r\nExpect: 100-continue",
            b"Expect: 200-ok",
            b"Expect: 100-continue, x",
        )
    ),
]  # fmt: skip
PIECES = [
    b"GET ", b"HEAD ", b"POST ", b"OPTIONS ",
    b"Content-Length: 0\r\n", b"Expect: 100-continue\r\n",
    b"/", b"?", b"#", b" ", b"\t", b"\r\n", b"\r", b"\n", b"\x00", b":", b"Host",
    b"host: a", b"Connection: keep-alive\r\n", b"Connection: close\r\n", b"Content-Length: 5\r\n",
    b"content-_length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: x\r\n", b"Upgrade: websocket\r\n",
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.1", b"\x7f", b"\x80", b"\xff", b".", b"..", b"A", b"_", b"-", b"%00", b"\\",
    b'"', b"<", b"^", b"`", b"{", b"|", b"[::1]", b":80", b":443", b":0", b":65536", b"x" * 200,
]  # fmt: skip
SMALL = StandardLimits(request_line=64, header_line=70, header_block=256, fields=4)
LIMITS = [STANDARD_LIMITS, SMALL]


def agree(data: bytes, limits: StandardLimits, scheme: bytes) -> bool:
    """Whether a glance recognised the request; the full parser must then say the very same of it."""
    seen = glance_at(data, limits, scheme)
    plain = glance_at(data, limits, scheme, True)
    if seen is None:
        assert plain is None
        return False
    length, method, target, host, fields, content, (closes, expects), firsts = seen
    reader = HeadReader(limits, "request")
    assert reader.feed(data) == length
    assert reader.complete
    head = reader.take_request(scheme)
    assert (head.method, head.target, head.path, head.host) == (method, target, target, host)
    if method in (b"GET", b"HEAD") and head.body is BodyKind.NONE:
        fields = [(name, value) for name, value in fields if name.lower() != b"content-length"]
    assert list(head.fields) == fields
    assert (head.version, head.body, head.length if head.body == BodyKind.LENGTH else -1) == (11, *content)
    assert (head.keep_alive, head.expect_continue, head.upgrade) == (not closes, expects, None)
    assert firsts == {name: head.fields.get(name) or b"" for name in firsts}
    agree_request(data[:length], method, 11)
    few = method in (b"GET", b"HEAD") and not closes and not expects and content == (BodyKind.NONE, -1)
    assert plain == (seen if few and b"content-length" not in {name.lower() for name, _ in seen[4]} else None)
    return True


@pytest.mark.parametrize("data", PLAIN + WITH_MORE)
@pytest.mark.parametrize("behind", [b"", b"GET", b"\r\n", b"\x00" * 70000])
def test_a_plain_request_is_recognised(data: bytes, behind: bytes) -> None:
    assert agree(data + behind, STANDARD_LIMITS, b"http")


@pytest.mark.parametrize("data", PLAIN)
def test_what_a_look_up_can_answer(data: bytes) -> None:
    assert glance_at(data, STANDARD_LIMITS, b"http", True) is not None


@pytest.mark.parametrize("data", WITH_MORE)
def test_what_it_cannot(data: bytes) -> None:
    assert glance_at(data, STANDARD_LIMITS, b"http", True) is None


@pytest.mark.parametrize("data", PLAIN + WITH_MORE)
def test_a_request_that_has_not_arrived_whole_is_not(data: bytes) -> None:
    for end in range(len(data)):
        assert glance_at(data[:end], STANDARD_LIMITS, b"http") is None


@pytest.mark.parametrize("data", OTHERWISE)
def test_anything_else_is_left_to_the_full_parser(data: bytes) -> None:
    assert glance_at(data, STANDARD_LIMITS, b"http") is None


def test_the_port_of_the_scheme_is_another_spelling() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a:443\r\n\r\n"
    assert glance_at(data, STANDARD_LIMITS, b"https") is None
    assert agree(data, STANDARD_LIMITS, b"http")


@pytest.mark.parametrize("size", range(40, 80))
def test_limits_are_the_same_or_narrower(size: int) -> None:
    agree(b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * size), SMALL, b"http")
    agree(b"GET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"x" * size), SMALL, b"http")
    lines = b"".join(b"X: %s\r\n" % (b"x" * size) for _ in range(3))
    agree(b"GET / HTTP/1.1\r\nHost: a\r\n%s\r\n" % lines, SMALL, b"http")
    assert glance_at(b"GET / HTTP/1.1\r\nHost: a\r\n%s\r\n" % (b"X: y\r\n" * 4), SMALL, b"http") is None


@pytest.mark.parametrize("byte", range(256))
@pytest.mark.parametrize(
    "frame",
    [
        b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /?%b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1%b\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a%b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX%b: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y%bz\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-aliv%b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent%bLength: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5%b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length%b: 5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: %bchunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked%b\r\n\r\n",
        b"POST%b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"%bOST / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: clos%b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continu%b\r\n\r\n",
    ],
)
def test_every_byte_everywhere(frame: bytes, byte: int) -> None:
    agree(frame % bytes([byte]), STANDARD_LIMITS, b"http")


@pytest.mark.parametrize("at", [0, 1, 14, 15, 16, 17, 31, 32, 39])
def test_every_byte_of_a_long_value(at: int) -> None:
    for byte in range(256):
        value = b"v" * at + bytes([byte]) + b"v" * (40 - at)
        data = b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % value
        assert agree(data, STANDARD_LIMITS, b"http") == (byte == 9 or (byte >= 32 and byte != 127))


@pytest.mark.parametrize("name", [b"content-length", b"transfer-encoding", b"if-unmodified-since", b"if-none-match"])
def test_a_name_that_differs_in_one_byte_is_another(name: bytes) -> None:
    for at in range(len(name)):
        other = name[:at] + bytes([name[at] ^ 1]) + name[at + 1 :]
        agree(b"GET / HTTP/1.1\r\nHost: a\r\n%b: x\r\n\r\n" % other, STANDARD_LIMITS, b"http")
        upper = name[:at] + name[at : at + 1].upper() + name[at + 1 :]
        recognised = agree(b"GET / HTTP/1.1\r\nHost: a\r\n%b: x\r\n\r\n" % upper, STANDARD_LIMITS, b"http")
        assert recognised == name.startswith(b"if-")  # `x` is no framing


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A request with a few pieces put in, cut out or doubled."""
    data = draw(st.sampled_from(PLAIN + WITH_MORE + OTHERWISE))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 12))
        data = data[:at] + draw(st.sampled_from([*PIECES, b"", data[at : at + cut] * 2])) + data[at + cut :]
    return data + draw(st.sampled_from([b"", b"GET / HTTP/1.1\r\n"]))


@given(mutated(), st.sampled_from(LIMITS), st.sampled_from([b"http", b"https"]))
@settings(max_examples=1500, deadline=None)
def test_mutations(data: bytes, limits: StandardLimits, scheme: bytes) -> None:
    try:
        agree(data, limits, scheme)
    except WireError as error:
        pytest.fail(f"a glance accepted what is refused: {data!r}: {error}")


LINES = st.tuples(
    st.sampled_from([b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", b"Range", b"Cookie", b"x_b"]),
    st.sampled_from([b": ", b": ", b":", b":  ", b" : ", b":\t"]),
    st.sampled_from([b"5", b"0", b"chunked", b"keep-alive", b"close", b"100-continue", b"", b"5,5", b"bytes=0-"]),
    st.sampled_from([b"\r\n", b"\r\n", b" \r\n", b"\n"]),
).map(b"".join)


@given(
    st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"CONNECT"]), st.lists(LINES)
)
@settings(max_examples=1500, deadline=None)
def test_framing_lines_in_any_order(method: bytes, lines: list[bytes]) -> None:
    agree(b"%b / HTTP/1.1\r\nHost: a\r\n%b\r\n" % (method, b"".join(lines)), STANDARD_LIMITS, b"http")
