"""The way out through a forward proxy: which endpoints go through one, and CONNECT (RFC 9110 9.3.6).

    HTTPS_PROXY=http://USER:PASSWORD@proxy.example:3128     else ALL_PROXY; in lower case too, which wins
    NO_PROXY=.internal,10.0.0.0/8,edge.example:8443         names with all below them, addresses, networks; * is all

    dial ──▶ proxy ── CONNECT edge.example:443 ──▶ 2xx ──▶ TLS with the edge ──▶ as without a proxy

The proxy sees the edge's name and the ciphertext, never the token: TLS is the edge's own, and its certificate is
verified as ever. Loopback addresses are dialled directly, whatever the variables say. The proxy resolves the edge's
name, so a name is one node here.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from typing import NamedTuple

MOST_ANSWER = 16 * 1024

_URL = re.compile(
    r"(?:([a-z][a-z0-9+.-]*)://)?(?:([^@/\s]*)@)?(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?/?", re.IGNORECASE
)
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?\r\n")

_WHY = {
    403: "it does not let this machine reach the edge",
    407: "it wants credentials, as in http://USER:PASSWORD@HOST:PORT",
    502: "it cannot reach the edge",
    503: "it cannot reach the edge",
    504: "it cannot reach the edge in time",
}


class Proxy(NamedTuple):
    """Where the proxy is; `authorization` is the value of Proxy-Authorization, or empty."""

    host: str
    port: int
    authorization: str = ""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Proxy {self}>"  # never the credentials


class ProxyRefused(OSError):
    """The proxy answered, and not with 2xx."""


def choose(host: str, port: int, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy by which https://host:port is reached, None without one. ValueError: a variable cannot be read."""
    found = _variable(environment, "HTTPS_PROXY", "ALL_PROXY")
    if found is None or _loopback(host) or _excluded(host, port, environment):
        return None
    variable, text = found
    matched = _URL.fullmatch(text)
    if matched is None:
        raise ValueError(f"{variable} is not the URL of a proxy, like http://proxy.example:3128")
    scheme, userinfo, address, digits = matched.groups()
    if (scheme or "http").lower() != "http":
        raise ValueError(
            f"{variable} names a proxy of {scheme}://, and only http:// ones can be used"
            f" (NO_PROXY={host} dials the edge directly)"
        )
    number = int(digits or 80)
    if not 0 < number < 65536:
        raise ValueError(f"{variable}: there is no port {number}")
    authorization = ""
    if userinfo:
        from urllib.parse import unquote  # few have credentials, and the agent stays small

        user, _, password = userinfo.partition(":")
        # RFC 7617 2: the user's name has no colon; UTF-8, as servers that ask for a charset ask for.
        pair = f"{unquote(user)}:{unquote(password)}".encode()
        authorization = "Basic " + base64.b64encode(pair).decode("ascii")
    return Proxy(address.strip("[]"), number, authorization)


def _variable(environment: Mapping[str, str], *names: str) -> tuple[str, str] | None:
    for name in names:
        for spelled in (name.lower(), name):
            text = environment.get(spelled, "").strip()
            if text:
                return spelled, text
    return None


def _loopback(host: str) -> bool:
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _excluded(host: str, port: int, environment: Mapping[str, str]) -> bool:
    """Whether NO_PROXY names the host. A rule that cannot be read excludes nothing."""
    found = _variable(environment, "NO_PROXY")
    address = _address(host)
    name = host.lower().rstrip(".")
    for rule in re.split(r"[\s,]+", found[1].lower()) if found else ():
        if rule == "*":
            return True
        if address is not None:
            try:
                if address in ipaddress.ip_network(rule.strip("[]"), strict=False):
                    return True
                continue
            except ValueError:
                pass
        with_port = re.fullmatch(r"(\[.*\]|[^:]*):([0-9]{1,5})", rule)
        if with_port:
            if int(with_port[2]) != port:
                continue
            rule = with_port[1]
        if address is not None:
            if _address(rule) == address:
                return True
            continue
        rule = rule.lstrip("*").strip(".")
        if rule and (name == rule or name.endswith("." + rule)):
            return True
    return False


def request(proxy: Proxy, host: str, port: int) -> bytes:
    """The CONNECT for host:port."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    field = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{field}\r\n".encode("ascii")


def check(proxy: Proxy, received: bytes) -> bool:
    """Whether the answer is whole, and lets the tunnel begin; ProxyRefused when it does not.

    A 2xx has no content, whatever its fields say (RFC 9110 9.3.6), and the edge speaks only after the handshake has
    begun: what stands behind the head is not the edge's.
    """
    end = received.find(b"\r\n\r\n") + 4
    if end < 4:
        if len(received) > MOST_ANSWER:
            raise ProxyRefused(f"the proxy {proxy} did not answer like one")
        return False
    status = _STATUS.match(received)
    if status is None or (len(received) > end and status[1].startswith(b"2")):
        raise ProxyRefused(f"the proxy {proxy} did not answer like one")
    code = int(status[1])
    if not 200 <= code < 300:
        raise ProxyRefused(f"the proxy {proxy} answered {code}: {_WHY.get(code, 'it opens no tunnel')}")
    return True
