"""A process that stands inside a critical section (SIGSTOP, a debugger): it costs the others one wait and no more.

It is stopped at every step of a change, which needs a build with CFLAGS=-DFLYBY_FAULTS. What is counted is waits, not
time: `busy` counts locks that were waited for in vain.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from flyby.store import Store
from flyby.store._fault import stop_at
from tests.e2e.stage import play, reply, stage
from tests.store.processes import Worker

MIB = 1 << 20
FAR_MS = 1 << 45
HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
OTHERS = [b"other %d" % number for number in range(200)]


def has_faults() -> bool:
    store = Store.create(MIB)
    found = stop_at(store, 0)
    store.close()
    return found


def put(store: Store, key: bytes, body: bytes = b"body") -> bool:
    return store.put(key, HEAD, body, 200, 0, 1, FAR_MS, 0, 0)


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store.create(8 * MIB, max_object=256 * 1024, workers=2)
    for key in OTHERS:
        assert put(made, key)
    yield made
    made.close()


def change(store: Store) -> None:
    """It has the lock of one shard several times, and that of the fill table twice."""
    fill = store.claim(b"new")
    assert fill is not None
    fill.open(b"new", HEAD, 200, 0, 1, FAR_MS, 0, 0, -1)
    fill.write(b"of some bytes")
    fill.commit()
    fill.release()
    put(store, b"new", b"again")
    store.delete(b"new")


def stopped(worker: Worker) -> bool:
    """Whether it has been stopped; else it has ended, and well."""
    _, status = os.waitpid(worker.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSTOPPED(status)


def work(store: Store, turn: int) -> int:
    """What a worker does for many requests; how many were not answered from the store, or not stored."""
    refused = 0
    for key in OTHERS:
        entry = store.lookup(key)
        assert entry is not None, "readers wait for nobody"
        del entry
        name = b"%d, missed, " % turn + key
        fill = store.claim(name)
        if fill is None:
            refused += 1
        else:
            fill.open(name, HEAD, 200, 0, 1, FAR_MS, 0, 0, 4)
            refused += not (fill.write(b"body") and fill.commit())
            fill.release()
        refused += not put(store, b"%d, " % turn + key)
    return refused


@pytest.mark.skipif(not has_faults(), reason="this build has no fault points")
@pytest.mark.timeout(300)
def test_whoever_stands_at_any_step_costs_each_lock_one_wait(store: Store) -> None:
    stops, most, standing = 0, 0, True
    while standing:

        def story(store: Store, me: Worker, number: int = stops + 1) -> None:
            stop_at(store, number)
            change(store)
            stop_at(store, 0)

        worker = Worker(store, 0, story)
        standing = stopped(worker)
        if not standing:
            break
        stops += 1
        before = store.statistics().busy
        refused = work(store, 0)
        waits = store.statistics().busy - before
        assert waits <= 2, f"after a stop at fault point {stops}"
        assert refused == 0 or waits
        most = max(most, refused)
        store.delete(b"new")  # a request may ask for that: it does not insist on what is known to stand
        assert store.statistics().busy - before <= 2
        os.kill(worker.pid, signal.SIGCONT)
        assert worker.join() == 0
        store.sweep(0)
        assert work(store, 1) == 0, "what stood goes on, and is waited for again"
        assert store.check() == []
    assert stops > 30
    assert most > 20


@pytest.mark.skipif(not has_faults(), reason="this build has no fault points")
@pytest.mark.parametrize("where", ["a shard", "the table of fetches"])
def test_requests_go_on_beside_a_worker_that_stands(where: str) -> None:
    """Each of them is answered in full, past the store where that is not to be had."""

    def story(store: Store, me: Worker) -> None:
        stop_at(store, 1)
        if where == "a shard":
            put(store, b"any")
        else:
            store.claim(b"any")

    @play
    async def requests() -> None:
        async with stage(reply(Cache_Control="max-age=60")) as scene:
            assert (await scene.ask("/before")).status == 200
            store = scene.edge._store
            assert store is not None
            worker = Worker(store, 0, story)
            assert stopped(worker)
            before = store.statistics().busy
            for number in range(60):
                for _ in range(2):
                    answer = await scene.ask(f"/{number}")
                    assert (answer.status, answer.body) == (200, b"hello")
            assert (await scene.ask("/before")).status == 200
            assert 1 <= store.statistics().busy - before <= 2
            worker.kill()

    requests()
