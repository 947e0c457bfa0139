"""A fake edge: real sockets, one thread with an asyncio loop, and a script that drives every link by hand.

It is as many workers as a test wants, behind one port: each dial lands on the next worker in turn (or where `landing`
says), as chance would have it. What it receives is kept: `controls` and `links` by worker, every control message in
order. A test calls it from its own thread and waits for conditions, never for time.

    edge = FakeEdge(workers=2);  edge.wait_links(4);  link = edge.take();  link.ask(b"GET / HTTP/1.1…")
"""

from __future__ import annotations

import asyncio
import json
import queue
import re
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
WAIT_S = 15.0


def until(condition: Callable[[], T], what: str = "it") -> T:
    """The condition's first true value; an assertion fails when there is none in good time."""
    deadline = time.monotonic() + WAIT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)
    return value


class Side(asyncio.Protocol):
    """One accepted connection: a control connection or a link, once its request is answered."""

    def __init__(self, edge: FakeEdge) -> None:
        self.edge = edge
        self.role = ""
        self.worker = -1
        self.fields: dict[str, str] = {}
        self.messages: list[dict[str, Any]] = []
        self.received = bytearray()  # on a link, what was not read by the test
        self.ended = ""  # "eof" or "reset"
        self.closing = False  # the test has closed it
        self._arrived = threading.Condition()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.edge.sides.append(self)

    def data_received(self, data: bytes) -> None:
        with self._arrived:
            self.received += data
            self._arrived.notify_all()
        if not self.role and b"\r\n\r\n" in self.received:
            self.edge.asked(self)
        if self.role == "control":
            while b"\n" in self.received:
                self._message(json.loads(self._cut(self.received.index(b"\n") + 1)))

    def handshake(self) -> bytes:
        """The request's head, without its last two line ends."""
        return self._cut(self.received.index(b"\r\n\r\n") + 4)[:-4]

    def _message(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        if message["type"] == "register":
            answer = self.edge.on_register(self)
            if answer is not None:
                self.tell(answer)
        elif message["type"] == "ping" and self.edge.pongs:
            self.tell({"type": "pong", "n": message["n"]})
        elif message["type"] == "drain" and self.edge.drains:
            self.tell({"type": "drained", "in_flight": 0})

    def eof_received(self) -> None:
        with self._arrived:
            self.ended = self.ended or "eof"
            self._arrived.notify_all()

    def connection_lost(self, error: Exception | None) -> None:
        with self._arrived:
            self.ended = self.ended or ("reset" if error else "eof")
            self._arrived.notify_all()
        if self in self.edge.sides:
            self.edge.sides.remove(self)

    # From the test's thread.

    def tell(self, message: dict[str, Any]) -> None:
        self.send(json.dumps(message).encode() + b"\n")

    def send(self, data: bytes) -> None:
        self.edge.loop.call_soon_threadsafe(self.transport.write, data)

    def close(self) -> None:
        self.closing = True
        self.edge.loop.call_soon_threadsafe(self.transport.close)

    def write_eof(self) -> None:
        self.edge.loop.call_soon_threadsafe(self.transport.write_eof)

    def pause(self) -> None:
        self.edge.loop.call_soon_threadsafe(self.transport.pause_reading)

    def resume(self) -> None:
        self.edge.loop.call_soon_threadsafe(self.transport.resume_reading)

    def read(self, size: int) -> bytes:
        """So many bytes."""
        with self._arrived:
            enough = self._arrived.wait_for(lambda: len(self.received) >= size or self.ended, WAIT_S)
            assert enough, f"only {len(self.received)} bytes: {self._shown()}"
            assert len(self.received) >= size, f"{self.ended} after {self._shown()}"
            return self._cut(size)

    def read_until(self, mark: bytes) -> bytes:
        with self._arrived:
            found = self._arrived.wait_for(lambda: mark in self.received or self.ended, WAIT_S)
            assert found, f"only {self._shown()}"
            assert mark in self.received, f"{self.ended} after {self._shown()}"
            return self._cut(self.received.index(mark) + len(mark))

    def read_to_end(self) -> tuple[bytes, str]:
        """Everything, and how it ended: eof or reset."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.ended, WAIT_S), f"no end after {self._shown()}"
            return self._cut(len(self.received)), self.ended

    def _cut(self, size: int) -> bytes:
        data = bytes(self.received[:size])
        del self.received[:size]
        return data

    def _shown(self) -> str:
        return repr(bytes(self.received[:200]))

    def response(self, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """One response that is framed by Content-Length or chunks (which stay as they are)."""
        head = self.read_until(b"\r\n\r\n").decode("latin-1")
        status = int(head.split(" ", 2)[1])
        fields = {name.lower(): value for name, value in re.findall(r"\r\n([^:\r\n]+):[ \t]*([^\r\n]*)", head)}
        if method == "HEAD" or status in (204, 304) or status < 200:
            return status, fields, b""
        if "chunked" in fields.get("transfer-encoding", ""):
            return status, fields, self.read_until(b"0\r\n\r\n")
        return status, fields, self.read(int(fields.get("content-length", "0")))

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        self.send(request)
        return self.response(request.split(b" ", 1)[0].decode())


class FakeEdge:
    """Listens at once, on `host`; `tls` is a server's context."""

    def __init__(
        self,
        workers: int = 1,
        spare: int = 2,
        token: str = "fly_test_secret",
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        name: str = "edge-1",
        boot: str = "b1",
        heartbeat_s: float = 10,
    ) -> None:
        self.workers = workers
        self.spare = spare
        self.token = token
        self.name = name
        self.boot = boot
        self.heartbeat_s = heartbeat_s
        self.pongs = True
        self.drains = True
        self.answer: bytes | None = None  # in place of any 101
        self.landing: Callable[[str], int] | None = None
        self.asks: list[tuple[str, dict[str, str]]] = []  # (role, fields) of every dial
        self.sides: list[Side] = []
        self.taken: list[Side] = []
        self._turn = {"control": 0, "link": 0}
        self._host, self._tls = host, tls
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        ready: queue.Queue[int] = queue.Queue()
        self._ready = ready
        self._wanted = port
        self._thread.start()
        self.port = ready.get(timeout=WAIT_S)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(self._listening(self._wanted))
        self._ready.put(server.sockets[0].getsockname()[1])
        self.loop.run_forever()
        server.close()
        for side in list(self.sides):
            side.transport.abort()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    def _listening(self, port: int) -> Coroutine[Any, Any, asyncio.Server]:
        return self.loop.create_server(
            lambda: Side(self), self._host, port, ssl=self._tls, reuse_address=True, start_serving=True
        )

    def stop(self) -> None:
        """Everything is gone at once, as when the process is killed."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(WAIT_S)

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    def asked(self, side: Side) -> None:
        """A whole request for an upgrade."""
        lines = side.handshake().decode().split("\r\n")
        side.fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        role = side.fields.get("flyby-role", "")
        self.asks.append((role, side.fields))
        assert lines[0] == "GET /.flyby/tunnel HTTP/1.1"
        worker = self._turn[role] % self.workers if self.landing is None else self.landing(role)
        self._turn[role] += 1
        if self.answer is not None:
            answer = self.answer
        elif side.fields.get("authorization") != f"Bearer {self.token}":
            answer = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
        elif role == "link" and worker not in [each.worker for each in self.controls]:
            answer = b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n"
        else:
            side.role, side.worker = role, worker
            answer = (
                f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: flyby-tunnel/1\r\n"
                f"Flyby-Worker: {worker}/{self.workers}\r\nFlyby-Node: {self.name}\r\nFlyby-Boot: {self.boot}\r\n\r\n"
            ).encode()
        side.transport.write(answer)
        if not side.role:
            side.transport.close()

    def on_register(self, side: Side) -> dict[str, Any] | None:
        return {
            "type": "registered",
            "node": self.name,
            "worker": side.worker,
            "workers": self.workers,
            "heartbeat_s": self.heartbeat_s,
            "spare": self.spare,
        }

    @property
    def controls(self) -> list[Side]:
        return [side for side in list(self.sides) if side.role == "control"]

    def control(self, worker: int = 0) -> Side:
        """The registered control connection of a worker."""
        return until(
            lambda: next((side for side in self.controls if side.worker == worker and side.messages), None),
            f"a control connection in worker {worker}",
        )

    def links(self, worker: int | None = None) -> list[Side]:
        return [side for side in list(self.sides) if side.role == "link" and worker in (None, side.worker)]

    def idle(self, worker: int | None = None) -> list[Side]:
        return [link for link in self.links(worker) if link not in self.taken and not link.ended and not link.closing]

    def wait_idle(self, count: int, worker: int | None = None) -> list[Side]:
        return until(
            lambda: found if len(found := self.idle(worker)) >= count else None, f"{count} links in worker {worker}"
        )

    def take(self, worker: int | None = None) -> Side:
        link = self.wait_idle(1, worker)[0]
        self.taken.append(link)
        return link

    def said(self, kind: str) -> list[dict[str, Any]]:
        """Every message of a type, from all control connections that are open."""
        return [message for side in self.controls for message in side.messages if message["type"] == kind]
