"""`Partials`: bytes that a program keeps in the store for its own use, beside the HTTP responses.

A namespace is a key space of its own, shared by all workers. Its keys begin with a byte that no HTTP key begins with,
then the namespace, so that neither another namespace nor a response is ever found by them:

    01 │ length of the namespace, 1 byte │ namespace │ the caller's key

Tags are the namespace's own too: purging a tag, a host or a prefix of HTTP leaves partials alone, and the other way
round. Emptying the whole store empties everything. It is a cache: what is set may be evicted whenever room is needed.

Each operation is atomic among all processes. A `set` is one publication: a reader finds the old value or the new one,
whole. `only_if_empty` compares under the lock of the key's shard, so of many that try, one wins; it is no lock to rely
on, though, for what it stored may be evicted. Values up to the store's largest object are taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flyby.clock import Clock, SystemClock
from flyby.store._entry import Entry
from flyby.store._store import Store

if TYPE_CHECKING:  # collections.abc has it from 3.12 on; a type checker brings it for 3.11
    from typing_extensions import Buffer

LONGEST_NAMESPACE = 255
LONGEST_KEY = 32 * 1024
LONGEST_PACKED = 256 * 1024  # a longer value lies plain, so that a view of it needs no memory of its own
MOST_TAGS = 128
_FOR_EVER_MS = 1 << 46


def _bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text


class Partials:
    """One namespace of a store. Keys and tags are bytes; a str stands for its UTF-8."""

    __slots__ = ("_clock", "_prefix", "_store", "namespace")

    def __init__(self, store: Store, namespace: bytes | str, *, clock: Clock | None = None) -> None:
        self.namespace = _bytes(namespace)
        if not 0 < len(self.namespace) <= LONGEST_NAMESPACE:
            raise ValueError(f"a namespace has from 1 to {LONGEST_NAMESPACE} bytes, not {len(self.namespace)}")
        self._store = store
        self._clock = clock or SystemClock()
        self._prefix = b"\x01" + bytes([len(self.namespace)]) + self.namespace

    def __repr__(self) -> str:
        return f"<Partials {self.namespace!r} in {self._store!r}>"

    def get(self, key: bytes | str) -> bytes | None:
        """A copy of the value; None when there is none, or its time is over."""
        entry = self._entry(key)
        return bytes(entry.body()) if entry is not None else None

    def view(self, key: bytes | str) -> memoryview | None:
        """The value where it lies, read-only, without a copy; None when there is none.

        It keeps its bytes whatever is set, deleted or purged meanwhile, and its memory is not used again before it is
        released (with the last reference, or by its `release`). A value held as lz4 is decompressed into memory of
        its own.
        """
        entry = self._entry(key)
        return entry.body() if entry is not None else None

    def get_many(self, keys: Iterable[bytes | str]) -> dict[bytes, bytes]:
        """The values that there are of those keys, under the keys' bytes. Each is read by itself."""
        found = {}
        for key in keys:
            value = self.get(key)
            if value is not None:
                found[_bytes(key)] = value
        return found

    def set(
        self,
        key: bytes | str,
        value: Buffer,
        *,
        ttl_s: float | None = None,
        tags: Iterable[bytes | str] = (),
        only_if_empty: bool = False,
    ) -> bool:
        """Store a value, for `ttl_s` seconds at most. True when it is stored.

        False when there is no room for it, or with `only_if_empty` when there is a value already; an old value that
        could not be replaced stays.
        """
        named = tuple(self._prefix + _bytes(tag) for tag in tags)
        if len(named) > MOST_TAGS:
            raise ValueError(f"a value has at most {MOST_TAGS} tags, not {len(named)}")
        now_ms = self._clock.wall_ms()
        return self._store.put(
            self._key(key),
            b"",
            value,
            0,
            0,
            now_ms,
            _FOR_EVER_MS if ttl_s is None else now_ms + round(ttl_s * 1000),
            0,
            0,
            compress=memoryview(value).nbytes <= LONGEST_PACKED,
            tags=named,
            place=(len(self._prefix), len(self._prefix)),
            unless_fresh_at=now_ms if only_if_empty else None,
        )

    def expire(self, key: bytes | str, ttl_s: float) -> bool:
        """Let the value live for `ttl_s` seconds from now. True when there is one."""
        now_ms = self._clock.wall_ms()
        return self._store.retime(self._key(key), now_ms, now_ms + round(ttl_s * 1000))

    def delete(self, key: bytes | str) -> bool:
        """Remove the value. True when there was one that could still be had."""
        entry = self._entry(key)
        return self._store.delete(self._key(key)) and entry is not None

    def purge_tag(self, tag: bytes | str) -> int:
        """Remove the values of this namespace that were set with that tag; returns how many."""
        return self._store.purge_tag(self._prefix + _bytes(tag))

    def clear(self) -> int:
        """Remove all values of this namespace, in time proportional to their number; returns how many."""
        return self._store.purge_prefix(self._prefix, (len(self._prefix), 0))

    def _key(self, key: bytes | str) -> bytes:
        raw = _bytes(key)
        if len(raw) > LONGEST_KEY:
            raise ValueError(f"a key has at most {LONGEST_KEY} bytes, not {len(raw)}")
        return self._prefix + raw

    def _entry(self, key: bytes | str) -> Entry | None:
        entry = self._store.lookup(self._key(key))
        if entry is None or entry.fresh_ms > self._clock.wall_ms():
            return entry
        entry.release()
        return None
