"""The second opinion: a head that the scanner takes and httptools does not is refused."""

from __future__ import annotations

import pathlib

import pytest

import flyby
from flyby.errors import WireError
from flyby.wire.agreement import agree_request, agree_response


def test_httptools_has_a_say_on_requests() -> None:
    good = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    agree_request(good, b"POST", 11)
    agree_request(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", b"GET", 11)
    for head, method, version, status in (
        (good, b"PUT", 11, 400),
        (good, b"POST", 10, 400),
        (good.replace(b"POST", b"FOO"), b"FOO", 11, 501),
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


def test_nobody_makes_httptools_lenient() -> None:
    sources = pathlib.Path(flyby.__path__[0]).rglob("*.py*")
    assert not [path for path in sources if path.suffix != ".pyc" and b"set_dangerous_leniencies" in path.read_bytes()]
