"""Who the client is, where trusted proxies stand in front: X-Forwarded-For and its kin, and Forwarded (RFC 7239).

    client 203.0.113.7 ──▶ proxy 10.0.0.2 ──▶ proxy 10.0.0.1 ──▶ here      trusted: 10.0.0.0/8
    X-Forwarded-For: (what the client said), 203.0.113.7, 10.0.0.2         peer: 10.0.0.1
                                             └─ the first from the right that is not trusted: the client

Each proxy appends the address of its own peer, so a list is as good as the proxies that wrote its right end, and
nothing left of an address that is not trusted, or that cannot be read, is believed. The fields of a peer that is not
trusted say nothing at all. Where X-Forwarded-For and Forwarded are both there and tell different stories, Forwarded is
dropped: the proxies that write it are few, and one that does not know it lets a client's own pass.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from flyby.errors import WireError
from flyby.wire._fields import Fields
from flyby.wire._target import authority

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

UNIX = "unix"  # in a list of trusted networks: whoever connects over a Unix socket
MOST_ELEMENTS = 100  # of Forwarded; no chain of proxies is as long

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"((?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~\x80-\xff])*)"'
_PAIR = re.compile(rb"(" + _TOKEN + rb")=(?:(" + _TOKEN + rb")|" + _QUOTED + rb")")
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_NODE = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5}|:_[A-Za-z0-9._-]+)?\Z")
_BARE_IPV6 = re.compile(rb"[0-9A-Fa-f:.]+\Z")
_PORT = re.compile(rb"[0-9]{1,5}\Z")
_SCHEMES = {b"http": b"http", b"https": b"https", b"ws": b"http", b"wss": b"https"}


@dataclass(frozen=True, slots=True)
class Trusted:
    """The networks whose word is believed."""

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    unix: bool = False

    @classmethod
    def of(cls, names: Iterable[str]) -> Trusted:
        """From the words of `server.trusted_proxies`; a ValueError for one that is neither a network nor "unix"."""
        names = list(names)
        return cls(tuple(ipaddress.ip_network(name) for name in names if name != UNIX), UNIX in names)

    def trusts(self, address: Address | None) -> bool:
        """Whether a peer with this address is believed; None is the peer of a Unix socket."""
        if address is None:
            return self.unix
        return any(address in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Client:
    """What is known of the client. What nobody trusted has said is None, and is then that of the connection."""

    address: str | None  # None: behind a Unix socket, and unknown
    scheme: bytes | None = None
    host: bytes | None = None  # in its one spelling
    port: int | None = None
    trusted_peer: bool = False  # the peer's fields were believed, and may be passed on
    drop_forwarded: bool = False  # Forwarded contradicts X-Forwarded-For, or cannot be read


@dataclass(frozen=True, slots=True)
class _Hop:
    """What one proxy has said of its peer."""

    address: Address | None = None  # None: not said, or hidden
    scheme: bytes | None = None
    host: bytes | None = None


def forwarded_for(fields: Fields, peer: str | None, trusted: Trusted) -> Client:
    """The client of a request with these fields, which came from `peer` (None: over a Unix socket)."""
    near = parse_address(peer.encode()) if peer is not None else None
    if not trusted.trusts(near) or (near is None and peer is not None):
        return Client(peer)
    listed = _split(fields.combined(b"x-forwarded-for"))
    told = fields.combined(b"forwarded")
    hops = parse_forwarded(told) if told is not None else None
    chain = [parse_address(element) for element in listed]
    dropped = told is not None and (hops is None or (bool(chain) and [hop.address for hop in hops] != chain))
    if hops is None or dropped:
        hops = []
    chain = chain or [hop.address for hop in hops]
    at = _client_at(chain, trusted)
    address = _known(chain, at, near)
    hop = hops[at] if hops else _Hop()
    scheme = _scheme(_of_hop(fields.combined(b"x-forwarded-proto"), at, len(chain))) or hop.scheme
    host = _of_hop(fields.combined(b"x-forwarded-host"), at, len(chain)) or hop.host
    port = _of_hop(fields.combined(b"x-forwarded-port"), at, len(chain))
    return Client(
        address=None if address is None else str(address),
        scheme=scheme,
        host=_host(host, scheme),
        port=int(port) if port is not None and _PORT.match(port) and 0 < int(port) < 65536 else None,
        trusted_peer=True,
        drop_forwarded=dropped,
    )


def _client_at(chain: list[Address | None], trusted: Trusted) -> int:
    """Where in the chain the client is: the first from the right that is not trusted or not known, else the first."""
    for at in range(len(chain) - 1, 0, -1):
        address = chain[at]
        if address is None or not trusted.trusts(address):
            return at
    return 0


def _known(chain: list[Address | None], at: int, near: Address | None) -> Address | None:
    """The address there; where it is hidden, that of the last proxy that is known."""
    for address in chain[at:]:
        if address is not None:
            return address
    return near


def _split(value: bytes | None) -> list[bytes]:
    return [] if value is None else [part for part in (part.strip(b" \t") for part in value.split(b",")) if part]


def _of_hop(value: bytes | None, at: int, length: int) -> bytes | None:
    """The element of a list that belongs to a hop: lists of the chain's length go with it, of others the last counts,
    which is from the nearest proxy.
    """
    elements = _split(value)
    if not elements:
        return None
    return elements[at] if len(elements) == length else elements[-1]


def _scheme(value: bytes | None) -> bytes | None:
    return None if value is None else _SCHEMES.get(value.lower())


def _host(value: bytes | None, scheme: bytes | None) -> bytes | None:
    if value is None:
        return None
    try:
        return authority(value, scheme or b"http")
    except WireError:
        return None


@lru_cache(maxsize=1024)
def parse_address(text: bytes) -> Address | None:
    """An address as X-Forwarded-For and Forwarded have it, perhaps with a port, which is dropped; None for anything
    else. An IPv4 address that was mapped to IPv6 is the IPv4 address.
    """
    node = _NODE.match(text)
    if node is not None:
        text = node[1] if node[1] is not None else node[2]
    elif _BARE_IPV6.match(text) is None:
        return None
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        return None
    if node is not None and (node[1] is not None) != (address.version == 6):
        return None
    return unmapped(address)


def unmapped(address: Address) -> Address:
    """The IPv4 address that was mapped to this one, else the address itself."""
    return getattr(address, "ipv4_mapped", None) or address


def parse_forwarded(value: bytes) -> list[_Hop] | None:
    """The hops that Forwarded tells of (RFC 7239 4); None when it is malformed or longer than any chain."""
    hops: list[_Hop] = []
    pairs: dict[bytes, bytes] = {}
    at, end = 0, len(value)
    while True:
        at = _skip(value, at)
        pair = _PAIR.match(value, at)
        if pair is not None:
            name = pair[1].lower()
            if name in pairs:
                return None
            pairs[name] = pair[2] if pair[2] is not None else _ESCAPE.sub(rb"\1", pair[3])
            at = _skip(value, pair.end())
        if at < end and value[at] == 0x3B:  # ";"
            at += 1
            continue
        if at < end and value[at] != 0x2C:  # ","
            return None
        if pairs:
            hops.append(_hop(pairs))
            pairs = {}
        if len(hops) > MOST_ELEMENTS:
            return None
        if at == end:
            return hops
        at += 1


def _skip(value: bytes, at: int) -> int:
    while at < len(value) and value[at] in b" \t":
        at += 1
    return at


def _hop(pairs: dict[bytes, bytes]) -> _Hop:
    node = pairs.get(b"for")
    return _Hop(
        address=parse_address(node) if node is not None else None,
        scheme=_scheme(pairs.get(b"proto")),
        host=pairs.get(b"host"),
    )
