"""The pool decides: every play is a list of what was asked and what was answered, on connections that are not there."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, cast

import pytest

from flyby.clock import ManualClock
from flyby.config import Eject
from flyby.config import Pool as Settings
from flyby.upstream import pool
from flyby.upstream._exchange import UpstreamExchange
from flyby.upstream.balance import Member
from flyby.upstream.dial import Origin
from flyby.upstream.pool import DIAL, FULL, WAIT, Lease, Pool


class FakeConnection(UpstreamExchange):
    """What a pool knows of a connection, set by hand."""

    reusable = True
    died_unanswered = False

    def __init__(self, born: float) -> None:
        self.born = born
        self.silent = True
        self.end = ""

    def at_rest(self) -> bool:
        return self.reusable

    def quiet(self) -> bool:
        return self.silent

    def close(self) -> None:
        self.end = self.end or "closed"

    def abort(self) -> None:
        self.end = "aborted"
        self.reusable = False


class Place(pool.Place):
    """A place in the queue that remembers what it was given."""

    def __init__(self) -> None:
        self.grants: list[Any] = []

    def granted(self, lease: Lease) -> None:
        self.grants.append(lease)

    def dial(self) -> None:
        self.grants.append(DIAL)

    def expired(self) -> None:
        self.grants.append("expired")

    @property
    def grant(self) -> Any:
        """The one grant; None when there was none so far."""
        assert len(self.grants) <= 1
        return self.grants[0] if self.grants else None


class ManualLoop:
    """Turns and timers by hand: `turn` runs what was ready when it began."""

    def __init__(self) -> None:
        self.now = 50.0
        self.ready: list[tuple[Any, ...]] = []
        self.timers: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, call: Any, *args: Any) -> None:
        self.ready.append((call, *args))

    def call_at(self, when: float, call: Any) -> object:
        self.timers.append((when, call))
        return object()

    def call_later(self, delay: float, call: Any, *args: Any) -> object:
        return self.call_at(self.now + delay, functools.partial(call, *args))

    def turn(self) -> None:
        ready, self.ready = self.ready, []
        for call, *args in ready:
            call(*args)

    def advance(self, seconds: float) -> None:
        """Let time go by, and the timers go off that are due then."""
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for _, call in due:
            call()


class Bench:
    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock(monotonic=1000.0)
        self.member = Member("origin:80", Eject(failures=2))
        self.pool = Pool(Origin.parse("http://origin"), Settings(**settings), self.member, self.clock)
        self.loop = ManualLoop()
        self.pool.loop = cast(asyncio.AbstractEventLoop, self.loop)

    def dial(self) -> tuple[Lease, FakeConnection]:
        """Have DIAL, and open."""
        assert self.pool.checkout() is DIAL
        return self.open()

    def open(self) -> tuple[Lease, FakeConnection]:
        self.member.in_flight += 1
        connection = FakeConnection(self.clock.monotonic())
        return self.pool.dialled(connection), connection

    def again(self, fresh: bool = False) -> Lease:
        self.member.in_flight += 1
        lease = self.pool.checkout(fresh)
        assert isinstance(lease, Lease)
        return lease

    @property
    def counts(self) -> str:
        return repr(self.pool).removeprefix("<Pool origin:80 ").removesuffix(">")


def test_the_connection_used_last_is_used_next() -> None:
    bench = Bench()
    first, one = bench.dial()
    second, two = bench.dial()
    assert not first.reused
    first.release()
    second.release()
    assert bench.counts == "leased=0 dialling=0 idle=2 waiting=0"
    for last in (two, one):
        assert cast(FakeConnection, bench.again().connection) is last
    assert bench.counts == "leased=2 dialling=0 idle=0 waiting=0"
    assert bench.pool.checkout() is DIAL


def test_places_are_limited_and_so_is_the_queue() -> None:
    bench = Bench(max_connections=2, max_waiters=1)
    bench.dial()
    assert bench.pool.checkout() is DIAL
    assert bench.pool.full
    assert bench.pool.checkout() is WAIT
    bench.pool.join(Place())
    assert bench.pool.checkout() is FULL
    assert bench.counts == "leased=1 dialling=1 idle=0 waiting=1"


def queued(bench: Bench, count: int) -> list[Place]:
    """So many requests wait."""
    places = [Place() for _ in range(count)]
    for place in places:
        assert bench.pool.checkout() is WAIT
        bench.pool.join(place)
        bench.member.in_flight += 1
    return places


def test_what_comes_free_goes_to_the_longest_waiter() -> None:
    bench = Bench(max_connections=1, max_waiters=9)
    lease, connection = bench.dial()
    gave_up, first, second, third, fourth = queued(bench, 5)
    bench.pool.leave(gave_up)
    lease.release()
    bench.loop.turn()
    assert (first.grant.connection, first.grant.reused) == (connection, True)
    assert (second.grant, bench.counts) == (None, "leased=1 dialling=0 idle=0 waiting=3")
    # A connection that cannot be used again leaves a place to dial.
    connection.reusable = False
    first.grant.release()
    assert second.grant is DIAL
    bench.pool.dial_failed()
    assert third.grant is DIAL
    opened, _ = bench.open()
    opened.discard()
    assert fourth.grant is DIAL
    bench.pool.dial_failed()
    assert bench.counts == "leased=0 dialling=0 idle=0 waiting=0"
    assert gave_up.grant is None


def test_nobody_overtakes_the_queue_and_who_leaves_it_is_forgotten() -> None:
    bench = Bench(max_connections=1)
    lease, _ = bench.dial()
    place = Place()
    bench.pool.join(place)
    bench.pool.leave(place)
    bench.pool.leave(place)
    lease.release()
    assert place.grant is None
    assert bench.counts == "leased=0 dialling=0 idle=1 waiting=0"


def test_a_connection_is_left_alone_for_a_turn_before_a_waiter_gets_it() -> None:
    bench = Bench(max_connections=1)
    lease, connection = bench.dial()
    (place,) = queued(bench, 1)
    lease.release()
    assert (place.grant, bench.counts) == (None, "leased=0 dialling=0 idle=1 waiting=1")
    # Who comes now waits behind it.
    assert bench.pool.full
    assert bench.pool.take() is None
    (later,) = queued(bench, 1)
    bench.loop.turn()
    assert (place.grant.connection, later.grant, connection.end) == (connection, None, "")


@pytest.mark.parametrize("spoil", ["silent", "reusable"])
def test_a_waiter_never_gets_a_connection_that_is_not_at_rest(spoil: str) -> None:
    """RFC 9112 9.2: what came after the response's end belongs to no request."""
    bench = Bench(max_connections=1)
    lease, connection = bench.dial()
    (place,) = queued(bench, 1)
    lease.release()
    setattr(connection, spoil, False)
    bench.loop.turn()
    assert (place.grant, connection.end) == (DIAL, "closed")
    assert bench.counts == "leased=0 dialling=1 idle=0 waiting=0"


