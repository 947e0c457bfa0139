"""Shares of several backends, and what is said of Origin: which backend a visitor gets, and what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from flyby import Backend, Config, Edge, Route, Server
from flyby.config import Cache, Timeouts
from flyby.proxy.routing.shares import Shares
from flyby.wire import Fields
from tests.e2e.stage import Message, Origin, Script, Stage, play, reply, stage


@contextlib.asynccontextmanager
async def two(shares: dict[str, int], **fields: str) -> AsyncIterator[tuple[Stage, dict[str, Origin]]]:
    """An edge before the backends `app` and `canary`, which answer with their names."""
    origins = {name: Origin(reply(body=name.encode(), **fields)) for name in ("app", "canary")}
    servers = {name: await asyncio.start_server(origin.serve, "127.0.0.1", 0) for name, origin in origins.items()}
    config = Config(
        server=Server(listen=["127.0.0.1:0"], timeouts=Timeouts(drain_s=0.1)),
        cache=Cache(size="16MiB"),
        backends={
            name: Backend(origins=[f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
            for name, server in servers.items()
        },
        routes=[Route(backend=shares)],
    )
    try:
        async with Edge(config) as edge:
            yield Stage(origins["app"], edge), origins
    finally:
        for server in servers.values():
            server.close()
        for origin in origins.values():
            for writer in list(origin.writers):
                writer.close()


def cookie_of(answer: Message) -> str:
    (line,) = answer.get_all("set-cookie")
    return line.partition(";")[0]


@play
async def test_a_visitor_stays_with_the_backend_that_was_drawn() -> None:
    async with two({"app": 50, "canary": 50}, Cache_Control="max-age=60") as (scene, origins):
        seen = set()
        for number in range(40):
            first = await scene.ask(f"/{number % 4}")
            seen.add(first.body)
            cookie = cookie_of(first)
            for path in ("/", f"/{number % 4}", "/other"):
                again = await scene.ask(path, Cookie=f"a=b; {cookie}; c=d")
                assert (again.body, again.get_all("set-cookie")) == (first.body, [])
        assert seen == {b"app", b"canary"}
        for origin in origins.values():
            # Of the cookie neither cache nor origin knows: what was stored for one visitor is another's.
            assert len(origin.requests) <= 6
            assert {request.get("cookie") for request in origin.requests} <= {None, "a=b; c=d"}


@play
async def test_a_share_of_0_takes_no_new_visitors_and_keeps_the_old() -> None:
    async with two({"app": 1, "canary": 0}) as (scene, _):
        for _ in range(10):
            assert (await scene.ask("/")).body == b"app"
        kept = Shares({"canary": 0, "app": 1}).cookie_line("canary", False).split(b" ")[1].rstrip(b";").decode()
        assert (await scene.ask("/", Cookie=kept)).body == b"canary"
        for stale in ("x", kept.partition("=")[0] + "=", kept.partition("=")[0] + "=0123456789ab"):
            assert (await scene.ask("/", Cookie=stale)).body == b"app"


@play
async def test_those_who_wait_together_are_drawn_once_each() -> None:
    async with two({"app": 1, "canary": 1}, Set_Cookie="own=1") as (scene, _):
        answers = await asyncio.gather(*(scene.ask("/") for _ in range(20)))
        for answer in answers:
            lines = [line for line in answer.get_all("set-cookie") if line.startswith("flyby-share-")]
            assert len(lines) == 1
            again = await scene.ask("/", Cookie=lines[0].partition(";")[0])
            assert again.body == answer.body


@play
async def test_an_unsafe_request_outdates_what_every_share_has_stored() -> None:
    async with two({"app": 1, "canary": 1}, Cache_Control="max-age=60") as (scene, origins):
        shares = Shares({"app": 1, "canary": 1})
        cookies = {
            name: shares.cookie_line(name, False).split(b" ")[1].rstrip(b";").decode() for name in ("app", "canary")
        }
        for name, cookie in cookies.items():
            await scene.ask("/", Cookie=cookie)
            assert "hit" in ((await scene.ask("/", Cookie=cookie)).get("cache-status") or ""), name
        await scene.ask("/", "POST", b"x", Cookie=cookies["app"])
        for cookie in cookies.values():
            assert "hit" not in ((await scene.ask("/", Cookie=cookie)).get("cache-status") or "")
        assert len(origins["canary"].requests) == 2


@pytest.mark.parametrize(
    ("shares", "point", "drawn"),
    [
        ({"a": 95, "b": 5}, 0.0, "a"),
        ({"a": 95, "b": 5}, 0.9499, "a"),
        ({"a": 95, "b": 5}, 0.95, "b"),
        ({"a": 95, "b": 5}, 0.9999999, "b"),
        ({"a": 0, "b": 1}, 0.0, "b"),
        ({"a": 1, "b": 0, "c": 1}, 0.5, "c"),
        ({"a": 1, "b": 1, "c": 0}, 0.99, "b"),
    ],
)
def test_what_is_drawn(shares: dict[str, int], point: float, drawn: str) -> None:
    assert Shares(shares).drawn(point) == drawn


def test_the_cookie_alone_is_left_out() -> None:
    shares = Shares({"a": 1, "b": 1})
    name = shares.cookie.decode()
    for given, kept in [
        ([f"{name}=x"], []),
        ([f"a=b; {name}=x"], ["a=b"]),
        ([f"a=b;{name}=x;c"], ["a=b; c"]),
        (["a=b", f"{name}=x"], ["a=b"]),
        ([f"a={name}; {name}x=1"], [f"a={name}; {name}x=1"]),
        ([], []),
    ]:
        fields = Fields([(b"Cookie", line.encode()) for line in given])
        shares.left_out(fields)
        assert fields.get_all(b"cookie") == [line.encode() for line in kept]


ORIGINS = [
    # what a page's Origin is, and whether it is the edge's own
    ("http://shop.test", True),
    ("https://shop.test", False),
    ("http://shop.test:8080", False),
    ("http://other.test", False),
    ("null", False),
    ("http://shop.test, http://shop.test", False),
    ("HTTP://shop.test", False),
]


@play
async def test_an_origin_of_ones_own_is_mapped_where_that_is_wanted() -> None:
    for wanted in (True, False):
        async with stage(reply(), backend={"map_origin": wanted}) as scene:
            for value, own in ORIGINS:
                for method in ("POST", "GET"):
                    await scene.ask("/", method, b"x" if method == "POST" else b"", Origin=value, Referer=value)
                    seen = scene.origin.requests[-1]
                    mapped = f"http://{seen.get('host')}" if wanted and own else value
                    assert (seen.get_all("origin"), seen.get("referer")) == ([mapped], value)
                    assert seen.get("x-forwarded-host") == (None if wanted else "shop.test")


def test_a_refused_form_is_explained_once(caplog: pytest.LogCaptureFixture) -> None:
    @play
    async def story() -> None:
        script: Script = reply(403)
        async with stage(script) as scene:
            await scene.ask("/", Origin="http://shop.test")
            await scene.ask("/", "POST", b"x", Origin="http://other.test")
            await scene.ask("/", "POST", b"x")
            assert not caplog.messages
            for _ in range(3):
                assert (await scene.ask("/", "POST", b"x", Origin="http://shop.test")).status == 403
            (told,) = caplog.messages
            for way in ("X-Forwarded-Host", 'host = "client"', "map_origin = true"):
                assert way in told

    with caplog.at_level(logging.WARNING, "flyby.proxy"):
        story()


@play
async def test_visitors_are_told_no_inside_address() -> None:
    options: dict[str, Any] = {"backend": {"origins": ["http://127.0.0.1:1"]}}
    async with stage(reply(), **options) as scene:
        answer = await scene.ask("/")
        assert answer.status in (502, 503)
        told = answer.get("proxy-status") or ""
        assert told.startswith("flyby; error=")
        assert "127.0.0.1" not in told + answer.body.decode()
