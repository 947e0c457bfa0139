"""How often an address may show a wrong token: ten times, then once every six seconds. Pure.

An address that is over its limit is not listened to until one of its failures has been forgotten; the caller makes an
exception for tokens that are in use, so that one bad neighbour behind an address cannot lock the others out. An IPv6
address counts as its /64. The table is bounded: the address that has been quiet for longest is forgotten first.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict

BURST = 10
FORGET_S = 6.0
ADDRESSES = 4096


class Attempts:
    """The failures of the recent past: for each address the time at which all of them will be forgotten."""

    __slots__ = ("_clear_at",)

    def __init__(self) -> None:
        self._clear_at: OrderedDict[str, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Attempts of {len(self._clear_at)} addresses>"

    def wait_s(self, address: str, now: float) -> int:
        """The whole seconds until the address may try again; 0 when it may now."""
        clear_at = self._clear_at.get(_network(address), 0.0)
        return max(math.ceil(clear_at - now - (BURST - 1) * FORGET_S), 0)

    def failed(self, address: str, now: float) -> None:
        """A wrong token came from `address`."""
        network = _network(address)
        self._clear_at[network] = max(self._clear_at.get(network, 0.0), now) + FORGET_S
        self._clear_at.move_to_end(network)
        if len(self._clear_at) > ADDRESSES:
            self._clear_at.popitem(last=False)


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return address if parsed.ipv4_mapped else str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
    return address
