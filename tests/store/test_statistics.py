"""What the store tells of itself, against a model that counts the same: every counter, exactly."""

from __future__ import annotations

import bisect
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from flyby.store import Fill, Store
from flyby.store._pack import packed
from flyby.store.statistics import SIZE_LIMITS
from tests.store.processes import pack

MIB = 1 << 20
FAR_MS = 1 << 45
LENGTHS = [0, 1, 1023, 1024, 4095, 4096, 16_384, 65_535, 65_536, 300_000, 1_048_576]


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store.create(256 * MIB, workers=2)
    yield made
    assert made.check() == []
    made.close()


def content(seed: int, length: int) -> bytes:
    """Noise for odd seeds, what can be packed for even ones."""
    return random.Random(seed).randbytes(length) if seed % 2 else (b"<li>%d</li>\n" % seed * (length // 8 + 1))[:length]


def put(store: Store, key: bytes, body: bytes, *, fresh_ms: int = FAR_MS) -> bool:
    return store.put(key, b"", body, 200, 0, 1, fresh_ms, 0, 0, tags=(b"odd" if len(body) % 2 else b"even",))


def test_what_it_holds_and_has_done(store: Store) -> None:
    """Nothing is evicted, so the model knows everything."""
    generator = random.Random(7)
    held: dict[bytes, tuple[bytes, int]] = {}  # key: body, hits since it was stored
    did: Counter[str] = Counter()
    for seed in range(1500):
        key = b"%d" % generator.randrange(60)
        what = generator.choice(["put", "put", "look", "look", "look", "delete", "expire", "tag"])
        if what == "put":
            body = content(seed, generator.choice(LENGTHS))
            assert put(store, key, body)
            did["replaced"] += key in held
            did["inserts"] += 1
            did["insert_bytes"] += len(body)
            held[key] = body, 0
        elif what == "look":
            entry = store.lookup(key)
            assert (entry is not None) == (key in held)
            did["hits" if entry else "misses"] += 1
            did["hit_bytes"] += entry.length if entry else 0
        elif what == "delete":
            assert store.delete(key) == (key in held)
            did["purged"] += key in held
            did["purges"] += 1
            held.pop(key, None)
        elif what == "expire":
            assert store.expire(key, 1) == (key in held)
            did["purges"] += 1
        elif seed % 10 == 0:
            meant = [key for key, (body, _) in held.items() if len(body) % 2]
            assert store.purge_tag(b"odd") == len(meant)
            did["purged"] += len(meant)
            did["purges"] += 1
            for key in meant:
                del held[key]
        told = store.statistics()
        assert told.objects == len(held)
    sizes = [0] * (len(SIZE_LIMITS) + 1)
    for body, _ in held.values():
        sizes[bisect.bisect_right(SIZE_LIMITS, len(body))] += 1
    # What is longer than a piece lies as it came: nobody has time to pack here.
    forms = [(body, packed(body, True) if 0 < len(body) <= 65_536 else None) for body, _ in held.values()]
    told = store.statistics()
    assert told.by_size == tuple(sizes)
    assert sum(size > 0 for size in sizes) > 4
    assert told.plain_bytes == sum(len(body) for body, _ in forms)
    assert told.stored_bytes == sum(len(body if form is None else form) for body, form in forms)
    assert told.compressed == sum(form is not None for _, form in forms)
    assert {name: getattr(told, name) for name in did} == did
    assert told.hit_ratio == did["hits"] / (did["hits"] + did["misses"])
    assert (told.evictions, told.refused, told.recovered, told.busy) == (0, 0, 0, 0)
    assert told.workers[-1].hits == told.hits
    assert told.inserts == told.objects + told.replaced + told.purged


def test_hot_and_cool(store: Store) -> None:
    put(store, b"key", content(2, 30_000))
    assert (store.statistics().compressed, store.statistics().promotions) == (1, 0)
    pack(store, *[b"key"] * 5)
    told = store.statistics()
    assert (told.compressed, told.promotions, told.replaced) == (0, 1, 1)
    assert told.plain_bytes == told.stored_bytes == 30_000


def test_evictions_by_reason() -> None:
    """Whatever was stored is there, or was counted as it went; and each reason has its counter."""
    store = Store.create(4 * MIB, max_object=MIB)
    stored = 0
    for number in range(3000):  # never asked for: all of them go from the small queue
        stored += put(store, b"%d" % number, content(1, 3000))
    told = store.statistics()
    assert told.evicted_small == stored - told.objects
    assert told.evictions == told.evicted_small > 1000
    for number in range(3000, 6000):  # asked for: they come to the main queue, and go from there
        stored += put(store, b"%d" % number, content(1, 3000))
        store.lookup(b"%d" % number)
    assert store.statistics().evicted_main > 1000
    stored += put(store, b"large", content(1, 900_000))
    told = store.statistics()
    assert told.evicted_expired == 0
    assert told.inserts == stored == told.objects + told.evictions + told.replaced
    store.clear()
    told = store.statistics()
    assert (told.objects, told.plain_bytes, told.by_size) == (0, 0, (0,) * len(told.by_size))
    assert told.purged == stored - told.evictions - told.replaced
    for number in range(3000):
        put(store, b"old %d" % number, content(1, 3000), fresh_ms=2)
    told = store.statistics()
    assert told.evicted_expired > 1000
    assert told.inserts == told.objects + told.evictions + told.replaced + told.purged
    store.close()


def test_fetches_by_state(store: Store) -> None:
    def begun(key: bytes) -> Fill:
        fill = store.claim(key)
        assert fill is not None
        return fill

    empty, head, streaming, complete, failed = fills = [begun(b"%d" % number) for number in range(5)]
    readers = [begun(b"%d" % number) for number in range(5)]
    for fill in (head, streaming, complete):
        assert fill.open(fill_key := b"fill %d" % fills.index(fill), b"", 200, 0, 1, FAR_MS, 0, 0), fill_key
    for fill in (streaming, complete):
        assert fill.write(b"some bytes")
    assert complete.commit()
    failed.abort(3)
    states = store.statistics().fill_states
    assert (states.empty, states.head, states.streaming, states.complete, states.failed) == (1, 1, 1, 1, 1)
    told = store.statistics()
    assert (told.fills, told.collapsed, told.committed, told.failed, told.fills_open) == (5, 5, 1, 1, 5)
    assert (told.objects, told.inserts, told.insert_bytes, told.loose) == (1, 1, 10, 2)
    for fill in (*fills, *readers):
        fill.release()
    assert empty.available == 0
    told = store.statistics()
    assert (told.fills_open, told.failed, told.committed) == (0, 4, 1)