def test_a_connection_that_comes_back_while_another_rests_has_its_own_turn() -> None:
    bench = Bench(max_connections=2)
    (one, first), (two, second) = bench.dial(), bench.dial()
    here, there = queued(bench, 2)
    bench.loop.call_soon(two.release)
    one.release()
    bench.loop.turn()
    assert (here.grant.connection, there.grant) == (first, None)
    bench.loop.turn()
    assert there.grant.connection is second


@pytest.mark.parametrize("seen", ["at-rest", "at-the-end", "in-the-socket"])
@pytest.mark.parametrize("waits", [False, True])
def test_an_origin_that_has_sent_surplus_is_given_time_to_send_more(seen: str, waits: bool) -> None:
    bench = Bench(max_connections=1)
    lease, connection = bench.dial()
    if seen == "at-the-end":
        connection.surplus, connection.reusable = True, False
        lease.release()
    else:
        lease.release()
        connection.surplus = True
        if seen == "at-rest":
            bench.pool._closed(connection)
        else:
            connection.silent = False
            assert bench.pool.take() is None
    lease, connection = bench.dial()
    places = queued(bench, waits)
    lease.release()
    bench.loop.turn()
    assert bench.pool.take() is None
    assert [place.grant for place in places] == [None] * waits
    bench.loop.advance(0.0021)
    kept = places[0].grant if waits else bench.again()
    assert kept.connection is connection
    # It is forgotten some time later.
    bench.clock.advance(60)
    connection.born = bench.clock.monotonic()
    kept.release()
    assert bench.pool.take() is not None


