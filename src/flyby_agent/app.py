"""The application's side: connections to its local port, kept for a few seconds and used again.

    dial ──▶ Local, one exchange ──▶ kept idle, at most 5 s ──▶ the next exchange, or closed

A kept connection may be closed by the app in the very moment in which it is used again, and no sender can know. So:

* a request that may not be sent twice (not idempotent, or with content) gets a fresh connection, always;
* any other may get a kept one, and when that dies before a byte of a response it is sent once more, on a fresh one.

An app that is expected on 127.0.0.1 may listen on ::1 alone: where the first does not accept the second is dialled, and
stays first for as long as it accepts.

The idle time is shorter than that of the servers we know (Node and uvicorn 5 s, Puma 20 s; gunicorn's 2 s is met by the
second rule). Connections that the agent opens are bounded by the exchanges that the edge starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, cast

from flyby_agent import log

LOOPBACK = "127.0.0.1"
LOOPBACK_6 = "::1"
DIAL_S = 5.0
KEEP_S = 4.0
MOST_KEPT = 32
SWEEP_S = 0.5
REPEAT_S = 60.0
SMOOTHING = 0.2  # weight of the newest first-byte time in the average


Dialled = TypeVar("Dialled")


def endpoint_name(address: tuple[str, int]) -> str:
    """HOST:PORT, for people."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Carried(Protocol):
    """Whose exchange a connection to the application carries: a `Link`."""

    def answer(self, data: bytes) -> None: ...
    def app_ended(self) -> bool: ...
    def app_lost(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Local(asyncio.Protocol):
    """One connection to the application. `link` is whose exchange it carries; None while it is kept."""

    __slots__ = ("_app", "idle_since", "link", "transport")

    transport: asyncio.Transport

    def __init__(self, app: App) -> None:
        self._app = app
        self.link: Carried | None = None
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.link is not None:
            self.link.answer(data)
        else:
            self._app.lost(self)  # a server that speaks unasked has lost its place in the conversation
            self.transport.abort()

    def eof_received(self) -> bool:
        if self.link is not None:
            return self.link.app_ended()
        self._app.lost(self)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.app_lost()
        else:
            self._app.lost(self)

    def pause_writing(self) -> None:
        if self.link is not None:
            self.link.pause_reading()

    def resume_writing(self) -> None:
        if self.link is not None:
            self.link.resume_reading()


class App:
    """The application on `host:port`, or on a unix socket: connections to it, and what the agent knows of it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, address: tuple[str, int] | None, path: str = "", keep_s: float = KEEP_S
    ) -> None:
        self._loop = loop
        self._path = path
        self._addresses = [address] if address is not None else []
        if address is not None and address[0] == LOOPBACK:
            self._addresses.append((LOOPBACK_6, address[1]))
        self._keep = keep_s
        self._kept: list[Local] = []  # the one that was used last is at the end
        self._sweep: asyncio.TimerHandle | None = None
        self.ready = False
        self.draining = False
        self.in_flight = 0
        self.served = 0
        self.latency_s = 0.0
        self.answered_at = 0.0  # when it last began a response
        self._complained_at = float("-inf")
        self.on_refused: Callable[[], Any] = bool
        self.on_idle: Callable[[], Any] = bool

    @property
    def name(self) -> str:
        return endpoint_name(self._addresses[0]) if self._addresses else f"unix:{self._path}"

    def refusal(self) -> bytes:
        """Why no request is taken at the moment; empty when one is."""
        if self.draining:
            return b"draining"
        return b"" if self.ready else b"not-ready"

    def take(self) -> Local | None:
        """A kept connection, for a request that may be sent twice."""
        while self._kept:
            local = self._kept.pop()
            if not local.transport.is_closing():
                return local
        return None

    async def dial(self) -> Local:
        """A fresh connection; OSError (a timeout is one) when the app does not accept."""
        try:
            if not self._addresses:
                dialling = self._loop.create_unix_connection(lambda: Local(self), self._path)
                return (await asyncio.wait_for(dialling, DIAL_S))[1]
            _, local = await asyncio.wait_for(self._first(self._connect), DIAL_S)
        except asyncio.TimeoutError:
            raise OSError(f"{self.name} did not accept within {DIAL_S:.0f} s") from None
        return local

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of one's own, for a check."""
        if not self._addresses:
            return await asyncio.open_unix_connection(self._path)
        return await self._first(asyncio.open_connection)

    async def _connect(self, host: str, port: int) -> tuple[asyncio.Transport, Local]:
        return await self._loop.create_connection(lambda: Local(self), host, port)

    async def _first(self, dial: Callable[[str, int], Awaitable[Dialled]]) -> Dialled:
        """What dialling the first address that accepts gives; that address is tried first from now on.

        When none accepts, the error is that of the first.
        """
        failed: OSError | None = None
        for address in list(self._addresses):
            try:
                made = await dial(*address)
            except OSError as error:
                failed = failed or error
                continue
            if address != self._addresses[0]:
                self._addresses.remove(address)
                self._addresses.insert(0, address)
            return made
        assert failed is not None
        raise failed

    def give(self, local: Local) -> None:
        """An exchange is over and its connection as good as new."""
        local.link = None
        if self.draining or self._keep <= 0 or len(self._kept) >= MOST_KEPT or local.transport.is_closing():
            local.transport.close()
            return
        local.transport.resume_reading()  # so that its end is seen
        local.idle_since = self._loop.time()
        self._kept.append(local)
        if self._sweep is None:
            self._sweep = self._loop.call_later(SWEEP_S, self._swept)

    def lost(self, local: Local) -> None:
        if local in self._kept:
            self._kept.remove(local)

    def _swept(self) -> None:
        """Close what has been idle for long, so that none is ever kept beyond `keep + SWEEP_S`."""
        self._sweep = None
        now = self._loop.time()
        old = [local for local in self._kept if now - local.idle_since >= self._keep]
        for local in old:
            self._kept.remove(local)
            local.transport.close()
        if self._kept:
            self._sweep = self._loop.call_later(SWEEP_S, self._swept)

    def complain(self, text: str) -> None:
        """What is wrong with every response is not said for every response."""
        now = self._loop.time()
        if now - self._complained_at >= REPEAT_S:
            self._complained_at = now
            log.warning(f"the app on {self.name} {text}")

    def began(self) -> None:
        self.in_flight += 1

    def first_byte(self, took_s: float) -> None:
        self.answered_at = self._loop.time()
        self.latency_s += (took_s - self.latency_s) * (SMOOTHING if self.latency_s else 1.0)

    def ended(self) -> None:
        self.in_flight -= 1
        self.served += 1
        if not self.in_flight:
            self.on_idle()

    def close(self) -> None:
        for local in self._kept:
            local.transport.close()
        self._kept.clear()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
