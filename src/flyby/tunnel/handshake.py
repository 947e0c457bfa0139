"""`GET /.flyby/tunnel`: an agent asks to be turned round (RFC 9110 7.8), and shows whose dyno it speaks for.

    405 not GET                  426 not Upgrade: flyby-tunnel/1         403 not over TLS, and not from this machine
    503 draining, or no state    401 no token, or not a live one         429 the same, too often (Retry-After)
    400 no role, or no dyno id   409 a link whose dyno has no control connection in this worker
    503 as many dynos, or links of the dyno, as are allowed              101 with who we are

Nothing is looked up for an address that has shown too many wrong tokens, unless it shows one that is in use here. The
token is never logged, nor kept: what is in use is remembered by its digest.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import re
import socket
from dataclasses import dataclass

from flyby.wire import Fields, RequestHead

PATH = b"/.flyby/tunnel"
PROTOCOL = b"flyby-tunnel/1"
USER_TIMEOUT_MS = 20_000  # unacknowledged data for so long: the peer is gone (RFC 5482)
PROBE_S = 10  # an idle connection is probed by TCP after this, and every 5 s

_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([!-~]{1,256})\Z")
_KEY = re.compile(rb"[0-9a-f]{32}\Z")


class Refusal(Exception):
    """A handshake that ends without a 101."""

    def __init__(self, status: int, detail: str, *fields: tuple[bytes, bytes]) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.fields = fields


@dataclass(frozen=True, slots=True)
class Hello:
    """What an agent has asked for."""

    control: bool  # or a link
    key: str
    token: str  # its text
    digest: bytes


def read(request: RequestHead, address: str, plain: bool) -> Hello:
    """The request's meaning. Raises `Refusal`. `plain` allows tunnels without TLS from other machines."""
    if request.method != b"GET":
        raise Refusal(405, "the tunnel is asked for by GET")
    if request.upgrade != PROTOCOL:
        raise Refusal(426, "this is the tunnel of flyby's agents", (b"Upgrade", PROTOCOL), (b"Connection", b"Upgrade"))
    if request.scheme != b"https" and not plain and not _is_here(address):
        raise Refusal(403, "the tunnel is open over TLS only")
    given = _BEARER.match(request.fields.combined(b"authorization") or b"")
    token = given[1].decode("ascii") if given is not None else ""
    role = request.fields.combined(b"flyby-role")
    key = request.fields.combined(b"flyby-dyno") or b""
    if role not in (b"control", b"link") or _KEY.match(key) is None:
        raise Refusal(400, "Flyby-Role is control or link, Flyby-Dyno 32 hexadecimal digits")
    return Hello(role == b"control", key.decode("ascii"), token, hashlib.sha256(token.encode()).digest())


def wrong_token(wait_s: int) -> Refusal:
    """No live token; `wait_s` says how long the address is not listened to."""
    if wait_s:
        return Refusal(429, "too many wrong tokens from this address", (b"Retry-After", b"%d" % wait_s))
    return Refusal(401, "no token, or not a live one", (b"WWW-Authenticate", b'Bearer realm="flyby-tunnel"'))


def switched(worker: int, workers: int, node: str, boot: str, date: bytes) -> Fields:
    """The fields of the 101. The Date (RFC 9110 6.6.1) lets an agent's operator compare the clocks."""
    return Fields(
        [
            (b"Date", date),
            (b"Connection", b"Upgrade"),
            (b"Upgrade", PROTOCOL),
            (b"Flyby-Worker", b"%d/%d" % (worker, workers)),
            (b"Flyby-Node", node.encode("ascii", "replace")),
            (b"Flyby-Boot", boot.encode("ascii")),
        ]
    )


def watch(transport: asyncio.Transport) -> None:
    """Have the kernel notice a peer that is gone while data is on its way, or while there is silence."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def _is_here(address: str) -> bool:
    try:
        return not address or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
