"""`python -m benchmarks.agent`: what a request costs in the agent, and what it weighs.

    this process: a bare edge, 64 links busy ──▶ the agent, on a core of its own ──▶ floor.c, the app

The agent is the zipapp in a bare Python, as in a dyno. The edge is an asyncio loop that knows the tunnel's handshake
and sends the next request when it has counted the bytes of a response: it may well be slower than the agent, so what
counts is the agent's CPU time per request, and the rate that is printed is what that makes of one core. Memory is the
agent's resident set with a hundred links that have all been used. Exit code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import cpu
from benchmarks.machine import Machine, machine
from benchmarks.servers import Running, build, memory_directory, recipes
from flyby_agent.archive import zipapp

BUSY = 64
HELD = 100
BAR_RATE = 3000  # requests a second on one core
BAR_MIB = 30.0
WAIT_S = 20.0
TOKEN = "fly_benchmark_token"
HANDSHAKE = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: flyby-tunnel/1\r\n"
    b"Flyby-Worker: 0/1\r\nFlyby-Node: bench\r\nFlyby-Boot: 1\r\n\r\n"
)
CASES = {"1 KiB": 1024, "64 KiB": 65_536}


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    links: str
    case: str
    cpu_us: float
    rate: float


class Side(asyncio.Protocol):
    """One connection of the agent's."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._data = b""
        self._role = b""
        self.left = 0  # bytes of the response that are still to come
        self.again = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._role == b"link":
            self._response(data)
            return
        self._data += data
        if not self._role:
            head, found, self._data = self._data.partition(b"\r\n\r\n")
            if not found:
                self._data = head
                return
            self._role = b"link" if b"Flyby-Role: link" in head else b"control"
            self.transport.write(HANDSHAKE)
            if self._role == b"link":
                self._edge.links.append(self)
        while b"\n" in self._data:
            line, _, self._data = self._data.partition(b"\n")
            self._message(json.loads(line))

    def _message(self, message: dict[str, object]) -> None:
        answers: dict[object, dict[str, object]] = {
            "register": {"type": "registered", "heartbeat_s": 10, "spare": HELD},
            "ping": {"type": "pong", "n": message.get("n")},
            "drain": {"type": "drained", "in_flight": 0},
        }
        answer = answers.get(message.get("type"))
        if answer is not None:
            self.transport.write(json.dumps(answer).encode() + b"\n")

    def _response(self, data: bytes) -> None:
        if not self.left:  # floor.c writes a head whole, and the agent passes it on whole
            end = data.index(b"\r\n\r\n") + 4
            at = data.index(b"Content-Length: ") + 16
            self.left = end + int(data[at : data.index(b"\r", at)])
        self.left -= len(data)
        if self.left == 0:
            self._edge.count += 1
            if self.again:
                self.ask()
            else:
                self._edge.resting += 1

    def ask(self) -> None:
        self.transport.write(self._edge.request)


class Edge:
    """As much of an edge as the agent needs."""

    def __init__(self) -> None:
        self.links: list[Side] = []
        self.request = b""
        self.count = 0
        self.resting = 0  # links that have stopped after a response

    async def listen(self, tls: ssl.SSLContext | None) -> tuple[asyncio.Server, int]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Side(self), "127.0.0.1", 0, ssl=tls)
        return server, server.sockets[0].getsockname()[1]

    async def held(self, count: int) -> None:
        """Until the agent has so many links here."""
        async with asyncio.timeout(WAIT_S):
            while len(self.links) < count:
                await asyncio.sleep(0.01)

    async def load(self, links: int, seconds: float, size: int) -> int:
        """Requests answered; ends when every link is idle again."""
        self.request = b"GET /miss/%d HTTP/1.1\r\nHost: app.example\r\nUser-Agent: benchmark\r\n\r\n" % size
        self.count = self.resting = 0
        for link in self.links[:links]:
            link.again = True
            link.ask()
        await asyncio.sleep(seconds)
        for link in self.links[:links]:
            link.again = False
        async with asyncio.timeout(WAIT_S):
            while self.resting < links:
                await asyncio.sleep(0.001)
        return self.count


