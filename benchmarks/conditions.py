"""`python -m benchmarks.conditions`: hits under conditions that the table of cases has no room for.

    many keys     Zipf over 100,000 objects of mixed size, beside one hot key as large as the mean request
    two workers   one hot key of 1 KiB, beside one worker
    open loop     the same rate for every server, half of what the slowest saturates at: p50 and p99 from when each
                  request was due (load.c says why)
    idle          10,000 connections that do nothing: memory each, and what a hit costs beside them
    start         from the command to the first answer

Each figure is the median of the rounds; the rounds are interleaved as in the table. See README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import cpu
from benchmarks.cases import CASES
from benchmarks.machine import Machine, machine
from benchmarks.servers import Recipe, Running, ServerError, build, memory_directory, recipes

KEYS = 100_000
SIZES = (200, 300, 400, 500, 700, 900, 1000, 1200, 1500, 2000, 2500, 3000, 4000, 6000, 10000, 20000)  # as in load.c
CACHE_MIB = 1024  # so that every server holds all of them
CONNECTIONS = 64
IDLE = 10_000
CONDITIONS = ("many-keys", "two-workers", "open-loop", "idle", "start")
HOT = CASES[0].path  # hit-1k
MANY = "/hit/%u?n=%u"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one run of load.c printed, and the CPU time of the server meanwhile."""

    requests: int
    rate: float
    cpu_us: float
    p50_us: int
    p99_us: int


class Client:
    """load.c, built."""

    def __init__(self, program: Path, here: Machine) -> None:
        self._argv = [*here.client_pin, str(program)]

    def run(self, server: Running, path: str, seconds: float, rate: float = 0, keys: int = 0) -> Seen:
        """Load `server`; raises ServerError when the answers are not all what they should be."""
        before = cpu.seconds(server.pid)
        argv = [*self._argv, str(server.port), str(CONNECTIONS), str(seconds), str(rate), str(keys), path]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 120, check=False)
        took = cpu.seconds(server.pid) - before
        if done.returncode:
            raise ServerError(f"{server.name}: {done.stderr.strip()}")
        requests, errors, lasted, p50, p99, _ = done.stdout.split()
        if int(errors):
            raise ServerError(f"{server.name}: {errors} of {requests} answers were no success")
        return Seen(int(requests), int(requests) / float(lasted), took * 1e6 / int(requests), int(p50), int(p99))


def size_of(key: int) -> int:
    """As in load.c."""
    return SIZES[((key * 2654435761 & 0xFFFFFFFF) >> 16) % len(SIZES)]


def mean_size() -> int:
    """Bytes of the mean request for many keys."""
    weights = [1 / (key + 1) for key in range(KEYS)]
    return round(sum(weight * size_of(key) for key, weight in enumerate(weights)) / sum(weights))


def private_kib(pid: int) -> int:
    """Memory that belongs to the tree alone; the cache, which is shared, is not in it."""
    total = 0
    for process in cpu.tree(pid, cpu.living()):
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        found = re.search(r"Pss_Anon:\s+([0-9]+)", text)
        total += int(found[1]) if found else 0
    return total


