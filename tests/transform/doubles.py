"""Test doubles for chains: a transform that upper-cases while it streams, and some that go wrong."""

from __future__ import annotations

from collections.abc import Iterator

from flyby.proxy.transform.chain import View
from flyby.proxy.transform.plan import Filter
from flyby.wire import Fields


class Upper:
    """Upper-cases; `suffix` is added at the end, so that the length changes. `made` has all that there were."""

    made: list[Upper]

    def __init__(self, suffix: bytes = b"", announces: bool = True) -> None:
        self.suffix = suffix
        self.announces = announces
        self.calls: list[str] = []

    def head(self, fields: Fields, length: int) -> int:
        self.calls.append("head")
        return length + len(self.suffix) if length >= 0 and self.announces else -1

    def data(self, view: View) -> Iterator[bytes]:
        self.calls.append("data")
        yield bytes(view).upper()

    def end(self) -> Iterator[bytes]:
        self.calls.append("end")
        if self.suffix:
            yield self.suffix

    def fail(self) -> None:
        self.calls.append("fail")


class Workshop:
    """Makes transforms of one kind, and keeps them to be looked at."""

    def __init__(self, suffix: bytes = b"", announces: bool = True, kind: type[Upper] = Upper) -> None:
        self.made: list[Upper] = []
        self._given = (suffix, announces)
        self._kind = kind

    def make(self) -> Upper:
        self.made.append(self._kind(*self._given))
        return self.made[-1]

    def filter(self, *types: bytes) -> Filter:
        return Filter(self.make, frozenset(types) or None)


class Faulty(Upper):
    """Fails at the second part."""

    def data(self, view: View) -> Iterator[bytes]:
        self.calls.append("data")
        if self.calls.count("data") > 1:
            raise ValueError("a part that cannot be changed")
        yield bytes(view).upper()


class FaultyAtOnce(Upper):
    """Fails at the first part."""

    def data(self, view: View) -> Iterator[bytes]:
        raise ValueError("a part that cannot be changed")


class FaultyHead(Upper):
    """Fails at the head."""

    def head(self, fields: Fields, length: int) -> int:
        raise ValueError("a head that cannot be changed")
