"""Dial a node and ask to be turned round: the request, its answer, and the hand-over to what speaks next.

    GET /.flyby/tunnel HTTP/1.1                    HTTP/1.1 101 Switching Protocols
    Connection: Upgrade                            Connection: Upgrade
    Upgrade: flyby-tunnel/1              ──▶       Upgrade: flyby-tunnel/1
    Authorization: Bearer TOKEN                    Flyby-Worker: 0/2
    Flyby-Role: control | link                     Flyby-Node: edge-1
    Flyby-Dyno: 32 hexadecimal digits              Flyby-Boot: HEX
    Flyby-Agent: 0.1.0

The edge may speak right behind its 101, so the next protocol is chosen in the same call that reads it: `accept(answer)`
returns it, or None when this connection is not wanted after all. The token is sent only after the certificate and its
pin have been checked, also behind a forward proxy, through which a tunnel is opened first (forward.py).
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from typing import Callable, NamedTuple, cast

from flyby_agent import __version__, forward, log, secure
from flyby_agent.endpoints import Address, loopback
from flyby_agent.trust import check_pin

PATH = "/.flyby/tunnel"
PROTOCOL = "flyby-tunnel/1"
DIAL_S = 10.0
MOST_ANSWER = 16 * 1024
DEAD_S = 20  # a peer that acknowledges nothing for so long is gone

CONTROL = "control"
LINK = "link"

_STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9])(?: [^\r\n]*)?\r\n")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*?)[ \t]*\r\n")
_WORKER = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")


class Answer(NamedTuple):
    """What the edge says of itself in its 101."""

    worker: int
    workers: int
    node: str
    boot: str


class Refused(OSError):
    """The edge answered, and not with 101."""

    def __init__(self, status: int, retry_s: float | None, detail: str, remedy: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.retry_s = retry_s
        self.remedy = remedy


Accept = Callable[[Answer], "asyncio.Protocol | None"]

# What a status means here, and what to do.
_WHY = {
    400: ("the edge did not understand the agent", "Is one of the two of another version?"),
    401: (
        "the edge does not know this FLY_TOKEN",
        "Set it to what `flyby token create BACKEND` prints on this edge; `flyby backend list` shows the backends.",
    ),
    403: ("the edge wants TLS", "Use https:// in FLY_REMOTE_ENDPOINT."),
    404: ("no flyby is there, or its tunnel is off", "Check FLY_REMOTE_ENDPOINT, and server.tunnel on the edge."),
    426: ("the edge speaks another version of the tunnel", "Bring the older of the two up to date."),
    429: ("the edge has seen too many wrong tokens from this address", "Wait, and then try a token that is right."),
    503: ("the edge takes no dyno at the moment", "It is tried again; the edge's log says why."),
}
_OTHER = ("no tunnel is there", "Check that FLY_REMOTE_ENDPOINT leads to a flyby edge.")


def request(address: Address, token: str, role: str, dyno: str) -> bytes:
    return (
        f"GET {PATH} HTTP/1.1\r\nHost: {address.endpoint.authority}\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n"
        f"Authorization: Bearer {token}\r\nFlyby-Role: {role}\r\n"
        f"Flyby-Dyno: {dyno}\r\nFlyby-Agent: {__version__}\r\n\r\n"
    ).encode("ascii")


def parse_answer(head: bytes) -> Answer:
    """The 101's head with its empty line; Refused for any other, or for one that lacks what a 101 needs."""
    status = _STATUS.match(head)
    if status is None:
        raise Refused(0, None, "what answered is not an HTTP/1.1 server")
    fields = {found[1].lower(): found[2].decode("latin-1") for found in _FIELD.finditer(head, status.end())}
    code = int(status[1])
    if code != 101:
        after = fields.get(b"retry-after", "")
        seconds = float(after) if re.fullmatch(r"[0-9]{1,5}", after) else None
        why, remedy = _WHY.get(code, _OTHER)
        raise Refused(code, seconds, f"{why} (it answered {code})", remedy)
    worker = _WORKER.fullmatch(fields.get(b"flyby-worker", ""))
    if fields.get(b"upgrade", "").lower() != PROTOCOL or worker is None or int(worker[1]) >= int(worker[2]):
        raise Refused(101, None, "what answered does not speak flyby-tunnel/1")
    node, boot = fields.get(b"flyby-node", ""), fields.get(b"flyby-boot", "")
    return Answer(int(worker[1]), int(worker[2]), log.flat(node, 64), log.flat(boot, 64))


