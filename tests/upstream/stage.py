"""What the plays of this folder share: a transport and a sink that only record, a loop whose clock jumps, and an origin
that says what its script tells it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from flyby.clock import SystemClock
from flyby.config import Backend as Settings
from flyby.errors import UpstreamError
from flyby.upstream import Backend, Lease, UpstreamConnection
from flyby.wire import STANDARD_LIMITS, Fields

T = TypeVar("T")

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]
GET = b"GET / HTTP/1.1\r\nHost: origin\r\n\r\n"


def run(play: Coroutine[Any, Any, T], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(play)


class JumpingLoop(asyncio.SelectorEventLoop):
    """Where another loop would wait, its clock jumps: for plays without sockets."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        really = self._selector.select  # type: ignore[attr-defined]

        def select(timeout: float | None = None) -> Any:
            events = really(0 if timeout is not None else None)
            if not events and timeout:
                # A little more, or rounding would have it ask for ever smaller waits.
                self.now += timeout + 1e-6
            return events

        self._selector.select = select  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading = True
        self.pauses = 0
        self.closed = False
        self.aborted = False
        self.unsent = 0
        self.high: int | None = None
        self.protocol: asyncio.BaseProtocol | None = None
        self.write_paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high
        if high is not None and self.unsent > high and self.protocol is not None and not self.write_paused:
            self.write_paused = True
            self.protocol.pause_writing()

    def hold(self, unsent: int) -> None:
        """So many bytes wait to be sent."""
        self.unsent = unsent
        if self.protocol is None or self.high is None:
            return
        if unsent > self.high and not self.write_paused:
            self.write_paused = True
            self.protocol.pause_writing()
        elif unsent <= self.high // 4 and self.write_paused:
            self.write_paused = False
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert type(data) is bytes
        self.written.append(data)

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False
        self.pauses += 1

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class Recorder:
    """A sink; `on_data` is called within each `data`."""

    def __init__(self, on_data: Callable[[], None] | None = None) -> None:
        self.content = b""
        self.pieces = 0
        self.ends: list[Fields | None] = []
        self.errors: list[UpstreamError] = []
        self.ended = asyncio.Event()
        self._on_data = on_data

    def data(self, view: memoryview) -> None:
        assert not self.ends
        assert not self.errors
        self.content += view
        self.pieces += 1
        if self._on_data is not None:
            self._on_data()

    def end(self, trailers: Fields | None) -> None:
        self.ends.append(trailers)
        self.ended.set()

    def fail(self, error: UpstreamError) -> None:
        self.errors.append(error)
        self.ended.set()

    @property
    def endings(self) -> int:
        return len(self.ends) + len(self.errors)


class Wire:
    """A connection on a fake transport, and the origin's end of it."""

    def __init__(self, first_byte_s: float = 30.0, between_bytes_s: float = 55.0) -> None:
        loop = asyncio.get_running_loop()
        self.connection = UpstreamConnection(loop, STANDARD_LIMITS, first_byte_s, between_bytes_s)
        self.transport = FakeTransport()
        self.connection.connection_made(self.transport)
        self.transport.protocol = self.connection

    def feed(self, data: bytes, size: int = 65_536) -> None:
        """What the loop does when bytes arrive, `size` at a time."""
        while data:
            part, data = data[:size], data[size:]
            buffer = self.connection.get_buffer(-1)
            buffer[: len(part)] = part
            self.connection.buffer_updated(len(part))

    def eof(self) -> None:
        assert not self.connection.eof_received()
        self.connection.connection_lost(None)

    def reset(self) -> None:
        self.connection.connection_lost(ConnectionResetError())

    async def ask(self, method: bytes = b"GET", **options: Any) -> asyncio.Task[Any]:
        """Send a request and begin to read the head."""
        self.connection.send(GET)
        task = asyncio.get_running_loop().create_task(self.connection.read_head(method, **options))
        await asyncio.sleep(0)
        return task


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def origin(script: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A server that runs `script` for each connection; yields its port. What the script does not close is closed."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await script(reader, writer)
        writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def answering(response: bytes, times: int = 1 << 30, seen: list[bytes] | None = None) -> Script:
    """A script: the same response to every request, and a close after `times` of them."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(times):
            request = await read_request(reader)
            if seen is not None:
                seen.append(request)
            writer.write(response)
            await writer.drain()

    return script


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@contextlib.asynccontextmanager
async def backend(*origins: str, **settings: Any) -> AsyncIterator[Backend]:
    made = Backend("app", Settings(origins=list(origins), **settings), clock=SystemClock())
    await made.start()
    try:
        yield made
    finally:
        await made.close()
        # What was closed is closed by the loop in its next rounds.
        for _ in range(5):
            await asyncio.sleep(0)


async def exchange(lease: Lease, method: bytes = b"GET", request: bytes = GET) -> tuple[int, bytes]:
    """One request and its whole response, on a lease that is given back."""
    lease.connection.send(request)
    head = await lease.connection.read_head(method)
    sink = Recorder()
    lease.connection.stream(sink)
    await sink.ended.wait()
    if sink.errors:
        lease.discard()
        raise sink.errors[0]
    lease.release()
    return head.status, sink.content
