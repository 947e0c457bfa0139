"""Partials: bytes of a program's own in the store, apart from the responses and from other namespaces."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from flyby.clock import ManualClock
from flyby.store import Store
from flyby.store.partials import Partials
from tests.store.processes import Worker

MIB = 1 << 20


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store.create(8 * MIB, workers=4)
    yield made
    assert made.check() == []
    made.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def menus(store: Store, clock: ManualClock) -> Partials:
    return Partials(store, "menus", clock=clock)


def test_what_is_set_is_got(menus: Partials) -> None:
    assert menus.get("a") is None
    assert menus.set("a", b"one")
    assert menus.get("a") == b"one"
    assert menus.set(b"a", bytearray(b"two"))
    assert menus.get(b"a") == b"two"
    assert menus.set("ü", memoryview(b"three"), ttl_s=1)
    assert menus.get("ü".encode()) == b"three"
    assert menus.set(b"", b"")
    assert menus.get(b"") == b""


@pytest.mark.parametrize("length", [0, 1, 1023, 1024, 60_000, 900_000])
@pytest.mark.parametrize("noise", [True, False])
def test_any_size_up_to_the_largest_object(menus: Partials, length: int, noise: bool) -> None:
    value = random.Random(length).randbytes(length) if noise else b"x" * length
    assert menus.set("a", value)
    assert menus.get("a") == value
    view = menus.view("a")
    assert view is not None
    assert view.readonly
    assert view == value
    assert not menus.set("b", bytes(1 + MIB))


def test_a_value_lives_as_long_as_it_was_told(menus: Partials, clock: ManualClock) -> None:
    menus.set("a", b"1", ttl_s=10)
    menus.set("b", b"2")
    clock.advance(9.9)
    assert menus.get_many(["a", b"b", "c"]) == {b"a": b"1", b"b": b"2"}
    assert menus.expire("a", 5)
    clock.advance(4.9)
    assert menus.get("a") == b"1"
    clock.advance(0.1)
    assert menus.get("a") is None
    assert menus.view("a") is None
    assert not menus.expire("a", 5)
    assert not menus.delete("a")
    assert not menus.expire("c", 5)
    clock.advance(1e9)
    assert menus.get("b") == b"2"
    assert menus.expire("b", 0)
    assert menus.get("b") is None


def test_delete(menus: Partials) -> None:
    menus.set("a", b"1")
    assert menus.delete("a")
    assert not menus.delete("a")
    assert menus.get("a") is None


def test_only_if_empty(menus: Partials, clock: ManualClock) -> None:
    assert menus.set("a", b"1", ttl_s=10, only_if_empty=True)
    assert not menus.set("a", b"2", only_if_empty=True)
    assert menus.get("a") == b"1"
    clock.advance(10)
    assert menus.set("a", b"3", only_if_empty=True)
    assert menus.get("a") == b"3"


def test_a_view_outlasts_the_value(store: Store, menus: Partials) -> None:
    value = random.Random(1).randbytes(5000)
    menus.set("a", value)
    view = menus.view("a")
    menus.set("a", b"other")
    menus.clear()
    for number in range(3000):
        menus.set(f"fill {number}", bytes(5000))
    assert view == value
    store.clear()
    assert view == value


def test_namespaces_and_responses_are_apart(store: Store, menus: Partials, clock: ManualClock) -> None:
    other, longer = Partials(store, "menu", clock=clock), Partials(store, b"menuss", clock=clock)
    key = b"http shop.test /news\0app"
    store.put(key, b"", b"page", 200, 0, 1, 2, 3, 4, tags=(b"t",), place=(15, 20))
    for space, key_ in ((menus, "k"), (other, "sk"), (longer, "k")):
        assert space.set(key_, space.namespace, tags=["t"])
    assert (menus.get("k"), other.get("sk"), longer.get("k")) == (b"menus", b"menu", b"menuss")
    assert (menus.get("sk"), other.get("k"), menus.get(key)) == (None, None, None)
    assert menus.purge_tag("t") == 1
    assert (menus.get("k"), other.get("sk"), longer.get("k")) == (None, b"menu", b"menuss")
    assert store.lookup(key) is not None
    assert store.purge_tag(b"t") == 1
    assert other.get("sk") == b"menu"
    assert other.clear() == 1
    assert longer.get("k") == b"menuss"
    store.clear()
    assert longer.get("k") is None


def test_clear_counts_its_own(menus: Partials) -> None:
    for number in range(500):
        menus.set(str(number), b"x")
    assert menus.clear() == 500
    assert menus.clear() == 0


@pytest.mark.parametrize("namespace", ["", "x" * 256])
def test_what_is_no_namespace(store: Store, namespace: str) -> None:
    with pytest.raises(ValueError, match="1 to 255 bytes"):
        Partials(store, namespace)


def test_what_is_too_much(menus: Partials) -> None:
    with pytest.raises(ValueError, match="32768 bytes, not 32769"):
        menus.set(b"k" * 32_769, b"")
    with pytest.raises(ValueError, match="32768 bytes, not 32769"):
        menus.get(b"k" * 32_769)
    with pytest.raises(ValueError, match="128 tags, not 129"):
        menus.set("k", b"", tags=[str(number) for number in range(129)])
    assert menus.set(b"k" * 32_768, b"v", tags=[str(number) for number in range(128)])
    assert menus.get(b"k" * 32_768) == b"v"


def test_of_many_processes_that_set_if_empty_one_wins_each_key(store: Store) -> None:
    rounds = 300

    def story(store: Store, me: Worker) -> None:
        menus = Partials(store, "menus")
        me.say()
        me.wait()
        won = [n for n in range(rounds) if menus.set(str(n), b"%d" % me.number, ttl_s=60, only_if_empty=True)]
        menus.set(f"won {me.number}", b",".join(b"%d" % n for n in won))

    workers = [Worker(store, number, story) for number in range(4)]
    for worker in workers:
        assert worker.heard()
    for worker in workers:
        worker.tell()
    for worker in workers:
        assert worker.join() == 0
    menus = Partials(store, "menus")
    seen: list[int] = []
    for number in range(4):
        won = menus.get(f"won {number}")
        assert won is not None
        for each in filter(None, won.split(b",")):
            assert menus.get(each) == b"%d" % number
            seen.append(int(each))
    assert sorted(seen) == list(range(rounds))
