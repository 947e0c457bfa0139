"""`GET /.flyby/tunnel`: what is answered to whom, and who is not listened to any more."""

from __future__ import annotations

import asyncio
import logging

import pytest

from flyby.tunnel.attempts import ADDRESSES, BURST, FORGET_S, Attempts
from flyby.tunnel.handshake import Refusal, read
from flyby.wire import STANDARD_LIMITS, HeadReader, RequestHead
from tests.e2e.stage import play, read_head, reply
from tests.e2e.stage import stage as direct
from tests.tunnel.stage import stage

KEY = "0123456789abcdef" * 2


@play
async def test_the_101_says_who_answers() -> None:
    async with stage() as scene:
        head, _, _ = await scene.agent().dial()
        assert head.status == 101
        assert (head.get("connection"), head.get("upgrade")) == ("Upgrade", "flyby-tunnel/1")
        assert (head.get("flyby-worker"), head.get("flyby-node")) == ("0/1", "edge-1")
        assert len(head.get("flyby-boot") or "") == 16
        again, _, _ = await scene.agent().dial()
        assert again.get("flyby-boot") == head.get("flyby-boot")


TABLE = [
    ({"Upgrade": None, "Connection": None}, 426),
    ({"Upgrade": "websocket"}, 426),
    ({"Upgrade": "flyby-tunnel/2"}, 426),
    ({"Connection": "keep-alive"}, 426),
    ({"Flyby_Role": None}, 400),
    ({"Flyby_Role": "Control"}, 400),
    ({"Flyby_Role": "control, link"}, 400),
    ({"Flyby_Dyno": None}, 400),
    ({"Flyby_Dyno": "f" * 31}, 400),
    ({"Flyby_Dyno": "F" * 32}, 400),
    ({"Flyby_Dyno": "f" * 32 + "x"}, 400),
    ({"Authorization": None}, 401),
    ({"Authorization": "Bearer"}, 401),
    ({"Authorization": "Basic Zm9v"}, 401),
    ({"Authorization": "Bearer fly_12345678_" + "0" * 43}, 401),
    ({"Flyby_Role": "link"}, 409),
    ({"Upgrade": "h2c, Flyby-Tunnel/1"}, 101),
    ({"Connection": "keep-alive, upgrade"}, 101),
]


@pytest.mark.parametrize(("fields", "status"), TABLE, ids=[f"{list(fields.items())}" for fields, _ in TABLE])
def test_the_handshake(fields: dict[str, str | None], status: int) -> None:
    @play
    async def story() -> None:
        async with stage() as scene:
            head, _, _ = await scene.agent().dial(**fields)
            assert head.status == status
            if status == 426:
                assert (head.get("upgrade"), "Upgrade" in head.get_all("connection")) == ("flyby-tunnel/1", True)
            if status == 401:
                assert head.get("www-authenticate") == 'Bearer realm="flyby-tunnel"'
            if status != 101:
                assert head.get("cache-control") == "no-store"
                assert scene.tunnel.statistics().refusals == {status: 1}

    story()


@play
async def test_the_token_of_one_backend_does_not_link_the_dyno_of_another() -> None:
    async with stage() as scene:
        agent = scene.agent()
        await agent.join(links=0)
        _, second = scene.state.create_token("app")
        agent.token = second
        head, _, _ = await agent.dial("link")
        assert head.status == 409


def head(scheme: bytes = b"http", method: bytes = b"GET") -> RequestHead:
    reader = HeadReader(STANDARD_LIMITS, "request")
    reader.feed(
        method + b" /.flyby/tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: flyby-tunnel/1\r\n"
        b"Authorization: bearer  x\r\nFlyby-Role: link\r\nFlyby-Dyno: " + KEY.encode() + b"\r\n\r\n"
    )
    return reader.take_request(scheme)


@pytest.mark.parametrize(
    ("scheme", "address", "plain", "allowed"),
    [
        (b"https", "203.0.113.1", False, True),
        (b"http", "203.0.113.1", False, False),
        (b"http", "203.0.113.1", True, True),
        (b"http", "127.0.0.1", False, True),
        (b"http", "127.8.9.10", False, True),
        (b"http", "::1", False, True),
        (b"http", "2001:db8::1", False, False),
        (b"http", "", False, True),  # a local socket
        (b"http", "10.0.0.1", False, False),
    ],
)
def test_a_token_is_not_taken_in_clear_from_another_machine(
    scheme: bytes, address: str, plain: bool, allowed: bool
) -> None:
    if allowed:
        hello = read(head(scheme), address, plain)
        assert (hello.control, hello.key, hello.token) == (False, KEY, "x")
    else:
        with pytest.raises(Refusal) as refused:
            read(head(scheme), address, plain)
        assert refused.value.status == 403


def test_another_method() -> None:
    with pytest.raises(Refusal) as refused:
        read(head(method=b"POST"), "", False)
    assert refused.value.status == 405


