"""A follower reads a Fill: what has been published so far, then the rest as it comes, at the client's pace."""

from __future__ import annotations

from collections.abc import Callable

from flyby.proxy.road._downstream import Downstream
from flyby.store import COMPLETE, FAILED, Fill

PIECE = 65_536  # bytes handed to the client at a time


class Delivery:
    """One client's way through a Fill of another's fetch, from `offset` to its end.

    The Fill's handle is the delivery's own. `done` is called when the client has all, `broken` when the Fill has failed
    before; neither after `client_left`.
    """

    __slots__ = ("_broken", "_done", "_downstream", "_fill", "_offset", "_running")

    def __init__(
        self,
        fill: Fill,
        downstream: Downstream,
        done: Callable[[], None],
        broken: Callable[[], None],
        offset: int = 0,
    ) -> None:
        self._fill: Fill | None = fill
        self._downstream = downstream
        self._done = done
        self._broken = broken
        self._offset = offset
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
            while not self._downstream.paused and self._offset < fill.available and not fill.lost(self._offset):
                view = fill.read(self._offset, PIECE)
                self._offset += len(view)
                self._downstream.data(view)
        finally:
            self._running = False
        if self._fill is None:
            return
        if fill.state == COMPLETE and self._offset == fill.available:
            self.client_left()
            self._done()
        elif (fill.state == FAILED and self._offset == fill.available) or fill.lost(self._offset):
            self.client_left()
            self._broken()

    def client_left(self) -> None:
        """Leave the Fill; nothing more is sent."""
        fill, self._fill = self._fill, None
        if fill is not None:
            fill.unsubscribe(self._progress)
            self._downstream.on_writable(None)
            fill.release()

    def client_ended(self) -> None:
        """A half-closed client is served on: the fetch is another's."""