@contextlib.contextmanager
def idle_connections(port: int, count: int) -> Iterator[None]:
    """So many connections, each of which has been answered once."""
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]
        for each in opened:
            each.sendall(b"GET /hit/200 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port)
        for each in opened:
            each.recv(65536)
        yield


class Report(defaultdict[tuple[str, str], list[float]]):
    """The samples of each (server, figure)."""

    def __init__(self) -> None:
        super().__init__(list)

    def show(self) -> str:
        """One line a figure, in the order in which they came."""
        lines = []
        for (server, figure), values in self.items():
            middle = statistics.median(values)
            spread = (max(values) - min(values)) / middle if middle else 0
            lines.append(f"| {figure:<34} | {server:<9} | {middle:>9,.1f} | {spread:>5.0%} |")
        return "\n".join(
            ["| figure                             | server    |    median | spread |", "|---|---|---:|---:|", *lines]
        )


def many_keys(client: Client, server: Running, seconds: float, report: Report, first: bool) -> None:
    if first:
        client.run(server, MANY, 0, keys=KEYS)
    hot = client.run(server, f"/hit/{mean_size()}", seconds)
    many = client.run(server, MANY, seconds, keys=KEYS)
    report[server.name, "one hot key of the mean size, µs"].append(hot.cpu_us)
    report[server.name, "Zipf over 100,000 keys, µs"].append(many.cpu_us)
    report[server.name, "Zipf / hot"].append(many.cpu_us / hot.cpu_us)


def with_idle(client: Client, server: Running, seconds: float, report: Report) -> None:
    with idle_connections(server.port, 100):
        pass
    before = private_kib(server.pid)
    alone = client.run(server, HOT, seconds)
    with idle_connections(server.port, IDLE):
        time.sleep(1)
        report[server.name, "memory of an idle connection, KiB"].append((private_kib(server.pid) - before) / IDLE)
        beside = client.run(server, HOT, seconds)
    report[server.name, "hit beside 10,000 / alone"].append(beside.cpu_us / alone.cpu_us)


def start(recipe: Recipe, origin: Running, here: Machine, report: Report) -> None:
    with Running(recipe, origin.port, here.server_pin) as server:
        server.get(CASES[0])
        report[recipe.name, "start to first answer, ms"].append((time.monotonic() - server.began) * 1000)


def _run(options: argparse.Namespace, here: Machine, stack: ExitStack, report: Report) -> None:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flyby-bench-", dir=memory_directory())))
    client = Client(build("load", directory), here)
    known = recipes(build("floor", directory))
    origin = stack.enter_context(Running(known[0], 0, here.client_pin))
    wanted = [recipe for recipe in known if recipe.name in options.server and recipe.missing() is None]
    servers = [stack.enter_context(Running(each, origin.port, here.server_pin, CACHE_MIB)) for each in wanted]
    proxies = [server for server in servers if server.recipe.proxies]
    for number in range(options.rounds):
        if "start" in options.only:
            for recipe in wanted:
                start(recipe, origin, here, report)
        for server in servers:
            if "many-keys" in options.only and server.recipe.proxies:
                many_keys(client, server, options.seconds, report, number == 0)
            # The peers are configured for 4,096 connections.
            if "idle" in options.only and server.name in ("floor", "flyby"):
                with_idle(client, server, options.seconds, report)
        if "open-loop" in options.only:
            rate = min(client.run(server, HOT, options.seconds).rate for server in proxies) / 2
            for server in servers:
                seen = client.run(server, HOT, options.seconds, rate)
                report[server.name, "open loop, p50 µs"].append(seen.p50_us)
                report[server.name, "open loop, p99 µs"].append(seen.p99_us)
            report["all", "open loop, requests/s"].append(rate)
    flyby = next((recipe for recipe in wanted if recipe.name == "flyby"), None)
    if "two-workers" in options.only and flyby is not None:
        one = stack.enter_context(Running(flyby, origin.port))
        two = stack.enter_context(Running(flyby, origin.port, workers=2))
        for _ in range(options.rounds):
            single, both = client.run(one, HOT, options.seconds), client.run(two, HOT, options.seconds)
            report["flyby", "two workers / one"].append(both.cpu_us / single.cpu_us)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 when everything was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conditions", description="Hits under other conditions.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts [%(default)s]")
    parser.add_argument("--seconds", type=float, default=2, help="seconds of load for each figure [%(default)s]")
    parser.add_argument("--only", action="append", choices=CONDITIONS, help="one of the conditions; may be repeated")
    parser.add_argument("--server", action="append", help="one of the servers; may be repeated")
    options = parser.parse_args(argv)
    options.only = options.only or list(CONDITIONS)
    options.server = options.server or ["floor", "flyby", "nginx", "haproxy"]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    here = machine()
    report = Report()
    try:
        with ExitStack() as stack:
            _run(options, here, stack, report)
    except (ServerError, OSError) as error:
        print(f"benchmarks.conditions: {error}", file=sys.stderr)
        return 1
    print(here.describe())
    print(f"{options.rounds} rounds of {options.seconds:g} s, {CONNECTIONS} connections; medians\n")
    print(report.show())
    return 0


if __name__ == "__main__":
    sys.exit(main())