def test_a_connection_stays_when_nobody_waits_any_more_after_its_turn() -> None:
    bench = Bench(max_connections=1)
    lease, _ = bench.dial()
    (place,) = queued(bench, 1)
    lease.release()
    bench.pool.leave(place)
    bench.loop.turn()
    assert (place.grant, bench.counts) == (None, "leased=0 dialling=0 idle=1 waiting=0")


def test_a_connection_that_rests_is_closed_with_the_pool() -> None:
    bench = Bench(max_connections=1)
    lease, connection = bench.dial()
    (place,) = queued(bench, 1)
    lease.release()
    bench.pool.close()
    bench.loop.turn()
    # Who waits is still served: the place is free.
    assert (connection.end, place.grant) == ("closed", DIAL)


def test_one_timer_ends_the_waits() -> None:
    bench = Bench(max_connections=1, max_waiters=9, wait_s=5)
    bench.dial()
    first, left = queued(bench, 2)
    bench.loop.advance(2)
    (second,) = queued(bench, 1)
    assert len(bench.loop.timers) == 1
    bench.pool.leave(left)
    bench.loop.advance(3)
    assert (first.grant, left.grant, second.grant) == ("expired", None, None)
    assert (len(bench.loop.timers), bench.pool.waiting) == (1, 1)
    bench.loop.advance(2)
    assert (second.grant, bench.pool.waiting, bench.loop.timers) == ("expired", 0, [])
    (third,) = queued(bench, 1)
    bench.loop.advance(5)
    assert third.grant == "expired"


def test_who_queues_up_again_when_the_time_is_over_waits_anew() -> None:
    bench = Bench(max_connections=1, wait_s=5)
    bench.dial()

    class Stubborn(Place):
        def expired(self) -> None:
            super().expired()
            if len(self.grants) < 3:
                bench.pool.join(self)

    place = Stubborn()
    bench.pool.join(place)
    for times in (1, 2, 3):
        bench.loop.advance(5)
        assert len(place.grants) == times
    assert (bench.pool.waiting, bench.loop.timers) == (0, [])


def test_pressure_is_told_once_for_all_that_begin_to_wait_in_a_turn() -> None:
    bench = Bench(max_connections=1)
    lease, _ = bench.dial()
    waiting: list[int] = []
    bench.pool.on_pressure = lambda pool: waiting.append(pool.waiting)
    queued(bench, 3)
    assert waiting == []
    bench.loop.turn()
    assert waiting == [3]
    bench.loop.turn()
    assert waiting == [3]
    (place,) = queued(bench, 1)
    bench.loop.turn()
    assert waiting == [3, 4]
    # Whoever is given up makes room at once.
    bench.pool.on_pressure = lambda pool: lease.discard()
    queued(bench, 1)
    bench.loop.turn()
    assert (bench.pool.waiting, bench.pool.dialling, place.grant) == (4, 1, None)


def test_no_pressure_is_told_when_nobody_waits_any_more() -> None:
    bench = Bench(max_connections=1)
    bench.dial()
    told: list[Pool] = []
    bench.pool.on_pressure = told.append
    (place,) = queued(bench, 1)
    bench.pool.leave(place)
    bench.loop.turn()
    assert told == []


def test_a_lease_ends_once_and_reaches_no_later_user_of_its_connection() -> None:
    bench = Bench()
    lease, connection = bench.dial()
    assert lease.held
    lease.release()
    assert not lease.held
    later = bench.again()
    assert later.connection is connection
    lease.release()
    lease.discard()
    assert (connection.end, later.held, bench.counts) == ("", True, "leased=1 dialling=0 idle=0 waiting=0")
    assert bench.member.in_flight == 1
    later.discard()
    later.release()
    assert (connection.end, bench.member.in_flight) == ("aborted", 0)
    assert bench.counts == "leased=0 dialling=0 idle=0 waiting=0"


def test_a_connection_that_is_not_at_rest_is_never_handed_out() -> None:
    bench = Bench()
    for spoil in ("reusable", "silent"):
        lease, connection = bench.dial()
        lease.release()
        setattr(connection, spoil, False)
        assert bench.pool.checkout() is DIAL
        bench.pool.dial_failed()
        assert connection.end == "closed"
    lease, connection = bench.dial()
    connection.reusable = False
    lease.release()
    assert (connection.end, bench.pool.idle) == ("closed", 0)


