"""Plays about what is purged: by tag, by URL, by prefix, by host, all of it; for good, or only outdated."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from flyby import Route
from flyby.config import Purge
from tests.e2e.stage import Message, Origin, Script, Stage, play, reply, stage


@play
async def test_tags_are_kept_from_clients() -> None:
    async with stage(reply(Cache_Control="max-age=60", Surrogate_Key="a b", Cache_Tag="c")) as scene:
        for _ in range(2):
            answer = await scene.ask("/")
            assert (answer.get("surrogate-key"), answer.get("cache-tag")) == (None, None)
        assert len(scene.origin.requests) == 1
    async with stage(reply(Cache_Control="no-store", Surrogate_Key="a b", Cache_Tag="c")) as scene:
        answer = await scene.ask("/")
        assert (answer.get("surrogate-key"), answer.get("cache-tag")) == (None, None)


@play
async def test_tags_reach_clients_when_so_configured() -> None:
    for control in ("max-age=60", "no-store"):
        script = reply(Cache_Control=control, Surrogate_Key="a b", Cache_Tag="c")
        async with stage(script, cache={"strip_tags": False}) as scene:
            for _ in range(2):
                answer = await scene.ask("/")
                assert (answer.get("surrogate-key"), answer.get("cache-tag")) == ("a b", "c")


SECRET = Purge(secret="open-sesame")


async def purge(scene: Stage, path: str = "/", how: str | None = None, **fields: str) -> dict[str, Any]:
    if how is not None:
        fields["Flyby_Purge"] = how
    answer = await scene.ask(path, method="PURGE", Authorization="Bearer open-sesame", **fields)
    assert answer.status == 200, answer.body
    report = json.loads(answer.body)
    assert isinstance(report, dict)
    return report


def by_path(**tags: str) -> Script:
    """Fresh for a minute, with the tags that are given for the path's last segment."""

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        name = request.target.partition("?")[0].rpartition("/")[2]
        fields = {"Cache_Control": "max-age=60", "Surrogate_Key": tags.get(name, "other")}
        await reply(body=request.target.encode(), **fields)(origin, request, writer)

    return script


async def stored(scene: Stage, *paths: str, **fields: str) -> list[str]:
    """Which of these are answered from the store."""
    hits = []
    for path in paths:
        answer = await scene.ask(path, Cache_Control="only-if-cached", **fields)
        if answer.status == 200:
            hits.append(path)
    return hits


@play
async def test_tags() -> None:
    async with stage(by_path(a="red", b="red round", c="round"), purge=SECRET) as scene:
        paths = ["/a", "/b", "/c", "/d"]
        for path in paths:
            await scene.ask(path)
        assert await purge(scene, Flyby_Purge_Tag="red") == {"purged": 2, "tags": {"red": 2}}
        assert await stored(scene, *paths) == ["/c", "/d"]
        assert await purge(scene, how="tag", Flyby_Purge_Tag="none  red round") == {
            "purged": 1,
            "tags": {"none": 0, "red": 0, "round": 1},
        }
        assert await stored(scene, *paths) == ["/d"]


@play
async def test_prefixes_and_hosts() -> None:
    paths = ["/", "/news", "/news/1", "/news/2/x", "/news?page=2", "/newsletter", "/about"]
    async with stage(by_path(), purge=SECRET) as scene:
        for host in ("shop.test", "shop.test:81", "test"):
            for path in paths:
                await scene.ask(path, Host=host)
        assert await purge(scene, "/news/2", "prefix") == {"purged": 1}
        assert await purge(scene, "/news?", "prefix") == {"purged": 1}
        assert await stored(scene, *paths) == ["/", "/news", "/news/1", "/newsletter", "/about"]
        assert await purge(scene, "/news", "prefix") == {"purged": 2}
        assert await stored(scene, *paths) == ["/", "/newsletter", "/about"]
        assert await stored(scene, *paths, Host="shop.test:81") == paths
        assert await purge(scene, "/whatever", "host") == {"purged": 3}
        assert await stored(scene, *paths) == []
        assert await purge(scene, "/", "prefix", Host="test") == {"purged": 7}
        assert await stored(scene, *paths, Host="test") == []
        assert await stored(scene, *paths, Host="shop.test:81") == paths
        assert (await purge(scene, how="all"))["purged"] == 7
        assert await stored(scene, *paths, Host="shop.test:81") == []


@play
async def test_a_url_goes_with_its_variants_and_parts_whatever_the_backend() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if request.get("range"):
            fields = {"Content_Range": "bytes 2-7/10", "Cache_Control": "max-age=60", "ETag": '"v1"'}
            await reply(206, b"234567", **fields)(origin, request, writer)
        else:
            await reply(Cache_Control="max-age=60", Vary="Accept-Language")(origin, request, writer)

    routes = [Route(headers={"x-other": "1"}, backend="other"), Route(backend="app")]
    async with stage(script, purge=SECRET, routes=routes, backends=["app", "other"]) as scene:
        for language in ("de", "en"):
            await scene.ask("/", Accept_Language=language)
        await scene.ask("/", X_Other="1")
        await scene.ask("/part", Range="bytes=2-7")
        asked = len(scene.origin.requests)
        assert await purge(scene, "/part") == {"purged": 1}
        assert await purge(scene, "/", "soft") == {"purged": 3}
        assert await purge(scene, "/") == {"purged": 3}
        await scene.ask("/part", Range="bytes=2-7")
        await scene.ask("/", X_Other="1")
        await scene.ask("/", Accept_Language="de")
        assert len(scene.origin.requests) == asked + 3