def certificate(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context and its certificate, made by openssl."""
    key, file = directory / "key.pem", directory / "certificate.pem"
    ask = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    ask += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*ask, "-keyout", str(key), "-out", str(file)], check=True, capture_output=True, timeout=WAIT_S)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return context, file


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/{pid}/status has no VmRSS")


async def measure(
    name: str, directory: Path, python: str, app_port: int, tls: bool, options: argparse.Namespace, here: Machine
) -> tuple[list[Figure], float]:
    """Every case over one kind of link, and the agent's weight with a hundred of them."""
    context, file = certificate(directory) if tls else (None, None)
    edge = Edge()
    server, port = await edge.listen(context)
    environment = {
        "FLY_TOKEN": TOKEN,
        "FLY_REMOTE_ENDPOINT": f"{'https' if tls else 'http'}://127.0.0.1:{port}",
        "FLY_PORT": str(app_port),
        "FLY_RUNTIME_DIR": str(directory / "run"),
        **({"FLY_CA_FILE": str(file)} if file else {}),
    }
    agent = subprocess.Popen(
        [*here.server_pin, python, "-I", "-S", str(directory / "flyby-agent.pyz")], env=environment
    )
    figures = []
    try:
        await edge.held(HELD)
        await edge.load(HELD, 0.2, 1024)
        weight = resident_mib(agent.pid)
        for case, size in CASES.items():
            costs = []
            for _ in range(options.rounds):
                before = cpu.seconds(agent.pid)
                answered = await edge.load(BUSY, options.seconds, size)
                costs.append((cpu.seconds(agent.pid) - before) / answered)
            cost = sorted(costs)[len(costs) // 2]
            figures.append(Figure(name, case, cost * 1e6, 1 / cost))
    finally:
        agent.terminate()
        while agent.poll() is None:
            await asyncio.sleep(0.01)
        server.close()
    return figures, weight


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agent", description=__doc__.split("\n")[0])
    parser.add_argument("--python", default=sys.executable, help="the Python that runs the agent [this one]")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts [%(default)s]")
    parser.add_argument("--seconds", type=float, default=3, help="of load for each [%(default)s]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures and the machine")
    options = parser.parse_args(argv)
    here = machine()
    version = subprocess.run([options.python, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    figures: list[Figure] = []
    weights: dict[str, float] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory_directory())))
        (directory / "flyby-agent.pyz").write_bytes(zipapp())
        floor = recipes(build("floor", directory))[0]
        app = stack.enter_context(Running(floor, 0, here.client_pin))
        for name in ("plain", "TLS"):
            found, weights[name] = asyncio.run(
                measure(name, directory, options.python, app.port, name == "TLS", options, here)
            )
            figures += found
    began = time.strftime("%Y-%m-%d", time.gmtime())
    print(f"{here.describe()}; agent on {version}; {options.rounds} rounds of {options.seconds:g} s, {began}")
    print("\n| links | case   | agent CPU µs/request | requests/s on one core |")
    print("|-------|--------|---------------------:|-----------------------:|")
    for each in figures:
        print(f"| {each.links:<5} | {each.case:<6} | {each.cpu_us:20.1f} | {each.rate:22,.0f} |")
    for name, weight in weights.items():
        print(f"\n{HELD} {name} links: {weight:.1f} MiB resident")
    if options.json:
        report = {"machine": asdict(here), "python": version, "resident_mib": weights}
        options.json.write_text(json.dumps({**report, "figures": [asdict(each) for each in figures]}, indent=2) + "\n")
    slow = [each for each in figures if each.case == "1 KiB" and each.rate < BAR_RATE]
    return 1 if slow or max(weights.values()) > BAR_MIB else 0


if __name__ == "__main__":
    sys.exit(main())
