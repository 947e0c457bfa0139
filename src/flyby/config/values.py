"""Small values in text: sizes, durations, listen addresses and origin URLs.

Each parser takes what an operator would write and returns a typed value, or raises `ValueError` whose message is one
sentence that says what was expected. Nothing here touches the network: names are resolved where they are dialled.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

_SIZE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,9}))?\s*([A-Za-z]*)\Z", re.ASCII)
_SIZE_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    # "k", "kb" and "kib" are all 1024: nobody means a cache of 256,000,000 bytes, and no limit here is a bill.
    _SIZE_UNITS |= {_letter: 1024**_power, f"{_letter}b": 1024**_power, f"{_letter}ib": 1024**_power}

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
for _short, _words in (
    ("s", "sec secs second seconds"),
    ("m", "min mins minute minutes"),
    ("h", "hour hours"),
    ("d", "day days"),
):
    _DURATION_UNITS |= dict.fromkeys(_words.split(), _DURATION_UNITS[_short])
_DURATION = re.compile(
    rf"\s*([0-9]{{1,12}}(?:\.[0-9]{{1,9}})?)\s*({'|'.join(sorted(_DURATION_UNITS, key=len, reverse=True))})?", re.ASCII
)

_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?\Z", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}\Z", re.ASCII)
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\Z", re.ASCII)

DEFAULT_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """Where to listen. `host` is a name or an address without brackets; "" means every address.

    `secure` says that TLS is spoken there, `proxy_protocol` that each connection begins with a PROXY header.
    """

    host: str
    port: int
    secure: bool = False
    proxy_protocol: bool = False


class OriginURL(NamedTuple):
    """One origin: scheme, host without brackets in lower case, and port."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """What a client would send as Host: the port only when it is not the scheme's own (RFC 9110 4.2.3)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_size(value: str | int) -> int:
    """`"256MiB"`, `"1.5g"`, `"65536"` or a plain number -> bytes. Units are powers of 1024."""
    if isinstance(value, int):
        return value
    match = _SIZE.match(value.strip())
    unit = _SIZE_UNITS.get(match[3].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{value!r} is not a size such as 64KiB, 256MiB or 2GiB")
    whole, fraction = match[1], match[2] or ""
    scale: int = 10 ** len(fraction)
    return int(whole + fraction) * unit // scale


def parse_duration(value: str | float) -> float:
    """`"500ms"`, `"30s"`, `"1h30m"` or a plain number -> seconds."""
    if isinstance(value, int | float):
        return float(value)
    text, position, seconds, bare = value.strip(), 0, 0.0, False
    while position < len(text) and not bare:
        match = _DURATION.match(text, position)
        if match is None:
            break
        bare = match[2] is None  # a number without a unit can only be the last part
        seconds += float(match[1]) * _DURATION_UNITS[match[2] or "s"]
        position = match.end()
    if not text or position != len(text) or (bare and not _is_number(text)):
        raise ValueError(f"{value!r} is not a duration such as 500ms, 30s, 5m or 1h30m")
    return seconds


def _is_number(text: str) -> bool:
    match = _DURATION.match(text)
    return match is not None and match[2] is None and match.end() == len(text)


def parse_listen(text: str) -> Address:
    """`"127.0.0.1:8080"`, `"[::1]:8080"`, `":8080"` or `"*:8080"` (every address). Port 0 takes a free one.

    With `https://` before it, TLS is spoken there; `http://` may stand there, too. `proxy+http://` and `proxy+https://`
    say that a balancer connects there which sends the PROXY protocol first.
    """
    scheme, mark, rest = text.partition("://")
    if mark:
        inner = scheme.lower().removeprefix("proxy+")
        if inner not in DEFAULT_PORTS:
            hint = "write http://HOST:PORT or https://HOST:PORT, behind a PROXY protocol proxy+http://HOST:PORT"
            raise ValueError(f"{text!r} has an unknown scheme; {hint}")
        try:
            return _address(rest)._replace(secure=inner == "https", proxy_protocol=inner != scheme.lower())
        except ValueError as error:
            raise ValueError(f"in {text!r}, {error}") from None
    return _address(text)


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon and _PORT.match(text):
        raise ValueError(f"{text!r} is only a port; write HOST:PORT, as 127.0.0.1:{text} or :{text}")
    if not colon or (host.startswith("[") and not host.endswith("]")):
        raise ValueError(f"{text!r} has no port; write HOST:PORT, as {text or '127.0.0.1'}:8080")
    if not _PORT.match(port) or int(port) > 65535:
        raise ValueError(f"{text!r} has no valid port: it must be a number from 0 to 65535")
    if host in ("", "*"):
        return Address("", int(port))
    return Address(_host(host, text), int(port))


def parse_origin(text: str) -> OriginURL:
    """`"https://app.herokuapp.com"` -> its parts. A path, query, fragment or user means nothing here: refused."""
    if any(character <= " " for character in text):  # urlsplit would drop some of them in silence
        raise ValueError(f"{text!r} must not hold white space")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a URL: {error}") from None
    if parts.scheme not in DEFAULT_PORTS:
        if text.startswith(("unix:", "/")):
            raise ValueError(f"{text!r} is a Unix socket, which flyby cannot dial; let the app listen on 127.0.0.1")
        # Heroku ends TLS for every app, and redirects or refuses what comes without.
        scheme = "https" if re.match(r"[^/:]+\.(?:herokuapp|herokudns)\.com(?:[:/]|\Z)", text, re.I) else "http"
        hint = f"; write {scheme}://{text}" if "://" not in text and text else ""
        raise ValueError(f"{text!r} is not an http:// or https:// URL{hint}")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{parts.hostname!r}: a user or password in an origin's URL is not used; set a request header")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError(f"{text!r} must end after the host and port; a route's rewrite can change the path")
    host, given = parse_authority(parts.netloc)
    if given == 0:
        raise ValueError(f"{text!r} has no valid port: it must be a number from 1 to 65535")
    return OriginURL(parts.scheme, host, given or DEFAULT_PORTS[parts.scheme])


def parse_authority(text: str) -> tuple[str, int | None]:
    """`"Example.com:8080"` -> host in lower case without brackets, and the port if there is one."""
    head, colon, port = text.rpartition(":")
    if text.count(":") > 1 and not text.startswith("["):
        raise ValueError(f"{text!r} holds an IPv6 address without brackets; write [{text}]")
    if not colon or "]" in port:
        return _host(text, text).lower(), None
    if not _PORT.match(port) or int(port) > 65535:
        raise ValueError(f"{text!r} has no valid port: it must be a number from 1 to 65535")
    return _host(head, text).lower(), int(port)


def _host(host: str, text: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        if ":" in host and _IPV6.match(host[1:-1]):
            return host[1:-1]
        raise ValueError(f"{text!r} has no valid IPv6 address between its brackets")
    if ":" in host:
        raise ValueError(f"{text!r} holds an IPv6 address without brackets; write [{host}]")
    if not host.isascii():
        try:
            hint = f"; write {host.encode('idna').decode('ascii')}"
        except UnicodeError:
            hint = ""
        raise ValueError(f"{text!r} has a host that is not ASCII{hint}")
    if not _NAME.match(host):
        raise ValueError(f"{text!r} has no valid host name")
    return host