@play
async def test_wrong_tokens_are_limited_but_for_those_who_are_known() -> None:
    async with stage() as scene:
        good = scene.agent()
        await good.join(links=0)
        bad = scene.agent(token="fly_12345678_" + "0" * 43)
        answers = [await bad.dial() for _ in range(BURST + 2)]
        assert [head.status for head, _, _ in answers] == [401] * BURST + [429] * 2
        assert int(answers[-1][0].get("retry-after") or "") in (5, 6)
        await good.donate()  # the same address, and a token that is in use
        assert (await scene.ask("/")).status == 200
        _, other = scene.state.create_token("app")
        late, _, _ = await scene.agent(token=other).dial()
        assert late.status == 429


@play
async def test_the_token_is_in_no_log() -> None:
    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    logger = logging.getLogger("flyby")
    handler = Keep(logging.DEBUG)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        async with stage() as scene:
            await scene.agent().join()
            wrong = "fly_12345678_" + "0" * 43
            await scene.agent(token=wrong).dial()
            secrets = [scene.token, scene.token.split("_")[2], wrong]
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert any("a wrong token from 127.0.0.1" in line for line in seen)
    assert any("dyno web.1" in line for line in seen)
    assert not [line for line in seen for secret in secrets if secret in line]


def test_attempts_are_forgotten_one_by_one() -> None:
    attempts = Attempts()
    for _ in range(BURST):
        assert attempts.wait_s("a", 100.0) == 0
        attempts.failed("a", 100.0)
    assert attempts.wait_s("a", 100.0) == FORGET_S
    assert attempts.wait_s("b", 100.0) == 0
    assert attempts.wait_s("a", 105.0) == 1
    assert attempts.wait_s("a", 106.0) == 0
    attempts.failed("a", 106.0)
    assert attempts.wait_s("a", 106.0) == FORGET_S
    assert attempts.wait_s("a", 1000.0) == 0


def test_attempts_count_networks_of_ipv6_and_stay_bounded() -> None:
    attempts = Attempts()
    for number in range(BURST):
        attempts.failed(f"2001:db8::{number}", 0.0)
    assert attempts.wait_s("2001:db8::ffff", 0.0) > 0
    assert attempts.wait_s("2001:db8:0:1::1", 0.0) == 0
    for _ in range(BURST):
        attempts.failed("::ffff:10.0.0.1", 0.0)
    assert attempts.wait_s("::ffff:10.0.0.2", 0.0) == 0
    for number in range(ADDRESSES):
        attempts.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    assert attempts.wait_s("2001:db8::1", 0.0) == 0
    assert repr(attempts) == f"<Attempts of {ADDRESSES} addresses>"


# ---- the reserved paths ----------------------------------------------------------------------------------------------


@play
async def test_flybys_own_paths_never_reach_an_origin() -> None:
    async with direct(reply(Cache_Control="max-age=60")) as scene:
        for path in ("/.flyby/", "/.flyby/x", "/.flyby/?a", "/.flyby/tunnel/x"):
            assert (await scene.ask(path)).status == 404
            assert (await scene.ask(path, Connection="Upgrade", Upgrade="websocket")).status == 404
        assert (await scene.ask("/.flyby/tunnel")).status == 426
        assert (await scene.ask("/.flyby/tunnel?a=b", method="POST")).status == 405
        assert scene.origin.requests == []
        assert (await scene.ask("/.flybys")).status == 200


@play
async def test_the_tunnels_protocol_is_offered_nowhere_else() -> None:
    async with direct(reply()) as scene:
        response = await scene.ask("/", Connection="Upgrade", Upgrade="flyby-tunnel/1")
        assert response.status == 200
        assert scene.origin.requests[0].get("upgrade") is None


@play
async def test_a_backend_that_takes_no_dynos() -> None:
    async with direct(reply()) as scene:
        host, port = scene.edge.addresses[0]
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            b"GET /.flyby/tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: flyby-tunnel/1\r\n"
            b"Authorization: Bearer x\r\nFlyby-Role: control\r\nFlyby-Dyno: " + KEY.encode() + b"\r\n\r\n"
        )
        response = await read_head(reader)
        assert (response.status, response.get("retry-after")) == (503, "5")
        writer.close()


@play
async def test_bytes_before_the_101_cost_a_link() -> None:
    async with stage() as scene:
        agent = scene.agent()
        await agent.join(links=0)
        reader, writer = await asyncio.open_connection(*scene.address)
        writer.write(
            b"GET /.flyby/tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: flyby-tunnel/1\r\n"
            b"Authorization: Bearer " + scene.token.encode() + b"\r\nFlyby-Role: link\r\nFlyby-Dyno: "
            + agent.key.encode() + b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
        )  # fmt: skip
        try:
            while await asyncio.wait_for(reader.read(1000), 5):
                pass
        except ConnectionError:
            pass
        assert scene.edge.statistics().backends["app"].donors[0].idle == 0
        writer.close()
