"""How a request gets a connection by a call: every play dials by hand, on a loop whose clock jumps."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import Callable, Collection, Coroutine
from typing import Any, cast

import pytest

from flyby.clock import ManualClock
from flyby.config import Eject
from flyby.config import Pool as Settings
from flyby.errors import Retry, UpstreamError
from flyby.upstream import Lease, Member, Origin, Wait, Waiter
from flyby.upstream._exchange import UpstreamExchange
from flyby.upstream._waiter import LeaseSource
from flyby.upstream.donors import DonorStatistics
from flyby.upstream.pool import Pool
from tests.upstream.stage import JumpingLoop, run
from tests.upstream.test_pool import FakeConnection


def refused() -> UpstreamError:
    return UpstreamError(502, "refused", "connection_refused", retry=Retry.ALWAYS)


class Source(LeaseSource):
    """Origins o0, o1, …, whose dials are ended by hand, the earliest first."""

    def __init__(self, origins: int = 1, **settings: Any) -> None:
        self.time = ManualClock(monotonic=1000.0)
        self.pools = [
            Pool(Origin.parse(f"http://o{number}"), Settings(**settings), Member(f"o{number}", Eject()), self.time)
            for number in range(origins)
        ]
        super().__init__("app", self.pools, self.time)
        self.dials: list[tuple[Pool, asyncio.Future[UpstreamExchange]]] = []
        self.swept = 0

    async def dial(self, pool: Pool) -> UpstreamExchange:
        end: asyncio.Future[UpstreamExchange] = asyncio.get_running_loop().create_future()
        self.dials.append((pool, end))
        return await end

    def sweep(self) -> None:
        self.swept += 1

    async def connect(self) -> FakeConnection:
        """The earliest dial succeeds."""
        connection = FakeConnection(1000.0)
        self.dials.pop(0)[1].set_result(connection)
        await turns()
        return connection

    async def refuse(self, error: BaseException | None = None) -> None:
        """The earliest dial fails."""
        self.dials.pop(0)[1].set_exception(error or refused())
        await turns()

    @property
    def counts(self) -> str:
        return " | ".join(repr(pool).partition(" ")[2].partition(" ")[2][:-1] for pool in self.pools)

    @property
    def in_flight(self) -> list[int]:
        return [pool.member.in_flight for pool in self.pools]


class Request(Waiter):
    """A waiter that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Lease | UpstreamError] = []
        self.within = True

    def leased(self, lease: Lease) -> None:
        assert not self.within
        self.told.append(lease)

    def no_lease(self, error: UpstreamError) -> None:
        assert not self.within
        self.told.append(error)

    @property
    def lease(self) -> Lease:
        (lease,) = self.told
        assert isinstance(lease, Lease)
        return lease

    @property
    def error(self) -> UpstreamError:
        (error,) = self.told
        assert isinstance(error, UpstreamError)
        return error


def ask(source: Source, fresh: bool = False, exclude: Collection[str] = ()) -> tuple[Request, Wait]:
    request = Request()
    wait = source.want(request, fresh, exclude)
    request.within = False
    return request, wait


