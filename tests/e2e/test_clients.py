"""Plays with clients and servers that others wrote: curl, and a WebSocket library at both ends."""

from __future__ import annotations

import asyncio
import shutil

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from tests.e2e.stage import Message, Origin, Stage, go_on, play, reply, stage


async def curl(scene: Stage, path: str, *options: str) -> str:
    host, port = scene.edge.addresses[0]
    command = ("curl", "-sS", "--max-time", "10", *options, f"http://{host}:{port}{path}")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
def test_curl() -> None:
    @play
    async def story() -> None:
        async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
            if request.get("expect"):
                await go_on(request, writer)
            body = request.body or b"0123456789"
            control = "no-store" if request.body else "max-age=60"
            await reply(200, body, Cache_Control=control, ETag='"a"')(origin, request, writer)

        async with stage(script) as scene:
            assert "fwd=uri-miss" in await curl(scene, "/a", "-i")
            assert "flyby; hit" in await curl(scene, "/a", "-i")
            assert await curl(scene, "/a", "-r", "2-4") == "234"
            assert (await curl(scene, "/a", "-i", "-H", 'If-None-Match: "a"')).startswith("HTTP/1.1 304 ")
            assert await curl(scene, "/a", "-0") == "0123456789"
            assert "Content-Length: 10" in await curl(scene, "/a", "-I")
            large = "x" * 100_000
            assert await curl(scene, "/echo", "-H", "Expect: 100-continue", "-d", large) == large
            assert await curl(scene, "/echo", "-H", "Transfer-Encoding: chunked", "-d", large) == large
            assert len(scene.origin.requests) == 3

    story()


@play
async def test_a_websocket_library_at_both_ends() -> None:
    async def echo(socket: ServerConnection) -> None:
        async for message in socket:
            await socket.send(message)

    async with serve(echo, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with stage(reply(), backend={"origins": [f"http://127.0.0.1:{port}"]}) as scene:
            host, edge_port = scene.edge.addresses[0]
            async with connect(f"ws://{host}:{edge_port}/chat", max_size=None, proxy=None) as client:
                for message in ("hello", "x" * 500_000, b"\0" * 70_000):
                    await client.send(message)
                    assert await client.recv() == message
