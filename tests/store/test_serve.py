"""The store's C face tells the same as Store, Entry and Fill."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from flyby.store import EMPTY, FAILED, STREAMING, Store
from flyby.store._serve import followed_by, found_by
from tests.store.processes import pack

MIB = 1 << 20
FAR_MS = 1 << 45
HEAD = b"HTTP/1.1 200 OK\r\n"
TEXT = b"".join(b"<li>%d of many</li>\n" % number for number in range(20_000))


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store.create(8 * MIB)
    yield made
    assert made.check() == []
    assert made.statistics().fills_open == 0
    made.clear()
    assert made.check() == []
    assert made.statistics().used == 0  # nothing is pinned
    made.close()


@pytest.mark.parametrize(
    "body", [b"", b"short", random.Random(1).randbytes(100_000), TEXT[:9_000], TEXT[:131_072], TEXT], ids=len
)
def test_what_is_found(store: Store, body: bytes) -> None:
    store.put(b"key", HEAD, body, 203, 9, 1_000, FAR_MS, 5, 7)
    pack(store, b"key")
    entry = store.lookup(b"key", counted=False)
    assert entry is not None
    found = found_by(store, b"key")
    assert found is not None
    about, held = found
    assert about == (HEAD, 203, 9, 1_000, FAR_MS, 5, 7, entry.generation)
    assert held is not None
    assert bytes(held) == body


def test_hits_and_misses_count(store: Store) -> None:
    store.put(b"key", HEAD, TEXT[:70_000], 200, 0, 1, FAR_MS, 0, 0)
    assert found_by(store, b"none") is None
    found_by(store, b"key", False)
    assert store.has_work
    found_by(store, b"key")
    told = store.statistics()
    assert (told.hits, told.misses, told.hit_bytes) == (1, 1, 70_000)
    pack(store)


def test_a_purge_of_everything_for_softness_shows(store: Store) -> None:
    store.put(b"key", HEAD, b"", 200, 0, 1, FAR_MS, 0, 0)
    store.clear(True, 5)
    found = found_by(store, b"key")
    assert found is not None
    assert found[0][4] == 5


def test_fetches_under_way(store: Store) -> None:
    assert followed_by(store, b"key") is None
    begun = followed_by(store, b"key", own=True)
    assert begun is not None
    owner, about, older = begun
    assert owner.owner
    assert (about, older) == ((True, EMPTY, 0, -1, False), False)
    owner.open(b"key", HEAD, 200, 0, 1, FAR_MS, 0, 0, 9)
    owner.write(b"half")
    joined = followed_by(store, b"key")
    assert joined is not None
    follower, about, older = joined
    assert (follower.owner, about, older) == (False, (True, STREAMING, 4, 9, False), False)
    assert owner.readers == 1
    store.delete(b"key")
    assert followed_by(store, b"key") is None
    owner.abort()
    assert follower.state == FAILED
    for fill in (owner, follower):
        fill.release()
    told = store.statistics()
    assert (told.fills, told.collapsed) == (1, 0)
