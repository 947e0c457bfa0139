"""The store against a dict: whatever is done to it, what it finds is what was stored last, or nothing.

A cache may forget, so the model says what may be found, not what must be; a key that was deleted must not be found, and
what is held must stay as it was. The audit runs after every step.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flyby.store import COMPLETE, FAILED, Entry, Fill, Store

KEYS = st.sampled_from([b"key %d" % number for number in range(12)])
LENGTHS = st.sampled_from([0, 1, 100, 1023, 1024, 5_000, 40_000, 130_000])
HEADS = st.binary(max_size=200)
TAGS = st.lists(st.sampled_from([b"red", b"blue", b"round"]), max_size=3).map(tuple)
PLACE = (4, 5)  # of `key 12`: the group is `key `, the branch `key 1`
FLAGS = st.integers(0, 2**32 - 1)


class Object(NamedTuple):
    head: bytes
    body: bytes
    flags: int
    tags: tuple[bytes, ...] = ()


def content(seed: int, length: int) -> bytes:
    """Noise for odd seeds, what compresses for even ones."""
    return random.Random(seed).randbytes(length) if seed % 2 else (b"%d, " % seed * length)[:length]


def seen(entry: Entry) -> Object:
    return Object(entry.head, bytes(entry.body()), entry.flags)


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = Store.create(1 << 20)
        self.stored: dict[bytes, Object] = {}
        self.held: list[tuple[memoryview, bytes]] = []
        self.fills: dict[bytes, tuple[Fill, Fill, Object, bool]] = {}  # owner, follower, what it will be, may be stored

    def teardown(self) -> None:
        self.held.clear()
        for owner, follower, _, _ in self.fills.values():
            owner.release()
            follower.release()
        self.store.clear()
        assert self.store.check() == []
        found = self.store.statistics()
        assert (found.objects, found.loose, found.fills_open, found.used) == (0, 0, 0, 0)
        self.store.close()

    @rule(key=KEYS, head=HEADS, length=LENGTHS, seed=st.integers(0, 99), tags=TAGS, compress=st.booleans())
    def put(self, key: bytes, head: bytes, length: int, seed: int, tags: tuple[bytes, ...], compress: bool) -> None:
        new = Object(head, content(seed, length), 7, tags)
        if self.store.put(key, head, new.body, 200, 7, 1, 2, 3, 4, compress=compress, tags=tags, place=PLACE):
            self.stored[key] = new

    @rule(key=KEYS, hold=st.booleans())
    def lookup(self, key: bytes, hold: bool) -> None:
        entry = self.store.lookup(key)
        if entry is not None:
            assert seen(entry) == self.stored[key]._replace(tags=())
            if hold and len(self.held) < 3:
                self.held.append((entry.body(), self.stored[key].body))

    @rule()
    def let_go(self) -> None:
        self.held.clear()

    @rule(key=KEYS, head=HEADS, flags=FLAGS, tags=st.none() | TAGS)
    def refresh(self, key: bytes, head: bytes, flags: int, tags: tuple[bytes, ...] | None) -> None:
        entry = self.store.lookup(key)
        if entry is not None and self.store.refresh(entry, head, flags, 5, 6, 7, 8, tags=tags):
            new = self.stored[key]._replace(head=head, flags=flags)
            self.stored[key] = new if tags is None else new._replace(tags=tags)

    def _purged(self, meant: list[bytes], count: int, soft: bool) -> None:
        """What was meant and is stored was counted; it is gone, or stale."""
        for key in meant:
            entry = self.store.lookup(key)
            assert (entry is not None and entry.fresh_ms <= 1) if soft else entry is None
            if not soft:
                del self.stored[key]
        assert count == len(meant)

    def _there(self, keys: list[bytes]) -> list[bytes]:
        return [key for key in keys if self.store.lookup(key) is not None]

    @rule(tag=st.sampled_from([b"red", b"blue", b"round"]), soft=st.booleans())
    def purge_tag(self, tag: bytes, soft: bool) -> None:
        meant = self._there([key for key, each in self.stored.items() if tag in each.tags])
        count = self.store.purge_tag(tag, soft, 1)
        self._purged(meant, count, soft)
        for key, (_, _, new, _) in list(self.fills.items()):
            if tag in new.tags:
                self._taint(key)

    @rule(key=KEYS, soft=st.booleans(), whole=st.booleans())
    def purge_prefix(self, key: bytes, soft: bool, whole: bool) -> None:
        meant = self._there([each for each in self.stored if each.startswith(key)])
        count = self.store.purge_prefix(key, (4, 0) if whole else PLACE, soft, 1)
        self._purged(meant, count, soft)
        for each in self.fills:
            if whole or each[:5] == key[:5]:
                self._taint(each)

    @rule()
    def outdate(self) -> None:
        meant = self._there(list(self.stored))
        self._purged(meant, self.store.clear(True, 1), True)
        for key in self.fills:
            self._taint(key)

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        found = self.store.delete(key)
        assert not found or key in self.stored
        self.stored.pop(key, None)
        self._taint(key)

    @rule(key=KEYS)
    def expire(self, key: bytes) -> None:
        assert not self.store.expire(key, 1) or key in self.stored
        self._taint(key)

    @rule()
    def clear(self) -> None:
        assert self.store.clear() <= len(self.stored)
        self.stored.clear()
        for key in self.fills:
            self._taint(key)

    def _taint(self, key: bytes) -> None:
        if key in self.fills:
            self.fills[key] = (*self.fills[key][:3], False)

    @precondition(lambda self: len(self.fills) < 4)
    @rule(key=KEYS, head=HEADS, length=LENGTHS, seed=st.integers(0, 99), known=st.booleans(), tags=TAGS)
    def begin(self, key: bytes, head: bytes, length: int, seed: int, known: bool, tags: tuple[bytes, ...]) -> None:
        if key in self.fills:
            return
        owner, follower = self.store.claim(key), self.store.claim(key)
        assert owner is not None
        assert follower is not None
        assert (owner.owner, follower.owner) == (True, False)
        new = Object(head, content(seed, length), 9, tags)
        if owner.open(key, head, 200, 9, 1, 2, 3, 4, length if known else -1, tags=tags, place=PLACE):
            self.fills[key] = (owner, follower, new, True)
            return
        assert follower.state == FAILED
        owner.release()
        follower.release()

    @rule(key=KEYS, share=st.integers(1, 3))
    def write(self, key: bytes, share: int) -> None:
        if key not in self.fills:
            return
        owner, follower, new, _ = self.fills[key]
        start = owner.available
        if not owner.write(new.body[start : start + len(new.body) // share]):
            owner.abort(1)
            assert (follower.state, follower.reason) == (FAILED, 1)
            del self.fills[key]
            owner.release()
            follower.release()
            return
        assert bytes(follower.read(0, 1 << 20)) == new.body[: follower.available]

    @rule(key=KEYS)
    def commit(self, key: bytes) -> None:
        if key not in self.fills:
            return
        owner, follower, new, may_be_stored = self.fills.pop(key)
        if owner.write(new.body[owner.available :]):
            stored = owner.commit()
            assert may_be_stored or not stored
            assert follower.state == COMPLETE
            assert bytes(follower.read(0, 1 << 20)) == new.body
            if stored:
                self.stored[key] = new
        owner.release()
        follower.release()

    @invariant()
    def sound(self) -> None:
        assert self.store.check() == []
        assert all(bytes(view) == body for view, body in self.held)
        for owner, follower, new, _ in self.fills.values():
            assert follower.head == new.head
            assert bytes(follower.read(0, 1 << 20)) == new.body[: owner.available]


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
