"""The requests that are counted, each on a connection that has carried another before, and how few files they may take.

The bounds are those of the plan: a stored miss in 14 files of 3,000 lines, a hit in 10 of 2,000, both beside the store,
which is a subject of its own. They are held as soon as `HELD` says so. The access log is on, as it is by default.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import uvloop

from flyby.log import AccessLog
from tests.e2e.stage import Stage, reply, stage
from tests.reading.counting import Seen, counted

STORE = "flyby/store/"
HELD = False  # the rooms are being built


@dataclass(frozen=True)
class Bound:
    """The most that may have to be read."""

    files: int
    lines: int
    leave_out: str = ""


BOUNDS = {
    "hit": Bound(files=10, lines=2000, leave_out=STORE),
    "stored miss": Bound(files=14, lines=3000, leave_out=STORE),
}

WARM = b"GET /warm HTTP/1.1\r\nHost: shop.test\r\n\r\n"
ASKED = b"GET /page?n=%d HTTP/1.1\r\nHost: shop.test\r\n\r\n"


async def _play(what: str) -> Seen:
    loop = asyncio.get_running_loop()
    script = reply(body=b"x" * 1000, Cache_Control="max-age=600", ETag='"1"')
    with open(os.devnull, "wb") as nowhere:
        log = AccessLog("console", loop.call_later, nowhere.fileno())
        async with stage(script, access_log=log) as scene:
            return await _ask(scene, what)


async def _ask(scene: Stage, what: str) -> Seen:
    client = await scene.connect()
    for request in (WARM, ASKED % 1, WARM, ASKED % 1):
        await client.send(request)
        assert (await client.response()).status == 200
    asked = len(scene.origin.requests)
    with counted() as seen:
        await client.send(ASKED % (1 if what == "hit" else 2))
        response = await client.response()
        for _ in range(10):  # what is left to do once the response has gone
            await asyncio.sleep(0)
    assert response.status == 200
    assert len(response.body) == 1000
    assert len(scene.origin.requests) == asked + (what != "hit")
    await client.send(ASKED % 2)
    await client.response()
    assert len(scene.origin.requests) == asked + 1, "the miss was not stored"
    return seen


def play(what: str) -> Seen:
    """Play the request that `BOUNDS` names, and count."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(_play(what), 30))
