"""For whom a request was sent, and what of it the origin and the cache see (RFC 9110 7.6.1, RFC 7239)."""

from __future__ import annotations

import asyncio

from flyby import Route
from flyby.config import Purge
from flyby.log import AccessRecord
from flyby.policy import UNKEYED
from flyby.proxy.routing._upstream_fields import FATES
from flyby.wire.hop_by_hop import HOP_BY_HOP, PROTECTED
from tests.e2e.stage import Message, Origin, play, reply, stage

# Framing, and what the connection answers itself: such a request is another one.
NOT_PLAYED = {b"connection", b"content-length", b"transfer-encoding", b"host", b"upgrade", b"expect", b"cdn-loop"}
USUAL = {b"accept", b"accept-language", b"origin", b"referer", b"user-agent", b"x-device", b"priority"}


async def echo(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
    """Answer with the value of the field that the path names, and say that the answer varies by it."""
    name = request.target.removeprefix("/")
    body = (request.get(name) or "-").encode("latin-1")
    lines = [f"HTTP/1.1 200 OK\r\nVary: {name}\r\nCache-Control: public, max-age=60\r\nContent-Length: {len(body)}"]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


@play
async def test_no_field_that_connection_names_poisons_what_others_get() -> None:
    names = sorted({*FATES, *PROTECTED, *UNKEYED, *USUAL} - NOT_PLAYED)
    async with stage(echo, profile="rfc9111") as scene:
        for name in map(bytes.decode, names):
            fields = {"Host": "shop.test", name: "a-value"}
            await scene.ask(f"/{name}", **fields, Connection=name)
            victim = await scene.ask(f"/{name}", **fields)
            direct = scene.origin.requests[-1].get(name) or "-"
            # What is stored of the first is given only where the origin would say the same to the second.
            if name.encode() in HOP_BY_HOP or name.encode() in UNKEYED or name in ("x-request-id", "x-request-start"):
                assert "a-value" not in victim.body.decode(), name
            else:
                assert victim.body.decode() == direct, name
                hit = "hit" in (victim.get("cache-status") or "")
                assert hit == (name.encode() in PROTECTED or name.encode() in FATES), name


@play
async def test_conditions_and_ranges_that_connection_names_are_absent() -> None:
    async with stage(reply(body=b"0123456789", ETag='"v"', Cache_Control="max-age=60")) as scene:
        await scene.ask("/")
        assert (await scene.ask("/", If_None_Match='"v"')).status == 304
        assert (await scene.ask("/", If_None_Match='"v"', Connection="If-None-Match")).status == 200
        assert (await scene.ask("/", Range="bytes=0-1")).status == 206
        assert (await scene.ask("/", Range="bytes=0-1", Connection="Range")).status == 200


@play
async def test_what_flyby_writes_is_keyed_as_it_is_written() -> None:
    for name in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "Host", "Via"):
        async with stage(echo, server={"trusted_proxies": []}) as scene:
            first = await scene.ask(f"/{name}", **({name: "evil"} if name != "Host" else {}))
            second = await scene.ask(f"/{name}")
            if name == "Via":
                assert (first.body, second.body) == (b"evil, 1.1 flyby", b"1.1 flyby")
            else:
                assert first.body == second.body, name
                assert "hit" in (second.get("cache-status") or ""), name


@play
async def test_a_value_that_came_is_never_taken_for_one_that_was_written() -> None:
    async with stage(echo, server={"trusted_proxies": ["127.0.0.1"]}) as scene:
        told = await scene.ask("/X-Forwarded-For", X_Forwarded_For="192.0.2.1")
        assert told.body == b"192.0.2.1, 127.0.0.1"
        other = await scene.ask("/X-Forwarded-For", X_Forwarded_For="192.0.2.1, 127.0.0.1")
        assert other.body == b"192.0.2.1, 127.0.0.1, 127.0.0.1"
        again = await scene.ask("/X-Forwarded-For", X_Forwarded_For="192.0.2.1")
        assert again.body == told.body
        assert "hit" in (again.get("cache-status") or "")


CHAINS = [
    # what a proxy sends, and what the origin sees and the log shows
    ({"X_Forwarded_For": "203.0.113.7"}, "203.0.113.7, 127.0.0.1", "203.0.113.7"),
    ({"X_Forwarded_For": "evil, 203.0.113.7, 10.0.0.2"}, "evil, 203.0.113.7, 10.0.0.2, 127.0.0.1", "203.0.113.7"),
    ({"X_Forwarded_For": "10.0.0.3, 10.0.0.2"}, "10.0.0.3, 10.0.0.2, 127.0.0.1", "10.0.0.3"),
    ({"X_Forwarded_For": "203.0.113.7:5000"}, "203.0.113.7:5000, 127.0.0.1", "203.0.113.7"),
    ({"Forwarded": "for=203.0.113.8;proto=https"}, "127.0.0.1", "203.0.113.8"),
    ({"Forwarded": 'for="[2001:db8::7]:80"'}, "127.0.0.1", "2001:db8::7"),
    ({"X_Forwarded_For": "203.0.113.7", "Forwarded": "for=203.0.113.8"}, "203.0.113.7, 127.0.0.1", "203.0.113.7"),
    ({}, "127.0.0.1", "127.0.0.1"),
]


