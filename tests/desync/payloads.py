"""The payloads and what is expected of a proxy for each.

`reject`: an error or a close, and no byte to the upstream. `forward-normalised`: it is valid and must pass. `either`:
both are conforming. The further fields say what else is accepted (`may_timeout`, `abort_ok`), what makes the payload
look as if it were smuggling when it is not (`smuggled_is_legit`, `incomplete`), and which field lines must or must not
be seen behind the proxy (`require_up`, `forbid_up`, `forbid_down`: beginnings of lower-case lines without spaces).
"""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("payloads.json")


@dataclass(frozen=True)
class Payload:
    name: str
    side: str
    expect: str
    control: bool
    why: str
    rfc: str
    request: bytes
    script: bytes | None  # what the upstream answers, when it is the hostile side
    max_upstream_requests: int
    eof: bool
    abort_ok: bool
    may_timeout: bool
    incomplete: bool
    smuggled_is_legit: bool
    require_up: tuple[bytes, ...]
    forbid_up: tuple[bytes, ...]
    forbid_down: tuple[bytes, ...]

    @property
    def method(self) -> bytes:
        return self.request.lstrip().split(b" ", 1)[0]


def _payload(entry: dict[str, Any]) -> Payload:
    raw = b64decode(entry["bytes_b64"])
    response = entry["side"] == "response"
    request = raw
    if response:
        # A target of its own, so that no answer that the proxy may store is given to another payload.
        request = b64decode(entry["request_b64"]).replace(b"/r ", b"/r-%s " % entry["name"].encode(), 1)
    lines = {
        key: tuple(each.encode() for each in entry.get(key, ())) for key in ("require_up", "forbid_up", "forbid_down")
    }
    flags = {key: bool(entry.get(key)) for key in ("eof", "abort_ok", "may_timeout", "incomplete", "smuggled_is_legit")}
    plain = {key: entry[key] for key in ("name", "side", "expect", "control", "why", "rfc", "max_upstream_requests")}
    return Payload(request=request, script=raw if response else None, **plain, **flags, **lines)


def load() -> list[Payload]:
    return [_payload(entry) for entry in json.loads(FILE.read_text())]
