"""Opening a connection to an origin: name, TCP, TLS, all within one time limit.

TCP by happy eyeballs (RFC 8305 5): addresses are tried in the resolver's order, the next one `ATTEMPT_DELAY_S` after
the last or as soon as it has failed; the first that connects wins and the others are given up. TLS 1.2 or later, the
certificate verified for the name that is also sent as SNI: `tls_name`, else the origin's own.

Every failure becomes an `UpstreamError` with a type of RFC 9209 2.3. Nothing of a request was passed on, so each may
be sent to another origin.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flyby.errors import Retry, UpstreamError
from flyby.upstream.resolver import Address, Resolver

if TYPE_CHECKING:
    from flyby.upstream.connection import UpstreamConnection

ATTEMPT_DELAY_S = 0.25  # RFC 8305 8: the recommended Connection Attempt Delay
TLS_SHUTDOWN_S = 2.0  # how long a closing connection waits for the origin's close_notify

_UNROUTABLE = frozenset(
    (
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,
        errno.EACCES,
        errno.EPERM,
        errno.EINVAL,
    )
)
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN))


@dataclass(frozen=True, slots=True)
class Origin:
    """One origin server. `authority` is what its Host field says, `address` what names it in logs and statistics."""

    scheme: str
    host: str
    port: int
    authority: bytes
    address: str

    @classmethod
    def parse(cls, url: str) -> Origin:
        """Read `http[s]://host[:port]`. ValueError when it is none."""
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        if not host.isascii():
            host = host.encode("idna").decode()
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError(f"an origin is http://HOST[:PORT] or https://HOST[:PORT], not {url!r}")
        default = 443 if parts.scheme == "https" else 80
        port = default if parts.port is None else parts.port
        name = f"[{host}]" if ":" in host else host
        authority = name if port == default else f"{name}:{port}"
        return cls(parts.scheme, host, port, authority.encode(), f"{name}:{port}")


class Dialler:
    """Opens the connections of one backend."""

    __slots__ = ("_connect_s", "_resolver", "_tls", "_tls_name")

    def __init__(
        self, resolver: Resolver, connect_s: float, tls: ssl.SSLContext | None = None, tls_name: str | None = None
    ) -> None:
        self._resolver = resolver
        self._connect_s = connect_s
        self._tls = tls
        self._tls_name = tls_name

    async def dial(self, origin: Origin, make: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        """Connect. Raises `UpstreamError`."""
        stage = "name"
        try:
            async with asyncio.timeout(self._connect_s):
                addresses = await self._resolver.resolve(origin.host, origin.port)
                stage = "tcp"
                sock = await connect_first(addresses)
                stage = "tls"
                return await self._open(origin, sock, make)
        except TimeoutError as error:
            if stage == "name":
                raise _failed(504, "dns", "dns_timeout", f"the name {origin.host} was not resolved in time") from error
            what = "the TLS handshake with" if stage == "tls" else "the connection to"
            raise _failed(504, "connect", "connection_timeout", f"{what} {origin.address} took too long") from error
        except OSError as error:
            raise dial_failure(error, origin) from error

    async def _open(
        self, origin: Origin, sock: socket.socket, make: Callable[[], UpstreamConnection]
    ) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        try:
            if origin.scheme == "http":
                _, connection = await loop.create_connection(make, sock=sock)
            else:
                _, connection = await loop.create_connection(
                    make,
                    sock=sock,
                    ssl=self._tls,
                    server_hostname=self._tls_name or origin.host,
                    ssl_handshake_timeout=self._connect_s,
                    ssl_shutdown_timeout=TLS_SHUTDOWN_S,
                )
        except BaseException:
            # The loop closes the socket too, but not on every path of every loop.
            sock.close()
            raise
        return connection


async def connect_first(addresses: Sequence[Address], delay_s: float = ATTEMPT_DELAY_S) -> socket.socket:
    """A socket that is connected to one of `addresses`. Raises the OSError that says most when none can be reached."""
    if len(addresses) == 1:
        return await _connect(addresses[0])
    loop = asyncio.get_running_loop()
    waiting = list(reversed(addresses))
    attempts: set[asyncio.Task[socket.socket]] = set()
    errors: list[OSError] = []
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(loop.create_task(_connect(waiting.pop())))
            done, attempts = await asyncio.wait(
                attempts, timeout=delay_s if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            connected = []
            for attempt in done:
                error = attempt.exception()
                if error is None:
                    connected.append(attempt.result())
                elif isinstance(error, OSError):
                    errors.append(error)
                else:
                    raise error
            if connected:
                for spare in connected[1:]:
                    spare.close()
                return connected[0]
    finally:
        for attempt in attempts:
            attempt.cancel()
        for late in await asyncio.gather(*attempts, return_exceptions=True):
            if isinstance(late, socket.socket):
                late.close()
    # An address family that this machine has no route for says nothing about the origin.
    raise next((error for error in errors if error.errno not in _UNROUTABLE), errors[0])


async def _connect(address: Address) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def dial_failure(error: OSError, origin: Origin) -> UpstreamError:
    """What went wrong, in RFC 9209's words."""
    where = origin.address
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = f"the certificate of {where} is not good: {error.verify_message}"
        return _failed(502, "tls-certificate", "tls_certificate_error", detail)
    if isinstance(error, ssl.SSLError):
        reason = str(error)
        token = "tls_alert_received" if "ALERT" in reason else "tls_protocol_error"
        return _failed(502, "tls", token, f"the TLS handshake with {where} failed: {reason}")
    if isinstance(error, ConnectionRefusedError):
        return _failed(502, "refused", "connection_refused", f"{where} refused the connection")
    if isinstance(error, ConnectionError):
        return _failed(502, "terminated", "connection_terminated", f"{where} closed the connection at once")
    if error.errno == errno.ETIMEDOUT:
        return _failed(504, "connect", "connection_timeout", f"{where} did not answer")
    text = error.strerror or str(error)
    if error.errno in _UNROUTABLE:
        return _failed(502, "unroutable", "destination_ip_unroutable", f"there is no way to {where}: {text}")
    if error.errno in _EXHAUSTED:
        return _failed(503, "exhausted", "proxy_internal_error", f"no socket for {where}: {text}")
    return _failed(502, "connect", "destination_unavailable", f"{where} cannot be reached: {text}")


def _failed(status: int, reason: str, proxy_error: str, detail: str) -> UpstreamError:
    return UpstreamError(status, reason, proxy_error, detail, Retry.ALWAYS)
