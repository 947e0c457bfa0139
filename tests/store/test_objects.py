"""Objects in the store, in one process: put, looked up, held, replaced, refreshed, purged, evicted."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import pytest

from flyby.store import Entry, Store
from tests.store.processes import pack

HEAD = b"HTTP/1.1 200 OK\r\nETag: x\r\n"
MIB = 1 << 20
FAR_MS = 1 << 45


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store.create(4 * MIB)
    yield made
    assert made.check() == []
    made.close()


def put(store: Store, key: bytes, body: bytes) -> bool:
    return store.put(key, HEAD, body, 200, 3, 1_000, FAR_MS, 5, 7)


def body_of(store: Store, key: bytes) -> bytes | None:
    entry = store.lookup(key)
    return None if entry is None else bytes(entry.body())


def about(entry: Entry) -> tuple[int, ...]:
    return (entry.flags, entry.born_ms, entry.fresh_ms, entry.swr_s, entry.sie_s)


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


def test_what_was_put_is_found_whole(store: Store) -> None:
    assert put(store, b"key", b"hello world")
    entry = store.lookup(b"key")
    assert entry is not None
    assert (entry.key, entry.head, bytes(entry.body()), entry.length) == (b"key", HEAD, b"hello world", 11)
    assert (entry.status, *about(entry)) == (200, 3, 1_000, FAR_MS, 5, 7)
    assert store.lookup(b"ke") is None
    assert store.lookup(b"key\0") is None


@pytest.mark.parametrize(
    ("offset", "length"), [(0, -1), (0, 4), (7, -1), (7, 9), (7, 99_999), (10, -1), (99_999, 3), (3, 0)]
)
@pytest.mark.parametrize("body", [b"0123456789", b"0123456789" * 1000], ids=["plain", "packed"])
def test_parts_of_a_body(store: Store, offset: int, length: int, body: bytes) -> None:
    put(store, b"key", body)
    entry = store.lookup(b"key")
    assert entry is not None
    assert bytes(entry.body(offset, length)) == (body[offset:] if length < 0 else body[offset : offset + length])
    with pytest.raises(ValueError, match="from the start"):
        entry.body(-1)


@pytest.mark.parametrize("key", [b"", b"k", b"k" * 65535])
def test_keys_of_any_length(store: Store, key: bytes) -> None:
    assert put(store, key, b"body")
    assert body_of(store, key) == b"body"
    assert not put(store, b"k" * 65536, b"body")
    assert store.lookup(b"k" * 65536) is None


def test_an_empty_body_and_an_empty_head(store: Store) -> None:
    assert store.put(b"mark", b"", b"", 0, 128, 0, 1 << 62, 0, 0)
    entry = store.lookup(b"mark")
    assert entry is not None
    assert (entry.head, bytes(entry.body()), entry.status, entry.fresh_ms) == (b"", b"", 0, 1 << 62)


def test_a_replaced_object_stays_with_whoever_holds_it(store: Store) -> None:
    put(store, b"key", noise(5000, 1))
    old = store.lookup(b"key")
    assert old is not None
    view = old.body()
    put(store, b"key", noise(5000, 2))
    assert body_of(store, b"key") == noise(5000, 2)
    old.release()
    del old
    for seed in range(3000):  # enough to turn the whole store over
        put(store, b"other %d" % seed, noise(4000, seed))
    assert bytes(view) == noise(5000, 1)
    assert store.statistics().loose >= 1


def test_a_released_entry_says_so(store: Store) -> None:
    put(store, b"key", b"body")
    entry = store.lookup(b"key")
    assert entry is not None
    view = entry.body(1, 2)
    entry.release()
    assert bytes(view) == b"od"
    view.release()
    del view
    entry.release()
    with pytest.raises(ValueError, match="released"):
        entry.body()


def test_generations_are_unique_and_guard_a_delete(store: Store) -> None:
    put(store, b"key", b"one")
    first = store.lookup(b"key")
    put(store, b"key", b"two")
    second = store.lookup(b"key")
    assert first is not None
    assert second is not None
    assert first.generation != second.generation
    assert not store.delete(b"key", first.generation)
    assert store.delete(b"key", second.generation)
    assert store.lookup(b"key") is None
    assert not store.delete(b"key")


def test_refresh_changes_the_head_and_keeps_the_body(store: Store) -> None:
    for body in (b"short", b"text " * 2000, noise(9000)):
        put(store, b"key", body)
        entry = store.lookup(b"key")
        assert entry is not None
        assert store.refresh(entry, HEAD + b"Age: 1\r\n", 9, 2_000, 3_000, 1, 2)
        new = store.lookup(b"key")
        assert new is not None
        assert (new.head, *about(new)) == (HEAD + b"Age: 1\r\n", 9, 2_000, 3_000, 1, 2)
        assert bytes(new.body()) == bytes(entry.body()) == body
        assert not store.refresh(entry, HEAD, 9, 2_000, 3_000, 1, 2)


def refresh(store: Store, key: bytes, number: int) -> bool:
    entry = store.lookup(key)
    return entry is not None and store.refresh(entry, HEAD + b"N: %d\r\n" % number, 9, 2_000, FAR_MS, 1, 2)


def test_a_long_body_stays_where_it_is_when_its_head_is_new() -> None:
    """In a store of 4 MiB a body of 1.5 MiB is refreshed a hundred times beside others, of which none has to go."""
    store = Store.create(4 * MIB, max_object=2 * MIB)
    body = noise(3 * MIB // 2)
    put(store, b"long", body)
    for number in range(500):
        put(store, b"%d" % number, noise(1000, number))
    before = store.statistics()
    held = store.lookup(b"long")
    for number in range(100):
        assert refresh(store, b"long", number)
        entry = store.lookup(b"long")
        assert entry is not None
        assert entry.head == HEAD + b"N: %d\r\n" % number
        assert bytes(entry.body()) == body
        del entry
        assert store.check() == []
    found = store.statistics()
    assert (found.evictions, found.objects, found.plain_bytes) == (0, before.objects, before.plain_bytes)
    assert found.used < before.used + 1024
    assert held is not None
    assert bytes(held.body()) == body
    last = store.lookup(b"long")
    assert last is not None
    put(store, b"long", b"short")
    del held
    assert store.check() == []
    assert bytes(last.body()) == body
    del last
    store.clear()
    assert store.check() == []
    assert store.statistics().used == 0
    store.close()


def test_what_was_refreshed_is_evicted_with_its_body(store: Store) -> None:
    generator = random.Random(5)
    for number in range(3000):
        key = b"key %d" % generator.randrange(200)
        if number % 3 == 0:
            put(store, key, noise(generator.choice([20_000, 60_000, 300_000]), number))
        else:
            refresh(store, key, number)
        if number % 100 == 0:
            assert store.check() == []
    assert store.statistics().evictions > 300
    assert put(store, b"largest", noise(store.max_object))
    store.clear()
    assert store.check() == []
    assert store.statistics().used == 0


def renew(store: Store, entry: Entry, date: bytes | None = None, *, swr_s: int = 5) -> bool:
    return store.renew(entry, 2_000, 9_000, swr_s, 7, date=date, at=HEAD.index(b"ETag: ") + 6 if date else 0)


@pytest.mark.parametrize("length", [100, 9_000, 60_000])
def test_renew_changes_the_times_where_the_object_lies(store: Store, length: int) -> None:
    put(store, b"key", noise(length))
    held, entry = store.lookup(b"key"), store.lookup(b"key")
    assert held is not None
    assert entry is not None
    before = store.statistics()
    assert renew(store, entry)
    assert renew(store, entry, b"x")  # it knows what it is now
    assert about(entry) == (3, 2_000, 9_000, 5, 7)
    new = store.lookup(b"key")
    assert new is not None
    assert (new.head, *about(new), new.generation) == (HEAD, *about(entry), entry.generation)
    assert entry.generation > held.generation
    assert not renew(store, held)
    found = store.statistics()
    assert (found.free, found.inserts, found.replaced) == (before.free, before.inserts, before.replaced)
    assert renew(store, entry, b"y")  # another head is another block
    new = store.lookup(b"key")
    assert new is not None
    assert (new.head, *about(new)) == (HEAD.replace(b"x", b"y"), 3, 2_000, 9_000, 5, 7)
    assert (entry.head, bytes(new.body())) == (HEAD, noise(length))
    assert renew(store, new, swr_s=6)
    new = store.lookup(b"key")
    assert new is not None
    assert about(new) == (3, 2_000, 9_000, 6, 7)
    for at in (-1, len(HEAD)):
        with pytest.raises(ValueError, match="the head has"):
            store.renew(new, 1, 2, 3, 4, date=b"x", at=at)


@pytest.mark.parametrize("again", [renew, lambda s, e: s.refresh(e, HEAD + b"A: b\r\n", 3, 2_000, 9_000, 5, 7)])
@pytest.mark.parametrize(
    "purge",
    [
        lambda s: s.delete(b"key"),
        lambda s: s.expire(b"key", 5_000),
        lambda s: s.clear(),
        lambda s: s.clear(True, 5_000),
        lambda s: put(s, b"key", b"another"),
        lambda s: (s.delete(b"key"), put(s, b"key", b"body")),
    ],
)
def test_what_was_purged_or_replaced_is_not_renewed(
    store: Store, purge: Callable[[Store], object], again: Callable[[Store, Entry], bool]
) -> None:
    put(store, b"key", b"body")
    entry = store.lookup(b"key")
    assert entry is not None
    purge(store)
    now = store.lookup(b"key")
    assert not again(store, entry)
    after = store.lookup(b"key")
    assert (now and about(now)) == (after and about(after))


def test_expire_ends_freshness_now_and_no_refresh_undoes_it(store: Store) -> None:
    put(store, b"key", b"body")
    before = store.lookup(b"key")
    assert before is not None
    assert store.expire(b"key", 5_000)
    entry = store.lookup(b"key")
    assert entry is not None
    assert entry.fresh_ms == 5_000
    assert not store.refresh(before, HEAD, 0, 1, 99_000, 0, 0)
    assert store.expire(b"key", 9_000)
    assert body_of(store, b"key") == b"body"
    again = store.lookup(b"key")
    assert again is not None
    assert again.fresh_ms == 5_000
    assert not store.expire(b"other")


def test_clear_counts_and_leaves_nothing(store: Store) -> None:
    for number in range(50):
        put(store, b"%d" % number, b"body")
    held = store.lookup(b"7")
    assert held is not None
    assert store.clear() == 50
    assert all(store.lookup(b"%d" % number) is None for number in range(50))
    assert bytes(held.body()) == b"body"
    assert store.statistics().objects == 0
    assert put(store, b"7", b"new")
    assert body_of(store, b"7") == b"new"


def test_text_is_packed_and_noise_is_not(store: Store) -> None:
    text = b"<p>some text, again and again</p>\n" * 300
    for key, body, packed in ((b"t", text, True), (b"n", noise(9000), False), (b"s", text[:1000], False)):
        put(store, key, body)
        entry = store.lookup(key)
        assert entry is not None
        assert entry.compressed is packed
        assert bytes(entry.body()) == body
    store.put(b"asked", HEAD, text, 200, 0, 0, 0, 0, 0, compress=False)
    entry = store.lookup(b"asked")
    assert entry is not None
    assert not entry.compressed
    found = store.statistics()
    assert found.compressed == 1
    assert found.stored_bytes < found.plain_bytes


def test_a_hot_object_is_held_plain(store: Store) -> None:
    text = b"hot text " * 900
    put(store, b"hot", text)
    for _ in range(6):
        assert body_of(store, b"hot") == text
    pack(store)
    assert body_of(store, b"hot") == text
    entry = store.lookup(b"hot")
    assert entry is not None
    assert not entry.compressed
    assert store.statistics().promotions == 1
    assert store.statistics().compressed == 0


def test_the_store_never_outgrows_itself(store: Store) -> None:
    generator = random.Random(3)
    for number in range(8000):
        body = noise(generator.choice([10, 300, 4000, 60_000]), number)
        assert put(store, b"key %d" % number, body)
        assert body_of(store, b"key %d" % number) == body
    found = store.statistics()
    assert found.evictions > 1000
    assert 0 < found.objects < 8000
    assert store.check() == []


def test_what_is_asked_for_again_outlives_a_scan(store: Store) -> None:
    wanted = [b"wanted %d" % number for number in range(100)]
    for key in wanted:
        put(store, key, noise(2000))
    for number in range(6000):
        store.lookup(wanted[number % 100])
        put(store, b"scan %d" % number, noise(2000, number))
    assert sum(store.lookup(key) is not None for key in wanted) == 100


@pytest.mark.parametrize("small", [200, 20_000])
def test_a_large_object_finds_its_room_among_others(store: Store, small: int) -> None:
    for number in range(30_000 // (small // 100)):
        put(store, b"small %d" % number, noise(small, number))
    largest = noise(store.max_object, 9)
    assert put(store, b"large", largest)
    assert body_of(store, b"large") == largest
    assert not put(store, b"larger", largest + b"x")


def test_a_full_bucket_makes_room(store: Store) -> None:
    for number in range(40_000):
        assert put(store, b"%d" % number, b"")
    assert store.statistics().evictions > 0
    assert body_of(store, b"39999") == b""


def test_held_objects_are_never_evicted(store: Store) -> None:
    held = []
    for number in range(40):
        put(store, b"held %d" % number, noise(20_000, number))
        held.append(store.lookup(b"held %d" % number))
    for number in range(500):
        put(store, b"other %d" % number, noise(20_000, number))
    for number, entry in enumerate(held):
        assert entry is not None
        assert bytes(entry.body()) == noise(20_000, number)


def test_when_everything_is_held_there_is_no_room(store: Store) -> None:
    held = []
    for number in range(100):
        put(store, b"held %d" % number, noise(60_000, number))
        held.append(store.lookup(b"held %d" % number))
    assert not put(store, b"last", noise(400_000))
    assert store.statistics().refused > 0
    assert sum(entry is not None for entry in held) >= 50
    held.clear()
    assert put(store, b"last", noise(400_000))


def test_counts(store: Store) -> None:
    put(store, b"key", b"12345")
    store.lookup(b"key")
    store.lookup(b"none")
    found = store.statistics()
    assert (found.hits, found.misses, found.hit_bytes, found.inserts, found.insert_bytes) == (1, 1, 5, 1, 5)
    assert found.hit_ratio == 0.5
    assert found.size == store.size == 4 * MIB


def test_a_closed_store_has_nothing_and_its_views_stay() -> None:
    store = Store.create(MIB)
    put(store, b"key", b"body")
    entry = store.lookup(b"key")
    assert entry is not None
    view = entry.body()
    store.close()
    assert store.lookup(b"key") is None
    assert store.claim(b"key") is None
    assert not put(store, b"key", b"body")
    assert bytes(view) == b"body"
    store.close()
    assert "not in use" in repr(store)


def test_a_forked_child_that_has_not_joined_has_nothing(store: Store) -> None:
    put(store, b"key", b"body")
    entry = store.lookup(b"key")
    pid = os.fork()
    if not pid:
        os._exit(0 if store.lookup(b"key") is None and bytes(entry.body()) == b"body" else 1)  # type: ignore[union-attr]
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert store.delete(b"key")
    assert store.statistics().loose == 1  # the entry here still holds it
    del entry
