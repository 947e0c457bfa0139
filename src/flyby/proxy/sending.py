"""A request's content on its way to an origin, kept for a second try as long as it is small.

What has been taken from the client cannot be asked for again. So the first 64 KiB stay here until the response's head
is there: a request whose content is wholly kept can be sent once more, to another origin, from its first byte on.
"""

from __future__ import annotations

import asyncio

from flyby.errors import UpstreamError, WireError
from flyby.proxy.downstream import Downstream
from flyby.proxy.forwarding import safe_trailers
from flyby.upstream import UpstreamExchange
from flyby.wire import CHUNK_END, BodyKind, RequestHead, chunk_head, last_chunk

KEPT = 65_536  # bytes of content that are kept


class Sending:
    """The content of one request; `start` sends it from its beginning, and may be called again while `whole`."""

    __slots__ = ("_chunked", "_downstream", "_kept", "_kept_bytes", "_task", "whole")

    def __init__(self, request: RequestHead, downstream: Downstream) -> None:
        self._downstream = downstream
        self._chunked = request.body is BodyKind.CHUNKED
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self.whole = True

    def start(self, connection: UpstreamExchange) -> asyncio.Task[None]:
        """Send on `connection`, in the background."""
        self._task = asyncio.create_task(self._send(connection))
        return self._task

    @property
    def sent(self) -> bool:
        """Whether all of it has been sent, in good order."""
        task = self._task
        return task is not None and task.done() and not task.cancelled() and task.exception() is None

    async def stop(self) -> WireError | None:
        """Send no more; the client's fault, if there was one."""
        if self._task is None:
            return None
        if not self._task.done():
            self._task.cancel()
        result = (await asyncio.gather(self._task, return_exceptions=True))[0]
        return result if isinstance(result, WireError) else None

    def answered(self) -> None:
        """No second try will be made: keep nothing."""
        self.whole = False
        self._kept.clear()

    async def _send(self, connection: UpstreamExchange) -> None:
        downstream = self._downstream
        downstream.expect_satisfied()
        try:
            # As many parts as there are now: what is taken below is sent below.
            for part in tuple(self._kept):
                self._send_part(connection, part)
                await connection.drain()
            while part := await downstream.read_content():
                self._keep(part)
                self._send_part(connection, part)
                await connection.drain()
            if self._chunked:
                connection.send(last_chunk(safe_trailers(downstream.request_trailers())))
        except WireError:
            connection.abort()
            raise
        except UpstreamError:
            # Whoever reads the response learns of it there, and may have read an early answer already.
            return

    def _keep(self, part: bytes) -> None:
        self._kept_bytes += len(part)
        if self.whole and self._kept_bytes <= KEPT:
            self._kept.append(part)
        elif self.whole:
            self.answered()

    def _send_part(self, connection: UpstreamExchange, part: bytes) -> None:
        connection.send([chunk_head(len(part)), part, CHUNK_END] if self._chunked else part)
