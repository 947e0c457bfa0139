"""Which edge nodes there are: the URLs of FLY_REMOTE_ENDPOINT, and the addresses behind their names.

    https://edge.example            port 443; a bare host means https
    https://a.example:8443, https://b.example
    http://127.0.0.1:8080           without TLS: loopback only, by the URL and by the address that is dialled

A name with several addresses means several nodes, and each address is kept apart. Names are resolved anew every
30 seconds: a new address is a new node, and one that vanished is dialled no more once its connections are lost. An
endpoint behind a forward proxy has the proxy's addresses: the proxy resolves the name.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import threading
from typing import NamedTuple

from flyby_agent.forward import Proxy

RESOLVE_S = 30.0
MOST_ENDPOINTS = 32
MOST_ADDRESSES = 16  # of one name

_URL = re.compile(
    r"(?:(https?)://)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?::([0-9]{1,5}))?/?"
)


class Endpoint(NamedTuple):
    """One URL: where to dial, which name the certificate must have, and the proxy on the way, if there is one."""

    scheme: str
    host: str
    port: int
    proxy: Proxy | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == (443 if self.scheme == "https" else 80) else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def authority(self) -> str:
        """For the Host field (RFC 9110 7.2)."""
        return str(self).partition("://")[2]

    @property
    def dialled(self) -> tuple[str, int]:
        """The host and port of the first hop: the proxy's, where there is one."""
        return (self.host, self.port) if self.proxy is None else (self.proxy.host, self.proxy.port)


class Address(NamedTuple):
    """One node: an endpoint at one of the addresses of its first hop."""

    endpoint: Endpoint
    ip: str

    def __str__(self) -> str:
        endpoint = self.endpoint
        if endpoint.proxy is not None:
            return f"{endpoint} through the proxy {endpoint.proxy}"
        port = "" if str(endpoint).endswith(f":{endpoint.port}") else f"port {endpoint.port}"
        where = " ".join(part for part in ("" if endpoint.host == self.ip else self.ip, port) if part)
        return f"{endpoint} ({where})" if where else str(endpoint)


def loopback(host: str) -> bool:
    """By what is written, without asking anybody."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def parse(text: str, insecure: bool = False) -> list[Endpoint]:
    """Every URL of a list separated by commas or space; ValueError says what is wrong with which."""
    found: list[Endpoint] = []
    for word in re.split(r"[\s,]+", text.strip()):
        if not word:
            continue
        matched = _URL.fullmatch(word)
        if matched is None:
            raise ValueError(
                f"{word!r} is not a URL of an edge, like https://edge.example or https://edge.example:8443"
            )
        scheme = matched[1] or "https"
        port = int(matched[3]) if matched[3] else (443 if scheme == "https" else 80)
        if not 0 < port < 65536:
            raise ValueError(f"{word!r}: there is no port {port}")
        endpoint = Endpoint(scheme, matched[2].strip("[]"), port)
        if (scheme == "http" or insecure) and not loopback(endpoint.host):
            what = "http://" if scheme == "http" else "--insecure"
            raise ValueError(f"{word!r}: {what} would give the token away; it is for loopback addresses only")
        if endpoint not in found:
            found.append(endpoint)
    if len(found) > MOST_ENDPOINTS:
        raise ValueError(f"{len(found)} endpoints; {MOST_ENDPOINTS} are the most")
    return found


async def resolve(loop: asyncio.AbstractEventLoop, endpoint: Endpoint) -> list[Address]:
    """The nodes of an endpoint, in no particular order; OSError when the name has none.

    In a thread that nobody waits for: those of loop.getaddrinfo are joined at the end, and a name server that does not
    answer would keep the agent beyond the time that it has after SIGTERM.
    """
    found: asyncio.Future[list[Address]] = loop.create_future()

    def tell(addresses: list[Address], error: OSError | None) -> None:
        if not found.done():
            if error is None:
                found.set_result(addresses)
            else:
                found.set_exception(error)

    def look_up() -> None:
        addresses: list[Address] = []
        failed = None
        try:
            addresses = look_up_now(endpoint)
        except OSError as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
            loop.call_soon_threadsafe(tell, addresses, failed)

    threading.Thread(target=look_up, daemon=True).start()
    return await found


def look_up_now(endpoint: Endpoint) -> list[Address]:
    """The same, blocking."""
    flags = getattr(socket, "AI_ADDRCONFIG", 0)
    infos = socket.getaddrinfo(*endpoint.dialled, type=socket.SOCK_STREAM, flags=flags)
    return [Address(endpoint, ip) for ip in sorted({str(info[4][0]) for info in infos})[:MOST_ADDRESSES]]
