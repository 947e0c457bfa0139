"""A client reads a Fill: the one place where the client's side and the upstream's meet.

The owner of a fetch and its followers do the same here: they send what has been published so far, wait for more or
for the client to catch up, and end when the Fill is complete. A Fill that fails breaks a begun response off.
"""

from __future__ import annotations

from collections.abc import Callable

from flyby.proxy.road.downstream import Downstream
from flyby.store import COMPLETE, FAILED, Fill

PIECE = 65_536  # bytes handed to the client at a time


class Delivery:
    """One client's way through one Fill, from `start` to `end` (-1: to its end)."""

    __slots__ = ("_done", "_downstream", "_end", "_failed", "_fill", "_offset", "_running")

    def __init__(
        self,
        fill: Fill,
        downstream: Downstream,
        done: Callable[[], None],
        failed: Callable[[int], bool],
        start: int = 0,
        end: int = -1,
    ) -> None:
        self._fill: Fill | None = fill
        self._downstream = downstream
        self._done = done
        self._failed = failed
        self._offset = start
        self._end = end
        self._running = False

    def start(self) -> None:
        """Send what is there, and the rest as it comes."""
        assert self._fill is not None
        self._fill.subscribe(self._progress)
        self._downstream.on_writable(self._progress)
        self._progress()

    def _progress(self) -> None:
        fill = self._fill
        if fill is None or self._running:
            return
        self._running = True
        try:
            while not self._downstream.paused and self._offset < self._within(fill.available):
                view = fill.read(self._offset, min(PIECE, self._within(fill.available) - self._offset))
                self._offset += len(view)
                self._downstream.data(view)
        finally:
            self._running = False
        if self._fill is None or self._offset < self._within(fill.available):
            return
        if fill.state == COMPLETE or self._offset == self._end:
            self.stop()
            self._done()
            self._downstream.end()
        elif fill.state == FAILED:
            reason = fill.reason
            self.stop()
            if not self._failed(reason):
                self._downstream.abort()

    def _within(self, available: int) -> int:
        return available if self._end < 0 else min(available, self._end)

    def stop(self) -> None:
        """Leave the Fill; nothing more is sent."""
        fill, self._fill = self._fill, None
        if fill is not None:
            fill.unsubscribe(self._progress)
            self._downstream.on_writable(None)
            fill.release()
