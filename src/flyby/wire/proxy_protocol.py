"""The header that a proxy writes before the first byte of a connection, to say whose it is (PROXY protocol 1 and 2).

    1:  PROXY TCP4 203.0.113.7 192.0.2.1 51000 443\\r\\n                  at most 107 bytes
    2:  signature (12) │ version, command │ family │ length (2) │ addresses │ { type, length (2), value }

A listener that expects the header gets it from proxies that it trusts, and nothing else: whatever is not the header,
to the byte, ends the connection. A client that could write one of its own would choose its address.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from struct import unpack_from

from flyby.errors import WireError
from flyby.wire.forwarded import unmapped

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LONGEST = 4096  # bytes of a header of version 2; the addresses need 216, the rest is for what a proxy adds

_TEXT = b"PROXY "
_LONGEST_TEXT = 107
_LINE = re.compile(
    rb"PROXY (?:TCP4 ([0-9.]+) ([0-9.]+)|TCP6 ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+)) ([0-9]+) ([0-9]+)\r\n\Z"
)
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n\Z")
_PORT = re.compile(rb"(?:0|[1-9][0-9]{0,4})\Z")

_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6, _UNIX_STREAM = 0x00, 0x11, 0x21, 0x31
_ADDRESS_BYTES = {_TCP4: 12, _TCP6: 36, _UNIX_STREAM: 216}
_CRC32C = 0x03

Endpoint = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """Both ends of the connection that the proxy took (an IPv4 address mapped to IPv6 is the IPv4 address); None where
    the proxy speaks for itself or does not know.
    """

    source: Endpoint | None
    destination: Endpoint | None
    length: int  # of the header in bytes


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header at the beginning of a connection's bytes; None while it is not whole; a WireError if it is none."""
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _binary(data) if len(data) >= len(SIGNATURE) + 4 else None
    if data[: len(_TEXT)] == _TEXT[: len(data)]:
        return _text(data)
    raise _refused("the connection does not begin with a PROXY header")


def _refused(detail: str) -> WireError:
    return WireError(400, "proxy-protocol", detail)


def _text(data: bytes) -> ProxyHeader | None:
    """Version 1."""
    end = data.find(b"\n", 0, _LONGEST_TEXT)
    if end < 0:
        if len(data) >= _LONGEST_TEXT:
            raise _refused("the PROXY line is too long")
        return None
    line = data[: end + 1]
    if _UNKNOWN.match(line):
        return ProxyHeader(None, None, len(line))
    found = _LINE.match(line)
    if found is None:
        raise _refused("the PROXY line is malformed")
    version = 4 if found[1] is not None else 6
    source, destination = (found[1], found[2]) if version == 4 else (found[3], found[4])
    return ProxyHeader(
        (_address(source, version), _port(found[5])),
        (_address(destination, version), _port(found[6])),
        len(line),
    )


def _address(text: bytes, version: int) -> str:
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        raise _refused("an address in the PROXY line is none") from None
    if address.version != version:
        raise _refused("an address in the PROXY line is of the other family")
    return str(unmapped(address))


def _port(text: bytes) -> int:
    if _PORT.match(text) is None or int(text) > 65535:
        raise _refused("a port in the PROXY line is none")
    return int(text)


def _binary(data: bytes) -> ProxyHeader | None:
    """Version 2."""
    command, family, size = unpack_from("!BBH", data, len(SIGNATURE))
    start = len(SIGNATURE) + 4
    length = start + size
    if command not in (_LOCAL, _PROXY):
        raise _refused("the PROXY header is of another version, or has another command")
    if length > LONGEST:
        raise _refused("the PROXY header is too long")
    # The proxy speaks for itself (a health check), or does not know: whatever the header holds is skipped.
    skipped = command == _LOCAL or family == _UNSPECIFIED
    taken = _ADDRESS_BYTES.get(family)
    if not skipped and (taken is None or size < taken):
        raise _refused("the PROXY header speaks of no stream, or is too short for its addresses")
    if len(data) < length:
        return None
    if skipped or taken is None:
        return ProxyHeader(None, None, length)
    _check_extensions(data[:length], start + taken)
    if family == _UNIX_STREAM:
        return ProxyHeader(None, None, length)
    source, destination, one, other = unpack_from("!4s4sHH" if family == _TCP4 else "!16s16sHH", data, start)
    return ProxyHeader((_packed(source), one), (_packed(destination), other), length)


def _packed(address: bytes) -> str:
    return str(unmapped(ipaddress.ip_address(address)))


def _check_extensions(header: bytes, at: int) -> None:
    """Raise unless what follows the addresses is whole, and its checksum right, where it has one."""
    while at < len(header):
        if at + 3 > len(header):
            raise _refused("an extension of the PROXY header is cut off")
        kind, size = unpack_from("!BH", header, at)
        value = at + 3
        at = value + size
        if at > len(header):
            raise _refused("an extension of the PROXY header is longer than the header")
        if kind == _CRC32C:
            zeroed = header[:value] + b"\x00" * size + header[at:]
            if size != 4 or int.from_bytes(header[value:at], "big") != crc32c(zeroed):
                raise _refused("the checksum of the PROXY header is wrong")


def _table() -> tuple[int, ...]:
    found = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return tuple(found)


_REMAINDERS = _table()


def crc32c(data: bytes) -> int:
    """The checksum of RFC 3309 (Castagnoli)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = (value >> 8) ^ _REMAINDERS[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
