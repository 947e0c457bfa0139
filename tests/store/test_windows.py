"""Fetches that outgrow the store: their readers, in one process and in several, go on in a window."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator

import pytest

from flyby.store import COMPLETE, FAILED, LOST, STREAMING, Fill, Store
from tests.store.processes import Worker, until

MIB = 1 << 20
HEAD = b"HTTP/1.1 200 OK\r\n"
RING = 256 * 1024


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store.create(8 * MIB, max_object=512 * 1024, workers=3)
    yield made
    assert made.check() == []
    assert made.statistics().fills_open == 0
    made.clear()
    assert made.statistics().used == 0
    made.close()


def noise(length: int) -> bytes:
    return random.Random(length).randbytes(length)


BODY = noise(3 * MIB)


def claim(store: Store, key: bytes = b"key") -> Fill:
    fill = store.claim(key)
    assert fill is not None
    return fill


def begin(fill: Fill, length: int = -1) -> bool:
    return fill.open(b"key", HEAD, 200, 0, 1, 2, 3, 4, length)


def overflow(fill: Fill, piece: int = 50_000) -> int:
    """Write until no more is taken, and make it a window; how much was taken."""
    begin(fill)
    taken = 0
    while fill.write(BODY[taken : taken + piece]):
        taken += piece
    assert fill.outgrow()
    assert fill.window
    return taken


class Reader:
    """One that reads a Fill to its end, step by step."""

    def __init__(self, fill: Fill) -> None:
        self.fill = fill
        self.offset = 0

    def step(self, most: int = 60_000) -> int:
        view = self.fill.read(self.offset, most)
        assert bytes(view) == BODY[self.offset : self.offset + len(view)]
        self.offset += len(view)
        return len(view)

    def exhaust(self) -> None:
        while self.step():
            pass


def pour(owner: Fill, offset: int, most: int = MIB) -> int:
    """Write from `offset` of the body on; where that has come to."""
    return offset + owner.write_some(BODY[offset : offset + most])


@pytest.mark.parametrize("piece", [1_000, 50_000, 300_000])
def test_every_reader_gets_every_byte(store: Store, piece: int) -> None:
    owner, quick, slow = claim(store), Reader(claim(store)), Reader(claim(store))
    offset = overflow(owner, piece)
    quick.exhaust()
    while offset < len(BODY):
        before = offset
        offset = pour(owner, offset, piece)
        assert offset > before
        quick.exhaust()
        while owner.available - slow.offset > RING // 2:
            slow.step()
    assert owner.finish()
    assert (owner.state, quick.fill.state, quick.fill.length) == (COMPLETE, COMPLETE, len(BODY))
    owner.release()
    for reader in (quick, slow):
        reader.exhaust()
        assert reader.offset == len(BODY)
        reader.fill.release()
    assert store.lookup(b"key") is None


def test_a_window_holds_what_the_slowest_has_not_read_and_no_more(store: Store) -> None:
    owner, quick, slow = claim(store), Reader(claim(store)), Reader(claim(store))
    base = overflow(owner)
    quick.exhaust()
    assert owner.write_some(BODY[base:]) == RING
    assert owner.write_some(BODY[base + RING :]) == 0
    quick.exhaust()
    assert quick.offset == owner.available == base + RING
    assert owner.write_some(BODY[base + RING :]) == 0
    slow.step(100_000)
    slow.fill.passed(slow.offset)
    assert owner.write_some(BODY[base + RING :]) == 0  # it is still in what came before the window
    while slow.offset < base:
        slow.step()
    slow.step(10_000)
    slow.fill.passed(slow.offset)
    assert owner.write_some(BODY[base + RING :]) == slow.offset - base
    assert store.check() == []  # which frees what is of no use
    assert store.statistics().used < RING + 10_000  # the block that was filled first went with its last reader
    owner.abort(9)
    assert (quick.fill.state, quick.fill.reason) == (FAILED, 9)
    for fill in (owner, quick.fill, slow.fill):
        fill.release()


def test_views_of_what_came_before_the_window_keep_their_bytes(store: Store) -> None:
    owner, reader = claim(store), Reader(claim(store))
    base = overflow(owner)
    view = reader.fill.read(0, base)
    assert len(view) == base
    reader.offset = base
    offset = base
    while offset < len(BODY):
        offset = pour(owner, offset)
        reader.exhaust()
    assert view == BODY[:base]
    for fill in (owner, reader.fill):
        fill.release()
    assert view == BODY[:base]


def test_nobody_joins_a_window_and_its_key_is_free(store: Store) -> None:
    owner, reader = claim(store), claim(store)
    overflow(owner)
    other = claim(store)
    assert other.owner
    assert claim(store).owner is False
    assert not owner.write(b"more")
    assert not owner.commit()
    assert owner.state == STREAMING
    later = owner.follow()
    assert not later.lost(0)
    for fill in (other, owner, later, reader):
        fill.release()


def test_no_window_where_none_is_wanted(store: Store) -> None:
    early, known = claim(store, b"early"), claim(store, b"known")
    assert not early.outgrow()
    begin(known, 10)
    assert not known.write(BODY[:11])
    assert not known.outgrow()
    for fill in (early, known):
        assert not fill.finish()
        assert fill.write_some(b"x") == 0
        fill.cut_off()
        fill.release()
    owner, reader = claim(store), claim(store)
    overflow(owner)
    assert not owner.outgrow()
    for act in (reader.outgrow, reader.cut_off, reader.finish, lambda: reader.write_some(b"x")):
        with pytest.raises(ValueError, match="only the owner"):
            act()
    owner.release()
    assert (reader.state, reader.reason) == (FAILED, LOST)
    assert owner.write_some(b"x") == 0
    reader.release()


def test_where_there_is_no_room_there_is_no_window() -> None:
    store = Store.create(MIB)
    owner = claim(store)
    begin(owner)
    held: list[object] = []
    for number in range(200):  # in every shard more than it has room for
        store.put(b"%d" % number, b"", BODY[:14_000], 200, 0, 1, 1 << 45, 0, 0)
        held.append(store.lookup(b"%d" % number))
    taken = 0
    while owner.write(BODY[taken : taken + 5_000]):
        taken += 5_000
    assert not owner.outgrow()
    assert not owner.window
    owner.abort()
    owner.release()
    held.clear()
    assert store.check() == []
    store.close()


def test_readers_that_hold_a_window_back_can_be_cut_off(store: Store) -> None:
    owner, quick, slow = claim(store), Reader(claim(store)), Reader(claim(store))
    called: list[bool] = []
    slow.fill.subscribe(lambda: called.append(slow.fill.lost(slow.offset)))
    offset = pour(owner, overflow(owner))
    quick.exhaust()
    slow.step()
    owner.cut_off()
    assert called[-1]
    assert not quick.fill.lost(quick.offset)
    assert bytes(slow.fill.read(slow.offset, 100)) == b""
    slow.fill.release()
    while offset < len(BODY):
        offset = pour(owner, offset)
        quick.exhaust()
    owner.finish()
    assert quick.offset == len(BODY)
    for fill in (owner, quick.fill):
        fill.release()


def test_a_reader_that_makes_room_rings_the_owner(store: Store) -> None:
    owner, reader = claim(store), Reader(claim(store))
    called: list[int] = []
    offset = overflow(owner)
    owner.subscribe(lambda: called.append(owner.available))
    offset = pour(owner, offset)
    called.clear()
    while reader.offset <= owner.available - RING:
        reader.step()
    assert called == []
    reader.fill.passed(reader.offset)
    assert until(store, lambda: bool(called))
    assert pour(owner, offset) > offset
    for fill in (owner, reader.fill):
        fill.release()


def test_readers_are_counted_and_the_owner_hears_that_none_is_left(store: Store) -> None:
    owner = claim(store)
    assert owner.readers == 0
    followers = [claim(store), claim(store), owner.follow()]
    assert owner.readers == followers[0].readers == 3
    called: list[int] = []
    owner.subscribe(lambda: called.append(owner.readers))
    begin(owner)
    called.clear()
    for fill in followers:
        fill.release()
    assert until(store, lambda: bool(called))
    assert called == [0]
    owner.release()
    assert owner.readers == 0


# ---- between processes -----------------------------------------------------------------------------------------------


def follow(store: Store, me: Worker) -> None:
    """Read all of it, and say how it ended."""
    reader = Reader(claim(store))
    assert not reader.fill.owner
    reader.fill.subscribe(lambda: None)
    me.say()
    while reader.fill.state < COMPLETE or reader.offset < reader.fill.available:
        if not reader.step():
            assert until(store, lambda: reader.fill.available > reader.offset or reader.fill.state >= COMPLETE)
            if reader.fill.state == FAILED:
                break
    me.say(b"c" if reader.fill.state == COMPLETE and reader.offset == len(BODY) else b"f")
    reader.fill.release()


def give(store: Store, owner: Fill, offset: int, end: int) -> int:
    """Write up to `end`, at the pace of the slowest reader."""
    owner.subscribe(lambda: None)
    while offset < end:
        taken = owner.write_some(BODY[offset : min(end, offset + 70_000)])
        offset += taken
        if not taken:
            assert until(store, lambda: owner.write_some(BODY[owner.available : owner.available + 1]) > 0)
            offset += 1
    return offset


def test_readers_in_other_processes_go_on(store: Store) -> None:
    owner = claim(store)
    workers = [Worker(store, number, follow) for number in range(3)]
    assert all(worker.heard() for worker in workers)
    assert owner.readers == 3
    offset = overflow(owner)
    give(store, owner, offset, len(BODY))
    assert owner.finish()
    owner.release()
    assert [worker.heard() for worker in workers] == [b"c"] * 3
    assert [worker.join() for worker in workers] == [0] * 3


def test_a_reader_that_dies_holds_nobody_back(store: Store) -> None:
    owner = claim(store)

    def hold(store: Store, me: Worker) -> None:
        reader = Reader(claim(store))
        reader.step()
        me.say()
        signal.pause()

    quick, dead = Worker(store, 0, follow), Worker(store, 1, hold)
    assert quick.heard()
    assert dead.heard()
    offset = overflow(owner)
    offset = pour(owner, offset)
    called: list[int] = []
    owner.subscribe(lambda: called.append(owner.readers))
    assert owner.write_some(BODY[offset : offset + 1]) == 0
    called.clear()
    dead.kill()
    assert until(store, lambda: 1 in called)
    give(store, owner, offset, len(BODY))
    owner.finish()
    owner.release()
    assert quick.heard() == b"c"
    assert quick.join() == 0


def test_the_last_reader_s_death_is_told(store: Store) -> None:
    owner = claim(store)
    called: list[int] = []
    owner.subscribe(lambda: called.append(owner.readers))
    worker = Worker(store, 0, follow)
    assert worker.heard()
    begin(owner)
    called.clear()
    worker.kill()
    assert until(store, lambda: bool(called))
    assert called[-1] == 0
    owner.release()


def test_an_owner_that_dies_frees_the_readers_of_its_window(store: Store) -> None:
    def own(store: Store, me: Worker) -> None:
        owner = claim(store)
        me.say()
        me.wait()
        offset = overflow(owner)
        give(store, owner, offset, 2 * MIB)
        me.say()
        signal.pause()

    worker = Worker(store, 0, own)
    assert worker.heard()
    reader, other = Reader(claim(store)), Worker(store, 1, follow)
    assert other.heard()
    reader.fill.subscribe(lambda: None)
    worker.tell()
    while reader.offset < 2 * MIB:
        if not reader.step():
            assert until(store, lambda: reader.fill.available > reader.offset)
    assert worker.heard()
    worker.kill()
    assert (reader.fill.state, reader.fill.reason) == (FAILED, LOST)
    assert other.heard() == b"f"
    assert other.join() == 0
    reader.fill.release()


def test_a_reader_that_was_stopped_is_lost_when_it_is_cut_off(store: Store) -> None:
    def stand(store: Store, me: Worker) -> None:
        reader = Reader(claim(store))
        reader.fill.subscribe(lambda: None)
        me.say()
        me.wait()
        store.dispatch()
        me.say(b"l" if reader.fill.lost(0) and not reader.step() else b"r")
        reader.fill.release()

    owner = claim(store)
    worker = Worker(store, 0, stand)
    assert worker.heard()
    offset = pour(owner, overflow(owner))
    assert pour(owner, offset) == offset
    owner.cut_off()
    offset = pour(owner, offset)
    assert pour(owner, offset) == offset  # the window is full again: the lost reader has not left
    worker.tell()
    assert worker.heard() == b"l"
    assert worker.join() == 0
    give(store, owner, offset, len(BODY))
    owner.release()
