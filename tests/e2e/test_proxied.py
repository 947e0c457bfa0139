"""Listeners that expect the PROXY protocol: whose connection it is comes before its first byte, and before TLS."""

from __future__ import annotations

import asyncio
import socket
import struct
import tempfile
from pathlib import Path

import pytest

from flyby.config import Certificate, Timeouts
from flyby.log import AccessRecord
from flyby.wire.proxy_protocol import SIGNATURE
from tests.certificates import issue, trusting
from tests.e2e.stage import Client, play, reply, stage

REQUEST = b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n"
ONE = b"PROXY TCP4 203.0.113.7 192.0.2.1 51000 8080\r\n"
ONE_SIX = b"PROXY TCP6 2001:db8::7 2001:db8::1 51000 443\r\n"
UNKNOWN = b"PROXY UNKNOWN\r\n"


def binary(command: int, family: int, addresses: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses)) + addresses


TWO = binary(0x21, 0x11, struct.pack("!4s4sHH", bytes((203, 0, 113, 8)), bytes((192, 0, 2, 1)), 51000, 443))
LOCAL = binary(0x20, 0x00, b"")

HEADERS = [
    # the header, the client, and the port that the origin is told
    (ONE, "203.0.113.7", "8080"),
    (ONE_SIX, "2001:db8::7", "80"),
    (TWO, "203.0.113.8", "80"),
    (UNKNOWN, "127.0.0.1", None),
    (LOCAL, "127.0.0.1", None),
]
LISTENS = {"listen": ["proxy+http://127.0.0.1:0"], "trusted_proxies": ["127.0.0.1"]}


@pytest.mark.parametrize("number", range(len(HEADERS)))
@pytest.mark.parametrize("pieces", [1, 2, 1000])
def test_the_header_says_who_the_client_is(number: int, pieces: int) -> None:
    header, address, port = HEADERS[number]

    @play
    async def story() -> None:
        log: list[AccessRecord] = []
        async with stage(reply(), server=LISTENS, access_log=log.append) as scene:
            client = await scene.connect()
            client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            data = header + REQUEST
            size = -(-len(data) // pieces)
            for at in range(0, len(data), size):
                await client.send(data[at : at + size])
                await asyncio.sleep(0)
            assert (await client.response()).status == 200
            # The header counts for all requests of the connection.
            await client.send(REQUEST)
            assert (await client.response()).status == 200
            for seen, record in zip(scene.origin.requests, log, strict=True):
                assert (seen.get_all("x-forwarded-for"), record.client) == ([address], address)
                assert port is None or seen.get("x-forwarded-port") == port

    story()


@play
async def test_what_the_header_names_is_asked_whether_it_is_a_proxy() -> None:
    for networks, shown in ((["127.0.0.1"], "203.0.113.7"), (["127.0.0.1", "203.0.113.0/24"], "198.51.100.1")):
        log: list[AccessRecord] = []
        listens = {**LISTENS, "trusted_proxies": networks}
        async with stage(reply(), server=listens, access_log=log.append) as scene:
            client = await scene.connect()
            await client.send(ONE + REQUEST.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n"))
            await client.response()
            assert log[0].client == shown


@pytest.mark.parametrize(
    "first",
    [REQUEST, b"PROXY TCP4 a b 1 2\r\n", b"PROXY  TCP4\r\n", b"PROX\r\n", b"\r\n\r\n\0\r\nQUIT!", b"\x16\x03\x01", b""],
)
def test_a_connection_without_a_header_is_closed(first: bytes) -> None:
    @play
    async def story() -> None:
        async with stage(reply(), server=LISTENS) as scene:
            client = await scene.connect()
            await client.send(first)
            if not first:
                client.writer.write_eof()
            assert await client.closed()
            assert not scene.origin.requests
            assert scene.edge.statistics().connections_total == 0

    story()


@play
async def test_a_connection_of_another_is_closed() -> None:
    async with stage(reply(), server={**LISTENS, "trusted_proxies": ["192.0.2.0/24"]}) as scene:
        client = await scene.connect()
        await client.send(ONE + REQUEST)
        assert await client.closed()
        assert not scene.origin.requests


@play
async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with stage(reply(), server=LISTENS, timeouts=Timeouts(head_s=0.2, drain_s=0.1)) as scene:
        client = await scene.connect()
        await client.send(ONE[:20])
        assert await client.closed()


@play
async def test_the_header_comes_before_the_handshake() -> None:
    log: list[AccessRecord] = []
    with tempfile.TemporaryDirectory() as directory:
        certificate, key = issue(Path(directory), "shop", "shop.test")
        server = {
            "listen": ["proxy+https://127.0.0.1:0"],
            "trusted_proxies": ["127.0.0.1"],
            "tls": [Certificate(certificate=certificate, key=key)],
        }
        async with stage(reply(), server=server, access_log=log.append) as scene:
            reader, writer = await asyncio.open_connection(*scene.edge.addresses[0])
            client = Client(reader, writer)
            scene.clients.append(client)
            await client.send(ONE)
            await writer.start_tls(trusting(), server_hostname="shop.test")
            await client.send(REQUEST)
            assert (await client.response()).status == 200
            await client.send(REQUEST.replace(b"shop.test", b"other.test"))
            assert (await client.response()).status == 421
            seen = scene.origin.requests[0]
            assert (seen.get("x-forwarded-for"), seen.get("x-forwarded-proto")) == ("203.0.113.7", "https")
            assert log[0].client == "203.0.113.7"


@play
async def test_other_listeners_take_no_header() -> None:
    async with stage(reply(), server={"trusted_proxies": ["127.0.0.1"]}) as scene:
        client = await scene.connect()
        await client.send(ONE + REQUEST)
        assert (await client.response()).status in (400, 505)
