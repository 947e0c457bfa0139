"""Workers are killed under load, and what they have counted stays counted: the sums are the clients' own.

A request is counted in the same call that hands over the last of its response. So each kill may lose one count (the
response was handed over, the worker died before it counted), and each connection that broke may hide one (counted, but
its response never came through). No two clients share a response, so no call hands over more than one.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter

import pytest

from flyby.metrics import PagesView, total
from tests.e2e.stage import Message, Origin, read_body, read_head
from tests.edge import ServedEdge, served
from tests.store.kills import PROGRAM, workers_of

KILLS = 20
CLIENTS = 8
BETWEEN = 100  # responses between two kills


class Load:
    """What the clients have seen."""

    def __init__(self) -> None:
        self.over = False
        self.right: Counter[str] = Counter()  # whole responses, by what became of the request
        self.broken = 0
        self.sent = 0  # bytes of contents that came through

    async def client(self, port: int, name: int) -> None:
        """Requests in turn, on connections of some dozens each, so that they meet every worker."""
        number = 0
        while not self.over:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                continue  # nothing was asked
            try:
                for _ in range(30):
                    number += 1
                    path = (f"/{name}/known", f"/{name}/{number}", f"/{name}/never")[number % 3]
                    writer.write(f"GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n".encode())
                    response = await read_head(reader)
                    await read_body(reader, response)
                    if not response.complete:
                        self.broken += 1
                        break
                    self.sent += len(response.body)
                    status = response.get("cache-status") or ""
                    self.right["hit" if "; hit" in status else "other"] += 1
            except (ConnectionError, asyncio.IncompleteReadError):
                self.broken += 1
            finally:
                writer.close()


async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
    control = "no-store" if request.target.endswith("never") else "max-age=600"
    writer.write(f"HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nContent-Length: 1000\r\n\r\n".encode() + bytes(1000))


async def kill_under_load(edge: ServedEdge, load: Load) -> None:
    clients = [asyncio.create_task(load.client(edge.port, name)) for name in range(CLIENTS)]
    for _ in range(KILLS):
        reached = load.right.total() + BETWEEN
        while load.right.total() < reached or not workers_of(edge.process.pid):
            await asyncio.sleep(0.01)
        os.kill(workers_of(edge.process.pid)[0], signal.SIGKILL)
    load.over = True
    await asyncio.gather(*clients)


@pytest.mark.timeout(120)
def test_kills_lose_nothing_that_was_counted() -> None:
    load = Load()
    with asyncio.Runner() as runner:
        server = runner.run(asyncio.start_server(Origin(script).serve, "127.0.0.1", 0))
        config = (
            f'[backends.app]\norigins = ["http://127.0.0.1:{server.sockets[0].getsockname()[1]}"]\n'
            '[server]\nlog = "off"\n[server.timeouts]\ndrain_s = 2\n'
        )
        with served(config=config, workers=2, program=("-c", PROGRAM)) as edge:
            runner.run(kill_under_load(edge, load))
            with PagesView(edge.process.pid) as pages:
                found = total(pages.snapshots())
        server.close()
        runner.run(asyncio.sleep(0.1))  # the origin's connections see that they have ended
    hits = found.outcomes["hit"]
    assert load.right.total() - KILLS <= found.requests <= load.right.total() + load.broken
    assert load.right["hit"] - KILLS <= hits <= load.right["hit"] + load.broken
    assert load.broken <= KILLS * CLIENTS < load.right.total() / 5
    # The tables of one page are written one after the other.
    routed = sum(sum(outcomes.values()) for outcomes in found.routes.values())
    assert abs(found.hits.count - hits) <= KILLS
    assert abs(routed - found.requests) <= KILLS
    assert sum(found.sent.values()) > load.sent - 1000 * KILLS
