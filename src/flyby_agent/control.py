"""The control connection to one worker of an edge node: JSON objects, one a line, at most 16 KiB each.

    agent ▶ {"type":"register","protocol":1,"dyno":"web.1",…}    edge ▶ {"type":"registered","heartbeat_s":10,"spare":4}
    agent ▶ {"type":"ping","n":7,"in_flight":3,"latency_ms":12}  edge ▶ {"type":"pong","n":7}          and the other way
    agent ▶ {"type":"ready","ready":false}                       edge ▶ {"type":"spare","links":6}
    agent ▶ {"type":"drain"}                                     edge ▶ {"type":"drained","in_flight":0}
                                                                 edge ▶ drain, revoked, refused, replaced

Unknown types and keys are passed over. A ping goes out every heartbeat; an edge that was silent for two is gone,
whatever TCP still believes.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Protocol, cast

from flyby_agent import log

MOST_LINE = 16 * 1024
HEARTBEAT_S = 10.0
SILENT_HEARTBEATS = 2


class Spoken(Protocol):
    """Whose messages a control connection carries: a worker of the edge, as `node` knows it."""

    def registration(self) -> dict[str, Any]: ...
    def load(self) -> dict[str, Any]: ...
    def told(self, message: dict[str, Any]) -> None: ...
    def cut(self) -> None: ...
    def control_lost(self, control: Control) -> None: ...


class Control(asyncio.Protocol):
    """Reads and writes the messages of one worker; what they mean is the worker's business."""

    __slots__ = (
        "_buffer",
        "_heard_at",
        "_loop",
        "_number",
        "_pinged_at",
        "_timer",
        "_worker",
        "heartbeat_s",
        "rtt_s",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, worker: Spoken) -> None:
        self._loop = loop
        self._worker = worker
        self._buffer = b""
        self._heard_at = 0.0
        self._number = 0
        self._pinged_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.heartbeat_s = HEARTBEAT_S
        self.rtt_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._heard_at = self._loop.time()
        self.send(self._worker.registration())
        self._timer = self._loop.call_later(self.heartbeat_s, self._beat)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        lines = (self._buffer + data).split(b"\n")
        self._buffer = lines.pop()
        for line in lines:
            if self.transport.is_closing():
                return
            self._line(line)
        if len(self._buffer) > MOST_LINE:
            self.close("the edge sent a line of more than 16 KiB")

    def _line(self, line: bytes) -> None:
        try:
            message = json.loads(line) if len(line) <= MOST_LINE else None
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            self.close("the edge sent something that is no message")
            return
        kind = message.get("type")
        if kind == "ping":
            self.send({"type": "pong", "n": message.get("n"), **self._worker.load()})
        elif kind == "pong":
            if message.get("n") == self._number and self._pinged_at:
                self.rtt_s = self._loop.time() - self._pinged_at
                self._pinged_at = 0.0
        else:
            if kind == "registered":
                self._heartbeat(message.get("heartbeat_s"))
            self._worker.told(message)

    def _heartbeat(self, seconds: object) -> None:
        if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0.1 <= seconds <= 60:
            self.heartbeat_s = float(seconds)
        self._ping()

    def _beat(self) -> None:
        if self._loop.time() - self._heard_at >= SILENT_HEARTBEATS * self.heartbeat_s:
            log.warning(f"{self._worker}: nothing heard for {SILENT_HEARTBEATS * self.heartbeat_s:.0f} s")
            self._worker.cut()
            self.transport.abort()
            return
        self._ping()

    def _ping(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self.heartbeat_s, self._beat)
        self._number += 1
        self._pinged_at = self._loop.time()
        self.send({"type": "ping", "n": self._number, **self._worker.load()})

    def send(self, message: dict[str, Any]) -> None:
        if not self.transport.is_closing():
            self.transport.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def close(self, why: str = "") -> None:
        if why:
            log.warning(f"{self._worker}: {why}")
        if not self.transport.is_closing():
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._worker.control_lost(self)
