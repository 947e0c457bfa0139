"""Plays: backends come and go in the control state while the edge runs."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from flyby import Config, Edge, Server
from flyby.config import Cache, Timeouts
from flyby.control import State
from tests.e2e.stage import Message, Origin, Stage, play, reply, stage
from tests.edge import NotServing, ServedEdge

SHOP = "shop.preview.localhost"


async def until(stage_: Stage, host: str, status: int) -> None:
    """Wait for the edge to take a change up; that it takes no longer than a look is `LOOK_S`'s own promise."""
    for _ in range(200):
        if (await stage_.ask(Host=host)).status == status:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{host} never answered {status}")


@play
async def test_a_backend_is_served_from_its_adding_to_its_removal() -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with stage(reply(body=b"own"), server={"state": directory}, routes=[]) as scene:
            # The sole configured backend serves every other host.
            assert (await scene.ask(Host=SHOP)).body == b"own"
            other = Origin(reply(body=b"shop", Cache_Control="max-age=60"))
            server = await asyncio.start_server(other.serve, "127.0.0.1", 0)
            origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with State.open(directory) as line:
                line.add_backend("shop", [origin])
                line.add_backend("empty")
                await until(scene, "empty.preview.localhost", 503)
                answers = [await scene.ask(Host=host) for host in (SHOP, SHOP, f"{SHOP}:8080", "else.test")]
                assert [answer.body for answer in answers] == [b"shop", b"shop", b"shop", b"own"]
                assert "hit" in (answers[1].get("cache-status") or "")
                line.remove_backend("empty")
                await until(scene, "empty.preview.localhost", 200)
                assert (await scene.ask(Host=SHOP)).body == b"shop"
            assert scene.edge.state is not None
            server.close()


@play
async def test_a_backend_that_is_added_anew_is_not_given_what_the_old_one_said() -> None:
    with tempfile.TemporaryDirectory() as directory, State.open(directory) as line:
        script = reply(Cache_Control="max-age=60")
        async with stage(script, server={"state": directory, "preview_domain": "p.test"}, routes=[]) as scene:
            origins = scene.edge._config.backends["app"].origins
            line.add_backend("shop", origins)
            line.add_backend("first")
            await until(scene, "first.p.test", 503)
            statuses = [(await scene.ask(Host="shop.p.test")).get("cache-status") or "" for _ in range(2)]
            assert ["hit" in status for status in statuses] == [False, True]
            line.remove_backend("shop")
            line.add_backend("shop", origins)
            line.add_backend("second")
            await until(scene, "second.p.test", 503)
            statuses = [(await scene.ask(Host="shop.p.test")).get("cache-status") or "" for _ in range(2)]
            assert ["hit" in status for status in statuses] == [False, True]


@play
async def test_a_request_under_way_survives_the_removal_of_its_backend() -> None:
    release = asyncio.Event()

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if request.target != "/slow":
            await reply()(origin, request, writer)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        await writer.drain()
        await release.wait()
        writer.write(b"-last")

    with tempfile.TemporaryDirectory() as directory, State.open(directory) as line:
        async with stage(script, server={"state": directory}, routes=[]) as scene:
            line.add_backend("shop", [scene.edge._config.backends["app"].origins[0]])
            line.add_backend("empty")
            await until(scene, "empty.preview.localhost", 503)
            client = await scene.connect()
            await client.send(f"GET /slow HTTP/1.1\r\nHost: {SHOP}\r\n\r\n")
            assert (await client.reader.readuntil(b"first")).endswith(b"first")
            line.remove_backend("shop")
            line.remove_backend("empty")
            line.add_backend("other")
            await until(scene, "other.preview.localhost", 503)
            release.set()
            assert await client.reader.readexactly(5) == b"-last"


@play
async def test_an_embedding_program_gives_its_own_state() -> None:
    with tempfile.TemporaryDirectory() as directory, State.open(directory) as state:
        state.add_backend("shop")
        server = Server(listen=["127.0.0.1:0"], timeouts=Timeouts(drain_s=0.1), preview_domain="p.test")
        async with Edge(Config(server=server, cache=Cache(size="16MiB")), state=state) as edge:
            assert edge.state is state
            scene = Stage(Origin(reply()), edge)
            assert (await scene.ask(Host="shop.p.test")).status == 503
            assert (await scene.ask(Host="p.test")).status == 404
            state.add_backend("blog")
            await until(scene, "blog.p.test", 503)
            assert (await scene.ask(Host="shop.p.test")).status == 503
        assert [record.name for record in state.backends()] == ["blog", "shop"]


def test_every_worker_serves_what_the_command_line_has_added(
    serve_edge: Callable[..., ServedEdge], tmp_path: Path
) -> None:
    with State.open(tmp_path) as line:
        line.add_backend("idle")
        edge = serve_edge("--state", str(tmp_path), workers=2)
        assert "idle: dynos that dial in, as idle.preview.localhost" in edge.said()
        line.add_backend("shop")

        def ask() -> int:
            time.sleep(0.005)
            request = urllib.request.Request(edge.url, headers={"Host": SHOP, "Connection": "close"})
            try:
                return int(urllib.request.urlopen(request, timeout=5).status)
            except urllib.error.HTTPError as error:
                error.close()
                return error.code

        # Each connection reaches a worker by chance: forty in a row that agree have reached both.
        assert any({ask() for _ in range(40)} == {503} for _ in range(50))


def test_a_state_that_cannot_be_used_ends_the_start(serve_edge: Callable[..., ServedEdge], tmp_path: Path) -> None:
    (tmp_path / "flyby.db").write_text(json.dumps({"not": "a database"}) * 100)
    with pytest.raises(NotServing, match="ended with 65") as ended:
        serve_edge("--state", str(tmp_path))
    assert "is not a SQLite database" in str(ended.value)


def test_the_state_alone_is_enough_and_stays_so_over_a_reload(
    serve_edge: Callable[..., ServedEdge], tmp_path: Path
) -> None:
    with State.open(tmp_path / "state") as line:
        line.add_backend("shop")
        edge = serve_edge("--state", str(tmp_path / "state"))
        assert "demo" not in edge.said()
        (tmp_path / "broken").write_text("no database" * 100)
        (tmp_path / "broken").replace(tmp_path / "state" / "flyby.db")
        edge.send_signal(signal.SIGHUP)
        for _ in range(500):
            if "configuration reloaded" in edge.said() and "is not a SQLite database" in edge.said():
                break
            time.sleep(0.02)
        assert "is not a SQLite database" in edge.said()
        request = urllib.request.Request(edge.url, headers={"Host": SHOP})
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.urlopen(request, timeout=5)
        answer.value.close()
        assert answer.value.code == 503  # it is known, and no dyno is there
