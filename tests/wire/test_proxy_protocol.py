"""The PROXY header, to the byte; what follows it is untouched, and what is not one is refused."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyby.errors import WireError
from flyby.wire.forwarded import unmapped
from flyby.wire.proxy_protocol import LONGEST, SIGNATURE, ProxyHeader, crc32c, read_proxy_header

BEHIND = b"GET / HTTP/1.1\r\n"
FOUR = ipaddress.IPv4Address("203.0.113.7").packed + ipaddress.IPv4Address("192.0.2.1").packed
SIX = ipaddress.IPv6Address("2001:db8::7").packed + ipaddress.IPv6Address("2001:db8::1").packed
PORTS = struct.pack("!HH", 51000, 443)


def binary(content: bytes, command: int = 0x21, family: int = 0x11) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(content)) + content


def extension(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def checked(content: bytes) -> bytes:
    """With a checksum behind it."""
    blank = binary(content + extension(3, b"\x00" * 4))
    return blank[:-4] + crc32c(blank).to_bytes(4, "big")


def refused(data: bytes) -> None:
    with pytest.raises(WireError) as caught:
        read_proxy_header(data)
    assert (caught.value.status, caught.value.reason) == (400, "proxy-protocol")


GOOD = [
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 51000 443\r\n", ("203.0.113.7", 51000), ("192.0.2.1", 443)),
    (b"PROXY TCP6 2001:db8::7 2001:DB8:0::1 0 65535\r\n", ("2001:db8::7", 0), ("2001:db8::1", 65535)),
    (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", ("203.0.113.7", 1), ("::1", 2)),
    (b"PROXY UNKNOWN\r\n", None, None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None, None),
    (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", None, None),
    (binary(FOUR + PORTS), ("203.0.113.7", 51000), ("192.0.2.1", 443)),
    (binary(SIX + PORTS, family=0x21), ("2001:db8::7", 51000), ("2001:db8::1", 443)),
    (binary(b"a" * 216, family=0x31), None, None),
    (binary(b"", family=0x00), None, None),
    (binary(b"whatever", family=0x00), None, None),
    (binary(b"", command=0x20, family=0x00), None, None),
    (binary(b"xyz", command=0x20, family=0x12), None, None),
    (binary(FOUR + PORTS + extension(4, b"") + extension(1, b"h2")), ("203.0.113.7", 51000), ("192.0.2.1", 443)),
    (binary(FOUR + PORTS + extension(0xE0, b"x" * 300)), ("203.0.113.7", 51000), ("192.0.2.1", 443)),
    (checked(FOUR + PORTS), ("203.0.113.7", 51000), ("192.0.2.1", 443)),
    (checked(FOUR + PORTS + extension(2, b"shop.test")), ("203.0.113.7", 51000), ("192.0.2.1", 443)),
]


@pytest.mark.parametrize(("data", "source", "destination"), GOOD)
def test_headers(data: bytes, source: tuple[str, int] | None, destination: tuple[str, int] | None) -> None:
    for behind in (b"", BEHIND, b"\r\n", SIGNATURE):
        assert read_proxy_header(data + behind) == ProxyHeader(source, destination, len(data))


@pytest.mark.parametrize(("data", "source", "destination"), GOOD)
def test_a_header_that_is_not_whole(data: bytes, source: object, destination: object) -> None:
    for end in range(len(data)):
        assert read_proxy_header(data[:end]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n", b"P\x00", b"\x16\x03\x01", b"\r\nGET", b"proxy TCP4 ", b" PROXY TCP4", b"PROXYTCP4",
        *(
            b"PROXY %b\r\n" % line
            for line in (
                b"", b"TCP4", b"TCP4 203.0.113.7 192.0.2.1 51000", b"TCP4 203.0.113.7 192.0.2.1 51000 443 x",
                b"TCP4  203.0.113.7 192.0.2.1 51000 443", b"TCP4 203.0.113.7 192.0.2.1 51000 443 ",
                b"TCP4 203.0.113.7\t192.0.2.1 51000 443", b"TCP4 203.0.113.7 192.0.2.1 65536 443",
                b"TCP4 203.0.113.7 192.0.2.1 051 443", b"TCP4 203.0.113.7 192.0.2.1 -1 443",
                b"TCP4 203.0.113.7 192.0.2.1 +1 443", b"TCP4 203.0.113.07 192.0.2.1 1 443",
                b"TCP4 203.0.113 192.0.2.1 1 443", b"TCP4 203.0.113.256 192.0.2.1 1 443",
                b"TCP4 2001:db8::7 2001:db8::1 1 443", b"TCP6 203.0.113.7 192.0.2.1 1 443",
                b"TCP6 fe80::1%eth0 ::1 1 443", b"TCP6 [::1] ::1 1 443", b"TCP6 ::g ::1 1 443", b"TCP5 ::1 ::1 1 443",
                b"UDP4 203.0.113.7 192.0.2.1 1 443", b"tcp4 203.0.113.7 192.0.2.1 1 443",
                b"TCP4 203.0.113.7 192.0.2.1 1 \xb2", b"UNKNOWNx", b"UNKNOWN\rx",
            )
        ),
        b"PROXY TCP4 203.0.113.7 192.0.2.1 51000 443\n", b"PROXY UNKNOWN\n", b"PROXY " + b"x" * 101,
        b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
        binary(FOUR + PORTS, command=0x11), binary(FOUR + PORTS, command=0x22), binary(FOUR + PORTS, command=0x31),
        binary(FOUR + PORTS, family=0x12), binary(FOUR + PORTS, family=0x10), binary(FOUR + PORTS, family=0x41),
        binary(FOUR + PORTS[:-1]), binary(SIX + PORTS[:-1], family=0x21), binary(b"", family=0x11),
        binary(FOUR + PORTS + b"\x01"), binary(FOUR + PORTS + b"\x01\x00"), binary(FOUR + PORTS + b"\x01\x00\x02a"),
        binary(FOUR + PORTS + b"\x00" * LONGEST), binary(FOUR + PORTS + extension(3, b"\x00" * 4)),
        binary(FOUR + PORTS + extension(3, b"")), checked(FOUR + PORTS).replace(b"\xcb\x00\x71", b"\xcb\x00\x72"),
        SIGNATURE[:-1] + b"x",
    ],
)  # fmt: skip
def test_what_is_refused(data: bytes) -> None:
    refused(data)


def test_a_flipped_bit_is_found_by_the_checksum() -> None:
    good = checked(FOUR + PORTS)
    assert read_proxy_header(good) is not None
    for at in range(len(SIGNATURE) + 4, len(SIGNATURE) + 16):
        refused(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])


def test_the_checksum_is_that_of_rfc_3720() -> None:
    """Its examples, B.4."""
    assert crc32c(b"\x00" * 32) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@given(st.binary(max_size=80))
def test_any_bytes_are_read_refused_or_awaited(data: bytes) -> None:
    for start in (b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"):
        try:
            found = read_proxy_header(start + data)
        except WireError:
            continue
        assert found is None or found.length <= len(start + data)


@given(st.ip_addresses(v=4), st.ip_addresses(v=6), st.integers(0, 65535), st.integers(0, 65535))
def test_both_versions_say_the_same(
    four: ipaddress.IPv4Address, six: ipaddress.IPv6Address, one: int, other: int
) -> None:
    for address, name, family in ((four, b"TCP4", 0x11), (six, b"TCP6", 0x21)):
        text = str(address).encode()
        line = read_proxy_header(b"PROXY %b %b %b %d %d\r\n" % (name, text, text, one, other))
        header = read_proxy_header(binary(address.packed * 2 + struct.pack("!HH", one, other), family=family))
        assert line is not None
        assert header is not None
        assert (line.source, line.destination) == (header.source, header.destination)
        assert line.source == (str(unmapped(address)), one)
