"""A chain of transforms, through which content flows as it comes.

    head(fields, length) -> length    the head's fields are changed in place; -1: only the end will tell the length
    data(view) -> views               what is to go on at once; `view` is only read during the call
    end() -> views                    what was kept back
    fail()                            no more comes: let go of what is held

A transform keeps no more than it needs to go on, and what it has announced in `head` it also delivers. It is called
`head` once, then `data` any number of times, then either `end` or `fail`; `fail` alone where the response has no
content to be changed (HEAD). No HTTP version is known here: framing is the connection's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from flyby.wire import Fields

View = bytes | memoryview


class Transform(Protocol):
    """One stage of a chain."""

    def head(self, fields: Fields, length: int, /) -> int: ...
    def data(self, view: View, /) -> Iterable[View]: ...
    def end(self) -> Iterable[View]: ...
    def fail(self) -> None: ...


class BrokenPromise(Exception):
    """A transform delivered more or less than the length that it had announced."""


class Chain:
    """Transforms in a row, itself one; it holds them to the length that the last has announced."""

    __slots__ = ("_announced", "_delivered", "_stages")

    def __init__(self, stages: Sequence[Transform]) -> None:
        self._stages = stages
        self._announced = -1
        self._delivered = 0

    def __repr__(self) -> str:
        length = "?" if self._announced < 0 else self._announced
        return f"<Chain of {len(self._stages)}, {self._delivered} of {length} bytes delivered>"

    def head(self, fields: Fields, length: int) -> int:
        """Let each stage change the fields; returns the content's length behind the last one, and remembers it."""
        for stage in self._stages:
            length = stage.head(fields, length)
        self._announced = length
        return length

    def data(self, view: View) -> Iterator[View]:
        """What goes on of a part. Raises `BrokenPromise` when it is more than was announced."""
        return self._counted(self._behind(0, view))

    def end(self) -> Iterator[View]:
        """What goes on at the end. Raises `BrokenPromise` when all of it is not as long as was announced."""
        for number, stage in enumerate(self._stages):
            for view in stage.end():
                yield from self._counted(self._behind(number + 1, view))
        if 0 <= self._announced != self._delivered:
            raise BrokenPromise(f"{self._delivered} bytes delivered, {self._announced} announced")

    def fail(self) -> None:
        """No more comes: every stage lets go of what it holds."""
        for stage in self._stages:
            stage.fail()

    def _behind(self, number: int, view: View) -> Iterator[View]:
        """What leaves the last stage when stage `number` is given `view`."""
        if number == len(self._stages):
            yield view
            return
        for changed in self._stages[number].data(view):
            yield from self._behind(number + 1, changed)

    def _counted(self, views: Iterable[View]) -> Iterator[View]:
        for view in views:
            self._delivered += len(view)
            if 0 <= self._announced < self._delivered:
                raise BrokenPromise(f"more than the {self._announced} bytes that were announced")
            yield view
