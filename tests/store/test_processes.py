"""The store between processes: what one writes the others read, and a death at any instruction costs only the dead."""

from __future__ import annotations

import hashlib
import os
import random
import select
import signal
from collections.abc import Iterator

import pytest

from flyby.store import COMPLETE, FAILED, LOST, Entry, Fill, Store
from tests.store.processes import Worker, until

MIB = 1 << 20
BLOB = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store.create(4 * MIB, workers=4)
    yield made
    assert made.check() == []
    assert made.statistics().fills_open == 0
    made.clear()
    assert made.statistics().used == 0
    made.close()


def content(key: bytes, version: int, length: int) -> bytes:
    """Bytes that tell what they are of; every other version can be compressed."""
    state = hashlib.shake_128(b"%s %d" % (key, version))
    return state.digest(length) if version % 2 else (state.digest(64) * (length // 64 + 1))[:length]


def put(store: Store, key: bytes, body: bytes) -> bool:
    return store.put(key, BLOB, body, 200, 0, 1, 2, 3, 4)


def begin(fill: Fill, length: int = -1) -> bool:
    return fill.open(b"key", BLOB, 200, 0, 1, 2, 3, 4, length)


def test_what_one_process_stores_another_finds(store: Store) -> None:
    def story(store: Store, me: Worker) -> None:
        put(store, b"theirs", b"from the worker")
        me.say()
        me.wait()
        entry = store.lookup(b"ours")
        assert entry is not None
        assert bytes(entry.body()) == b"from the parent"

    worker = Worker(store, 0, story)
    assert worker.heard()
    entry = store.lookup(b"theirs")
    assert entry is not None
    assert bytes(entry.body()) == b"from the worker"
    put(store, b"ours", b"from the parent")
    worker.tell()
    assert worker.join() == 0


@pytest.mark.parametrize("length", [300_000, -1])
def test_followers_in_other_processes_read_while_it_grows(store: Store, length: int) -> None:
    body = content(b"key", 1, 300_000)

    def story(store: Store, me: Worker) -> None:
        fill = store.claim(b"key")
        assert fill is not None
        assert not fill.owner
        fill.subscribe(lambda: None)
        me.say()
        read = 0
        while read < len(body):
            assert until(store, lambda seen=read: fill.available > seen)  # type: ignore[misc]
            view = fill.read(read, 1 << 20)
            assert bytes(view) == body[read : read + len(view)]
            read += len(view)
            me.say()  # only then comes more: each step was seen while the fill was growing
        assert until(store, lambda: fill.state == COMPLETE)
        assert (fill.head, fill.length) == (BLOB, len(body))
        fill.release()

    owner = store.claim(b"key")
    assert owner is not None
    followers = [Worker(store, number, story) for number in range(3)]
    assert all(follower.heard() for follower in followers)
    assert begin(owner, length)
    for start in range(0, len(body), 30_000):
        assert owner.write(body[start : start + 30_000])
        assert all(follower.heard() for follower in followers)
    assert owner.commit()
    owner.release()
    assert [follower.join() for follower in followers] == [0, 0, 0]
    assert store.statistics().collapsed == 3


def test_one_bell_is_enough_for_many_steps(store: Store) -> None:
    owner = store.claim(b"key")
    assert owner is not None

    def story(store: Store, me: Worker) -> None:
        fill = store.claim(b"key")
        assert fill is not None
        calls: list[int] = []
        fill.subscribe(lambda: calls.append(fill.available))
        me.say()
        me.wait()
        store.dispatch()
        assert calls == [500]
        store.dispatch()
        assert select.select([store.fileno()], [], [], 0)[0] == []
        fill.release()

    worker = Worker(store, 1, story)
    assert worker.heard()
    begin(owner)
    for _ in range(500):
        owner.write(b"x")
    worker.tell()
    assert worker.join() == 0
    owner.release()


@pytest.mark.parametrize("stage", ["claimed", "opened", "streaming"])
@pytest.mark.parametrize("length", [100, -1])
def test_the_death_of_an_owner_frees_its_followers(store: Store, stage: str, length: int) -> None:
    def story(store: Store, me: Worker) -> None:
        owner = store.claim(b"key")
        assert owner is not None
        assert owner.owner
        if stage != "claimed":
            begin(owner, length)
        if stage == "streaming":
            owner.write(b"half")
        me.say()
        signal.pause()

    worker = Worker(store, 2, story)
    assert worker.heard()
    follower = store.claim(b"key")
    assert follower is not None
    assert not follower.owner
    called: list[int] = []
    follower.subscribe(lambda: called.append(follower.state))
    worker.kill()
    assert until(store, lambda: bool(called))
    assert (called[-1], follower.state, follower.reason) == (FAILED, FAILED, LOST)
    heir = store.claim(b"key")
    assert heir is not None
    assert heir.owner
    heir.release()
    follower.release()
    assert store.lookup(b"key") is None


def test_a_death_after_the_last_byte_does_no_harm(store: Store) -> None:
    def story(store: Store, me: Worker) -> None:
        owner = store.claim(b"key")
        assert owner is not None
        begin(owner, 4)
        owner.write(b"full")
        me.say()
        signal.pause()

    worker = Worker(store, 0, story)
    assert worker.heard()
    follower = store.claim(b"key")
    assert follower is not None
    worker.kill()
    assert (follower.state, bytes(follower.read(0, 9))) == (COMPLETE, b"full")
    follower.release()


def test_the_pins_of_the_dead_are_swept(store: Store) -> None:
    for number in range(10):
        put(store, b"%d" % number, content(b"%d" % number, 0, 9000))

    def story(store: Store, me: Worker) -> None:
        kept = [store.lookup(b"%d" % number) for number in range(10)]
        me.say()
        signal.pause()
        del kept

    worker = Worker(store, 3, story)
    assert worker.heard()
    assert store.clear() == 10
    assert store.check() == []
    assert store.statistics().loose == 10
    worker.kill()
    assert store.statistics().loose == 0


def test_a_reader_outlives_the_worker_that_stored_its_object(store: Store) -> None:
    def story(store: Store, me: Worker) -> None:
        put(store, b"key", content(b"key", 0, 50_000))
        me.say()
        signal.pause()

    worker = Worker(store, 0, story)
    assert worker.heard()
    entry = store.lookup(b"key")
    worker.kill()
    assert entry is not None
    assert bytes(entry.body()) == content(b"key", 0, 50_000)


def test_a_worker_may_join_again_after_a_death_that_nobody_swept(store: Store) -> None:
    def first(store: Store, me: Worker) -> None:
        owner = store.claim(b"key")
        assert owner is not None
        begin(owner)
        me.say()
        signal.pause()

    def second(store: Store, me: Worker) -> None:
        owner = store.claim(b"key")
        assert owner is not None
        assert owner.owner
        owner.release()

    worker = Worker(store, 0, first)
    assert worker.heard()
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    assert Worker(store, 0, second).join() == 0


def test_a_stopped_process_that_has_a_lock_costs_a_miss(store: Store) -> None:
    """Workers are stopped until one holds a lock; what the others then ask for is answered in bounded time."""

    def story(store: Store, me: Worker) -> None:
        me.say()
        number = 0
        while True:
            put(store, b"%d" % (number % 64), b"x" * 5000)
            number += 1

    worker = Worker(store, 0, story)
    assert worker.heard()
    for _ in range(400):
        select.select([], [], [], 0.0007)
        os.kill(worker.pid, signal.SIGSTOP)
        os.waitpid(worker.pid, os.WUNTRACED)
        before = store.statistics().busy
        for number in range(8):
            put(store, b"mine %d" % number, b"y")
        found = store.statistics().busy > before
        os.kill(worker.pid, signal.SIGCONT)
        if found:
            break
    worker.kill()
    assert found


def hammer(store: Store, me: Worker) -> None:
    """All that a worker does, as fast as it can, with contents that tell their key and version."""
    generator = random.Random(os.getpid())
    me.say()
    held: list[Entry] = []
    while True:
        key = b"key %d" % generator.randrange(300)
        version, length = generator.randrange(1000), generator.choice([10, 900, 5000, 40_000, 200_000])
        entry = store.lookup(key)
        if entry is not None:
            check_body(key, entry.head, entry.body())
            held = [*held[-5:], entry]
        act = generator.randrange(10)
        head = BLOB + b"V: %d %d\r\n" % (version, length)
        if act < 4:
            store.put(key, head, content(key, version, length), 200, 0, 1, 2, 3, 4)
        elif act < 8:
            fill = store.claim(key)
            if fill is not None and fill.owner:
                body = content(key, version, length)
                opened = fill.open(key, head, 200, 0, 1, 2, 3, 4, length if act < 6 else -1)
                if opened and all(fill.write(body[start : start + 16_000]) for start in range(0, length, 16_000)):
                    fill.commit()
            elif fill is not None and fill.state not in (0, FAILED):
                own = fill.head
                version, length = map(int, own.split(b"V: ")[1].split())
                got = bytes(fill.read(0, 1 << 20))
                assert got == content(key, version, length)[: len(got)]
            if fill is not None:
                fill.release()
        elif act == 8:
            store.delete(key)
        elif entry is not None:
            store.refresh(entry, entry.head, 1, 1, 2, 3, 4)


def check_body(key: bytes, head: bytes, body: memoryview) -> None:
    version, length = map(int, head.split(b"V: ")[1].split())
    assert bytes(body) == content(key, version, length)


def test_kills_under_load_leave_the_store_sound(store: Store) -> None:
    generator = random.Random(7)
    workers = {number: Worker(store, number, hammer) for number in range(3)}
    for worker in workers.values():
        assert worker.heard()
    for _ in range(40):
        select.select([], [], [], generator.uniform(0, 0.02))
        victim = generator.randrange(3)
        assert os.waitpid(workers[victim].pid, os.WNOHANG) == (0, 0)  # none has failed an assertion of its own
        workers[victim].kill()
        workers[victim] = Worker(store, victim, hammer)
        assert workers[victim].heard()
    for worker in workers.values():
        worker.kill()
    assert store.check() == []
    found = store.statistics()
    assert found.hits > 0
    assert found.committed > 0