@play
async def test_a_trusted_proxy_says_who_the_client_is() -> None:
    log: list[AccessRecord] = []
    trusted = {"trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]}
    async with stage(reply(), server=trusted, access_log=log.append) as scene:
        client = await scene.connect()
        for fields, addresses, shown in CHAINS:
            lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
            await client.send("\r\n".join(["POST / HTTP/1.1", "Host: a", "Content-Length: 0", *lines, "", ""]))
            await client.response()
            assert scene.origin.requests[-1].get_all("x-forwarded-for") == [addresses]
            assert log[-1].client == shown


@play
async def test_what_others_say_of_the_client_is_replaced() -> None:
    log: list[AccessRecord] = []
    async with stage(reply(), server={"trusted_proxies": ["192.0.2.1"]}, access_log=log.append) as scene:
        for fields, _, _ in CHAINS:
            await scene.ask("/", "POST", b"x", **fields, X_Forwarded_Proto="https", X_Forwarded_Port="1")
            seen = scene.origin.requests[-1]
            assert (seen.get_all("x-forwarded-for"), seen.get_all("forwarded")) == (["127.0.0.1"], [])
            assert (seen.get("x-forwarded-proto"), seen.get("x-forwarded-host")) == ("http", "shop.test")
            assert log[-1].client == "127.0.0.1"


@play
async def test_what_others_say_is_appended_to_where_that_is_wanted() -> None:
    log: list[AccessRecord] = []
    async with stage(reply(), server={"forwarded": "append"}, access_log=log.append) as scene:
        await scene.ask(
            "/", "POST", b"x", X_Forwarded_For="1.1.1.1", Forwarded="for=1.1.1.1", X_Forwarded_Proto="https"
        )
        seen = scene.origin.requests[-1]
        assert seen.get_all("x-forwarded-for") == ["1.1.1.1, 127.0.0.1"]
        assert seen.get_all("forwarded") == ["for=1.1.1.1, for=127.0.0.1"]
        assert (seen.get("x-forwarded-proto"), log[-1].client) == ("http", "127.0.0.1")


@play
async def test_scheme_and_host_of_a_trusted_proxy_are_keyed() -> None:
    script = reply(Cache_Control="max-age=60")
    routes = [Route(scheme="https", backend="app"), Route(host="other.test", backend="app")]
    async with stage(script, server={"trusted_proxies": ["127.0.0.1"]}, routes=routes) as scene:
        assert (await scene.ask("/")).status == 404
        secure = await scene.ask("/", X_Forwarded_Proto="https", X_Forwarded_For="203.0.113.7")
        assert secure.status == 200
        seen = scene.origin.requests[-1]
        assert (seen.get("x-forwarded-proto"), seen.get("x-forwarded-port")) == ("https", "443")
        assert "hit" in ((await scene.ask("/", X_Forwarded_Proto="https")).get("cache-status") or "")
        assert (await scene.ask("/", X_Forwarded_Host="other.test")).status == 200
        seen = scene.origin.requests[-1]
        assert (seen.get("x-forwarded-host"), seen.get("x-forwarded-proto")) == ("other.test", "http")
        assert len(scene.origin.requests) == 2


@play
async def test_purge_rights_are_the_client_s_not_the_proxy_s() -> None:
    options = {"server": {"trusted_proxies": ["127.0.0.1"]}, "purge": Purge(allow=["127.0.0.1", "203.0.113.0/24"])}
    async with stage(reply(), **options) as scene:
        assert (await scene.ask("/", "PURGE", X_Forwarded_For="198.51.100.1")).status == 403
        assert (await scene.ask("/", "PURGE", X_Forwarded_For="203.0.113.9")).status == 200
        assert (await scene.ask("/", "PURGE")).status == 200


@play
async def test_a_request_that_waited_keeps_its_client() -> None:
    """One that joined a fetch in vain goes the way again, and is read once only."""
    gate = asyncio.Event()

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await reply(Set_Cookie="a=b")(origin, request, writer)

    async with stage(script, server={"trusted_proxies": ["127.0.0.1"]}) as scene:
        asks = [asyncio.create_task(scene.ask("/", X_Forwarded_For=f"203.0.113.{n}")) for n in range(3)]
        while not scene.origin.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(*asks)
        seen = {message.get("x-forwarded-for") for message in scene.origin.requests}
        assert seen == {f"203.0.113.{n}, 127.0.0.1" for n in range(3)}
