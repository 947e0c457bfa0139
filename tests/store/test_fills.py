"""Fetches under way, in one process: claimed, opened, written, followed, ended."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator

import pytest

from flyby.store import COMPLETE, EMPTY, FAILED, HEAD, LOST, STREAMING, UNSTORABLE, Fill, Store
from tests.store.processes import pack

MIB = 1 << 20
BLOB = b"HTTP/1.1 200 OK\r\nETag: x\r\n"


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store.create(4 * MIB)
    yield made
    gc.collect()
    assert made.check() == []
    assert made.statistics().fills_open == 0
    made.clear()
    assert made.check() == []
    assert made.statistics().used == 0
    made.close()


def claim(store: Store, key: bytes = b"key") -> Fill:
    fill = store.claim(key)
    assert fill is not None
    return fill


def begin(fill: Fill, length: int = -1, key: bytes = b"key") -> bool:
    return fill.open(key, BLOB, 200, 3, 1_000, 61_000, 5, 7, length)


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


def test_one_owns_and_the_others_follow(store: Store) -> None:
    owner, follower, other = claim(store), claim(store), claim(store, b"other")
    assert (owner.owner, follower.owner, other.owner) == (True, False, True)
    assert owner.state == follower.state == EMPTY
    for fill in (owner, follower, other):
        fill.release()


@pytest.mark.parametrize("length", [9, -1])
def test_followers_see_each_step(store: Store, length: int) -> None:
    owner, follower = claim(store), claim(store)
    steps: list[tuple[int, int]] = []
    follower.subscribe(lambda: steps.append((follower.state, follower.available)))
    assert begin(owner, length)
    assert (follower.key, follower.head, follower.status, follower.flags) == (b"key", BLOB, 200, 3)
    assert (follower.born_ms, follower.fresh_ms, follower.swr_s, follower.sie_s) == (1_000, 61_000, 5, 7)
    assert follower.length == length
    assert store.lookup(b"key") is None
    assert owner.write(b"some")
    assert owner.write(memoryview(b" body"))
    assert store.lookup(b"key") is None
    assert bytes(follower.read(0, 100)) == b"some body"
    assert bytes(follower.read(2, 3)) == b"me "
    assert bytes(follower.read(9, 3)) == b""
    assert owner.commit()
    assert steps == [(HEAD, 0), (STREAMING, 4), (STREAMING, 9), (COMPLETE, 9)]
    assert follower.length == 9
    entry = store.lookup(b"key")
    assert entry is not None
    assert (bytes(entry.body()), entry.head, entry.fresh_ms) == (b"some body", BLOB, 61_000)
    owner.release()
    assert bytes(follower.read(0, 100)) == b"some body"
    follower.release()
    assert follower.state == FAILED


def test_the_next_claim_after_the_end_begins_anew(store: Store) -> None:
    owner, follower = claim(store), claim(store)
    begin(owner, 0)
    owner.commit()
    again = claim(store)
    assert again.owner
    assert follower.state == COMPLETE
    for fill in (owner, follower, again):
        fill.release()


@pytest.mark.parametrize("stage", ["claimed", "opened", "written"])
@pytest.mark.parametrize("reason", [0, 1, 2, 77])
def test_an_abort_frees_the_followers(store: Store, stage: str, reason: int) -> None:
    owner, follower = claim(store), claim(store)
    called: list[int] = []
    follower.subscribe(lambda: called.append(follower.state))
    if stage != "claimed":
        begin(owner)
    if stage == "written":
        owner.write(b"half")
    owner.abort(reason)
    owner.abort(reason + 1)
    assert called[-1] == follower.state == FAILED
    assert follower.reason == reason
    assert bytes(follower.read(0, 9)) == (b"half" if stage == "written" else b"")
    assert not owner.write(b"more")
    assert not owner.commit()
    assert store.lookup(b"key") is None
    owner.release()
    follower.release()


@pytest.mark.parametrize("how", [lambda fill: fill.release(), lambda fill: None], ids=["released", "forgotten"])
def test_an_owner_that_leaves_without_commit_is_lost(store: Store, how: Callable[[Fill], object]) -> None:
    owner, follower = claim(store), claim(store)
    begin(owner, 4)
    owner.write(b"half")
    how(owner)
    del owner
    gc.collect()
    assert (follower.state, follower.reason) == (FAILED, LOST)
    follower.release()


def test_a_body_must_have_the_length_that_was_told(store: Store) -> None:
    for written, reason in ((b"12", LOST), (b"1234", UNSTORABLE)):
        owner = claim(store)
        begin(owner, 3)
        assert owner.write(written) is (len(written) < 3)
        assert not owner.commit()
        assert (owner.state, owner.reason) == (FAILED, reason)
        owner.release()
        assert store.lookup(b"key") is None


def test_what_is_too_large_fails_at_once_or_when_it_shows(store: Store) -> None:
    owner, follower = claim(store), claim(store)
    assert not begin(owner, store.max_object + 1)
    assert (follower.state, follower.reason) == (FAILED, UNSTORABLE)
    owner.release()
    follower.release()
    owner = claim(store)
    assert begin(owner, -1)
    taken = 0
    while owner.write(noise(50_000)):
        taken += 50_000
    assert store.max_object - 50_000 < taken <= store.max_object
    assert (owner.state, owner.available) == (STREAMING, taken)
    assert not owner.write(b"x")  # though it would fit: the body has a hole now
    owner.abort(UNSTORABLE)
    assert len(owner.read(0, taken)) == taken
    owner.release()


@pytest.mark.parametrize("piece", [1, 700, 16_384, 30_000, 262_144])
def test_a_body_of_unknown_length_grows_and_moves(store: Store, piece: int) -> None:
    body = noise(min(400_000, piece * 900))
    owner, follower = claim(store), claim(store)
    begin(owner)
    views = []
    for start in range(0, len(body), piece):
        assert owner.write(body[start : start + piece])
        views.append((start, follower.read(start, piece)))
        # Something in the way, so that not every growth finds its neighbour free.
        store.put(b"beside %d" % start, b"", noise(600), 200, 0, 0, 0, 0, 0)
    assert owner.commit()
    assert all(bytes(view) == body[start : start + piece] for start, view in views)
    entry = store.lookup(b"key")
    assert entry is not None
    assert bytes(entry.body()) == body
    owner.release()
    assert bytes(follower.read(0, len(body))) == body
    follower.release()


def test_text_is_packed_at_its_first_hit_and_readers_do_not_notice(store: Store) -> None:
    text = b"again and again " * 5000
    owner, follower = claim(store), claim(store)
    begin(owner)
    for start in range(0, len(text), 9999):
        owner.write(text[start : start + 9999])
    view = follower.read(100, 50)
    assert owner.commit()
    pack(store)
    assert store.statistics().compressed == 0
    pack(store, b"key")
    entry = store.lookup(b"key")
    assert entry is not None
    assert entry.compressed
    assert bytes(entry.body()) == bytes(follower.read(0, len(text))) == text
    owner.release()
    follower.release()
    assert bytes(view) == text[100:150]


def test_a_slow_reader_comes_to_the_end_of_an_object_that_is_gone(store: Store) -> None:
    body = noise(100_000)
    owner, follower = claim(store), claim(store)
    begin(owner, len(body))
    owner.write(body)
    owner.commit()
    owner.release()
    assert store.delete(b"key")
    for number in range(300):
        store.put(b"%d" % number, b"", noise(50_000, number), 200, 0, 0, 0, 0, 0)
    assert bytes(follower.read(0, len(body))) == body
    follower.release()


@pytest.mark.parametrize("purge", [lambda s: s.delete(b"key"), lambda s: s.expire(b"key"), lambda s: s.clear()])
@pytest.mark.parametrize("name", [b"key", b"name"])
def test_what_was_asked_for_before_a_purge_is_not_stored(
    store: Store, purge: Callable[[Store], object], name: bytes
) -> None:
    owner, follower = claim(store, name), claim(store, name)
    begin(owner, 4)
    owner.write(b"old!")
    purge(store)
    later = claim(store, name)
    assert later.owner
    assert not owner.commit()
    assert follower.state == COMPLETE
    assert bytes(follower.read(0, 4)) == b"old!"
    assert store.lookup(b"key") is None
    assert begin(later, 3)
    later.write(b"new")
    assert later.commit()
    assert store.lookup(b"key") is not None
    for fill in (owner, follower, later):
        fill.release()


def test_the_table_is_finite(store: Store) -> None:
    fills: list[Fill] = []
    while (fill := store.claim(b"%d" % len(fills))) is not None:
        fills.append(fill)
    assert len(fills) == 256
    last = fills.pop()
    last.release()
    claim(store, b"one more").release()
    for fill in fills:
        fill.release()


def test_long_names_are_told_apart(store: Store) -> None:
    stem = b"n" * 5000
    first, second, third = claim(store, stem + b"1"), claim(store, stem + b"2"), claim(store, stem + b"1")
    assert (first.owner, second.owner, third.owner) == (True, True, False)
    for fill in (first, second, third):
        fill.release()


def test_a_callback_may_leave_and_another_s_trouble_is_its_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, first, second = claim(store), claim(store), claim(store)
    troubles: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: troubles.append(report.exc_value))
    called: list[str] = []

    def leave() -> None:
        called.append("first")
        first.release()
        raise RuntimeError("trouble")

    first.subscribe(leave)
    second.subscribe(lambda: called.append("second"))
    begin(owner, 0)
    owner.commit()
    assert called == ["first", "second", "second"]
    assert [str(trouble) for trouble in troubles] == ["trouble"]
    owner.release()
    second.release()


def test_unsubscribed_means_silence(store: Store) -> None:
    owner, follower = claim(store), claim(store)
    called: list[int] = []
    callback = called.append

    def step() -> None:
        callback(1)

    follower.subscribe(step)
    follower.unsubscribe(step)
    follower.unsubscribe(step)
    begin(owner, 0)
    assert called == []
    owner.release()
    follower.release()


def test_follow_is_one_more_reader(store: Store) -> None:
    owner = claim(store)
    reader = owner.follow()
    assert not reader.owner
    begin(owner, 2)
    owner.write(b"ok")
    owner.commit()
    owner.release()
    assert bytes(reader.read(0, 2)) == b"ok"
    with pytest.raises(ValueError, match="only the owner"):
        reader.commit()
    reader.release()
    with pytest.raises(ValueError, match="released"):
        reader.follow()


def test_a_head_is_asked_for_too_early(store: Store) -> None:
    owner = claim(store)
    with pytest.raises(ValueError, match="no head yet"):
        _ = owner.head
    assert repr(owner) == "<Fill EMPTY owner, 0 of -1 bytes>"
    owner.release()
