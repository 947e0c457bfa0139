"""Bytes on their way to a client: one writev(2) when nothing is queued, the rest through the transport.

Three ways in: `write` for what is arriving (what the socket does not take is copied), `queue` and `pump` for what
lies ready in memory that stays (handed over piece by piece, so that a slow client costs no copy of the whole), and
`hold` for a head that should leave with the first part of its content.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Iterable
from typing import Any

PIECE = 65_536  # bytes of stored content that are copied for the transport at a time
VECTOR = 16  # buffers of one writev(2)

Chunk = memoryview | bytes


class Outbox:
    """The outgoing side of one connection; `sent` counts the bytes that were handed over."""

    __slots__ = ("_fd", "_held", "_ready", "_transport", "sent")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._fd = -1
        self._held = b""
        self._ready: deque[Chunk] = deque()
        self.sent = 0
        sock: Any = transport.get_extra_info("socket")
        if sock is not None and transport.get_extra_info("sslcontext") is None:
            self._fd = sock.fileno()
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def hold(self, head: bytes) -> None:
        """Keep `head` for the next `write` or `release`, which comes in the same call."""
        self._held = head

    def release(self) -> None:
        """Send a head that is held."""
        if self._held and not self._transport.is_closing():
            self.write([])

    def write(self, chunks: list[Chunk]) -> None:
        """Send `chunks`; they are only read during the call."""
        if self._held:
            chunks.insert(0, self._held)
            self._held = b""
        total = sum(map(len, chunks))
        self.sent += total
        done = self._direct(chunks)
        if done < total:
            self._transport.write(b"".join(chunks)[done:])

    def queue(self, chunks: Iterable[Chunk]) -> None:
        """Add what `pump` will send; the memory must stay until then."""
        self._ready.extend(chunks)

    def clear(self) -> None:
        """Drop what was not sent."""
        self._held = b""
        self._ready.clear()

    @property
    def ready(self) -> bool:
        """Whether queued bytes wait for `pump`."""
        return bool(self._ready)

    def pump(self, high: int) -> bool:
        """Send what is queued until the transport holds `high` bytes; True when all of it is handed over."""
        ready = self._ready
        while ready and not self._transport.is_closing() and self._transport.get_write_buffer_size() < high:
            done = self._direct([ready[at] for at in range(min(len(ready), VECTOR))])
            self.sent += done
            while ready and done >= len(ready[0]):
                done -= len(ready.popleft())
            if not ready:
                break
            rest = memoryview(ready[0])[done:]
            piece = rest[:PIECE]
            self._transport.write(bytes(piece))
            self.sent += len(piece)
            if len(piece) == len(rest):
                ready.popleft()
            else:
                ready[0] = rest[PIECE:]
        return not ready

    def _direct(self, chunks: list[Chunk]) -> int:
        if self._fd < 0 or self._transport.get_write_buffer_size() or self._transport.is_closing():
            return 0
        try:
            return os.writev(self._fd, chunks)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._transport.abort()
            return 0