def test_idle_and_old_connections_are_closed() -> None:
    bench = Bench(idle_s=60, lifetime_s=100)
    lease, early = bench.dial()
    bench.clock.advance(30)
    other, late = bench.dial()
    lease.release()
    bench.clock.advance(10)
    other.release()
    assert bench.pool.expire() == 50.0
    bench.clock.advance(50)
    assert bench.pool.expire() == 10.0  # the first went at once, the second has ten seconds left
    assert (early.end, late.end) == ("closed", "")
    bench.clock.advance(9)
    bench.again().release()
    bench.clock.advance(31)
    # Used a moment ago, but born 100 s ago.
    assert bench.pool.checkout() is DIAL
    assert late.end == "closed"
    bench.pool.dial_failed()
    assert bench.pool.expire() is None


def test_a_used_connection_is_not_handed_out_when_it_expired_unseen() -> None:
    bench = Bench(idle_s=60)
    lease, connection = bench.dial()
    lease.release()
    bench.clock.advance(60)
    assert bench.pool.checkout() is DIAL
    assert connection.end == "closed"


@pytest.mark.parametrize(("most", "bound", "places"), [(3, None, 3), (3, 9, 3), (3, 2, 2)])
def test_the_processs_bound_counts_too(most: int, bound: int | None, places: int) -> None:
    pool = Pool(
        Origin.parse("http://origin"),
        Settings(max_connections=most),
        Member("origin:80", Eject()),
        ManualClock(),
        bound,
    )
    assert [pool.checkout() for _ in range(4)] == [DIAL] * places + [WAIT] * (4 - places)
    assert pool.full


def test_a_fresh_connection_takes_the_place_of_an_idle_one() -> None:
    bench = Bench(max_connections=2)
    first, one = bench.dial()
    second, two = bench.dial()
    first.release()
    second.release()
    assert bench.pool.checkout(fresh=True) is DIAL
    assert (one.end, two.end) == ("closed", "")
    assert bench.counts == "leased=0 dialling=1 idle=1 waiting=0"


def test_a_kept_connection_is_traded_for_its_place() -> None:
    bench = Bench(max_connections=1)
    lease, connection = bench.dial()
    assert bench.pool.trade_for_dial(lease) is DIAL
    assert (connection.end, lease.held) == ("closed", False)
    assert (bench.counts, bench.member.in_flight) == ("leased=0 dialling=1 idle=0 waiting=0", 1)


def test_an_idle_connection_that_closes_is_forgotten() -> None:
    bench = Bench()
    lease, connection = bench.dial()
    lease.release()
    bench.pool._closed(connection)
    assert bench.counts == "leased=0 dialling=0 idle=0 waiting=0"


def test_a_pipe_takes_no_place() -> None:
    bench = Bench(max_connections=1)
    lease, connection = bench.dial()
    bench.pool._closed(connection)  # lost while leased: its lease ends it
    assert bench.pool.leased == 1
    connection.detached, connection.reusable = True, False
    bench.pool._closed(connection)
    assert (bench.counts, bench.member.in_flight) == ("leased=0 dialling=0 idle=0 waiting=0", 0)
    lease.release()
    lease.discard()
    assert bench.counts == "leased=0 dialling=0 idle=0 waiting=0"


def test_after_close_nothing_is_kept() -> None:
    bench = Bench()
    idle, at_rest = bench.dial()
    busy, working = bench.dial()
    idle.release()
    bench.pool.close()
    assert (at_rest.end, working.end) == ("closed", "")
    busy.release()
    assert (working.end, bench.pool.idle) == ("closed", 0)


def test_outcomes_reach_the_origins_record() -> None:
    bench = Bench()
    lease, connection = bench.dial()
    lease.observe(0.25, failed=False)
    assert bench.member.latency_s == 0.25
    lease.observe(0.1, failed=True)
    assert bench.member.failures == 1
    lease.release()
    kept = bench.again()
    connection.died_unanswered = True
    kept.observe(0.1, failed=True)
    assert bench.member.failures_total == 1
