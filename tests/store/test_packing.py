"""When an object is packed, and unpacked: once it has proved worth it, a slice at a time, on no request's way."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import pytest

from flyby.store import Store
from tests.store.processes import Worker, pack

MIB = 1 << 20
FAR_MS = 1 << 45
PIECE = 65_536
TEXT = b"".join(b"<li>%d of them</li>\n" % number for number in range(30_000))


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store.create(16 * MIB, max_object=2 * MIB, workers=1)
    yield made
    pack(made)
    assert made.check() == []
    made.clear()
    assert made.check() == []
    assert made.statistics().used == 0
    made.close()


def bring(store: Store, key: bytes, body: bytes, length: int = -1, *, compress: bool = True) -> None:
    """Store it as a response is: by a fetch."""
    fill = store.claim(key)
    assert fill is not None
    assert fill.owner
    assert fill.open(key, b"head", 200, 0, 1, FAR_MS, 3, 4, length, compress=compress, tags=(b"tag",))
    for start in range(0, len(body), 60_000):
        assert fill.write(body[start : start + 60_000])
    assert fill.commit()
    fill.release()


def whole(store: Store, key: bytes) -> bytes:
    entry = store.lookup(key)
    assert entry is not None
    steps, offset = [], 0
    while offset < entry.length:
        steps.append(bytes(entry.read(offset, 100_000)))
        offset += len(steps[-1])
    return b"".join(steps)


def compressed(store: Store, key: bytes) -> bool:
    entry = store.lookup(key, counted=False)
    assert entry is not None
    return entry.compressed


@pytest.mark.parametrize("length", [1024, PIECE, PIECE + 1, 3 * PIECE, 500_000])
def test_at_the_first_hit_in_slices(store: Store, length: int) -> None:
    body = TEXT[:length]
    bring(store, b"key", body, length)
    assert not store.has_work
    assert not store.pack_some()
    held = store.lookup(b"key")
    assert held is not None
    assert not held.compressed
    slices = 1
    while store.pack_some():
        slices += 1
    assert slices == -(-length // PIECE)
    assert compressed(store, b"key")
    assert whole(store, b"key") == bytes(held.read(0, length)) == body
    found = store.statistics()
    assert (found.objects, found.plain_bytes, found.inserts) == (1, length, 1)
    assert found.stored_bytes < length * 7 // 8
    assert store.purge_tag(b"tag") == 1


def test_what_is_asked_for_once_is_never_packed() -> None:
    store = Store.create(4 * MIB)
    for number in range(500):
        assert store.lookup(b"%d" % number) is None
        bring(store, b"%d" % number, b"%d" % number + TEXT[:20_000])
        pack(store)
    found = store.statistics()
    assert found.evictions > 100
    assert found.compressed == 0
    store.close()


def came_again(store: Store, key: bytes, body: bytes) -> bool:
    """Store it; whether the ghosts knew it."""
    before = store.statistics().ghost_hits
    bring(store, key, body, len(body))
    return store.statistics().ghost_hits > before


def test_what_comes_again_is_packed_without_a_hit() -> None:
    store = Store.create(4 * MIB)
    body = TEXT[:20_000]
    for number in range(400):
        bring(store, b"%d" % number, body, len(body))
    gone = [number for number in range(400) if store.lookup(b"%d" % number) is None]
    pack(store)
    known = next(number for number in reversed(gone) if came_again(store, b"%d" % number, body))
    assert not compressed(store, b"%d" % known)
    pack(store)
    assert compressed(store, b"%d" % known)
    # And what replaces an object that was asked for.
    bring(store, b"new", body)
    pack(store, b"new")
    bring(store, b"new", body + b"again")
    assert store.has_work
    pack(store)
    assert compressed(store, b"new")
    store.close()


def test_what_leaves_the_small_queue_alive_is_packed() -> None:
    store = Store.create(4 * MIB, workers=1)

    def story(store: Store, me: Worker) -> None:
        for number in range(60):  # hits, of which this process packs nothing
            store.lookup(b"wanted %d" % number)

    for number in range(60):
        bring(store, b"wanted %d" % number, TEXT[:20_000])
    assert Worker(store, 0, story).join() == 0
    store.sweep(0)
    assert not store.has_work
    for number in range(400):
        bring(store, b"%d" % number, os.urandom(20_000))
        pack(store)
    assert store.statistics().compressed > 30
    store.close()


def test_noise_is_tried_once_and_what_is_not_to_be_packed_never(store: Store) -> None:
    half = random.Random(1).randbytes(400_000)
    bring(store, b"noise", half)
    bring(store, b"turns to noise", TEXT[:70_000] + half)
    bring(store, b"text", TEXT[:100_000], compress=False)
    bring(store, b"short", TEXT[:1023])
    for _ in range(2):
        for key in (b"noise", b"turns to noise", b"text", b"short"):
            store.lookup(key)
        assert store.has_work == (_ == 0)
        pack(store)
    found = store.statistics()
    assert found.compressed == 0
    assert found.stored_bytes == found.plain_bytes
    assert whole(store, b"turns to noise") == TEXT[:70_000] + half


CHANGES: dict[str, Callable[[Store], object]] = {
    "purged": lambda store: store.delete(b"key"),
    "made stale": lambda store: store.expire(b"key", 5),
    "replaced": lambda store: bring(store, b"key", b"another"),
    "refreshed": lambda store: store.refresh(store.lookup(b"key"), b"new head", 1, 2, 9, 0, 0),  # type: ignore[arg-type]
    "cleared": lambda store: store.clear(),
}


@pytest.mark.parametrize("slices", [0, 1, 2])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("hot", [False, True], ids=["being packed", "being unpacked"])
def test_what_changes_meanwhile_stays_as_it_was_changed(store: Store, change: str, slices: int, hot: bool) -> None:
    bring(store, b"key", TEXT[: 3 * PIECE])
    store.lookup(b"key")
    if hot:
        pack(store)
        for _ in range(3):
            store.lookup(b"key")
        assert store.has_work
    for _ in range(slices):
        assert store.pack_some()
    CHANGES[change](store)
    pack(store)
    entry = store.lookup(b"key")
    if change in ("purged", "cleared"):
        assert entry is None
        return
    assert entry is not None
    assert entry.fresh_ms == {"made stale": 5, "refreshed": 9, "replaced": FAR_MS}[change]
    assert whole(store, b"key") == (b"another" if change == "replaced" else TEXT[: 3 * PIECE])


def test_a_purge_of_everything_for_softness_is_not_undone(store: Store) -> None:
    bring(store, b"key", TEXT[: 3 * PIECE])
    store.lookup(b"key")
    assert store.pack_some()
    store.clear(True, 7)
    pack(store)
    entry = store.lookup(b"key")
    assert entry is not None
    assert entry.fresh_ms == 7


def test_what_is_hot_before_its_turn_stays_plain(store: Store) -> None:
    bring(store, b"key", TEXT[:100_000])
    for _ in range(3):
        store.lookup(b"key")
    assert not store.pack_some()
    assert not compressed(store, b"key")
    found = store.statistics()
    assert (found.promotions, found.compressed, found.replaced) == (1, 0, 0)
    assert store.check() == []


def test_who_wants_to_know_is_told_once(store: Store) -> None:
    called: list[int] = []
    store.on_work(lambda: called.append(1))
    for number in range(3):
        bring(store, b"%d" % number, TEXT[: 2 * PIECE])
    assert called == []
    store.lookup(b"0")
    store.lookup(b"1")
    assert called == [1]
    assert store.pack_some()
    store.lookup(b"2")
    pack(store)
    assert called == [1]
    bring(store, b"3", TEXT[: 2 * PIECE])
    store.lookup(b"3")
    assert called == [1, 1]
    store.on_work(None)


def test_candidates_are_bounded_and_a_later_hit_makes_up_for_it(store: Store) -> None:
    for number in range(100):
        bring(store, b"%d" % number, TEXT[:2000])
        store.lookup(b"%d" % number)
    pack(store)
    assert store.statistics().compressed == 64
    pack(store, *[b"%d" % number for number in range(64, 100)])
    assert store.statistics().compressed == 100


def test_a_death_in_the_middle_costs_nothing(store: Store) -> None:
    def story(store: Store, me: Worker) -> None:
        store.lookup(b"key")
        assert store.pack_some()
        me.say()
        me.wait()

    bring(store, b"key", TEXT[: 3 * PIECE])
    store.lookup(b"key")
    assert store.pack_some()  # the child of a fork has nothing to do with what was begun here
    worker = Worker(store, 0, story)
    assert worker.heard()
    worker.kill()
    assert store.check() == []
    pack(store)
    assert whole(store, b"key") == TEXT[: 3 * PIECE]
    assert compressed(store, b"key")


def test_a_closed_store_has_no_work() -> None:
    store = Store.create(4 * MIB)
    bring(store, b"key", TEXT[: 3 * PIECE])
    store.lookup(b"key")
    assert store.pack_some()
    store.close()
    assert not store.has_work
    assert not store.pack_some()


def test_an_uncounted_look_counts_nothing(store: Store) -> None:
    bring(store, b"key", TEXT[:2000])
    assert store.lookup(b"key", counted=False) is not None
    assert store.lookup(b"none", counted=False) is None
    found = store.statistics()
    assert (found.hits, found.misses, found.hit_bytes) == (0, 0, 0)
