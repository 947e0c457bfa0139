"""A request's content between the connection that receives it and the fetch that sends it on."""

from __future__ import annotations

import asyncio
from collections import deque

from flyby.errors import WireError
from flyby.wire import Fields


def wants_trailers(fields: Fields) -> bool:
    """Whether who asks says that it takes trailer fields (RFC 9110 10.1.4)."""
    value = fields.combined(b"te")
    return value is not None and b"trailers" in [part.strip(b" \t").lower() for part in value.split(b",")]


class Content:
    """The parts that have arrived and were not yet taken; `size` is their bytes. The connection bounds it."""

    __slots__ = ("_error", "_parts", "_waiter", "finished", "size")

    def __init__(self, finished: bool = True) -> None:
        self._parts: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._error: WireError | None = None
        self.finished = finished
        self.size = 0

    def put(self, part: bytes) -> None:
        """Add a part that has arrived."""
        self._parts.append(part)
        self.size += len(part)
        self._wake()

    def finish(self) -> None:
        """All of it has arrived."""
        self.finished = True
        self._wake()

    def fail(self, error: WireError) -> None:
        """The rest will not come: whoever takes parts gets `error` after those that are here."""
        if not self.finished and self._error is None:
            self._error = error
            self._wake()

    async def get(self) -> bytes:
        """The next part, b"" at the end. Raises the `WireError` that the content failed with."""
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self.finished:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        part = self._parts.popleft()
        self.size -= len(part)
        return part

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


NO_CONTENT = Content()  # of every request that has none