@play
async def test_soft_then_served_while_it_is_refreshed() -> None:
    control = "max-age=60, stale-while-revalidate=30"
    async with stage(reply(Cache_Control=control, Surrogate_Key="red"), purge=SECRET) as scene:
        await scene.ask("/")
        assert await purge(scene, how="tag, soft", Flyby_Purge_Tag="red") == {"purged": 1, "tags": {"red": 1}}
        stale = await scene.ask("/")
        assert stale.get("cache-status") in ("flyby; hit; ttl=0", "flyby; hit; ttl=-1")
        async with asyncio.timeout(5):
            while len(scene.origin.requests) < 2:
                await asyncio.sleep(0)
        async with asyncio.timeout(5):
            while not (await scene.ask("/")).get("cache-status").startswith("flyby; hit; ttl=5"):
                await asyncio.sleep(0.01)
        assert len(scene.origin.requests) == 2


@play
async def test_soft_then_served_when_the_origin_fails() -> None:
    down = False

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if down:
            await reply(503, b"down")(origin, request, writer)
        else:
            await reply(Cache_Control="max-age=60, stale-if-error=30", Surrogate_Key="red")(origin, request, writer)

    for how in ("tag, soft", "soft", "prefix, soft", "host, soft", "all, soft"):
        down = False
        async with stage(script, purge=SECRET) as scene:
            await scene.ask("/")
            down = True
            tags = {"Flyby_Purge_Tag": "red"} if how.startswith("tag") else {}
            assert (await purge(scene, how=how, **tags))["purged"] == 1
            answer = await scene.ask("/")
            assert (answer.status, answer.body) == (200, b"hello")
            assert len(scene.origin.requests) == 2, how
            await purge(scene)
            assert (await scene.ask("/")).status == 503


@play
async def test_a_304_may_change_the_tags() -> None:
    tags = ["red", None, "blue"]

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        fields = {"Cache_Control": "max-age=60", "ETag": '"v1"'}
        tag = tags[len(origin.requests) - 1]
        if tag is not None:
            fields["Surrogate_Key"] = tag
        status = 304 if request.get("if-none-match") else 200
        await reply(status, **fields)(origin, request, writer)

    async with stage(script, purge=SECRET) as scene:
        for expected in ("red", "red"):
            await scene.ask("/")
            assert (await purge(scene, how="tag, soft", Flyby_Purge_Tag=expected))["purged"] == 1
        await scene.ask("/")
        assert len(scene.origin.requests) == 3
        assert (await purge(scene, Flyby_Purge_Tag="red"))["purged"] == 0
        assert (await purge(scene, Flyby_Purge_Tag="blue"))["purged"] == 1


@play
async def test_unsafe_methods_still_invalidate_what_is_tagged() -> None:
    async with stage(by_path(a="red"), purge=SECRET) as scene:
        await scene.ask("/a")
        await scene.ask("/a", method="POST", body=b"x")
        assert await stored(scene, "/a") == []
        assert (await purge(scene, Flyby_Purge_Tag="red"))["purged"] == 0


@play
async def test_what_cannot_be_understood() -> None:
    async with stage(reply(Cache_Control="max-age=60"), purge=SECRET) as scene:
        for fields in (
            {"Flyby_Purge": "everything"},
            {"Flyby_Purge": "soft, hard"},
            {"Flyby_Purge": "url, host"},
            {"Flyby_Purge": "url, url"},
            {"Flyby_Purge": "soft host"},
            {"Flyby_Purge": "tag"},
            {"Flyby_Purge": "tag", "Flyby_Purge_Tag": ""},
            {"Flyby_Purge": "host", "Flyby_Purge_Tag": "a"},
            {"Flyby_Purge_Tag": "a" * 1025},
        ):
            answer = await scene.ask("/", method="PURGE", Authorization="Bearer open-sesame", **fields)
            assert answer.status == 400, fields
        assert (await scene.ask("/", method="PURGE", Flyby_Purge_Tag="a")).status == 403
        for how in ("", ",", "HARD", " url ,, soft", "Soft,URL"):
            assert await purge(scene, how=how) == {"purged": 0}


class Gate:
    """An origin that holds its answers back until it is told to give them."""

    def __init__(self, *, head_first: bool) -> None:
        self.open = asyncio.Event()
        self.arrived = asyncio.Event()
        self.head_first = head_first
        self.version = 0

    async def script(self, origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        self.version += 1
        body = b"version %d" % self.version
        head = (
            f"HTTP/1.1 200 OK\r\nDate: {origin.date}\r\nCache-Control: max-age=60\r\nSurrogate-Key: red\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        waits = self.version == 1
        if self.head_first or not waits:
            writer.write(head)
            await writer.drain()
        if waits:
            self.arrived.set()
            await self.open.wait()
        writer.write(body if self.head_first or not waits else head + body)


HOWS = ("tag", "tag, soft", "prefix", "host", "url", "url, soft", "all", "all, soft")


@play
async def test_a_fetch_under_way_is_caught_and_not_joined() -> None:
    for head_first in (False, True):
        for how in HOWS:
            gate = Gate(head_first=head_first)
            async with stage(gate.script, purge=SECRET) as scene:
                first = asyncio.create_task(scene.ask("/x"))
                await gate.arrived.wait()
                tags = {"Flyby_Purge_Tag": "red"} if how.startswith("tag") else {}
                await purge(scene, "/x", how, **tags)
                later = asyncio.create_task(scene.ask("/x"))
                if head_first or how not in ("tag", "tag, soft", "prefix", "host"):
                    # The store knows what is fetched there, so nobody waits for it.
                    assert (await later).body == b"version 2"
                gate.open.set()
                assert (await first).body == b"version 1", how
                assert (await later).body == b"version 2", how
                assert (await scene.ask("/x")).body == b"version 2", how
                assert gate.version == 2, how
