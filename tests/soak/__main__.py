"""`python -m tests.soak MINUTES`: exit status 1 when the edge holds more at the end than at the start, or was wrong."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from fnmatch import fnmatchcase
from pathlib import Path

from tests.certificates import issue
from tests.e2e.stage import LIMIT
from tests.edge import PACKAGES
from tests.soak.holdings import Holdings
from tests.soak.town import HOST, Town, origin
from tests.soak.traffic import TRAFFIC, play

FIRST_PART = 0.2  # of the time, before the first look
REST_S = 60.0  # what is under way ends within this


class Watched:
    """The edge's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        assert self._process.stdout is not None
        said = await asyncio.wait_for(self._process.stdout.readline(), 30)
        if not said:
            raise SystemExit(f"the edge ended with {await self._process.wait()}")
        return said.decode()

    async def order(self, what: str) -> dict[str, int]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n".encode())
        answer: dict[str, int] = json.loads(await self.line())
        return answer

    async def rest(self) -> Holdings:
        """What it holds when it is at rest and its cache is empty, or after `REST_S`."""
        until = time.monotonic() + REST_S
        while True:
            await self.order("purge")
            holdings = Holdings(**await self.order("holdings"))
            if holdings.at_rest or time.monotonic() > until:
                return holdings
            await asyncio.sleep(0.5)


async def soak(seconds: float, only: str, seed: int) -> list[str]:
    """What was wrong."""
    plays = {each: every_s for each, every_s in TRAFFIC.items() if fnmatchcase(each.__name__, only)}
    with tempfile.TemporaryDirectory(prefix="flyby-soak-") as directory:
        certificate, key = issue(Path(directory), "edge", HOST)
        server = await asyncio.start_server(origin, "127.0.0.1", 0, limit=LIMIT)
        command = [sys.executable, "-m", "tests.soak.edge", str(server.sockets[0].getsockname()[1]), certificate, key]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([PACKAGES, os.getcwd()])},
        )
        try:
            edge = Watched(process)
            plain, secure = map(int, (await edge.line()).split())
            town = Town(plain, secure, random.Random(seed))
            await play(town, seconds * FIRST_PART, plays)
            before = await edge.rest()
            print(f"before: {before}", flush=True)
            await play(town, seconds * (1 - FIRST_PART), plays)
            after = await edge.rest()
            print(f"after:  {after}")
            print(", ".join(f"{name} {count}" for name, count in sorted(town.played.items())))
            return [*town.wrong, *after.against(before)]
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 30)
            except TimeoutError:
                process.kill()
                await process.wait()
            server.close()
            await asyncio.sleep(0.2)  # the origin's connections see that they have ended


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Mixed traffic, and what is left of it.")
    parser.add_argument("minutes", type=float, nargs="?", default=2.0, help="how long  [default: %(default)s]")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="the kinds of traffic whose name matches")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    wrong = asyncio.run(soak(options.minutes * 60, options.only, options.seed))
    print(f"{len(wrong)} wrong; {time.monotonic() - began:.0f} s")
    for line in wrong[:40]:
        print("  ", line)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
