"""Backends of the control state: a name, an id, and the origins that may stand behind it.

A name is a DNS label, for it becomes one: NAME.<preview domain> (RFC 1123 2.1; RFC 5891 4.2.3.1 keeps "--" in the
third and fourth place for IDNA). The id never changes and is never used again, so that a backend which was removed and
added anew is told from the old one.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from flyby.control.base62 import random_text
from flyby.errors import StateError

ID_LENGTH = 12

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z", re.ASCII)
_RESERVED = re.compile(r"..--", re.ASCII)


@dataclass(frozen=True, slots=True)
class BackendRecord:
    """One backend. `origins` is empty when only dynos that dial in serve it."""

    id: str
    name: str
    origins: tuple[str, ...]
    created_ms: int


def backend_name(text: str) -> str:
    """`text` if it can be a backend's name; `ValueError` says what is wrong with it, and what would do."""
    if not _LABEL.match(text):
        near = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].rstrip("-")
        hint = f'; did you mean "{near}"?' if near and not _RESERVED.match(near) else ""
        raise ValueError(
            f"{text!r} cannot be a host name: use 1 to 63 of a-z, 0-9 and -, beginning and ending without -{hint}"
        )
    if _RESERVED.match(text):
        raise ValueError(f"{text!r} cannot be a host name: -- in the third and fourth place is kept for IDNA")
    return text


def insert(connection: sqlite3.Connection, name: str, origins: Sequence[str], now_ms: int) -> BackendRecord:
    record = BackendRecord(random_text(ID_LENGTH), name, tuple(origins), now_ms)
    try:
        connection.execute("INSERT INTO backends VALUES (?, ?, ?)", (record.id, name, now_ms))
    except sqlite3.IntegrityError:
        raise StateError(f"there is a backend {name} already (see flyby backend show {name})") from None
    rows = [(record.id, position, url) for position, url in enumerate(origins)]
    connection.executemany("INSERT INTO origins VALUES (?, ?, ?)", rows)
    return record


def select(connection: sqlite3.Connection) -> list[BackendRecord]:
    """Every backend, by name."""
    origins: dict[str, list[str]] = {}
    for backend, url in connection.execute("SELECT backend, url FROM origins ORDER BY backend, position"):
        origins.setdefault(backend, []).append(url)
    rows = connection.execute("SELECT id, name, created_ms FROM backends ORDER BY name")
    return [BackendRecord(id_, name, tuple(origins.get(id_, ())), created) for id_, name, created in rows]


def delete(connection: sqlite3.Connection, name: str) -> bool:
    """Remove a backend with all that belongs to it; whether it was there."""
    return connection.execute("DELETE FROM backends WHERE name = ?", (name,)).rowcount > 0
