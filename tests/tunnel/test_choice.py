"""Which dyno is asked: the rules, one by one, and what a minute of load makes of them, on a clock of the tests' own."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from flyby.tunnel._links import Choice, Links
from flyby.upstream import Lease, UpstreamExchange


@dataclass
class Eject:
    failures: int = 3
    backoff_s: float = 10.0
    max_backoff_s: float = 60.0


@dataclass
class Clock:
    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now

    def date_ms(self) -> int:
        return self.wall_ms()

    def wall_ms(self) -> int:
        return int(self.now * 1000)


class Link(UpstreamExchange):
    """A link at rest; `sound` says whether it can be used."""

    def __init__(self) -> None:
        self.sound = True
        self.closed = False

    def at_rest(self) -> bool:
        return self.sound and not self.closed

    def close(self) -> None:
        self.closed = True


class FakeDyno(Links):
    """A dyno whose links are enough for whatever a test asks, but where it says how many."""

    def dropped(self, link: Any) -> None:
        link.closed = True


class Town(Choice):
    """Some dynos, and how often a link came free while somebody waited."""

    def __init__(self, *names: str, links: int = 50) -> None:
        self.clock = Clock()
        super().__init__(self.clock, seed=7)
        self.frees = 0
        for name in names:
            dyno = FakeDyno(name, Eject(), self.clock, self, True, 100)
            dyno.idle.extend(Link() for _ in range(links))  # type: ignore[arg-type]
            self.dynos.append(dyno)

    def freed(self, links: Links) -> None:
        self.frees += 1

    def __getitem__(self, name: str) -> FakeDyno:
        found: FakeDyno = next(dyno for dyno in self.dynos if dyno.key == name)
        return found

    def ask(self, exclude: tuple[str, ...] = ()) -> str:
        """The dyno that is asked, "" when none has a link; the exchange is over at once."""
        lease = self.checkout(exclude)
        if lease is None:
            return ""
        name: str = self.home(lease).key
        lease.release()
        return name

    def home(self, lease: Lease) -> FakeDyno:
        return next(dyno for dyno in self.dynos if lease.connection not in dyno.idle and dyno.leased)

    def asked(self, times: int = 40, exclude: tuple[str, ...] = ()) -> set[str]:
        return {self.ask(exclude) for _ in range(times)}


def eject(dyno: FakeDyno) -> None:
    for _ in range(3):
        dyno.member.failed(dyno.clock.monotonic())


def not_ready(dyno: FakeDyno) -> None:
    dyno.ready = False


def resting(dyno: FakeDyno) -> None:
    dyno.resting_until = dyno.clock.monotonic() + 1


def full(dyno: FakeDyno) -> None:
    dyno.capacity = 0


@pytest.mark.parametrize("way_out", [eject, not_ready, resting, full, Links.leave, lambda dyno: dyno.idle.clear()])
def test_a_dyno_that_takes_no_requests_is_passed_over(way_out: Callable[[FakeDyno], None]) -> None:
    town = Town("a", "b", "c")
    assert town.asked() == {"a", "b", "c"}
    way_out(town["b"])
    assert town.asked() == {"a", "c"}


def test_where_all_are_ejected_all_are_asked() -> None:
    town = Town("a", "b")
    eject(town["a"])
    eject(town["b"])
    assert town.asked() == {"a", "b"}


@pytest.mark.parametrize("way_out", [not_ready, resting, full, Links.leave])
def test_where_none_takes_requests_none_is_asked(way_out: Callable[[FakeDyno], None]) -> None:
    town = Town("a", "b")
    way_out(town["a"])
    way_out(town["b"])
    assert town.ask() == ""
    assert town.taking() == []


def test_a_request_waits_for_a_good_dyno_rather_than_ask_one_that_fails() -> None:
    town = Town("a", "b")
    eject(town["a"])
    town["b"].idle.clear()
    assert town.ask() == ""


def test_a_dyno_that_failed_this_request_is_asked_again_only_alone() -> None:
    town = Town("a", "b", "c")
    assert town.asked(exclude=("a",)) == {"b", "c"}
    assert town.asked(exclude=("a", "b")) == {"c"}
    assert town.asked(exclude=("a", "b", "c")) == {"a", "b", "c"}
    assert Town("a").asked(exclude=("a",)) == {"a"}


def test_links_are_used_last_in_first_out_and_bad_ones_are_dropped() -> None:
    town = Town("a", links=3)
    first, second, third = list(town["a"].idle)
    third.sound = False  # type: ignore[attr-defined]
    lease = town.checkout()
    assert lease is not None
    assert lease.connection is second
    assert (third.closed, town["a"].idle) == (True, [first])  # type: ignore[attr-defined]
    lease.release()
    assert town["a"].idle == [first, second]
    assert town["a"].window() == (1, 0)


def test_the_other_dyno_is_asked_when_the_links_of_the_first_are_all_bad() -> None:
    town = Town("a", "b", links=1)
    town["a"].idle[0].sound = False  # type: ignore[attr-defined]
    assert town.asked() == {"b"}
    town["b"].idle[0].sound = False  # type: ignore[attr-defined]
    assert town.ask() == ""


def test_a_free_link_is_told_only_where_somebody_waits_or_the_dyno_leaves() -> None:
    town = Town("a")
    town.ask()
    assert town.frees == 0
    town.waiting = 1
    town.ask()
    assert town.frees == 1
    town.waiting = 0
    lease = town.checkout()
    assert lease is not None
    town["a"].leave()
    lease.release()
    assert town.frees == 2
    assert town["a"].idle == []


@dataclass(order=True)
class Answer:
    at: float
    number: int
    lease: Lease = field(compare=False)
    dyno: FakeDyno = field(compare=False)
    asked: float = field(compare=False)


def load(
    town: Town, clients: int, seconds: float, takes_s: Callable[[str, float], float | None]
) -> list[tuple[float, str]]:
    """Who was asked when, by clients that ask again as soon as they are answered. `takes_s(name, now)` is how long an
    answer takes; None is one that never comes."""
    asked: list[tuple[float, str]] = []
    answers: list[Answer] = []
    start = town.clock.now
    idle = clients
    while town.clock.now - start < seconds:
        while idle and (lease := town.checkout()) is not None:
            dyno = next(each for each in town.dynos if each.leased > sum(a.dyno is each for a in answers))
            duration = takes_s(dyno.key, town.clock.now - start)
            asked.append((town.clock.now - start, dyno.key))
            at = town.clock.now + (1e9 if duration is None else duration)
            heapq.heappush(answers, Answer(at, len(asked), lease, dyno, town.clock.now))
            idle -= duration is not None  # a client that is never answered asks again on another connection
        answer = heapq.heappop(answers)
        town.clock.now = answer.at
        answer.lease.observe(answer.at - answer.asked, False)
        answer.lease.release()
        idle += 1
    return asked


def share(asked: list[tuple[float, str]], since: float, until: float = 1e9) -> dict[str, float]:
    counts = Counter(name for at, name in asked if since <= at < until)
    return {name: count / counts.total() for name, count in counts.items()}


@pytest.mark.parametrize("cold_s", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("clients", [1, 4, 20])
def test_one_slow_answer_is_forgotten_in_a_moment(cold_s: float, clients: int) -> None:
    town = Town("cold", "warm")
    first = set()

    def takes(name: str, now: float) -> float:
        if name == "cold" and name not in first:
            first.add(name)
            return cold_s
        return 0.002

    asked = load(town, clients, cold_s + 8, takes)
    assert share(asked, since=cold_s + 4)["cold"] > 0.3


def test_a_dyno_that_stays_slow_is_asked_about_once_a_second() -> None:
    asked = load(Town("slow", "fast"), 4, 20, lambda name, now: 1.0 if name == "slow" else 0.002)
    slow = sum(name == "slow" for at, name in asked if at >= 2)
    assert 5 <= slow <= 25


def test_a_dyno_twice_as_slow_gets_less_and_not_nothing() -> None:
    found = share(load(Town("slow", "fast"), 8, 20, lambda name, now: 0.02 if name == "slow" else 0.01), since=5)
    assert 0.1 < found["slow"] < 0.45


def test_a_dyno_that_never_answers_costs_a_request_in_a_while() -> None:
    asked = load(Town("dead", "well"), 4, 30, lambda name, now: None if name == "dead" else 0.002)
    assert sum(name == "dead" for at, name in asked if at >= 1) <= 8


def test_a_dyno_with_a_stream_open_is_not_forgotten() -> None:
    town = Town("streaming", "other")
    stream = town["streaming"].take()
    assert stream is not None
    stream.observe(1.0, False)  # the head came late, and the content never ends
    given_up = town["streaming"].take()
    assert given_up is not None
    given_up.release()  # its client left before the head
    found = share(load(town, 4, 20, lambda name, now: 0.002), since=10)
    assert found["streaming"] > 0.2


def test_equal_dynos_are_asked_equally() -> None:
    found = share(load(Town(*"abcde"), 10, 20, lambda name, now: 0.005), since=1)
    assert all(0.15 < part < 0.25 for part in found.values()), found


def test_every_dyno_is_asked_whatever_it_costs() -> None:
    names = "abcdefgh"
    slowness = {name: 0.002 * 3**number for number, name in enumerate(names)}
    asked = load(Town(*names), 10, 30, lambda name, now: slowness[name])
    for since in (5, 10, 15, 20, 25):
        assert set(share(asked, since, since + 5)) >= set("abcdefg")
