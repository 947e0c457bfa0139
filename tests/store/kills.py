"""`python -m tests.store.kills 1000`: `flyby serve` under load, while its workers are killed at random moments.

The family is the real one; only the supervisor's patience is taken away, which would make a worker that dies young wait
longer each time. Every response that comes to its end is compared byte by byte with what the origin sends for that
path; a connection that breaks is the price of a death and is opened anew; a request that does not end is a failure.

Bodies are of all kinds that the store treats differently: smaller than what is packed, packed, noise, larger than what
is written at once, of unknown length and slow, so that deaths fall into them. They live for a second or two, and do not
all fit, so that there is always something to fetch, to validate, to replace and to evict. When the load has gone, no
fetch is left open, a purge gives back every byte that was free at the start, and the audit of the store finds nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from flyby.config import Cache
from flyby.server.cache import open_store
from flyby.store import StoreStatistics, StoreView
from tests.e2e.stage import LIMIT, read_body, read_head
from tests.edge import ServedEdge, served

CLIENTS = 24
HUNG_S = 20.0  # long beyond anything that a loaded machine explains
PROGRAM = (
    "import flyby.server.children as it; it.LONGEST_DELAY_S = it.FIRST_DELAY_S; from flyby.cli import main; main()"
)
CACHE = "8MiB"

LENGTHS = {"small": 300, "text": 9_000, "noise": 60_000, "large": 500_000, "slow": 40_000}
EACH = 40  # paths of every kind


@cache
def content(path: str) -> bytes:
    """What the origin sends for a path; text can be compressed, the rest cannot."""
    length = LENGTHS[path.split("/")[1]]
    noise = hashlib.shake_128(path.encode())
    return (noise.digest(50) * (length // 50 + 1))[:length] if path.startswith("/text") else noise.digest(length)


@dataclass
class Played:
    """What came of it."""

    kills: int = 0
    right: int = 0
    broken: int = 0  # connections that a death took along
    kinds: Counter[str] = field(default_factory=Counter)  # of right responses: by what Cache-Status says
    wrong: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # of the store, at the end
    lost: int = 0  # bytes that were free at the start and are not at the end
    statistics: StoreStatistics | None = None

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common())
        return (
            f"{self.kills} kills, {self.right} responses right ({kinds}), {self.broken} connections broken; "
            f"{len(self.wrong)} wrong, {len(self.hung)} hung, {self.lost} bytes lost, {len(self.problems)} problems"
        )


async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            request = await read_head(reader)
            path = request.target
            tag = f'"{path}"'
            head = f"ETag: {tag}\r\nX-Path: {path}\r\nCache-Control: max-age={1 + len(path) % 2}\r\n"
            if request.get("if-none-match") == tag:
                writer.write(f"HTTP/1.1 304 Not Modified\r\n{head}\r\n".encode())
                continue
            body = content(path)
            if path.startswith("/slow"):
                writer.write(f"HTTP/1.1 200 OK\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode())
                for start in range(0, len(body), 8000):
                    writer.write(b"1f40\r\n" + body[start : start + 8000] + b"\r\n")
                    await asyncio.sleep(0.005)
                    if writer.is_closing():
                        return
                writer.write(b"0\r\n\r\n")
            else:
                writer.write(f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def client(port: int, seed: int, played: Played, done: asyncio.Event) -> None:
    """Requests in turn on one connection, for as long as it holds, then on the next."""
    generator = random.Random(seed)
    while not done.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LIMIT)
        except ConnectionError:
            played.broken += 1
            await asyncio.sleep(0.01)
            continue
        try:
            while not done.is_set():
                # Some paths are asked for far more often than others.
                number = int(EACH * generator.random() ** 3)
                path = f"/{generator.choice(list(LENGTHS))}/{number}"
                try:
                    async with asyncio.timeout(HUNG_S):
                        writer.write(f"GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n".encode())
                        response = await read_head(reader)
                        await read_body(reader, response)
                except TimeoutError:
                    played.hung.append(path)
                    break
                if not response.complete:
                    played.broken += 1
                    break
                if (response.status, response.get("x-path")) != (200, path):
                    played.wrong.append(f"{path}: {response.start}, of {response.get('x-path')}")
                elif response.body != content(path):
                    played.wrong.append(f"{path}: {len(response.body)} bytes, not the origin's")
                else:
                    played.right += 1
                    status = response.get("cache-status") or ""
                    played.kinds["hits" if "; hit" in status else "joined" if "collapsed" in status else "fetched"] += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            played.broken += 1
        finally:
            writer.close()


def workers_of(supervisor: int) -> list[int]:
    """The workers that live now."""
    found = []
    for pid in map(int, Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().startswith("flyby-worker"):
                found.append(pid)
    return found


async def killer(edge: ServedEdge, kills: int, seed: int, played: Played, pause_s: float) -> None:
    generator = random.Random(seed)
    while played.kills < kills and not played.hung:
        await asyncio.sleep(generator.expovariate(1 / pause_s))
        alive = workers_of(edge.process.pid)
        if alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(generator.choice(alive), signal.SIGKILL)
                played.kills += 1


async def purge(port: int) -> None:
    """Everything, by the road that an operator takes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PURGE / HTTP/1.1\r\nHost: shop.test\r\nFlyby-Purge: all\r\n\r\n")
    response = await read_head(reader)
    await read_body(reader, response)
    writer.close()
    if response.status != 200:
        raise AssertionError(f"the purge was answered with {response.start}")


