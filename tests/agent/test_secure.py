"""The TLS transport against a server that is asyncio's own: bytes both ways, backpressure, ends, faults."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from flyby_agent.secure import HIGH, SecureTransport, start
from tests.agent.conftest import certificates

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Peer(asyncio.Protocol):
    """Keeps what it is told."""

    transport: SecureTransport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.received = bytearray()
        self.told: list[str] = []
        self.ended: asyncio.Future[Exception | None] = loop.create_future()
        self.writable = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, SecureTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data == b"fail":
            raise ZeroDivisionError
        self.received += data

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")
        self.writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set_result(error)


async def dialled(loop: asyncio.AbstractEventLoop, port: int) -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    await loop.sock_connect(made, ("127.0.0.1", port))
    return made


def play(tmp_path: Path, serve: Serve, scene: Callable[[Peer], Coroutine[Any, Any, None]]) -> None:
    """One connection between a peer and a server's coroutine."""

    async def run() -> None:
        context, authority, _ = certificates(tmp_path)
        served: list[asyncio.Task[None]] = []

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            served.append(task)
            try:
                await serve(reader, writer)
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
        loop = asyncio.get_running_loop()
        peer = Peer(loop)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.load_verify_locations(authority)
        port = server.sockets[0].getsockname()[1]
        transport = await start(loop, await dialled(loop, port), tls, "localhost", peer)
        assert transport is peer.transport
        await scene(peer)
        transport.abort()
        await peer.ended
        await asyncio.gather(*served)
        server.close()

    asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize("size", [1, 16_384, 16_385, 3_000_000])
def test_bytes_pass_both_ways_and_what_was_written_is_flushed_by_close(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(size))
        await writer.drain()
        assert await reader.readexactly(size) == data
        assert await reader.read() == b""
        seen.append(True)

    async def scene(peer: Peer) -> None:
        peer.transport.write(data)
        while len(peer.received) < size:
            await asyncio.sleep(0.001)
        assert peer.received == data
        peer.transport.write(data)
        peer.transport.close()
        peer.transport.write(b"too late")
        assert await peer.ended is None
        while not seen:
            await asyncio.sleep(0.001)

    seen: list[bool] = []
    play(tmp_path, echo, scene)


def test_a_slow_reader_pauses_the_writer_and_paused_reading_reads_nothing(tmp_path: Path) -> None:
    total = 16 * 1024 * 1024
    go = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await reader.readexactly(total)
        writer.write(b"seen")
        await writer.drain()
        await reader.read()

    async def scene(peer: Peer) -> None:
        peer.transport.write(bytes(total))
        assert peer.told == ["pause"]
        assert peer.transport.get_write_buffer_size() > HIGH
        peer.transport.pause_reading()
        assert not peer.transport.is_reading()
        go.set()
        await peer.writable.wait()
        assert peer.told == ["pause", "resume"]
        while peer.transport.get_write_buffer_size():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        assert peer.received == b""
        peer.transport.resume_reading()
        while peer.received != b"seen":
            await asyncio.sleep(0.001)

    play(tmp_path, slow, scene)


def test_the_end_of_the_other_side_is_the_end(tmp_path: Path) -> None:
    async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"last")
        writer.close()
        await writer.wait_closed()

    async def scene(peer: Peer) -> None:
        assert await peer.ended is None
        assert peer.received == b"last"
        assert peer.transport.is_closing()

    play(tmp_path, short, scene)


def test_a_protocol_that_fails_loses_its_connection_and_only_that(tmp_path: Path) -> None:
    async def failing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"fail")
        assert await reader.read() == b""

    async def scene(peer: Peer) -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
        error = await peer.ended
        assert isinstance(error, ZeroDivisionError)
        assert told == [error]

    play(tmp_path, failing, scene)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_without_tls_is_an_error(said: bytes) -> None:
    async def run() -> None:
        async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(said)
            writer.close()

        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        tls = ssl.create_default_context()
        with pytest.raises(OSError, match=r"SSL|reset"):
            await start(loop, await dialled(loop, port), tls, "localhost", Peer(loop))
        server.close()

    asyncio.run(asyncio.wait_for(run(), 30))
