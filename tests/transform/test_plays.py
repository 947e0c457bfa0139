"""Plays: a transform that upper-cases while it streams, in the fetch chain and in the delivery chain.

Whether the response is stored, passed or followed, whatever its framing: the content is changed, its length is right,
and no validator, digest or range is left that speaks of other bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from flyby import Edge
from flyby.config import Route
from flyby.proxy.decision.points import RouteSeams
from flyby.proxy.transform.plan import Chains
from tests.e2e.stage import Message, Origin, Script, play, reply, stage
from tests.transform.doubles import Faulty, FaultyAtOnce, FaultyHead, Upper, Workshop

STORED = "max-age=60"
PASSED = "no-store"
TEXT = {"Content_Type": "text/plain", "ETag": '"one"', "Accept_Ranges": "bytes"}

Give = Callable[[Chains], None]


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Give:
    """Gives every route of the edges that are made from then on these chains."""

    def chains(given: Chains) -> None:
        monkeypatch.setattr(Edge, "_seams", lambda self, route: RouteSeams(chains=given))

    return chains


def fetch_chain(shop: Workshop) -> Chains:
    return Chains(fetch=(shop.filter(b"text/plain"),))


def delivery_chain(shop: Workshop) -> Chains:
    return Chains(delivery=(shop.filter(b"text/plain"),))


both = pytest.mark.parametrize("chains", [fetch_chain, delivery_chain])


def chunked(*parts: bytes, cache: str = STORED) -> Script:
    """A script: the parts, each in a chunk and a packet of its own."""

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\nDate: {origin.date}\r\nCache-Control: {cache}\r\nContent-Type: text/plain\r\n"
        writer.write(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        for part in parts:
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
            await asyncio.sleep(0.001)
        writer.write(b"0\r\n\r\n")

    return script


def right(response: Message, body: bytes) -> None:
    assert (response.status, response.complete, response.body) == (200, True, body)
    assert response.get("content-length") in (None, str(len(body)))
    assert response.get("etag") in (None, 'W/"one"')
    assert response.get("accept-ranges") is None


@both
@pytest.mark.parametrize("suffix", [b"", b"!"], ids=["same-length", "longer"])
@pytest.mark.parametrize("announces", [True, False], ids=["length", "no-length"])
@pytest.mark.parametrize("cache", [STORED, PASSED])
def test_content_is_changed_on_every_way(
    give: Give, chains: Callable[[Workshop], Chains], suffix: bytes, announces: bool, cache: str
) -> None:
    shop = Workshop(suffix, announces)
    give(chains(shop))

    @play
    async def story() -> None:
        async with stage(reply(200, b"hello", Cache_Control=cache, **TEXT)) as scene:
            for _ in range(3):
                response = await scene.ask()
                right(response, b"HELLO" + suffix)
                hit = "; hit" in (response.get("cache-status") or "")
                # How long the stored content has become is known from the second request on.
                assert (response.get("content-length") is not None) is (announces or (hit and chains is fetch_chain))
            assert len(scene.origin.requests) == (1 if cache == STORED else 3)
            assert len(shop.made) == (1 if cache == STORED and chains is fetch_chain else 3)
            assert all(each.calls[-1] == "end" for each in shop.made)

    story()


@both
@pytest.mark.parametrize("cache", [STORED, PASSED])
def test_content_in_chunks_is_changed_part_by_part(
    give: Give, chains: Callable[[Workshop], Chains], cache: str
) -> None:
    shop = Workshop(b"!")
    give(chains(shop))

    @play
    async def story() -> None:
        async with stage(chunked(b"one ", b"two ", b"three", cache=cache)) as scene:
            for _ in range(2):
                right(await scene.ask(), b"ONE TWO THREE!")

    story()
    assert shop.made[0].calls == ["head", "data", "data", "data", "end"]


@both
def test_trailers_speak_of_what_is_sent_too(give: Give, chains: Callable[[Workshop], Chains]) -> None:
    give(chains(Workshop()))

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Type: text/plain\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n")
        writer.write(b"Content-Digest: sha-256=:AA==:\r\nServer-Timing: app;dur=5\r\n\r\n")

    @play
    async def story() -> None:
        async with stage(script) as scene:
            response = await scene.ask(TE="trailers", Connection="TE")
            assert response.body == b"HELLO"
            assert response.get("trailer:Server-Timing") == "app;dur=5"
            assert response.get("trailer:Content-Digest") is None

    story()


@both
def test_followers_read_what_is_changed(give: Give, chains: Callable[[Workshop], Chains]) -> None:
    shop = Workshop()
    give(chains(shop))

    @play
    async def story() -> None:
        go_on = asyncio.Event()

        async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=9\r\nContent-Type: text/plain\r\n")
            writer.write(b"Content-Length: 10\r\n\r\nfirst")
            await go_on.wait()
            writer.write(b"again")

        async with stage(script) as scene:
            clients = [await scene.connect() for _ in range(4)]
            for client in clients:
                await client.send(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
                await client.reader.readuntil(b"FIRST")
            go_on.set()
            for client in clients:
                assert await client.reader.readexactly(5) == b"AGAIN"
            assert len(scene.origin.requests) == 1

    story()
    assert len(shop.made) == (1 if chains is fetch_chain else 4)


@both
def test_what_is_large_is_changed_at_the_clients_pace(give: Give, chains: Callable[[Workshop], Chains]) -> None:
    shop = Workshop()
    give(chains(shop))
    body = b"abcdefgh" * 131_072  # one MiB

    @play
    async def story() -> None:
        async with stage(reply(200, body, Cache_Control=STORED, **TEXT)) as scene:
            for _ in range(2):
                right(await scene.ask(), body.upper())

    story()
    assert shop.made[-1].calls.count("data") > 1


@both
def test_head_has_the_changed_length_and_no_content(give: Give, chains: Callable[[Workshop], Chains]) -> None:
    shop = Workshop(b"!")
    give(chains(shop))

    @play
    async def story() -> None:
        async with stage(reply(200, b"hello", Cache_Control=STORED, **TEXT)) as scene:
            for method in ("HEAD", "GET", "HEAD"):
                response = await scene.ask(method=method)
                assert (response.status, response.get("content-length"), response.get("etag")) == (200, "6", 'W/"one"')
                assert response.body == (b"HELLO!" if method == "GET" else b"")

    story()
    assert {each.calls[-1] for each in shop.made} == {"end", "fail"}


def test_stored_content_of_a_fetch_chain_is_served_in_parts(give: Give) -> None:
    give(fetch_chain(Workshop()))

    @play
    async def story() -> None:
        async with stage(reply(200, b"hello", Cache_Control=STORED, **TEXT)) as scene:
            whole = await scene.ask(Range="bytes=1-2")  # the origin is not asked for a part
            right(whole, b"HELLO")
            assert scene.origin.requests[0].get("range") is None
            part = await scene.ask(Range="bytes=1-2")
            assert (part.status, part.body, part.get("content-range")) == (206, b"EL", "bytes 1-2/5")
            # RFC 9110 13.1.5: a weak entity tag never matches If-Range.
            right(await scene.ask(Range="bytes=1-2", If_Range='W/"one"'), b"HELLO")

    story()


def test_no_part_leaves_a_delivery_chain(give: Give) -> None:
    give(delivery_chain(Workshop(b"!")))

    @play
    async def story() -> None:
        async with stage(reply(200, b"hello", Cache_Control=STORED, **TEXT)) as scene:
            for _ in range(2):
                right(await scene.ask(Range="bytes=1-2"), b"HELLO!")

    story()


@both
def test_a_weak_tag_still_validates(give: Give, chains: Callable[[Workshop], Chains]) -> None:
    """RFC 9110 13.1.2: If-None-Match compares weakly, here and at the origin."""
    give(chains(Workshop()))

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        again = request.get("if-none-match") in ('"one"', 'W/"one"')
        answer = reply(304 if again else 200, b"hello", Cache_Control="max-age=60, no-cache", **TEXT)
        await answer(origin, request, writer)

    @play
    async def story() -> None:
        async with stage(script) as scene:
            for _ in range(3):
                right(await scene.ask(), b"HELLO")
            response = await scene.ask(If_None_Match='W/"one"')
            assert (response.status, response.body) == (304, b"")
            right(await scene.ask(), b"HELLO")
            assert [each.get("if-none-match") is not None for each in scene.origin.requests] == [False] + [True] * 4

    story()


@both
@pytest.mark.parametrize(
    "fields",
    [
        {"Content_Type": "image/png"},
        {"Content_Type": "text/plain", "Cache_Control": "max-age=60, no-transform"},
        {"Content_Type": "text/plain", "Content_Encoding": "x-rot13"},
    ],
)
def test_what_is_not_to_be_changed_is_left(
    give: Give, chains: Callable[[Workshop], Chains], fields: dict[str, str]
) -> None:
    shop = Workshop()
    give(chains(shop))

    @play
    async def story() -> None:
        async with stage(reply(200, b"hello", **({"Cache_Control": STORED, "ETag": '"one"'} | fields))) as scene:
            for _ in range(2):
                response = await scene.ask()
                assert (response.body, response.get("etag")) == (b"hello", '"one"')
                assert response.get("content-length") == "5"

    story()
    assert shop.made == []


def test_a_client_may_refuse_transforms_of_its_own(give: Give) -> None:
    give(delivery_chain(Workshop()))

    @play
    async def story() -> None:
        async with stage(reply(200, b"hello", Cache_Control=STORED, **TEXT)) as scene:
            assert (await scene.ask(Cache_Control="no-transform")).body == b"hello"
            assert (await scene.ask()).body == b"HELLO"

    story()


@both
@pytest.mark.parametrize("cache", [STORED, PASSED])
@pytest.mark.parametrize("kind", [FaultyAtOnce, FaultyHead])
def test_a_transform_that_fails_at_once_is_a_500(
    give: Give, chains: Callable[[Workshop], Chains], cache: str, kind: type[Upper]
) -> None:
    give(chains(Workshop(kind=kind)))

    @play
    async def story() -> None:
        async with stage(reply(200, b"hello", Cache_Control=cache, **TEXT)) as scene:
            for _ in range(2):
                client = await scene.connect()
                await client.send(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
                response = await client.response()
                assert (response.status, response.complete) == (500, True)
            if chains is fetch_chain:
                assert scene.edge.statistics().store.committed == 0  # type: ignore[union-attr]
            assert scene.edge.statistics().backends["app"].origins[0].leased == 0

    story()


@both
@pytest.mark.parametrize("cache", [STORED, PASSED])
def test_a_transform_that_fails_later_breaks_the_response_off(
    give: Give, chains: Callable[[Workshop], Chains], cache: str
) -> None:
    give(chains(Workshop(kind=Faulty)))

    @play
    async def story() -> None:
        async with stage(chunked(b"one ", b"two ", b"three", cache=cache)) as scene:
            response = await scene.ask()
            assert (response.status, response.complete) == (200, False)
            assert response.body == b"ONE "
            if chains is fetch_chain:
                assert scene.edge.statistics().store.committed == 0  # type: ignore[union-attr]

    story()


@both
def test_the_chain_learns_that_its_client_has_left(give: Give, chains: Callable[[Workshop], Chains]) -> None:
    shop = Workshop()
    give(chains(shop))

    @play
    async def story() -> None:
        async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Type: text/plain\r\n")
            writer.write(b"Content-Length: 10\r\n\r\nfirst")
            await asyncio.Event().wait()

        async with stage(script) as scene:
            client = await scene.connect()
            await client.send(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            await client.reader.readuntil(b"FIRST")
            client.reset()
            async with asyncio.timeout(5):
                while shop.made[0].calls[-1] != "fail":
                    await asyncio.sleep(0.002)

    story()


def test_a_route_without_chains_beside_one_with_some(monkeypatch: pytest.MonkeyPatch) -> None:
    seams = RouteSeams(chains=delivery_chain(Workshop()))
    monkeypatch.setattr(Edge, "_seams", lambda self, route: seams if route.path == "/upper" else None)

    @play
    async def story() -> None:
        routes = [Route(backend="app", path="/upper"), Route(backend="app")]
        async with stage(reply(200, b"hello", Cache_Control=STORED, **TEXT), routes=routes) as scene:
            for _ in range(2):
                assert (await scene.ask("/upper/a")).body == b"HELLO"
                response = await scene.ask("/a")
                assert (response.body, response.get("etag")) == (b"hello", '"one"')

    story()
