"""A crowd that asks a cold flyby for one thing at once: how often the origin is asked, and who waits how long.

The origin answers the one request that reaches it when the whole crowd has had time to ask: head and first bytes, and
the rest once every client has those. The delay of a follower is the arrival of its first byte less that of the owner's,
whose response alone does not say `collapsed`. Both are told by the kernel (SO_TIMESTAMPING, as the segment reaches the
socket), and the program that reads a thousand sockets in turn sleeps meanwhile: it neither measures itself nor takes a
core from the workers.

Beside the delay stands what the kernel says of the workers (/proc/PID/schedstat): CPU time of a request from its first
byte until it waits, and from there until everybody has a first byte, less what the workers use with nothing to do; and
for how long a worker that could run had no core to run on, which is the part of a delay that an idle machine has not.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import SOURCES, ServerError

GATHER_S = 1.5  # until the whole crowd has asked
ASKED_S = 1.2  # until it must have
ANSWERED_S = 1.3  # from then on until everybody has a first byte
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
    behind_ms: tuple[float, ...]  # each follower's first byte behind the owner's, sorted
    asking_us: float  # CPU of a request until it waits
    answering_us: float  # CPU of a request from then until its first byte
    waited_ms: float  # how long the worker that waited longest for a core did, from then until the first bytes

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
            fields = f"Cache-Control: max-age=60\r\nConnection: close\r\nContent-Length: {length}\r\n"
            connection.sendall(f"HTTP/1.1 200 OK\r\n{fields}\r\n".encode() + FIRST)
            self.go_on.wait(20)
            connection.sendall(REST)


def _arrival(message: tuple[bytes, list[tuple[int, int, bytes]], int, object]) -> float:
    """The kernel's time in the ancillary data of a recvmsg."""
    for level, kind, data in message[1]:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPING:
            seconds, nanoseconds = map(int, struct.unpack_from("=qq", data))
            return seconds + nanoseconds / 1e9
    raise ServerError("this kernel does not tell when bytes arrive")


@dataclass(frozen=True, slots=True)
class _Ran:
    """What the kernel says of one process up to now, in nanoseconds."""

    on_cpu: int
    waited: int


def _workers(supervisor: int) -> dict[int, _Ran]:
    """Each child of the supervisor. They sleep when this is asked, so nothing is outstanding."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    found = {}
    for pid in children:
        on_cpu, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
        found[int(pid)] = _Ran(int(on_cpu), int(waited))
    return found


def crowds(workers: int, clients: int, rounds: int) -> list[Crowd]:
    """So many crowds, one after the other, at one flyby; each asks for something new. Raises `ServerError`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2 * clients + 100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(2 * clients + 100, hard), hard))
    origin = _Origin()
    with contextlib.closing(origin):
        command = [sys.executable, "-m", "flyby", "serve", "--listen", "127.0.0.1:0", "--log", "off"]
        command += ["--workers", str(workers), "--origin", f"http://127.0.0.1:{origin.port}"]
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
            start_new_session=True,
        )
        assert process.stderr is not None
        try:
            line = process.stderr.readline().decode()
            if "listens on" not in line:
                raise ServerError(f"flyby did not start: {line}")
            port = int(line.rsplit(":", 1)[1])
            time.sleep(1)  # the workers come up
            return [_ask(origin, port, process.pid, workers, clients, number) for number in range(rounds)]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            process.stderr.close()


def _ask(origin: _Origin, port: int, supervisor: int, workers: int, clients: int, number: int) -> Crowd:
    origin.fetches = 0
    origin.go_on.clear()
    connections = []
    for _ in range(clients):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _RX_SOFTWARE)
        connections.append(connection)
    time.sleep(0.3)
    idle = _workers(supervisor)
    time.sleep(ASKED_S)
    before = _workers(supervisor)
    idle_s = sum(before[pid].on_cpu - idle[pid].on_cpu for pid in before) / ASKED_S
    for connection in connections:
        connection.sendall(b"GET /crowd/%d HTTP/1.1\r\nHost: bench.test\r\n\r\n" % number)
    time.sleep(ASKED_S)
    waiting = _workers(supervisor)
    time.sleep(ANSWERED_S)
    answered = _workers(supervisor)
    arrivals, received, owners = [], [], []
    for connection in connections:
        connection.settimeout(20)
        message = connection.recvmsg(2000, 1024)
        (arrivals if b"; collapsed" in message[0] else owners).append(_arrival(message))
        received.append(len(message[0]))
    origin.go_on.set()
    complete = sum(_whole(connection, seen) for connection, seen in zip(connections, received, strict=True))
    if len(owners) != 1:
        raise ServerError(f"{len(owners)} responses of {clients} were not shared")
    return Crowd(
        workers,
        clients,
        origin.fetches,
        complete,
        tuple(sorted((each - owners[0]) * 1000 for each in arrivals)),
        (sum(waiting[pid].on_cpu - before[pid].on_cpu for pid in before) - idle_s * ASKED_S) / clients / 1000,
        (sum(answered[pid].on_cpu - waiting[pid].on_cpu for pid in before) - idle_s * ANSWERED_S) / clients / 1000,
        max(answered[pid].waited - waiting[pid].waited for pid in before) / 1e6,
    )


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
