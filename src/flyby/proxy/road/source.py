"""What produces the response of an exchange, and must know when its client leaves."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Source(Protocol):
    """A fetch, somebody else's fetch that is followed, or a coroutine."""

    def client_left(self) -> None:
        """The client has gone: end, unless others want the response too."""

    def client_ended(self) -> None:
        """The client sends nothing more; whether it still reads only a response will show."""


class Story:
    """A coroutine that answers: it ends when its client leaves."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def client_left(self) -> None:
        self._task.cancel()

    def client_ended(self) -> None:
        return
