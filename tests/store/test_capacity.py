"""What an object costs beside its own bytes, and that the index keeps its share and finds everything as it grows."""

from __future__ import annotations

import os

import pytest

from flyby.store import Store

MIB = 1 << 20
FAR_MS = 1 << 50
HEAD = b"HTTP/1.1 200 OK\r\nETag: x\r\n\r\n"
MOST = 96  # bytes beside key, head and body


def put(store: Store, number: int, body: bytes) -> bool:
    return store.put(b"%020d" % number, HEAD, body, 200, 0, 1, FAR_MS, 0, 0, compress=False)


@pytest.mark.parametrize("length", [0, 1, 36, 37, 100, 500, 3000, 20_000])
def test_what_a_full_store_spends_on_each_object(length: int) -> None:
    """36 bytes of body fill their block to the last byte, 37 leave fifteen of them over."""
    store = Store.create(24 * MIB, max_object=8 * MIB)
    body = os.urandom(length)
    number = 0
    while store.statistics().evictions < 100:
        for _ in range(64):
            put(store, number, body)
            number += 1
    found = store.statistics()
    spent = (found.capacity - found.free) / found.objects - (20 + len(HEAD) + length)
    assert spent <= MOST
    assert store.check() == []
    store.close()


def test_a_million_small_objects_fit_in_what_they_need() -> None:
    count, length = 1_000_000, 100
    need = count * (20 + len(HEAD) + length + MOST)
    store = Store.create(need + 4 * MIB + 65_536)  # the fill table, pins, reads and counts: the same for ten million
    body = b"x" * length
    assert all(put(store, number, body) for number in range(count))
    found = store.statistics()
    assert (found.objects, found.evictions) == (count, 0)
    for number in range(0, count, 977):
        assert store.lookup(b"%020d" % number) is not None
    store.close()


def test_the_index_finds_everything_while_it_grows() -> None:
    store = Store.create(8 * MIB, max_object=MIB)
    for number in range(20_000):
        put(store, number, b"")
        if number % 997 == 0:
            assert all(store.lookup(b"%020d" % each) is not None for each in range(0, number, 7))
    assert store.statistics().objects == 20_000
    assert store.check() == []
    store.close()


def test_the_index_grows_in_a_full_store_at_its_objects_cost() -> None:
    """A store full of large objects, then of small ones: the index needs room that objects have."""
    store = Store.create(4 * MIB, max_object=512 * 1024)
    for number in range(100):
        put(store, number, os.urandom(60_000))
    before = store.statistics()
    for number in range(30_000):
        assert put(store, number, b"small")
        assert store.lookup(b"%020d" % number) is not None
    found = store.statistics()
    assert found.index_bytes > 4 * before.index_bytes
    assert found.objects > 20_000
    assert store.check() == []
    store.clear()
    assert store.statistics().used == 0
    store.close()
