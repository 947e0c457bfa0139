"""The control messages of flyby-tunnel/1: JSON objects, one a line, at most 16 KiB. Pure.

    agent ─▶ edge   register, ping, pong, ready, drain
    edge ─▶ agent   registered, refused, ping, pong, spare, drained, drain, revoked, replaced

Unknown types and unknown keys are ignored, so that either side may be the newer one. What is known must be well
typed and short. What a dyno calls itself is any text: `printable` before it ends up in a log.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

PROTOCOL = 1
LINE_LIMIT = 16_384  # bytes, with the LF

Label = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=4096)]
Amount = Annotated[int, Meta(ge=0, le=1_000_000)]


class Malformed(ValueError):
    """A line that is no message."""


class Release(Struct, frozen=True):
    """What the dyno runs."""

    id: Label = ""
    description: Text = ""
    branch: Text = ""


class Register(Struct, frozen=True):
    """The first message of an agent: who it is. `capacity` is the exchanges that the dyno takes at a time."""

    protocol: int
    dyno: Label
    agent: Label = ""
    process: Label = ""
    release: Release = Release()
    region: Label = ""
    capacity: Annotated[int, Meta(ge=1, le=65_535)] = 100
    ready: bool = False


class Ping(Struct, frozen=True):
    """A heartbeat, with how the dyno fares; to be answered by a `Pong` of the same number."""

    n: int
    in_flight: Amount = 0
    latency_ms: Annotated[float, Meta(ge=0)] | None = None
    ready: bool | None = None


class Pong(Ping, frozen=True):
    """The answer to our ping `n`."""


class Ready(Struct, frozen=True):
    """Whether the app takes requests."""

    ready: bool


class Drain(Struct, frozen=True):
    """The dyno goes down: no more requests."""


class _Kind(Struct, frozen=True):
    type: str


Message = Register | Ping | Pong | Ready | Drain

_KINDS: dict[str, msgspec.json.Decoder[Any]] = {
    "register": msgspec.json.Decoder(Register),
    "ping": msgspec.json.Decoder(Ping),
    "pong": msgspec.json.Decoder(Pong),
    "ready": msgspec.json.Decoder(Ready),
    "drain": msgspec.json.Decoder(Drain),
}
_KIND = msgspec.json.Decoder(_Kind)


def decode(line: bytes) -> Message | None:
    """The message of a line without its LF; None when its type is not known. Raises `Malformed`."""
    try:
        decoder = _KINDS.get(_KIND.decode(line).type)
        if decoder is None:
            return None
        message: Message = decoder.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error
    return message


def printable(label: str) -> str:
    """What a dyno says of itself, fit for a line of a log."""
    return "".join(letter if letter.isprintable() else "?" for letter in label) or "unknown"


def encode(kind: str, **values: object) -> bytes:
    """A line."""
    return msgspec.json.encode({"type": kind, **values}) + b"\n"