class Upgrade(asyncio.Protocol):
    """The connection up to its 101. `done` gets the answer, or what went wrong."""

    def __init__(self, done: asyncio.Future[Answer], ask: bytes, pins: tuple[bytes, ...], accept: Accept) -> None:
        self._done = done
        self._ask = ask
        self._pins = pins
        self._accept = accept
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        watch(self._transport)
        secure = transport.get_extra_info("ssl_object")
        if secure is not None:
            try:
                check_pin(secure.getpeercert(True), self._pins)
            except (OSError, ValueError) as error:
                self._fail(error)
                return
        self._transport.write(self._ask)

    def data_received(self, data: bytes) -> None:
        self._head += data
        end = self._head.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(self._head) > MOST_ANSWER:
                self._fail(Refused(0, None, "what answered is not an HTTP/1.1 server"))
            return
        try:
            answer = parse_answer(self._head[:end])
        except Refused as error:
            self._fail(error)
            return
        follower = self._accept(answer)
        if follower is None:
            self._transport.close()
        else:
            self._transport.set_protocol(follower)
            follower.connection_made(self._transport)
            if len(self._head) > end:
                follower.data_received(self._head[end:])
        if not self._done.done():
            self._done.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error or ConnectionError("the edge closed the connection without an answer"))

    def _fail(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)
        self._transport.abort()


def watch(transport: asyncio.Transport) -> None:
    """Have the kernel notice within 20 seconds that the other side is gone."""
    raw = transport.get_extra_info("socket")
    if raw is None or raw.family not in (socket.AF_INET, socket.AF_INET6):
        return
    wanted = [(socket.SOL_SOCKET, "SO_KEEPALIVE", 1), (socket.IPPROTO_TCP, "TCP_NODELAY", 1)]
    wanted += [(socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", DEAD_S * 1000), (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 10)]
    wanted += [(socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5), (socket.IPPROTO_TCP, "TCP_KEEPCNT", 2)]
    for level, name, value in wanted:
        option = getattr(socket, name, None)
        if option is not None:
            raw.setsockopt(level, option, value)


async def _connected(loop: asyncio.AbstractEventLoop, address: Address) -> socket.socket:
    """A non-blocking socket whose other end is the edge, by way of the proxy if there is one. The caller's to close."""
    proxy = address.endpoint.proxy
    sock = socket.socket(socket.AF_INET6 if ":" in address.ip else socket.AF_INET)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, (address.ip, address.endpoint.dialled[1]))
        if proxy is not None:
            await loop.sock_sendall(sock, forward.request(proxy, address.endpoint.host, address.endpoint.port))
            received = b""
            while not forward.check(proxy, received):
                data = await loop.sock_recv(sock, 4096)
                if not data:
                    raise forward.ProxyRefused(f"the proxy {proxy} closed the connection without an answer")
                received += data
    except BaseException:
        sock.close()
        raise
    return sock


async def dial(
    loop: asyncio.AbstractEventLoop,
    address: Address,
    tls: ssl.SSLContext | None,
    ask: bytes,
    pins: tuple[bytes, ...],
    accept: Accept,
) -> Answer:
    """One connection to one node; OSError (ssl.SSLError and Refused are ones) says why there is none."""
    secured = address.endpoint.scheme == "https"
    if not loopback(address.ip) and (not secured or (tls is not None and tls.verify_mode == ssl.CERT_NONE)):
        raise OSError(f"{address} is not on loopback: the token is not sent without a verified certificate")
    done: asyncio.Future[Answer] = loop.create_future()

    async def connect() -> Answer:
        asking = Upgrade(done, ask, pins, accept)
        host, port = address.ip, address.endpoint.port
        if secured:
            assert tls is not None
            connected = await _connected(loop, address)
            await secure.start(loop, connected, tls, address.endpoint.host, asking)
        else:
            await loop.create_connection(lambda: asking, host, port)
        return await done

    try:
        return await asyncio.wait_for(connect(), DIAL_S)
    except asyncio.TimeoutError:
        raise OSError(f"no answer within {DIAL_S:.0f} s") from None
