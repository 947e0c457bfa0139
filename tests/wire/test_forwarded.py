"""Who the client is behind proxies, and whose word is believed (RFC 7239, X-Forwarded-*)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyby.wire import Fields
from flyby.wire.forwarded import MOST_ELEMENTS, Client, Trusted, forwarded_for, parse_address, parse_forwarded, unmapped

TRUSTED = Trusted.of(["10.0.0.0/8", "fd00::/8", "192.0.2.1"])
FOR, PROTO, HOST, PORT = b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Forwarded-Port"
FORWARDED = b"Forwarded"


def client(*lines: tuple[bytes, bytes], peer: str | None = "10.0.0.1", trusted: Trusted = TRUSTED) -> Client:
    return forwarded_for(Fields(lines), peer, trusted)


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (b"203.0.113.7", "203.0.113.7"),
        (b"1.1.1.1, 203.0.113.7", "203.0.113.7"),
        (b"203.0.113.7, 10.0.0.2", "203.0.113.7"),
        (b"203.0.113.7,10.0.0.3 ,\t10.0.0.2", "203.0.113.7"),
        (b"10.9.9.9, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        (b"10.0.0.9, 10.0.0.2", "10.0.0.9"),
        (b"203.0.113.7:51000, 10.0.0.2:80", "203.0.113.7"),
        (b"2001:db8::7, 10.0.0.2", "2001:db8::7"),
        (b"[2001:DB8::7]:51000, fd00::1", "2001:db8::7"),
        (b"::ffff:203.0.113.7", "203.0.113.7"),
        (b"203.0.113.7, ::ffff:10.0.0.2", "203.0.113.7"),
        (b"203.0.113.7, , 10.0.0.2,", "203.0.113.7"),
        (b"", "10.0.0.1"),
        (b",", "10.0.0.1"),
        # What cannot be read hides what is left of it: the last proxy that is known stands for the client.
        (b"203.0.113.7, unknown", "10.0.0.1"),
        (b"203.0.113.7, unknown, 10.0.0.2", "10.0.0.2"),
        (b"203.0.113.7, _hidden, 10.0.0.2", "10.0.0.2"),
        (b"203.0.113.7, 10.0.0.02", "10.0.0.1"),
        (b"203.0.113.7, 10.0.0.2; x", "10.0.0.1"),
        (b"203.0.113.7, fe80::1%eth0", "10.0.0.1"),
        (b"203.0.113.7, <script>", "10.0.0.1"),
        (b"203.0.113.7, 10.0.0", "10.0.0.1"),
        (b"203.0.113.7, \xb2.0.0.1", "10.0.0.1"),
    ],
)
def test_the_first_from_the_right_that_is_not_trusted(value: bytes, address: str) -> None:
    assert client((FOR, value)).address == address


def test_lines_are_one_list() -> None:
    assert client((FOR, b"1.1.1.1"), (FOR, b"203.0.113.7"), (FOR, b"10.0.0.2")).address == "203.0.113.7"


@pytest.mark.parametrize("peer", ["203.0.113.9", "2001:db8::1", "192.0.2.2", "11.0.0.1", "not-an-address", None])
def test_a_peer_that_is_not_trusted_says_nothing(peer: str | None) -> None:
    lines = [(FOR, b"1.1.1.1"), (PROTO, b"https"), (HOST, b"evil"), (PORT, b"1"), (FORWARDED, b"for=1.1.1.1")]
    assert client(*lines, peer=peer) == Client(peer)


def test_a_unix_socket_is_trusted_by_name() -> None:
    unix = Trusted.of(["unix"])
    assert client((FOR, b"203.0.113.7"), peer=None, trusted=unix).address == "203.0.113.7"
    assert client(peer=None, trusted=unix) == Client(None, trusted_peer=True)
    assert client((FOR, b"203.0.113.7"), peer="127.0.0.1", trusted=unix) == Client("127.0.0.1")
    assert client((FOR, b"203.0.113.7"), peer="not-an-address", trusted=unix) == Client("not-an-address")


@pytest.mark.parametrize("name", ["10.0.0.1/8", "example.com", "10.0.0.0/33", "", "unix:/run/x"])
def test_networks_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match=r"network|address|host bits"):
        Trusted.of([name])


@pytest.mark.parametrize(
    ("lines", "scheme", "host", "port"),
    [
        ([(PROTO, b"https"), (HOST, b"Shop.Test:443"), (PORT, b"443")], b"https", b"shop.test", 443),
        ([(PROTO, b"http"), (HOST, b"shop.test:443")], b"http", b"shop.test:443", None),
        ([(PROTO, b"WSS")], b"https", None, None),
        ([(PROTO, b"ws")], b"http", None, None),
        ([(PROTO, b"gopher"), (HOST, b"a b"), (PORT, b"0")], None, None, None),
        ([(HOST, b"shop.test/x"), (PORT, b"65536")], None, None, None),
        ([(HOST, b"[::1]:81"), (PORT, b"+1")], None, b"[::1]:81", None),
        ([(PORT, b"\xb2")], None, None, None),
        # A list as long as X-Forwarded-For goes with it; of another the nearest proxy's word counts.
        ([(FOR, b"203.0.113.7, 10.0.0.2"), (PROTO, b"https, http")], b"https", None, None),
        ([(FOR, b"1.1.1.1, 203.0.113.7, 10.0.0.2"), (PROTO, b"http, https, http")], b"https", None, None),
        ([(FOR, b"203.0.113.7"), (PROTO, b"http, https")], b"https", None, None),
        ([(FOR, b"203.0.113.7, 10.0.0.2"), (HOST, b"a"), (HOST, b"b"), (HOST, b"c")], None, b"c", None),
    ],
)
def test_scheme_host_and_port(
    lines: list[tuple[bytes, bytes]], scheme: bytes | None, host: bytes | None, port: int | None
) -> None:
    found = client(*lines)
    assert (found.scheme, found.host, found.port) == (scheme, host, port)
    assert found.trusted_peer


@pytest.mark.parametrize(
    ("value", "address", "scheme", "host"),
    [
        (b"for=203.0.113.7", "203.0.113.7", None, None),
        (b"For=203.0.113.7;Proto=HTTPS;Host=Shop.test", "203.0.113.7", b"https", b"shop.test"),
        (b'for="203.0.113.7:51000" ; proto=https', "203.0.113.7", b"https", None),
        (b'for="[2001:db8::7]:51000", for=10.0.0.2;proto=http', "2001:db8::7", None, None),
        (b"for=1.1.1.1;host=evil, for=203.0.113.7;host=good, for=10.0.0.2;host=near", "203.0.113.7", None, b"good"),
        (b"proto=https, for=203.0.113.7", "203.0.113.7", None, None),
        (b"for=203.0.113.7, for=unknown", "10.0.0.1", None, None),
        (b"for=203.0.113.7, for=_secret;proto=https", "10.0.0.1", b"https", None),
        (b'for="203.0.113.7";ext="a, \\"b;c"', "203.0.113.7", None, None),
        (b"for=203.0.113.7;", "203.0.113.7", None, None),
        (b", ,for=203.0.113.7,", "203.0.113.7", None, None),
    ],
)
def test_forwarded(value: bytes, address: str, scheme: bytes | None, host: bytes | None) -> None:
    found = client((FORWARDED, value))
    assert (found.address, found.scheme, found.host, found.drop_forwarded) == (address, scheme, host, False)


@pytest.mark.parametrize(
    "value",
    [
        b"for", b"for=", b"for=a b", b'for="a', b"for=1.1.1.1 proto=https", b"for=1.1.1.1;for=2.2.2.2", b"=x",
        b"for=[::1]", b'for="a"b', b"for =1.1.1.1", b"for= 1.1.1.1", b"for=1.1.1.1;;x", b'for="\x01"',
        b",".join([b"for=1.1.1.1"] * (MOST_ELEMENTS + 1)),
    ],
)  # fmt: skip
def test_a_forwarded_that_cannot_be_read_is_dropped(value: bytes) -> None:
    found = client((FORWARDED, value))
    assert (found.address, found.drop_forwarded) == ("10.0.0.1", True)
    found = client((FORWARDED, value), (FOR, b"203.0.113.7"))
    assert (found.address, found.drop_forwarded) == ("203.0.113.7", True)


@pytest.mark.parametrize(
    ("listed", "told", "dropped"),
    [
        (b"203.0.113.7", b"for=203.0.113.7;proto=https", False),
        (b"203.0.113.7, 10.0.0.2", b"for=203.0.113.7;proto=https, for=10.0.0.2", False),
        (b"203.0.113.7:80", b'for="203.0.113.7:90";proto=https', False),
        (b"203.0.113.7", b"for=1.1.1.1;proto=https", True),
        (b"203.0.113.7, 10.0.0.2", b"for=203.0.113.7;proto=https", True),
        (b"203.0.113.7", b"for=1.1.1.1, for=203.0.113.7;proto=https", True),
    ],
)
def test_two_stories_of_one_request(listed: bytes, told: bytes, dropped: bool) -> None:
    found = client((FOR, listed), (FORWARDED, told))
    assert (found.address, found.drop_forwarded) == ("203.0.113.7", dropped)
    assert found.scheme == (None if dropped else b"https")
    assert client((FOR, listed), (FORWARDED, told), (PROTO, b"http")).scheme == b"http"


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(st.lists(ADDRESSES, max_size=6), st.lists(st.binary(max_size=12), max_size=3))
def test_what_a_client_writes_decides_nothing(chain: list[ipaddress.IPv4Address], junk: list[bytes]) -> None:
    """Its own address, which the first proxy appended, stands behind all that it wrote."""
    written = b", ".join([*(bit.replace(b",", b"") for bit in junk), *(str(each).encode() for each in chain)])
    for honest in (b"203.0.113.7", b"203.0.113.7, 10.0.0.2", b"203.0.113.7, 10.0.0.3, fd00::2"):
        assert client((FOR, written + b", " + honest)).address == "203.0.113.7"
        assert client((FOR, written), (FOR, honest)).address == "203.0.113.7"


@given(ADDRESSES, st.integers(0, 65535))
def test_every_address_is_read(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    mapped = unmapped(address)
    text = str(address).encode()
    assert parse_address(text) == mapped
    assert parse_address((b"[%b]:%d" if address.version == 6 else b"%b:%d") % (text, port)) == mapped
    assert parse_address(text + b" ") is None


@given(st.binary(max_size=60))
def test_no_bytes_break_it(value: bytes) -> None:
    found = client((FORWARDED, value), (FOR, value), (PROTO, value), (HOST, value), (PORT, value))
    assert found.trusted_peer
    hops = parse_forwarded(value)
    assert hops is None or len(hops) <= 61
