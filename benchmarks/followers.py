"""A crowd that asks a cold flyby for one thing at once: how often the origin is asked, and who waits how long.

The origin answers the one request that reaches it when the whole crowd has had time to ask: head and first bytes, and
the rest once every client has those. When a client's first byte arrived is told by the kernel (SO_TIMESTAMPING), not by
the program that reads a thousand sockets in turn: it would measure itself.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

from benchmarks.servers import SOURCES, ServerError

GATHER_S = 1.5  # until the whole crowd has asked
FIRST = b"x" * 1000
REST = b"y" * 99_000

_SO_TIMESTAMPING = 37
_RX_SOFTWARE = 1 << 3 | 1 << 4  # SOF_TIMESTAMPING_RX_SOFTWARE, SOF_TIMESTAMPING_SOFTWARE


@dataclass(frozen=True, slots=True)
class Crowd:
    """What one crowd met."""

    workers: int
    clients: int
    fetches: int
    complete: int  # clients that got the whole of it
    behind_ms: tuple[float, ...]  # each first byte behind the very first, sorted

    def behind(self, share: float) -> float:
        return self.behind_ms[min(int(len(self.behind_ms) * share), len(self.behind_ms) - 1)]


class _Origin:
    """Answers in its own time; counts who asks."""

    def __init__(self) -> None:
        self.fetches = 0
        self.go_on = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=(self._listener.accept()[0],), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            data = b""
            while b"\r\n\r\n" not in data:
                more = connection.recv(65536)
                if not more:
                    return
                data += more
            self.fetches += 1
            time.sleep(GATHER_S)
            length = len(FIRST) + len(REST)
            head = f"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {length}\r\n\r\n"
            connection.sendall(head.encode() + FIRST)
            self.go_on.wait(20)
            connection.sendall(REST)
            connection.recv(1)


def _arrival(message: tuple[bytes, list[tuple[int, int, bytes]], int, object]) -> float:
    """The kernel's time in the ancillary data of a recvmsg."""
    for level, kind, data in message[1]:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPING:
            seconds, nanoseconds = map(int, struct.unpack_from("=qq", data))
            return seconds + nanoseconds / 1e9
    raise ServerError("this kernel does not tell when bytes arrive")


def crowd(workers: int, clients: int) -> Crowd:
    """One crowd at a flyby of its own. Raises `ServerError`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2 * clients + 100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(2 * clients + 100, hard), hard))
    origin = _Origin()
    with contextlib.closing(origin):
        command = [sys.executable, "-m", "flyby", "serve", "--listen", "127.0.0.1:0", "--log", "off"]
        command += ["--workers", str(workers), "--origin", f"http://127.0.0.1:{origin.port}"]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline().decode()
            if "listens on" not in line:
                raise ServerError(f"flyby did not start: {line}")
            port = int(line.rsplit(":", 1)[1])
            time.sleep(1)  # the workers come up
            return _ask(origin, port, workers, clients)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            process.stdout.close()


def _ask(origin: _Origin, port: int, workers: int, clients: int) -> Crowd:
    connections = []
    for _ in range(clients):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _RX_SOFTWARE)
        connections.append(connection)
    for connection in connections:
        connection.sendall(b"GET /crowd HTTP/1.1\r\nHost: bench.test\r\n\r\n")
    # Asleep until the first byte, so that no core is taken from the workers.
    select.select([connections[0]], [], [], 20)
    time.sleep(0.5)
    arrivals, received = [], []
    for connection in connections:
        connection.settimeout(20)
        message = connection.recvmsg(2000, 1024)
        arrivals.append(_arrival(message))
        received.append(len(message[0]))
    origin.go_on.set()
    complete = sum(_whole(connection, seen) for connection, seen in zip(connections, received, strict=True))
    first = min(arrivals)
    return Crowd(workers, clients, origin.fetches, complete, tuple(sorted((each - first) * 1000 for each in arrivals)))


def _whole(connection: socket.socket, received: int) -> bool:
    """Whether as many bytes come as the response has; the head is longer than nothing and shorter than 2,000."""
    with connection:
        wanted = len(FIRST) + len(REST)
        while received < wanted:
            more = len(connection.recv(1 << 20))
            if not more:
                return False
            received += more
        return True
