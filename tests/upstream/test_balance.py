"""The choice among origins, on a table of members and a draw that is no accident."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import pytest

from flyby.config import Eject
from flyby.upstream.balance import MEMORY_S, Member, choose

EJECT = Eject(failures=3, backoff_s=1.0, max_backoff_s=5.0)


def members(count: int) -> list[Member]:
    return [Member(f"origin{index}:80", EJECT) for index in range(count)]


def test_every_pair_is_drawn_and_the_cheaper_one_wins() -> None:
    three = members(3)
    for number, member in enumerate(three):
        member.in_flight = number
    for first, second in itertools.product(range(3), range(2)):
        draws = iter((first, second))
        drawn = {first, second + (second >= first)}
        assert len(drawn) == 2
        assert choose(three, 0.0, lambda n, draws=draws: next(draws)) is three[min(drawn)]  # type: ignore[misc]


def test_cost_weighs_what_is_in_flight_by_latency() -> None:
    fast, slow = members(2)
    fast.succeeded(0.010, 100.0)
    slow.succeeded(0.100, 100.0)
    assert (fast.latency_s, slow.latency_s) == (0.010, 0.100)
    fast.in_flight = 8
    assert fast.cost(100.0) < slow.cost(100.0)
    fast.in_flight = 10
    assert fast.cost(100.0) > slow.cost(100.0)


def test_an_origin_that_never_answered_gets_one_request_at_a_time() -> None:
    known, new = members(2)
    known.succeeded(0.050, 100.0)
    assert new.cost(100.0) < known.cost(100.0)
    new.in_flight = 1
    assert new.cost(100.0) > known.cost(100.0)


def test_the_memory_of_a_slow_answer_fades() -> None:
    fast, slow = members(2)
    slow.succeeded(1.000, 100.0)
    fast.succeeded(0.010, 100.0)
    assert slow.cost(100.0) == pytest.approx(1.0)
    assert slow.cost(100.0 + MEMORY_S / 2) == pytest.approx(math.exp(-0.5))
    slow.succeeded(0.010, 100.0 + MEMORY_S / 2)
    assert slow.latency_s == pytest.approx(0.01 + 0.99 * math.exp(-0.5))


def test_an_idle_origin_is_asked_anew_after_a_second_of_silence_and_forgiven_at_once() -> None:
    """O2: with one slow first answer an origin got 2 of 4,391 requests."""
    fast, slow = members(2)
    slow.succeeded(1.000, 100.0)
    now = 100.0
    while now < 100.0 + MEMORY_S:
        fast.succeeded(0.010, now)
        assert fast.cost(now) < slow.cost(now)
        now += 0.05
    fast.succeeded(0.010, now)
    assert slow.cost(now) == 0.0
    slow.in_flight = 1
    assert fast.cost(now) < slow.cost(now)  # one at a time, until it has answered
    slow.in_flight = 0
    slow.succeeded(0.010, now)
    assert slow.cost(now) == fast.cost(now)


def test_what_is_drawn_without_a_draw_is_spread_over_all() -> None:
    four = members(4)
    counts = Counter(choose(four, 0.0).address for _ in range(4000))
    assert set(counts) == {member.address for member in four}
    assert min(counts.values()) > 800  # 1000 expected, with a deviation of 27


def test_the_load_is_spread_over_equals() -> None:
    four = members(4)
    draw = random.Random(5).randrange
    for member in four:
        member.succeeded(0.01, 0.0)
    for _ in range(400):
        choose(four, 0.0, draw).in_flight += 1
    assert all(90 <= member.in_flight <= 110 for member in four)


def test_failures_in_a_row_eject_for_ever_longer_up_to_a_limit() -> None:
    (member,) = members(1)
    now = 0.0
    for _ in range(2):
        member.failed(now)
    assert member.takes(now)
    member.succeeded(0.01, now)
    for _ in range(2):
        member.failed(now)
    assert member.takes(now)
    member.failed(now)
    pauses = []
    for _ in range(5):
        assert member.ejected(now)
        pauses.append(member.ejected_until - now)
        member.failed(now)  # what was under way fails too, and lengthens nothing
        now = member.ejected_until
        assert member.takes(now)
        member.failed(now)  # on trial: one is enough
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert member.failures_total == 15
    now = member.ejected_until
    member.succeeded(0.01, now)
    member.failed(now)
    assert member.takes(now)


def test_a_quick_failure_is_no_quick_answer() -> None:
    (member,) = members(1)
    member.succeeded(0.5, 100.0)
    member.failed(100.0)
    assert member.latency_s == 0.5


@pytest.mark.parametrize("out", ["ejected", "unhealthy"])
def test_who_is_out_gets_nothing_unless_all_are(out: str) -> None:
    three = members(3)
    draw = random.Random(1).randrange

    def take_out(member: Member) -> None:
        if out == "ejected":
            member.ejected_until = 10.0
        else:
            member.healthy = False

    def chosen() -> set[str]:
        return {choose(three, 5.0, draw).address for _ in range(100)}

    take_out(three[0])
    assert chosen() == {"origin1:80", "origin2:80"}
    take_out(three[1])
    assert chosen() == {"origin2:80"}
    take_out(three[2])
    assert chosen() == {"origin0:80", "origin1:80", "origin2:80"}


def test_who_just_failed_this_request_is_asked_last() -> None:
    three = members(3)
    draw = random.Random(1).randrange
    counts = Counter(choose(three, 0.0, draw, ("origin0:80", "origin1:80")).address for _ in range(50))
    assert counts == {"origin2:80": 50}
    everybody = tuple(member.address for member in three)
    assert choose(three, 0.0, draw, everybody) in three
    # An ejected origin is better than the one that has failed already.
    three[2].ejected_until = 10.0
    assert choose(three, 0.0, draw, ("origin0:80", "origin1:80")) is three[2]
