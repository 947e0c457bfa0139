"""Names to addresses: getaddrinfo with a memory, and the order in which addresses are tried.

The system's resolver says no TTL, so an answer is good for `TTL_S`; one lookup serves all who ask meanwhile. When a
lookup fails, the last good answer is used for up to `STALE_S` more: an origin is more likely to live where it lived
than to be gone because a name server is. A failure is remembered for `NEGATIVE_S`, so that a dead name is not looked
up with every request.

`dial_order` gives RFC 8305 4's order, families in turn, IPv6 first where the system prefers it, and rotates each
family by one with every call so that all addresses are used.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, cast

from flyby.clock import Clock
from flyby.errors import Retry, UpstreamError

TTL_S = 30.0
STALE_S = 300.0
NEGATIVE_S = 1.0

SocketAddress = tuple[str, int] | tuple[str, int, int, int]


class Address(NamedTuple):
    """Where a socket connects to."""

    family: int
    sockaddr: SocketAddress


Lookup = Callable[[str, int], Awaitable[Sequence[Address]]]


class _Known:
    __slots__ = ("addresses", "error", "looked_up", "lookup", "turn", "until")

    def __init__(self) -> None:
        self.addresses: tuple[Address, ...] = ()
        self.error: UpstreamError | None = None
        self.until = 0.0
        self.looked_up = 0.0
        self.lookup: asyncio.Task[None] | None = None
        self.turn = 0


class Resolver:
    """The names of one backend's origins."""

    __slots__ = ("_clock", "_known", "_lookup")

    def __init__(self, clock: Clock, lookup: Lookup | None = None) -> None:
        self._clock = clock
        self._lookup = lookup or system_lookup
        self._known: dict[tuple[str, int], _Known] = {}

    def __repr__(self) -> str:
        return f"<Resolver names={len(self._known)}>"

    async def resolve(self, host: str, port: int) -> list[Address]:
        """All addresses of `host`, in the order to try them. Raises `UpstreamError` (dns_error)."""
        numeric = numeric_address(host, port)
        if numeric is not None:
            return [numeric]
        known = self._known.get((host, port))
        if known is None:
            known = self._known[host, port] = _Known()
        if self._clock.monotonic() >= known.until:
            if known.lookup is None:
                known.lookup = asyncio.get_running_loop().create_task(self._refresh(known, host, port))
            # Who asked first may give up; the others still want the answer.
            await asyncio.shield(known.lookup)
        if not known.addresses:
            error = known.error
            assert error is not None
            raise UpstreamError(error.status, error.reason, error.proxy_error, error.detail, error.retry)
        turn = known.turn
        known.turn += 1
        return dial_order(known.addresses, turn)

    async def _refresh(self, known: _Known, host: str, port: int) -> None:
        try:
            addresses = tuple(dict.fromkeys(await self._lookup(host, port)))
            now = self._clock.monotonic()
            if not addresses:
                raise socket.gaierror(socket.EAI_NONAME, "no addresses")
        except (OSError, UnicodeError) as error:
            now = self._clock.monotonic()
            known.until = now + NEGATIVE_S
            if known.addresses and now - known.looked_up < TTL_S + STALE_S:
                return
            known.addresses = ()
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            known.error = UpstreamError(
                502, "dns", "dns_error", f"the name {host} has no address: {text}", Retry.ALWAYS
            )
        else:
            known.addresses, known.error = addresses, None
            known.looked_up = now
            known.until = now + TTL_S
        finally:
            known.lookup = None


def numeric_address(host: str, port: int) -> Address | None:
    """The address that `host` spells; None when it is a name. No thread is needed to learn that."""
    try:
        socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError):
        if ":" not in host:
            return None
        try:
            socket.inet_pton(socket.AF_INET6, host)
        except (OSError, ValueError):
            return None
        return Address(socket.AF_INET6, (host, port, 0, 0))
    return Address(socket.AF_INET, (host, port))


def dial_order(addresses: Sequence[Address], turn: int) -> list[Address]:
    """Families in turn, beginning with the one the system put first; each family rotated by `turn`."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    queues = []
    for members in families.values():
        start = turn % len(members)
        queues.append(members[start:] + members[:start])
    longest = max(map(len, queues), default=0)
    return [queue[index] for index in range(longest) for queue in queues if index < len(queue)]


async def system_lookup(host: str, port: int) -> Sequence[Address]:
    """getaddrinfo, in the loop's thread pool."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [
        Address(family, cast(SocketAddress, sockaddr))
        for family, _, _, _, sockaddr in found
        if family in (socket.AF_INET, socket.AF_INET6)
    ]
