"""Small values in text: what is accepted, what it means, and that a refusal says what to write instead."""

from __future__ import annotations

import pytest

from flyby.config.values import Address, OriginURL, parse_duration, parse_listen, parse_origin, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256MiB", 256 << 20),
        ("256M", 256 << 20),
        ("256 mb", 256 << 20),
        ("1.5g", 3 << 29),
        ("0.1k", 102),
        ("8KiB", 8192),
        ("2TiB", 2 << 40),
        ("65536", 65536),
        ("12b", 12),
        (4096, 4096),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "256 megs", "-1", "1e3", "1.k", "٣", "1 k k", "9" * 5000])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("1.5m", 90), ("1h30m", 5400), ("1d", 86400), ("7", 7), (7, 7), (0.25, 0.25)],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "30 parsecs", "-1s", "1h30", "5 minims", "1.s", "inf", "5 5"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:80", Address("::1", 80)),
        ("[fe80::1%eth0]:80", Address("fe80::1%eth0", 80)),
        (":8080", Address("", 8080)),
        ("*:8080", Address("", 8080)),
    ],
)
def test_listen_addresses(text: str, address: Address) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("8080", "write HOST:PORT, as 127.0.0.1:8080"),
        ("localhost", "has no port"),
        ("[::1]", "has no port"),
        ("::1:8080", r"write \[::1\]"),
        ("a:65536", "0 to 65535"),
        ("a:http", "0 to 65535"),
        ("a:", "0 to 65535"),
        ("ftp://a:80", "unknown scheme"),
        ("proxy://a:80", "unknown scheme; write http://HOST:PORT or https://HOST:PORT, behind a PROXY protocol"),
        ("proxy+proxy+http://a:80", "unknown scheme"),
        ("https://a", "in 'https://a', 'a' has no port"),
        ("https://a:80/", "0 to 65535"),
        ("https://http://a:80", "IPv6|valid host|unknown|address"),
        ("a b:80", "no valid host name"),
        ("[zz]:80", "no valid IPv6"),
        ("", "has no port"),
    ],
)
def test_what_is_no_listen_address(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_listen(text)


@pytest.mark.parametrize(
    ("text", "origin", "authority"),
    [
        ("http://localhost:5000", OriginURL("http", "localhost", 5000), "localhost:5000"),
        ("https://App.herokuapp.com/", OriginURL("https", "app.herokuapp.com", 443), "app.herokuapp.com"),
        ("https://a.b:443", OriginURL("https", "a.b", 443), "a.b"),
        ("http://a.b:443", OriginURL("http", "a.b", 443), "a.b:443"),
        ("http://[::1]:5000", OriginURL("http", "::1", 5000), "[::1]:5000"),
        ("http://[::1]", OriginURL("http", "::1", 80), "[::1]"),
    ],
)
def test_origins(text: str, origin: OriginURL, authority: str) -> None:
    assert parse_origin(text) == origin
    assert parse_origin(text).authority == authority


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("localhost:5000", "write http://localhost:5000"),
        ("example.com", "write http://example.com"),
        ("ftp://a", "is not an http:// or https:// URL$"),
        ("http://u:secret@a", "user or password"),
        ("http://a/path", "a route's rewrite"),
        ("http://a?", "must end after the host"),
        ("http://a:0", "1 to 65535"),
        ("http://a:99999", "1 to 65535"),
        ("http://a:", "1 to 65535"),
        ("http://", "no valid host"),
        ("http://a b", "white space"),
        ("http://a\n", "white space"),
        ("http://::1", r"write \[::1\]"),
        ("http://bücher.example", "write xn--bcher-kva.example"),
        ("http://[::1", "is not a URL"),
        ("", "is not an http"),
    ],
)
def test_what_is_no_origin(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_origin(text)


def test_a_refused_origin_does_not_repeat_its_password() -> None:
    with pytest.raises(ValueError, match="user or password") as caught:
        parse_origin("http://u:hunter2@a")
    assert "hunter2" not in str(caught.value)
