"""A `Downstream` with no client at its end: a refresh in the background is an exchange like any other."""

from __future__ import annotations

from flyby.proxy.road.downstream import Client
from flyby.wire import Fields


class Nobody:
    """Takes a response and drops it; never behind, never lost."""

    paused = False
    request_complete = True

    def __init__(self, client: Client) -> None:
        self.client = client
        self.bytes_sent = 0
        self.begun = False
        self.approved = b""

    def on_writable(self, callback: object) -> None:
        return

    async def read_content(self) -> bytes:
        return b""

    def request_trailers(self) -> Fields | None:
        return None

    def expect_satisfied(self) -> None:
        return

    def interim(self, status: int, reason: bytes, fields: Fields) -> None:
        return

    def begin(self, status: int, reason: bytes, fields: Fields, length: int) -> None:
        self.begun = True

    def begin_ready(self, head: bytes, length: int, status: int) -> None:
        self.begun = True

    def flush(self) -> None:
        return

    def data(self, view: memoryview | bytes) -> None:
        return

    def end(self, trailers: Fields | None = None) -> None:
        return

    def send_stored(self, head: bytes, length: int, views: object, status: int) -> None:
        self.begun = True

    def answered_by(self, exchange: object) -> None:
        return

    def abort(self) -> None:
        return
