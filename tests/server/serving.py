"""A program for the tests: the real supervisor and workers around a stub that speaks lines instead of HTTP.

`python serving.py FILE [MODE]` serves the configuration in FILE. A line is answered with one line: `who` -> "PID WORKER
PROFILE", `slow` -> "done" after half a second; `spin` is not answered, nor is anything after it.

MODE `crash`: the stub ends by itself with code 3 when it is entered; `fail`: it finds the configuration unusable;
`demo`: the demo app is served; `closed`: the standard streams are closed before the start; `hasty`: a worker that does
not beat for 3 s hangs.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Literal

from flyby.config import Config
from flyby.errors import ConfigError, Problem
from flyby.log import AccessRecord
from flyby.server import run, supervisor

MODE = sys.argv[2] if len(sys.argv) > 2 else ""


class StubEdge:
    def __init__(
        self,
        config: Config,
        *,
        store: object,
        sockets: Sequence[socket.socket],
        certificates: object,
        worker: int,
        access_log: Callable[[AccessRecord], None],
        metrics: object,
    ) -> None:
        self.config = config
        self.sockets = sockets
        self.worker = worker
        self.servers: list[asyncio.Server] = []
        self.busy: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> StubEdge:
        if MODE == "crash":
            os._exit(3)
        if MODE == "fail":
            raise ConfigError([Problem("edge.toml", 3, 1, "the CA file is not there")])
        self.servers = [await asyncio.start_server(self.connection, sock=each) for each in self.sockets]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.servers:
            server.close()

    async def reload(self, config: Config) -> None:
        self.config = config

    async def drain(self, timeout: float) -> None:
        for server in self.servers:
            server.close()
        if self.busy:
            await asyncio.wait(self.busy, timeout=timeout)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line == b"spin\n":
                time.sleep(60)  # the loop stands still
            elif line == b"slow\n":
                task = asyncio.create_task(self.slow(writer))
                self.busy.add(task)
                task.add_done_callback(self.busy.discard)
            else:
                writer.write(b"%d %d %s\n" % (os.getpid(), self.worker, self.config.cache.profile.encode()))
        writer.close()

    async def slow(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"begun\n")
        await asyncio.sleep(0.5)
        writer.write(b"done\n")
        await writer.drain()


def main() -> int:
    if MODE == "closed":
        for fd in range(3):
            os.close(fd)
        sys.stdin = sys.stdout = sys.stderr = None  # as Python makes them when it is started so
    if MODE == "hasty":
        supervisor.SILENT_S = 3.0
    try:
        config = Config.load(sys.argv[1])
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 78
    demo: Literal["yes", "no"] = "yes" if MODE == "demo" else "no"
    return run(config, demo=demo, reload=lambda: Config.load(sys.argv[1]), edge=StubEdge)


if __name__ == "__main__":
    sys.exit(main())
