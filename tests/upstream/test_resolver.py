"""Names to addresses, on a resolver that says what the table says and a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest

from flyby.clock import ManualClock
from flyby.errors import Retry, UpstreamError
from flyby.upstream.resolver import NEGATIVE_S, STALE_S, TTL_S, Address, Resolver, dial_order, numeric_address
from tests.upstream.stage import run


def v4(*last: int) -> list[Address]:
    return [Address(socket.AF_INET, (f"10.0.0.{number}", 80)) for number in last]


def v6(*last: int) -> list[Address]:
    return [Address(socket.AF_INET6, (f"fd00::{number}", 80, 0, 0)) for number in last]


class Names:
    """A scripted name server."""

    def __init__(self, *answers: Sequence[Address] | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked += 1
        await asyncio.sleep(0)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_an_answer_is_good_for_its_time_and_one_lookup_serves_all() -> None:
    async def play() -> None:
        clock = ManualClock()
        names = Names(v4(1), v4(2))
        resolver = Resolver(clock, names)
        answers = await asyncio.gather(*(resolver.resolve("app", 80) for _ in range(5)))
        assert answers == [v4(1)] * 5
        clock.advance(TTL_S - 0.1)
        assert await resolver.resolve("app", 80) == v4(1)
        assert names.asked == 1
        clock.advance(0.1)
        assert await resolver.resolve("app", 80) == v4(2)
        assert names.asked == 2

    run(play())


def test_who_gives_up_does_not_take_the_answer_from_the_others() -> None:
    async def play() -> None:
        names = Names(v4(1))
        resolver = Resolver(ManualClock(), names)
        impatient = asyncio.create_task(resolver.resolve("app", 80))
        patient = asyncio.create_task(resolver.resolve("app", 80))
        await asyncio.sleep(0)
        impatient.cancel()
        assert await patient == v4(1)
        assert names.asked == 1

    run(play())


def test_a_failure_is_remembered_briefly() -> None:
    async def play() -> None:
        clock = ManualClock()
        names = Names(socket.gaierror(socket.EAI_NONAME, "Name or service not known"), v4(1))
        resolver = Resolver(clock, names)
        for _ in range(2):
            with pytest.raises(UpstreamError, match="the name app has no address: Name or service not known") as caught:
                await resolver.resolve("app", 80)
            error = caught.value
            assert (error.status, error.proxy_error, error.retry) == (502, "dns_error", Retry.ALWAYS)
        assert names.asked == 1
        clock.advance(NEGATIVE_S)
        assert await resolver.resolve("app", 80) == v4(1)

    run(play())


def test_the_last_good_answer_outlives_the_name_server() -> None:
    async def play() -> None:
        clock = ManualClock()
        down = OSError("down")
        names = Names(v4(1), down, down)
        resolver = Resolver(clock, names)
        await resolver.resolve("app", 80)
        clock.advance(TTL_S)
        assert await resolver.resolve("app", 80) == v4(1)
        clock.advance(STALE_S)
        with pytest.raises(UpstreamError, match="down"):
            await resolver.resolve("app", 80)
        assert names.asked == 3

    run(play())


def test_a_name_without_addresses_is_an_error() -> None:
    async def play() -> None:
        with pytest.raises(UpstreamError, match="no addresses"):
            await Resolver(ManualClock(), Names([])).resolve("app", 80)

    run(play())


def test_all_addresses_take_their_turn_at_being_first() -> None:
    async def play() -> None:
        resolver = Resolver(ManualClock(), Names(v4(1, 2, 3)))
        firsts = [(await resolver.resolve("app", 80))[0] for _ in range(6)]
        assert firsts == v4(1, 2, 3) * 2

    run(play())


@pytest.mark.parametrize(
    ("given", "turn", "order"),
    [
        ([], 0, []),
        (v4(1), 7, v4(1)),
        (v6(1, 2) + v4(1, 2, 3), 0, [*v6(1), *v4(1), *v6(2), *v4(2), *v4(3)]),
        (v6(1, 2) + v4(1, 2, 3), 1, [*v6(2), *v4(2), *v6(1), *v4(3), *v4(1)]),
        (v4(1, 2) + v6(1), 0, [*v4(1), *v6(1), *v4(2)]),
    ],
)
def test_families_are_tried_in_turn(given: list[Address], turn: int, order: list[Address]) -> None:
    assert dial_order(given, turn) == order


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("127.0.0.1", socket.AF_INET),
        ("::1", socket.AF_INET6),
        ("localhost", None),
        ("1.2.3", None),
        ("app:80", None),
        ("a\0b", None),
    ],
)
def test_numeric_addresses_need_no_lookup(host: str, family: int | None) -> None:
    address = numeric_address(host, 80)
    assert (address.family if address else None) == family


def test_the_systems_resolver_knows_localhost() -> None:
    addresses = run(Resolver(ManualClock()).resolve("localhost", 1234))
    assert {address.sockaddr[0] for address in addresses} <= {"127.0.0.1", "::1"}
    assert addresses
