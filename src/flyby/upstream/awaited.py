"""The receiver of who awaits a response's head in a coroutine: a future."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from flyby.errors import UpstreamError
from flyby.wire import ResponseHead


class Awaited:
    """What `UpstreamConnection.read_head` waits for; interim heads go to `on_interim`."""

    __slots__ = ("_on_interim", "answer")

    def __init__(self, answer: asyncio.Future[ResponseHead], on_interim: Callable[[ResponseHead], None] | None) -> None:
        self.answer = answer
        self._on_interim = on_interim

    def interim(self, head: ResponseHead) -> None:
        if self._on_interim is not None:
            self._on_interim(head)

    def head(self, head: ResponseHead) -> None:
        if not self.answer.done():
            self.answer.set_result(head)

    def fail(self, error: UpstreamError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
