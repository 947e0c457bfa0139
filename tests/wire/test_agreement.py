"""The second opinion: a head that the scanner takes and httptools does not is refused."""

from __future__ import annotations

import pathlib

import pytest

import flyby
from flyby.errors import WireError
from flyby.wire import BodyKind, serialise_response
from flyby.wire.agreement import agree_request, agree_response

from .reading import refused, response


def test_httptools_has_a_say_on_requests() -> None:
    good = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    agree_request(good, b"POST", 11)
    agree_request(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", b"GET", 11)
    for head, method, version, status in (
        (good, b"PUT", 11, 400),
        (good, b"POST", 10, 400),
        (good.replace(b"POST", b"foo"), b"foo", 11, 501),
        (good.replace(b"POST", b"PRI"), b"PRI", 11, 400),
        (good.replace(b"5\r\n", b"5x\r\n"), b"POST", 11, 400),
    ):
        with pytest.raises(WireError) as caught:
            agree_request(head, method, version)
        assert caught.value.status == status


def test_httptools_has_a_say_on_responses() -> None:
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    agree_response(good, 200)
    agree_response(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 101)
    for head, status in ((good, 201), (good.replace(b"5\r\n", b"5x\r\n"), 200)):
        with pytest.raises(WireError) as caught:
            agree_response(head, status)
        assert caught.value.status == 502


def _response(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in (b"HTTP/1.1 200 OK", *lines)) + b"\r\n"


CORRECTIONS = [  # as it came, and as it is passed on
    (b"X-A : b", (b"X-A", b"b")),
    (b"X-A \t :b", (b"X-A", b"b")),
    (b"Set-Cookie\t: a=b", (b"Set-Cookie", b"a=b")),
    (b"X-A: b\x01c", (b"X-A", b"b\x01c")),
    (b"X-A:\x7f", (b"X-A", b"\x7f")),
    (b"X-A: \x0b\x0c ", (b"X-A", b"\x0b\x0c")),
    (b"X-A\t: \x1b[1m", (b"X-A", b"\x1b[1m")),
]
FRAMING = (b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"Proxy-Connection", b"Trailer")


@pytest.mark.parametrize(("line", "read"), CORRECTIONS)
def test_a_response_s_line_is_corrected(line: bytes, read: tuple[bytes, bytes]) -> None:
    """llhttp refuses each as it came, and a request with it is refused by both."""
    with pytest.raises(WireError):
        agree_response(_response(line), 200)
    head = response(_response(line, b"Content-Length: 5"))
    assert list(head.fields) == [read, (b"Content-Length", b"5")]
    assert head.framing(b"GET") == (BodyKind.LENGTH, 5)
    assert response(serialise_response(200, b"OK", head.fields)).fields == head.fields
    assert refused(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % line)[0] == 400


@pytest.mark.parametrize(
    "name", [*FRAMING, *(name.lower() for name in FRAMING), b"Content_Length", b"transfer.encoding"]
)
@pytest.mark.parametrize("form", [b"%b : %b", b"%b\t: %b", b"%b: %b\x01", b"%b: \x0b%b", b"%b: \x7f%b", b"%b:\x0c %b"])
def test_a_framing_field_is_never_corrected(name: bytes, form: bytes) -> None:
    value = b"chunked" if name.lower().startswith(b"tr") else b"5"
    line = form % (name, value)
    assert refused(_response(line), "response") == (502, "framing-field")
    assert refused(_response(b"X-A : b", line, b"X-B: \x01"), "response") == (502, "framing-field")


def test_a_correction_hides_no_fault_of_framing() -> None:
    for line, _ in CORRECTIONS:
        for lines in (
            [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
            [b"Content-Length: 5", b"Content-Length: 6"],
            [b"Content-Length: +5"],
            [b"Transfer-Encoding: chunked, chunked"],
        ):
            assert refused(_response(line, *lines), "response")[0] == 502
            assert refused(_response(*lines, line), "response")[0] == 502


@pytest.mark.parametrize("byte", [b"\x00", b"\r", b"\n", b"\r\n"])
def test_what_ends_a_line_is_never_part_of_a_value(byte: bytes) -> None:
    assert refused(_response(b"X-A: \x01%bContent-Length: 5" % byte + b"\x01"), "response")[0] == 502


def test_a_status_line_may_lack_its_second_space() -> None:
    """Nothing is shown to llhttp but what came; it reads the line too."""
    for line in (b"HTTP/1.1 200\r\n", b"HTTP/1.0 404\r\n"):
        agree_response(line + b"\r\n", int(line[9:12]))
        head = response(line + b"Content-Length: 5\r\n\r\n")
        assert (head.status, head.reason) == (int(line[9:12]), b"")
        assert head.framing(b"GET") == (BodyKind.LENGTH, 5)
    assert refused(b"HTTP/1.1 200\r\nContent-Length : 5\r\n\r\n", "response") == (502, "framing-field")


def test_nobody_makes_httptools_lenient() -> None:
    sources = pathlib.Path(flyby.__path__[0]).rglob("*.py*")
    assert not [path for path in sources if path.suffix != ".pyc" and b"set_dangerous_leniencies" in path.read_bytes()]
