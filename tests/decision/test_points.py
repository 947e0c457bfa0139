"""The four points of a request: a hook that counts in each, one that changes, one that answers, one that fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from flyby import Edge
from flyby.config import Route, RouteCache
from flyby.errors import UpstreamError, WireError
from flyby.policy import CacheRules
from flyby.proxy.decision.decide import STEPS
from flyby.proxy.decision.points import Points, RouteSeams
from flyby.proxy.road._exchange import Exchange
from flyby.proxy.road.replies import Reply
from flyby.proxy.routing._signpost import Signpost
from flyby.proxy.routing.router import Sign
from flyby.wire import Fields
from tests.e2e.stage import Message, Origin, play, reply, stage

POINTS = ("request", "fetch", "response", "deliver")
STORED = {"Cache_Control": "max-age=60"}
PASSED = {"Cache_Control": "no-store"}

Give = Callable[[Points], None]


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Give:
    """Gives every route of the edges that are made from then on these points."""

    def points(given: Points) -> None:
        monkeypatch.setattr(Edge, "_seams", lambda self, route: RouteSeams(points=given))

    return points


def at(point: str, hook: Any) -> Points:
    return Points(**{point: (hook,)})


def counting() -> tuple[Points, Counter[str]]:
    """A hook in each point that counts its calls and lets pass."""
    calls: Counter[str] = Counter()

    def counter(point: str) -> Callable[..., None]:
        def hook(*given: object) -> None:
            calls[point] += 1

        return hook

    return Points(**{point: (counter(point),) for point in POINTS}), calls


def counted(calls: Counter[str]) -> tuple[int, ...]:
    return tuple(calls[point] for point in POINTS)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [(STORED, (3, 1, 1, 3)), (PASSED, (3, 3, 3, 3)), ({"Cache_Control": "no-cache", "ETag": '"a"'}, (3, 3, 3, 3))],
    ids=["stored", "passed", "validated"],
)
def test_each_point_is_passed_as_often_as_it_should(
    give: Give, fields: dict[str, str], expected: tuple[int, ...]
) -> None:
    points, calls = counting()
    give(points)

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        again = request.get("if-none-match") is not None
        await reply(304 if again else 200, b"hello", **fields)(origin, request, writer)

    @play
    async def story() -> None:
        async with stage(script) as scene:
            for _ in range(3):
                assert (await scene.ask()).body == b"hello"

    story()
    assert counted(calls) == expected


def test_followers_pass_the_points_of_their_own_and_share_those_of_the_fetch(give: Give) -> None:
    points, calls = counting()
    give(points)

    @play
    async def story() -> None:
        go_on = asyncio.Event()

        async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=9\r\nContent-Length: 10\r\n\r\nfirst")
            await go_on.wait()
            writer.write(b"again")

        async with stage(script) as scene:
            clients = [await scene.connect() for _ in range(4)]
            for client in clients:
                await client.send(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
                await client.reader.readuntil(b"first")
            go_on.set()
            for client in clients:
                assert await client.reader.readexactly(5) == b"again"

    story()
    assert counted(calls) == (4, 1, 1, 4)


def test_pages_of_flybys_own_pass_the_last_point_too(give: Give) -> None:
    points, calls = counting()
    give(points)

    @play
    async def story() -> None:
        async with stage(reply()) as scene:
            assert (await scene.ask(Cache_Control="only-if-cached")).status == 504

    story()
    assert counted(calls) == (1, 0, 0, 1)


def fixed(status: int, content: bytes) -> Callable[..., Reply]:
    return lambda *given: (status, Fields([(b"Content-Type", b"text/plain")]), content)


@pytest.mark.parametrize("fields", [STORED, PASSED], ids=["stored", "passed"])
@pytest.mark.parametrize(("point", "asked"), [("request", 0), ("fetch", 0), ("response", 3), ("deliver", None)])
def test_a_point_may_answer(give: Give, point: str, asked: int | None, fields: dict[str, str]) -> None:
    give(at(point, fixed(403, b"not today")))

    @play
    async def story() -> None:
        async with stage(reply(200, b"hello", **fields)) as scene:
            client = await scene.connect()
            for _ in range(3):
                await client.send(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
                response = await client.response()
                assert (response.status, response.body, response.complete) == (403, b"not today", True)
                assert response.get("date") is not None
            if asked is not None:
                assert len(scene.origin.requests) == asked
            assert scene.edge.statistics().store.committed == (point == "deliver" and fields is STORED)  # type: ignore[union-attr]
            assert scene.edge.statistics().backends["app"].origins[0].leased == 0

    story()


def test_an_answer_before_the_client_does_not_wait_for_the_origins_end(give: Give) -> None:
    give(at("deliver", fixed(403, b"not today")))

    @play
    async def story() -> None:
        async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 10\r\n\r\nfirst")
            await writer.drain()
            await asyncio.Event().wait()

        async with stage(script) as scene:
            client = await scene.connect()
            for _ in range(2):
                await client.send(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
                assert (await client.response()).body == b"not today"
            async with asyncio.timeout(5):
                while scene.edge.statistics().backends["app"].origins[0].leased:
                    await asyncio.sleep(0.002)

    story()


def test_fields_may_be_changed_on_the_way(give: Give) -> None:
    def on_request(exchange: Exchange) -> None:
        exchange.request.fields.set(b"Accept-Language", b"de")

    def on_fetch(exchange: Exchange) -> None:
        exchange.request.fields.set(b"X-Tier", b"edge")

    def on_response(exchange: Exchange, status: int, fields: Fields) -> None:
        fields.set(b"Cache-Control", b"max-age=60")
        fields.set(b"X-Stored", b"yes")

    def on_deliver(exchange: Exchange, status: int, fields: Fields) -> None:
        fields.set(b"X-For", exchange.request.fields.get(b"x-name") or b"nobody")
        fields.remove(b"x-stored")

    give(Points((on_request,), (on_fetch,), (on_response,), (on_deliver,)))

    @play
    async def story() -> None:
        async with stage(reply(200, b"hello", Cache_Control="no-store", Vary="Accept-Language")) as scene:
            first = await scene.ask(X_Name="ann", Accept_Language="en")
            second = await scene.ask(X_Name="ben", Accept_Language="fr")
            assert (first.get("x-for"), second.get("x-for")) == ("ann", "ben")
            assert first.get("x-stored") is second.get("x-stored") is None
            [asked] = scene.origin.requests  # the second is a hit: both were asked for in one language
            assert (asked.get("accept-language"), asked.get("x-tier")) == ("de", "edge")

    story()


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("a fault of the hook"), 500),
        (UpstreamError(503, "closed", "destination_unavailable", "closed for today"), 503),
        (WireError(429, "too-many", "not so fast"), 429),
    ],
    ids=["any", "upstream", "wire"],
)
def test_an_error_in_a_point_becomes_the_response(give: Give, point: str, error: Exception, status: int) -> None:
    def hook(*given: object) -> None:
        raise error

    give(at(point, hook))

    @play
    async def story() -> None:
        async with stage(reply(200, b"hello", **STORED)) as scene:
            for _ in range(2):
                response = await scene.ask()
                # Before the client there is no other response any more that an error could choose.
                assert response.status == (500 if point == "deliver" else status)
                assert response.complete
            assert scene.edge.statistics().backends["app"].origins[0].leased == 0

    story()


def test_the_first_reply_ends_a_point(give: Give) -> None:
    calls: list[str] = []

    def second(exchange: Exchange) -> None:
        calls.append("second")

    give(Points(request=(fixed(204, b""), second)))

    @play
    async def story() -> None:
        async with stage(reply()) as scene:
            assert (await scene.ask()).status == 204

    story()
    assert calls == []


def test_a_websocket_is_let_through(give: Give) -> None:
    points, calls = counting()
    give(points)

    @play
    async def story() -> None:
        async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
            await writer.drain()
            await asyncio.sleep(5)

        async with stage(script) as scene:
            client = await scene.connect()
            await client.send(b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            assert await client.reader.readuntil(b"\r\n\r\nhello")

    story()
    assert counted(calls) == (1, 1, 0, 0)


def test_the_request_point_has_its_row_before_the_lookup() -> None:
    names = [name for name, _ in STEPS]
    assert names.index("route") < names.index("cookies") < names.index("request") < names.index("store")


def test_a_route_with_points_leaves_the_fast_lane() -> None:
    """And one without stays on it: it pays nothing."""
    rules = CacheRules.compile()
    plain = Sign(None, None, False, False, b"/", True, True, True, "app")
    assert Signpost([(plain, rules)], b"http").choice(b"shop.test", b"/") == 0
    assert Signpost([(plain._replace(serves=False), rules)], b"http").choice(b"shop.test", b"/") is None


@pytest.mark.parametrize("with_points", [False, True])
def test_the_lane_answers_for_routes_without_points_only(give: Give, with_points: bool) -> None:
    points, calls = counting()
    if with_points:
        give(points)

    @play
    async def story() -> None:
        routes = [Route(backend="app", cache=RouteCache())]
        async with stage(reply(200, b"hello", **STORED), routes=routes) as scene:
            for _ in range(3):
                await scene.ask()
            assert scene.edge._lane.hits == (0 if with_points else 2)

    story()
    assert calls["request"] == (3 if with_points else 0)
