"""Active checks: the verdict on a table, one check against real servers, the task on a fake sleep."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from flyby.clock import SystemClock
from flyby.config import Eject, Health
from flyby.upstream.balance import Member
from flyby.upstream.connection import UpstreamConnection
from flyby.upstream.dial import Dialler, Origin
from flyby.upstream.health import Checks, Verdict, probe
from flyby.upstream.resolver import Resolver
from flyby.wire import STANDARD_LIMITS
from tests.upstream.stage import Script, answering, origin, run


@pytest.mark.parametrize(
    ("checks", "verdicts"),
    [
        ("++", "++"),
        ("--", "++"),
        ("---", "++-"),
        ("--+---", "+++++-"),
        ("---+-++", "++----+"),
        ("---++--", "++--+++"),
    ],
)
def test_only_checks_in_a_row_change_the_verdict(checks: str, verdicts: str) -> None:
    verdict = Verdict(rise=2, fall=3)
    seen = ""
    for check in checks:
        before = verdict.healthy
        assert verdict.observe(check == "+") is (verdict.healthy is not before)
        seen += "+" if verdict.healthy else "-"
    assert seen == verdicts


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(
    ("script", "good"),
    [
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), True),
        (answering(b"HTTP/1.1 302 Found\r\nLocation: /in\r\nContent-Length: 0\r\n\r\n"), True),
        (answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), False),
        (answering(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), False),
        (answering(b"220 mail\r\n"), False),
        (_silent, False),
    ],
    ids=["200", "302", "404", "503", "no-http", "silent"],
)
def test_a_check_asks_and_judges(script: Script, good: bool) -> None:
    async def play() -> None:
        async with origin(script) as port:
            assert await _probe(port) is good

    run(play())


async def _probe(port: int) -> bool:
    loop = asyncio.get_running_loop()
    where = Origin.parse(f"http://127.0.0.1:{port}")
    dialler = Dialler(Resolver(SystemClock()), 5.0)
    dial = partial(dialler.dial, where, partial(UpstreamConnection, loop, STANDARD_LIMITS, 0.2, 0.2))
    return await probe(dial, where.authority, b"/up", 0.2)


def test_a_check_says_what_it_is() -> None:
    async def play() -> None:
        seen: list[bytes] = []
        async with origin(answering(b"HTTP/1.1 204 No Content\r\n\r\n", seen=seen)) as port:
            assert await _probe(port)
        assert seen == [
            b"GET /up HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: flyby-health\r\nConnection: close\r\n\r\n" % port
        ]

    run(play())


def test_an_origin_that_refuses_is_not_well() -> None:
    async def play() -> None:
        async with origin(_silent) as port:
            pass
        assert not await _probe(port)

    run(play())


def test_checks_take_the_origin_out_and_bring_it_back() -> None:
    async def play() -> None:
        member = Member("origin:80", Eject())
        answers = [True, False, False, False, True, True]
        seen: list[bool] = []
        slept: list[float] = []
        over = asyncio.Event()

        async def ask() -> bool:
            return answers[len(seen)]

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            seen.append(member.healthy)
            if len(seen) == len(answers):
                over.set()
                await asyncio.Event().wait()

        checks = Checks(member, Health(interval_s=10, rise=2, fall=3), ask, sleep)
        checks.start()
        await over.wait()
        await checks.stop()
        assert seen == [True, True, True, False, False, True]
        assert all(9 <= pause <= 11 for pause in slept)

    run(play())
