"""A control connection: lines both ways, and the heartbeat by which each side knows that the other lives.

    101 ─▶ NEW ── register ─▶ REGISTERED ── end, silence, fault, revoked, replaced ─▶ CLOSED
            └── refused, or nothing for 10 s ─────────────────────────────────────────▶

A ping goes out every 10 s. The other side is gone when nothing came from it for 20 s, or when a ping has stood
unanswered for as long: a peer that only talks may hear nothing. What it sends is bounded: a line, the lines between two
pings, and what waits for it to be read.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from flyby.clock import Clock
from flyby.tunnel.dyno import Dyno
from flyby.tunnel.dynos import Dynos
from flyby.tunnel.messages import LINE_LIMIT, Drain, Malformed, Ping, Pong, Ready, Register, decode, encode

HEARTBEAT_S = 10.0
SILENCE_S = 20.0
REGISTER_S = 10.0
MOST_LINES = 1000  # from one ping of ours to the next
MOST_UNREAD = 65_536  # bytes that wait for the agent to read them


class Owner(Protocol):
    """The `Tunnel`."""

    def register(self, session: Session, message: Register) -> None: ...

    def told(self, session: Session, report: Ping) -> None:
        """How the dyno fares."""

    def ready(self, session: Session, ready: bool) -> None: ...

    def leave(self, session: Session) -> None:
        """The dyno goes down in good order."""

    def ended(self, session: Session, reason: str, lost: bool) -> None:
        """The session is over; `lost` says that the dyno is to be taken for dead."""


class Session(asyncio.Protocol):
    """One agent's control connection. `key` is the agent's id, `token` and `digest` are its token's id and hash."""

    __slots__ = (
        "_asked",
        "_buffer",
        "_clock",
        "_heard",
        "_lines",
        "_number",
        "_owner",
        "_pinged",
        "_transport",
        "address",
        "closed",
        "digest",
        "drained",
        "dyno",
        "dynos",
        "key",
        "since",
        "token",
    )

    def __init__(
        self,
        owner: Owner,
        transport: asyncio.Transport,
        dynos: Dynos,
        key: str,
        token: str,
        digest: bytes,
        address: str,
        clock: Clock,
    ) -> None:
        now = clock.monotonic()
        self._owner = owner
        self._clock = clock
        self._transport = transport
        self._buffer = bytearray()
        self._lines = 0
        self._number = 0
        self._heard = now
        self._pinged = now
        self._asked = 0.0  # when the oldest ping without an answer went out; 0 when there is none
        self.dynos = dynos
        self.key = key
        self.token = token
        self.digest = digest
        self.address = address
        self.since = now
        self.dyno: Dyno | None = None  # once it has registered
        self.closed = False
        self.drained = False  # the agent knows that nothing of its dyno is in flight

    def __repr__(self) -> str:
        state = "closed" if self.closed else "new" if self.dyno is None else "registered"
        return f"<Session {self.address} {state} {self.dyno!r}>"

    def send(self, kind: str, **values: object) -> None:
        """Send a message; an agent that reads nothing is dropped."""
        if self.closed or self._transport.is_closing():
            return
        self._transport.write(encode(kind, **values))
        if self._transport.get_write_buffer_size() > MOST_UNREAD:
            self.end("it does not read", lost=True)

    def end(self, reason: str, *, lost: bool = False) -> None:
        """Close; what was sent before still goes out, unless the agent is lost."""
        if self.closed:
            return
        self.closed = True
        if lost:
            self._transport.abort()
        else:
            self._transport.close()
        self._owner.ended(self, reason, lost)

    def tick(self, now: float) -> bool:
        """Look at the clock; whether a ping was sent."""
        if now - self._heard >= SILENCE_S or (self._asked and now - self._asked >= SILENCE_S):
            self.end(f"silent for {SILENCE_S:.0f} s", lost=True)
        elif self.dyno is None and now - self.since >= REGISTER_S:
            self.end("it did not register")
        elif now - self._pinged >= HEARTBEAT_S and not self.closed:
            self._pinged = now
            self._asked = self._asked or now
            self._number += 1
            self._lines = 0
            self.send("ping", n=self._number)
            return True
        return False

    # ---- from the agent ----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while not self.closed:
            end = self._buffer.find(b"\n", 0, LINE_LIMIT)
            if end < 0:
                if len(self._buffer) >= LINE_LIMIT:
                    self.end(f"a line of more than {LINE_LIMIT} bytes")
                return
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._lines += 1
            if self._lines > MOST_LINES:
                self.end("too many messages")
                return
            self._line(line)

    def _line(self, line: bytes) -> None:
        owner = self._owner
        try:
            message = decode(line)
        except Malformed as error:
            self.end(f"malformed message: {error}")
            return
        self._heard = self._clock.monotonic()
        if isinstance(message, Register):
            if self.dyno is not None:
                self.end("it registered twice")
            else:
                owner.register(self, message)
        elif message is None:
            return
        elif self.dyno is None:
            self.end("the first message was not register")
        elif isinstance(message, Pong):
            if message.n == self._number:
                self._asked = 0.0
            owner.told(self, message)
        elif isinstance(message, Ping):
            self.send("pong", n=message.n)
            owner.told(self, message)
        elif isinstance(message, Ready):
            owner.ready(self, message.ready)
        elif isinstance(message, Drain):
            owner.leave(self)

    def eof_received(self) -> bool:
        self.end("it closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.end("the connection was lost")