async def turns(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def play(coroutine: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def test() -> None:
        run(coroutine(), JumpingLoop)

    test.__name__ = coroutine.__name__
    test.__doc__ = coroutine.__doc__
    return test


EMPTY = "leased=0 dialling=0 idle=0 waiting=0"
IDLE = "leased=0 dialling=0 idle=1 waiting=0"


@play
async def test_a_dial_and_then_a_kept_connection() -> None:
    source = Source()
    assert source.lease_now() is None
    request, wait = ask(source)
    await turns()
    assert (request.told, source.counts, repr(wait)) == ([], "leased=0 dialling=1 idle=0 waiting=0", "<Wait dialling>")
    connection = await source.connect()
    assert (request.lease.reused, source.in_flight, wait.over) == (False, [1], True)
    wait.cancel()  # too late, and nothing happens
    request.lease.release()
    again, wait = ask(source)
    assert (again.told, repr(wait)) == ([], "<Wait settled>")
    await turns()
    assert cast(FakeConnection, again.lease.connection) is connection
    assert (again.lease.reused, source.in_flight, source.swept > 0) == (True, [1], True)
    again.lease.release()
    at_once = source.lease_now()
    assert at_once is not None
    assert (at_once.reused, source.in_flight, source.counts) == (True, [1], "leased=1 dialling=0 idle=0 waiting=0")


@play
async def test_an_origin_that_fails_is_passed_over_for_another() -> None:
    source = Source(2)
    request, _ = ask(source)
    await turns()
    first = source.dials[0][0]
    await source.refuse()
    second = source.dials[0][0]
    assert {first, second} == set(source.pools)
    assert (request.told, first.member.failures, first.member.in_flight) == ([], 1, 0)
    await source.refuse()
    assert (request.error.reason, source.in_flight, source.dials) == ("refused", [0, 0], [])
    assert source.counts == f"{EMPTY} | {EMPTY}"


@play
async def test_three_origins_are_tried_at_most_and_those_to_avoid_last() -> None:
    source = Source(5)
    request, _ = ask(source, exclude=("o0", "o1"))
    tried = []
    for _ in range(3):
        await turns()
        tried.append(source.dials[0][0].member.address)
        await source.refuse()
    assert set(tried) == {"o2", "o3", "o4"}
    assert request.error.reason == "refused"


@pytest.mark.parametrize(
    ("error", "failures"),
    [
        (UpstreamError(503, "exhausted", "proxy_internal_error", retry=Retry.NEVER), 0),
        (UpstreamError(502, "terminated", "connection_terminated", retry=Retry.NEVER), 1),
        (ZeroDivisionError(), 0),
    ],
)
def test_other_failures_are_told_as_they_are(error: Exception, failures: int) -> None:
    async def play() -> None:
        source = Source(2)
        request, _ = ask(source)
        await turns()
        pool = source.dials[0][0]
        await source.refuse(error)
        assert request.told == [error]
        assert (pool.member.failures, source.in_flight, source.dials) == (failures, [0, 0], [])

    run(play(), JumpingLoop)


@play
async def test_a_backend_without_origins_has_nothing() -> None:
    source = Source(0)
    assert source.lease_now() is None
    request, _ = ask(source)
    assert request.told == []
    await turns()
    assert (request.error.status, request.error.reason, source.swept) == (503, "no-origin", 0)


@play
async def test_the_queue_is_served_in_order_and_ends_in_time() -> None:
    source = Source(max_connections=1, max_waiters=2, wait_s=5)
    held, _ = ask(source)
    await turns()
    connection = await source.connect()
    first, second, beyond = (ask(source)[0] for _ in range(3))
    await turns()
    assert (beyond.error.status, beyond.error.proxy_error) == (503, "connection_limit_reached")
    assert (first.told, second.told, source.in_flight) == ([], [], [3])
    held.lease.release()
    await turns()
    assert cast(FakeConnection, first.lease.connection) is connection
    began = asyncio.get_running_loop().time()
    while not second.told:
        await asyncio.sleep(0.5)
    assert 4.4 < asyncio.get_running_loop().time() - began < 5.6
    assert (second.error.proxy_error, source.in_flight) == ("connection_limit_reached", [1])
    first.lease.discard()
    assert source.counts == EMPTY


@play
async def test_a_wait_for_a_fresh_connection_gets_the_place_of_a_kept_one() -> None:
    source = Source(max_connections=1)
    held, _ = ask(source)
    await turns()
    connection = await source.connect()
    fresh, _ = ask(source, fresh=True)
    held.lease.release()
    await turns()
    assert (connection.end, fresh.told, source.counts) == ("closed", [], "leased=0 dialling=1 idle=0 waiting=0")
    await source.connect()
    assert (fresh.lease.reused, source.in_flight) == (False, [1])


@play
async def test_a_full_origin_is_passed_over() -> None:
    source = Source(2, max_connections=3)
    for _ in range(6):
        ask(source)
    await turns()
    assert [pool.dialling for pool in source.pools] == [3, 3]


# ---- a wait that is given up, at every stage ------------------------------------------------------------------------


@play
async def test_given_up_before_the_dial_has_begun() -> None:
    source = Source()
    request, wait = ask(source)
    wait.cancel()
    wait.cancel()
    await turns()
    assert (request.told, source.counts, source.in_flight, source.dials) == ([], EMPTY, [0], [])


@play
async def test_given_up_while_dialling() -> None:
    source = Source(max_connections=1)
    request, wait = ask(source)
    await turns()
    queued, _ = ask(source)
    wait.cancel()
    await turns()
    assert source.dials.pop(0)[1].cancelled()
    # The place is the next one's.
    await source.connect()
    assert (request.told, queued.lease.reused, source.in_flight) == ([], False, [1])
    queued.lease.release()
    assert source.counts == IDLE


@play
async def test_given_up_as_the_dial_succeeds() -> None:
    source = Source()
    request, wait = ask(source)
    await turns()
    source.dials.pop()[1].set_result(FakeConnection(1000.0))
    await turns(1)  # the Task is done, its callback is yet to run
    wait.cancel()
    await turns()
    assert (request.told, source.counts, source.in_flight) == ([], IDLE, [0])


@play
async def test_given_up_as_the_dial_fails() -> None:
    source = Source(2)
    request, wait = ask(source)
    await turns()
    source.dials.pop()[1].set_exception(refused())
    await turns(1)
    wait.cancel()
    await turns()
    assert (request.told, source.dials, source.in_flight) == ([], [], [0, 0])


@play
async def test_given_up_in_the_queue() -> None:
    source = Source(max_connections=1)
    held, _ = ask(source)
    await turns()
    await source.connect()
    gone, wait = ask(source)
    next_, _ = ask(source)
    wait.cancel()
    wait.cancel()
    assert (source.pools[0].waiting, source.in_flight) == (1, [2])
    held.lease.release()
    await turns()
    assert (gone.told, next_.lease.reused, source.in_flight) == ([], True, [1])


@play
async def test_given_up_as_the_outcome_is_about_to_be_told() -> None:
    source = Source(max_connections=1, max_waiters=1)
    held, _ = ask(source)
    await turns()
    await source.connect()
    held.lease.release()
    got, wait = ask(source)
    queued, _ = ask(source)
    full, also = ask(source)
    wait.cancel()  # a lease was granted in this moment: it goes to the next
    also.cancel()
    await turns()
    assert (got.told, full.told, queued.lease.reused, source.in_flight) == ([], [], True, [1])


@play
async def test_a_dial_that_somebody_else_cancels_is_told() -> None:
    source = Source(2)
    request, _ = ask(source)
    await turns()
    source.dials[0][1].cancel()
    await turns()
    assert (request.error.reason, source.in_flight) == ("terminated", [0, 0])
    assert [pool.member.failures for pool in source.pools] == [0, 0]


# ---- donors ---------------------------------------------------------------------------------------------------------


class Donors:
    """One donated connection at a time, `ready` or waited for."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.ready: list[Lease] = []
        self.waiting: list[asyncio.Future[Lease | None]] = []
        self.asked: list[tuple[tuple[str, ...], bool | None]] = []

    def donate(self) -> Lease:
        self.pool.member.in_flight += 1
        self.pool.checkout()
        return self.pool.dialled(FakeConnection(1000.0))

    def checkout(self, exclude: Collection[str] = ()) -> Lease | None:
        self.asked.append((tuple(exclude), None))
        return self.ready.pop() if self.ready else None

    async def wait(self, exclude: Collection[str] = (), *, fallback: bool) -> Lease | None:
        self.asked.append((tuple(exclude), fallback))
        self.waiting.append(asyncio.get_running_loop().create_future())
        return await self.waiting[-1]

    def refused(self, lease: Lease) -> None:
        raise AssertionError

    def statistics(self) -> tuple[DonorStatistics, ...]:
        return ()


@play
async def test_donors_come_first() -> None:
    source, donated = Source(), Source()
    donors = source.donors = Donors(donated.pools[0])
    donors.ready.append(donors.donate())
    at_once = source.lease_now()
    assert at_once is not None
    assert source.lease_now() is None
    donors.ready.append(donors.donate())
    one, _ = ask(source, exclude=("web.1",))
    await turns()
    assert (len(one.told), donors.asked[-1]) == (1, (("web.1",), None))
    two, _ = ask(source)
    await turns()
    assert (two.told, donors.asked[-1]) == ([], ((), True))
    donors.waiting[0].set_result(donors.donate())
    await turns()
    three, _ = ask(source)
    await turns()
    donors.waiting[1].set_result(None)  # the origins are to be asked
    await turns()
    assert (two.lease.held, three.told, len(source.dials)) == (True, [], 1)
    await source.connect()
    assert three.lease.origin.address == "o0:80"


@play
async def test_donors_that_have_nothing_are_told() -> None:
    source = Source(0)
    donors = source.donors = Donors(Source().pools[0])
    request, _ = ask(source)
    await turns()
    assert donors.asked[-1] == ((), False)
    donors.waiting[0].set_exception(UpstreamError(503, "no-dyno", "destination_unavailable", retry=Retry.ALWAYS))
    await turns()
    assert request.error.reason == "no-dyno"


@pytest.mark.parametrize("granted", [False, True])
def test_a_wait_for_a_donor_is_given_up(granted: bool) -> None:
    async def play() -> None:
        source, donated = Source(), Source()
        donors = source.donors = Donors(donated.pools[0])
        request, wait = ask(source)
        await turns()
        if granted:
            donors.waiting[0].set_result(donors.donate())
            await turns(1)
        wait.cancel()
        await turns()
        assert (request.told, donated.in_flight, source.dials) == ([], [0], [])
        assert donors.waiting[0].cancelled() is not granted

    run(play(), JumpingLoop)


@play
async def test_pressure_is_told_for_queues_and_donors_alike() -> None:
    source = Source(2, max_connections=1)
    told: list[int] = []
    source.on_pressure = lambda source: told.append(source.waiting())
    for _ in range(2):
        ask(source)
    await turns()
    assert (told, source.waiting()) == ([], 0)  # a dial is no wait for others
    waits = [ask(source)[1] for _ in range(3)]
    await turns()
    assert source.waiting() == 3
    assert told[-1] == 3
    seen = len(told)
    donors = source.donors = Donors(Source().pools[0])
    waits += [ask(source)[1] for _ in range(2)]
    await turns()
    assert told[seen:] == [5]
    for wait in waits:
        wait.cancel()
    await turns()
    assert (source.waiting(), len(donors.waiting)) == (0, 2)
    source.on_pressure = None
    ask(source)
    await turns()
    assert told[seen:] == [5]


# ---- all of it at random --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_each_is_told_once_and_nothing_is_left(seed: int) -> None:
    async def play() -> None:
        draw = random.Random(seed)
        source = Source(draw.choice((1, 3)), max_connections=3, max_waiters=4, wait_s=2)
        asked: list[tuple[Request, Wait]] = []
        held: list[Lease] = []
        cancelled: set[Request] = set()
        for _ in range(400):
            match draw.randrange(8):
                case 0 | 1 | 2:
                    asked.append(ask(source, fresh=draw.random() < 0.2))
                case 3 if asked:
                    request, wait = draw.choice(asked)
                    if not request.told:
                        cancelled.add(request)
                    wait.cancel()
                case 4 if source.dials:
                    end = source.dials.pop(draw.randrange(len(source.dials)))[1]
                    if end.cancelled():
                        continue
                    if draw.random() < 0.7:
                        end.set_result(FakeConnection(1000.0))
                    else:
                        end.set_exception(refused())
                case 5 if held:
                    lease = held.pop(draw.randrange(len(held)))
                    connection = cast(FakeConnection, lease.connection)
                    connection.silent = draw.random() < 0.9
                    draw.choice((lease.release, lease.release, lease.discard))()
                case 6:
                    await turns(draw.randrange(3))
                case 7:
                    await asyncio.sleep(draw.random())
            held = [one.lease for one, _ in asked if one.told and isinstance(one.told[0], Lease) and one.lease.held]
            for pool in source.pools:
                assert pool.leased + pool.dialling + pool.idle <= 3
        while any(not request.told for request, _ in asked if request not in cancelled):
            for _, end in source.dials:
                if not end.done():
                    end.set_exception(refused())
            source.dials.clear()
            await asyncio.sleep(0.1)
        for request, _ in asked:
            assert len(request.told) == (request not in cancelled)
            if request.told and isinstance(request.told[0], Lease):
                request.lease.release()
        await turns()
        assert source.in_flight == [0] * len(source.pools)
        for pool in source.pools:
            assert (pool.leased, pool.dialling, pool.waiting) == (0, 0, 0)

    run(play(), JumpingLoop)


@play
async def test_a_wait_that_is_over_holds_nothing() -> None:
    source = Source()
    request, wait = ask(source)
    await turns()
    await source.connect()
    request.lease.release()
    held = weakref.ref(request)
    del request
    gc.disable()
    try:
        assert held() is None
        assert wait.over
    finally:
        gc.enable()
