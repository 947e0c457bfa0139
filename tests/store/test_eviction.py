"""Who goes when room is needed: what has expired, then what S3-FIFO says; and what lz4 adds to the room."""

from __future__ import annotations

import bisect
import importlib
import itertools
import json
import os
import pydoc
import random
import time
import tracemalloc
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator
from pydoc_data.topics import topics

import pytest

from flyby.clock import ManualClock
from flyby.errors import StoreError
from flyby.store import Entry, Store
from tests.store.processes import pack

MIB = 1 << 20
FAR_MS = 1 << 45


def put(
    store: Store, key: bytes, body: bytes, fresh_ms: int = FAR_MS, *, swr_s: int = 0, compress: bool = False
) -> bool:
    return store.put(key, b"", body, 200, 0, 1, fresh_ms, swr_s, 0, compress=compress)


# ---- what has expired ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixed", [True, False], ids=["among the others", "after the others"])
def test_in_a_store_of_half_expired_objects_no_live_one_goes(mixed: bool) -> None:
    store = Store.create(8 * MIB + 16_384, max_object=MIB)  # the index grows where the last block happens to be free
    body = os.urandom(1400)
    count = 4400
    live = [number % 2 == 0 if mixed else number < count // 2 for number in range(count)]
    for number in range(count):
        put(store, b"%d" % number, body, FAR_MS if live[number] else 1)
    assert store.statistics().evictions == 0
    for number in range(count // 2 - 200):
        assert put(store, b"new %d" % number, body)
    found = store.statistics()
    assert (found.evicted_small, found.evicted_main, found.evicted_room) == (0, 0, 0)
    assert found.evicted_expired > 500
    assert all(store.lookup(b"%d" % number) is not None for number in range(count) if live[number])
    assert all(store.lookup(b"new %d" % number) is not None for number in range(count // 2 - 200))
    assert store.check() == []
    store.close()


def test_what_may_still_be_served_stale_has_not_expired() -> None:
    store = Store.create(MIB)
    now = time.time_ns() // 1_000_000
    for number in range(500):
        put(store, b"%d" % number, b"x" * 1000, now - 1000, swr_s=3600)
    for number in range(2000):
        put(store, b"new %d" % number, b"x" * 1000)
    found = store.statistics()
    assert found.evictions > 0
    assert found.evicted_expired == 0
    store.close()


@pytest.mark.parametrize("expired", [True, False])
def test_what_has_expired_is_told_by_the_clock_that_the_store_was_given(expired: bool) -> None:
    clock = ManualClock(wall_ms=1_000)  # in 1970: by the machine's clock everything has expired
    store = Store.create(MIB, clock=clock)
    for number in range(430):
        put(store, b"%d" % number, os.urandom(2000), 61_000)
    clock.advance(61 if expired else 59)
    before = store.statistics()
    for number in range(200):
        put(store, b"new %d" % number, os.urandom(2000), FAR_MS)
    found = store.statistics()
    assert found.evictions > before.evictions
    assert (found.evicted_expired > 0) == expired
    assert store.expire(b"new 199")
    entry = store.lookup(b"new 199")
    assert entry is not None
    assert entry.fresh_ms == clock.wall_ms()
    store.close()


def test_a_clock_that_fails_makes_nothing_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ManualClock):
        def wall_ms(self) -> int:
            raise RuntimeError("no time")

    troubles: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: troubles.append(report.exc_value))
    store = Store.create(MIB, clock=Broken())
    for number in range(600):
        assert put(store, b"%d" % number, os.urandom(2000), 1)
    assert store.statistics().evictions > 0
    assert store.statistics().evicted_expired == 0
    assert troubles
    store.close()


def test_what_is_made_stale_by_a_purge_goes_first() -> None:
    store = Store.create(2 * MIB)
    noise = os.urandom(2000)
    for number in range(700):
        put(store, b"%d" % number, noise)
    for number in range(0, 700, 2):
        assert store.expire(b"%d" % number)
    before = store.statistics()
    for number in range(330):
        put(store, b"new %d" % number, noise)
    found = store.statistics()
    assert found.evictions - before.evictions == found.evicted_expired > 50
    assert all(store.lookup(b"%d" % number) is not None for number in range(1, 700, 2))
    store.close()


# ---- hit ratios ------------------------------------------------------------------------------------------------------


def zipf(alpha: float, objects: int, requests: int) -> list[int]:
    generator = random.Random(1)
    heights = list(itertools.accumulate(1 / (rank + 1) ** alpha for rank in range(objects)))
    return [bisect.bisect(heights, generator.random() * heights[-1]) for _ in range(requests)]


def with_scans(alpha: float, objects: int, requests: int) -> list[int]:
    """A fifth of the requests are for things that are asked for once."""
    return [1_000_000 + at if at % 5 == 0 else number for at, number in enumerate(zipf(alpha, objects, requests))]


def shifting(alpha: float, objects: int, requests: int) -> list[int]:
    """The popular ones change: a fiftieth of them at a time."""
    return [number + at // (requests // 50) * 40 for at, number in enumerate(zipf(alpha, objects, requests))]


WORKLOADS = {
    "zipf 0.7": zipf(0.7, 20_000, 100_000),
    "zipf 0.9": zipf(0.9, 20_000, 100_000),
    "zipf 1.1": zipf(1.1, 20_000, 100_000),
    "scans": with_scans(0.9, 20_000, 100_000),
    "shifting": shifting(0.9, 20_000, 100_000),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_hits_are_never_fewer_than_with_lru(name: str) -> None:
    store = Store.create(4 * MIB)
    body = os.urandom(1700)
    hits = 0
    for number in WORKLOADS[name]:
        if store.lookup(b"%d" % number) is not None:
            hits += 1
        else:
            put(store, b"%d" % number, body)
    room = store.statistics().objects
    order: OrderedDict[int, None] = OrderedDict()
    lru_hits = 0
    for number in WORKLOADS[name]:
        if number in order:
            lru_hits += 1
            order.move_to_end(number)
        else:
            order[number] = None
            if len(order) > room:
                order.popitem(last=False)
    assert hits > lru_hits
    assert name not in ("zipf 0.7", "zipf 0.9", "scans") or hits > lru_hits * 1.05
    assert store.check() == []
    store.close()


# ---- lz4 -------------------------------------------------------------------------------------------------------------

MODULES = ["argparse", "asyncio", "collections", "datetime", "email.message", "http.client", "json", "logging", "os"]
MODULES += ["pathlib", "random", "re", "socket", "sqlite3", "ssl", "subprocess", "threading", "typing", "unittest"]


@pytest.fixture(scope="module")
def texts() -> list[bytes]:
    """Pages of HTML as pydoc writes them, and JSON as an API's: a list of records."""
    pages = [pydoc.HTMLDoc().document(importlib.import_module(name)).encode() for name in MODULES]
    records = [
        {
            "id": number,
            "name": unicodedata.name(chr(number), ""),
            "category": unicodedata.category(chr(number)),
            "url": f"https://api.example.com/characters/{number}",
            "mirrored": bool(unicodedata.mirrored(chr(number))),
        }
        for number in range(32, 6000)
    ]
    lists = [json.dumps(records[start : start + 300]).encode() for start in range(0, len(records), 300)]
    return [page for pair in zip(pages, lists, strict=False) for page in pair]


def variants(texts: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """One text after the other, each with something of its own."""
    for number in itertools.count():
        yield b"%d" % number, b"<!-- %d -->" % number + texts[number % len(texts)]


@pytest.fixture(scope="module")
def prose() -> list[bytes]:
    """What Python says of itself, cut in pieces of 4 to 64 KiB; the longest hold half of the bytes."""
    whole = "\n\n".join(topics.values()).encode()
    pieces, at = [], 0
    for number in range(60):
        length = 4096 << number % 5
        pieces.append(whole[at : at + length])
        at = (at + length) % (len(whole) - 65_536)
    return pieces


@pytest.mark.parametrize(("kind", "compression"), [("texts", "fast"), ("texts", "high"), ("prose", "high")])
def test_text_takes_half_the_room_at_most(kind: str, compression: str, request: pytest.FixtureRequest) -> None:
    texts = request.getfixturevalue(kind)
    held = []
    for way in ("off", compression):
        store = Store.create(16 * MIB, max_object=2 * MIB, compression=way)  # type: ignore[arg-type]
        for key, body in itertools.islice(variants(texts), 4000):
            assert put(store, key, body, compress=True)
            pack(store, key)
        assert store.statistics().evictions > 50
        held.append(store.statistics().plain_bytes)
        store.close()
    assert held[1] >= 2 * held[0]


@pytest.mark.parametrize("length", [16_384, 65_536, 65_537, 300_000])
def test_the_high_way_takes_less_room(prose: list[bytes], length: int) -> None:
    """And both ways of storing, whole and as it arrives, come to the same in the end; `off` is off in both."""
    body = b"".join(prose)[:length]
    sizes = {}
    for way in ("off", "fast", "high"):
        store = Store.create(16 * MIB, compression=way)
        put(store, b"put", body, compress=True)
        pack(store, b"put")
        sizes[way] = store.statistics().stored_bytes
        fill = store.claim(b"fill")
        assert fill is not None
        assert fill.open(b"fill", b"", 200, 0, 1, FAR_MS, 0, 0)
        for start in range(0, length, 50_000):
            assert fill.write(body[start : start + 50_000])
        assert fill.commit()
        fill.release()
        assert store.statistics().stored_bytes == sizes[way] + length
        pack(store, b"fill")
        assert store.statistics().stored_bytes == 2 * sizes[way]
        for key in (b"put", b"fill"):
            entry = store.lookup(key)
            assert entry is not None
            assert whole(entry, 0, length) == body
            del entry
        store.close()
    assert sizes["off"] == length
    assert sizes["high"] < sizes["fast"] * 0.9


def test_an_unknown_compression_is_told() -> None:
    with pytest.raises(StoreError, match="'zstd': it is one of high, fast, off"):
        Store.create(MIB, compression="zstd")  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [1 << 18, (1 << 18) + 1, 1_000_000, 3 << 16, 5_000_000])
@pytest.mark.parametrize("known", [True, False], ids=["known length", "unknown length"])
def test_bodies_of_any_size_are_packed_and_read_in_parts(texts: list[bytes], length: int, known: bool) -> None:
    store = Store.create(64 * MIB)
    body = (b"".join(texts) * 3)[:length]
    fill = store.claim(b"key")
    assert fill is not None
    assert fill.open(b"key", b"", 200, 0, 1, FAR_MS, 0, 0, length if known else -1)
    for start in range(0, length, 60_000):
        assert fill.write(body[start : start + 60_000])
    assert fill.commit()
    fill.release()
    pack(store, b"key")
    found = store.statistics()
    assert found.stored_bytes * 2 < found.plain_bytes == length
    for first, last in ((0, 10), (length - 7, length), (65_530, 65_540), (131_000, 300_000), (100, 196_600)):
        entry = store.lookup(b"key")
        assert entry is not None
        assert bytes(entry.body(first, last - first)) == body[first:last]
        assert whole(entry, first, min(last, length)) == body[first:last]
    entry = store.lookup(b"key")
    assert entry is not None
    assert whole(entry, 0, length) == body
    if length > 1 << 18:
        with pytest.raises(StoreError, match="in pieces"):
            entry.body()
    del entry
    assert store.check() == []
    store.close()


def whole(entry: Entry, first: int, last: int) -> bytes:
    """A part of a body, read in steps of a size that meets no piece's end."""
    steps = []
    while first < last:
        view = entry.read(first, min(50_001, last - first))
        assert 0 < len(view) <= 50_001
        steps.append(bytes(view))
        first += len(view)
    return b"".join(steps)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "plain"])
def test_a_reader_of_a_large_body_holds_one_piece_of_it(texts: list[bytes], packed: bool) -> None:
    store = Store.create(64 * MIB)
    body = (b"".join(texts) * 9)[: 5 * MIB]
    assert put(store, b"key", body, compress=packed)
    pack(store, b"key")
    entry = store.lookup(b"key")
    assert entry is not None
    tracemalloc.start()
    read = 0
    while read < len(body):
        view = entry.read(read, len(body))
        assert view == body[read : read + len(view)]
        read += len(view)
        if packed:
            assert len(view) <= 64 * 1024
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (160 * 1024 if packed else 16 * 1024)
    assert bytes(entry.read(len(body), 9)) == bytes(entry.read(len(body) + 9, 9)) == bytes(entry.read(3, 0)) == b""
    for offset, most in ((-1, 1), (0, -1)):
        with pytest.raises(ValueError, match="forward"):
            entry.read(offset, most)
    store.close()


def test_a_reader_may_go_back(texts: list[bytes]) -> None:
    store = Store.create(64 * MIB)
    body = (b"".join(texts) * 9)[:MIB]
    assert put(store, b"key", body, compress=True)
    pack(store, b"key")
    entry = store.lookup(b"key")
    assert entry is not None
    for first in (900_000, 100, 65_535, 65_536, 0, 1_048_575):
        assert bytes(entry.read(first, 10)) == body[first : min(first + 10, -(-(first + 1) // 65_536) * 65_536)]
    store.close()


def test_a_large_body_of_noise_is_left_as_it_is() -> None:
    store = Store.create(32 * MIB)
    body = os.urandom(2 * MIB)
    assert put(store, b"put", body, compress=True)
    fill = store.claim(b"fill")
    assert fill is not None
    assert fill.open(b"fill", b"", 200, 0, 1, FAR_MS, 0, 0)
    assert fill.write(body)
    assert fill.commit()
    fill.release()
    pack(store, b"put", b"fill")
    assert store.statistics().compressed == 0
    pack(store, b"put", b"fill")
    for key in (b"put", b"fill"):
        entry = store.lookup(key)
        assert entry is not None
        assert bytes(entry.body()) == body
    store.close()


def test_what_was_hot_is_packed_again_when_it_cools(texts: list[bytes]) -> None:
    store = Store.create(4 * MIB)
    for number in range(5):
        put(store, b"hot %d" % number, texts[number][:30_000], compress=True)
        for _ in range(3):
            store.lookup(b"hot %d" % number)
    pack(store)
    assert store.statistics().promotions == 5
    number = 0
    while store.statistics().demotions < 5:
        number += 1
        put(store, b"%d" % number, os.urandom(10_000))
        for _ in range(2):  # so that they come to the main queue, and push the others through it
            store.lookup(b"%d" % number)
        pack(store)
        assert number < 5000
    for number in range(5):
        entry = store.lookup(b"hot %d" % number)
        if entry is not None:
            assert bytes(entry.body()) == texts[number][:30_000]
    assert store.statistics().compressed > 0
    assert store.check() == []
    store.close()