def unused(found: StoreStatistics) -> int:
    """Bytes that no object takes; the index has its part of them from the arena, and may keep it."""
    return found.free + found.index_bytes


async def settled(view: StoreView, free: int, seconds: float = 20.0) -> int:
    """Wait until nothing is under way and `free` bytes are unused again; how many are missing at last."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = view.statistics()
        if unused(found) >= free and not found.fills_open and not found.loose:
            break
        await asyncio.sleep(0.05)
    return free - unused(view.statistics())


async def act(edge: ServedEdge, view: StoreView, kills: int, seed: int, played: Played, pause_s: float) -> None:
    free = unused(view.statistics())
    done = asyncio.Event()
    clients = [asyncio.create_task(client(edge.port, seed + number, played, done)) for number in range(CLIENTS)]
    await killer(edge, kills, seed, played, pause_s)
    await asyncio.sleep(0.5)  # the last ones to be killed come back, and work
    done.set()
    await asyncio.gather(*clients)
    played.statistics = view.statistics()
    await asyncio.sleep(0.1)
    await purge(edge.port)
    played.lost = await settled(view, free)
    found = view.statistics()
    if found.fills_open or found.loose:
        played.problems.append(f"{found.fills_open} fetches and {found.loose} blocks are left over")


def play(kills: int, workers: int, seed: int = 1, pause_s: float = 0.04) -> Played:
    """The whole of it, in at most `kills` times a fraction of a second."""
    played = Played()
    with tempfile.TemporaryDirectory(prefix="flyby-kills-") as directory, asyncio.Runner() as runner:
        server = runner.run(asyncio.start_server(origin, "127.0.0.1", 0, limit=LIMIT))
        config = (
            f'[cache]\nsize = "{CACHE}"\npath = "{directory}/cache"\n'
            f'[backends.app]\norigins = ["http://127.0.0.1:{server.sockets[0].getsockname()[1]}"]\n'
            '[server]\nlog = "off"\n[server.purge]\nallow = ["127.0.0.1"]\n[server.timeouts]\ndrain_s = 2\n'
        )
        with served(config=config, workers=workers, program=("-c", PROGRAM)) as edge:
            view = StoreView.open(f"{directory}/cache")
            runner.run(act(edge, view, kills, seed, played, pause_s))
            code = edge.stop()
            if code:
                played.problems.append(f"flyby ended with {code}: {edge.said()[-2000:]}")
        server.close()
        runner.run(asyncio.sleep(0.1))  # the origin's connections see that they have ended
        store = open_store(Cache(size=CACHE, path=f"{directory}/cache"), workers)
        played.problems += store.check()
        store.close()
    return played


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    began = time.monotonic()
    result = play(count, workers=3, seed=time.time_ns() & 0xFFFF)
    print(f"{result}; {time.monotonic() - began:.0f} s")
    print(result.statistics)
    for line in [*result.wrong[:20], *result.hung[:20], *result.problems[:20]]:
        print("  ", line)
    sys.exit(bool(result.wrong or result.hung or result.problems or result.lost or result.kills < count))
