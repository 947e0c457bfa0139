"""One resource, many representations: how Vary (RFC 9111 4.1) is laid over a store that knows only keys.

Under a resource's primary key lies either its one response, or a marker that says by which request fields its responses
differ. Variants lie under keys of their own:

    primary              ─▶  marker: nonce (16) │ count of digests (2) │ digests (16 each) │ Vary lists
    primary + 00 + nonce + digest  ─▶  the variant, or an alias: the key of the variant in a language

The digest covers the names and the normalised values. A new nonce (after a purge, which drops the marker) orphans
every older variant at once, whoever still stores one. The digests are there to count and to purge.
"""

from __future__ import annotations

import hashlib
import secrets

from flyby.policy import EntryFlag, FieldValues, language_key, stored_language_key, variant_key
from flyby.store import Entry, Store
from flyby.wire import Fields

_DIGEST = 16
_FOR_EVER_MS = 1 << 46
PART = b"\0part"  # to a key: where parts of its response are kept
MAX_LISTS = 4  # different Vary lists that are tried for one resource, the latest first

Names = tuple[bytes, ...]


class Marker:
    """What lies under the primary key of a resource that varies."""

    __slots__ = ("digests", "lists", "nonce")

    def __init__(self, nonce: bytes, digests: list[bytes], lists: list[Names]) -> None:
        self.nonce = nonce
        self.digests = digests
        self.lists = lists

    @classmethod
    def decode(cls, data: bytes) -> Marker:
        count = int.from_bytes(data[_DIGEST : _DIGEST + 2], "big")
        start = _DIGEST + 2
        end = start + count * _DIGEST
        digests = [data[at : at + _DIGEST] for at in range(start, end, _DIGEST)]
        lists = [tuple(line.split(b",")) for line in data[end:].split(b"\n")]
        return cls(data[:_DIGEST], digests, lists)

    def encode(self) -> bytes:
        lists = b"\n".join(b",".join(names) for names in self.lists)
        return self.nonce + len(self.digests).to_bytes(2, "big") + b"".join(self.digests) + lists

    def digest(self, names: Names, fields: FieldValues) -> bytes:
        return self.digest_of(names, variant_key(names, fields))

    def digest_of(self, names: Names, values: bytes) -> bytes:
        material = b",".join(names) + b"\0" + values
        return hashlib.blake2b(material, digest_size=_DIGEST, key=self.nonce).digest()

    def key(self, primary: bytes, digest: bytes) -> bytes:
        return primary + b"\0" + self.nonce + digest


def _marker(store: Store, primary: bytes) -> Marker | None:
    entry = store.lookup(primary)
    if entry is None or not entry.flags & EntryFlag.VARY_MARKER:
        return None
    return Marker.decode(bytes(entry.body()))


def find(store: Store, primary: bytes, fields: FieldValues) -> tuple[Entry | None, bytes]:
    """The stored response that this request selects, and the key under which one is, or would be, stored."""
    entry = store.lookup(primary)
    if entry is None or not entry.flags & EntryFlag.VARY_MARKER:
        return entry, primary
    marker = Marker.decode(bytes(entry.body()))
    first = primary
    for names in marker.lists:
        key = marker.key(primary, marker.digest(names, fields))
        if first is primary:
            first = key
        found = store.lookup(key) or _in_favourite_language(store, primary, marker, names, fields)
        if found is not None:
            return found, found.key
    return None, first


def _in_favourite_language(
    store: Store, primary: bytes, marker: Marker, names: Names, fields: FieldValues
) -> Entry | None:
    values = language_key(names, fields)
    if values is None:
        return None
    alias = store.lookup(marker.key(primary, marker.digest_of(names, values)))
    return store.lookup(bytes(alias.body())) if alias is not None else None


def key_for_storing(
    store: Store, primary: bytes, names: Names, fields: FieldValues, response_fields: Fields, limit: int
) -> bytes | None:
    """The key under which a response with this Vary is to be stored; None when the resource has too many variants.

    A response that names its one language is also found, by an alias, for who prefers that language to all others.
    """
    if not names:
        return primary
    marker = _marker(store, primary) or Marker(secrets.token_bytes(_DIGEST), [], [])
    digest = marker.digest(names, fields)
    key = marker.key(primary, digest)
    by_language = stored_language_key(names, fields, response_fields)
    if by_language is not None:
        _mark(store, marker.key(primary, marker.digest_of(names, by_language)), key)
    known = digest in marker.digests
    if known and marker.lists[0] == names:
        return key
    if not known:
        if len(marker.digests) >= limit:
            marker.digests = [old for old in marker.digests if store.lookup(marker.key(primary, old)) is not None]
        if len(marker.digests) >= limit:
            return None
        marker.digests.append(digest)
    marker.lists = [names, *(other for other in marker.lists if other != names)][:MAX_LISTS]
    return key if _mark(store, primary, marker.encode()) else None


def _mark(store: Store, key: bytes, content: bytes) -> bool:
    return store.put(key, b"", content, 0, int(EntryFlag.VARY_MARKER), 0, _FOR_EVER_MS, 0, 0)


def key_of(store: Store, primary: bytes, names: Names, fields: FieldValues) -> bytes | None:
    """The key that this request selects among responses with this Vary; None when there is no marker (any more)."""
    if not names:
        return primary
    marker = _marker(store, primary)
    return marker.key(primary, marker.digest(names, fields)) if marker is not None else None


def purge(store: Store, primary: bytes, soft: bool, now_ms: int | None = None) -> int:
    """Remove, or make stale, whatever is stored of one resource; returns how many responses that were.

    What is being fetched of it is not stored either, whatever variant it turns out to be: the store goes by the stem.
    """
    entry = store.lookup(primary)
    mark = entry is not None and entry.flags & EntryFlag.HIT_FOR_MISS
    marker = _marker(store, primary)
    keys = [primary] if marker is None else [marker.key(primary, digest) for digest in marker.digests]
    keys += [key + PART for key in keys]
    if soft:
        return sum(store.expire(key, now_ms) for key in keys) - bool(mark)
    count = sum(store.delete(key) for key in keys) - bool(mark)
    if marker is not None:
        store.delete(primary)
    return count
