"""Tokens by which a dyno shows whose it is.

    fly_ 3kTz81Qa _ 0a9…43 characters…Zq
         id         secret

The id is public: it names the token in lists and logs and finds its row. The secret is 43 random base62 characters,
256 bits. The whole text is shown once; its SHA-256 is kept. A plain hash is enough, with neither salt nor stretching:
those slow down the guessing of what people choose, and nobody guesses one of 2^256. The digests are compared in
constant time, and an unknown id costs the same comparison, so that timing tells nothing of either.

A backend has at most two live tokens: the one in use and the one that replaces it. A revoked one keeps its row, with
the time. Several edges know one token when the text that one of them has made is imported by the others.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import sqlite3
from dataclasses import dataclass

from flyby.control.base62 import random_text
from flyby.errors import StateError

ID_LENGTH = 8
SECRET_LENGTH = 43  # 62^43 > 2^256
MOST_LIVE = 2

_TEXT = re.compile(r"fly_([0-9A-Za-z]{8})_[0-9A-Za-z]{43}\Z", re.ASCII)
_NO_DIGEST = bytes(32)  # no known text has it
_COLUMNS = (
    "SELECT tokens.id, backends.id, backends.name, tokens.created_ms, tokens.revoked_ms"
    " FROM tokens JOIN backends ON backends.id = tokens.backend"
)


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One token, without its secret. `backend` is the backend's name."""

    id: str
    backend_id: str
    backend: str
    created_ms: int
    revoked_ms: int | None

    @property
    def live(self) -> bool:
        return self.revoked_ms is None


def insert(connection: sqlite3.Connection, backend_id: str, backend: str, now_ms: int) -> tuple[TokenRecord, str]:
    """A new token and its text."""
    _check_room(connection, backend_id, backend)
    record = TokenRecord(random_text(ID_LENGTH), backend_id, backend, now_ms, None)
    text = f"fly_{record.id}_{random_text(SECRET_LENGTH)}"
    connection.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, NULL)", (record.id, backend_id, _digest(text), now_ms))
    return record, text


def _check_room(connection: sqlite3.Connection, backend_id: str, backend: str) -> None:
    """Raises `StateError` when the backend has as many live tokens as it may have."""
    count = "SELECT count(*) FROM tokens WHERE backend = ? AND revoked_ms IS NULL"
    [live] = connection.execute(count, (backend_id,)).fetchone()
    if live >= MOST_LIVE:
        raise StateError(f"backend {backend} has {live} live tokens already (flyby token revoke {backend} ID first)")


def adopt(connection: sqlite3.Connection, backend_id: str, backend: str, text: str, now_ms: int) -> TokenRecord:
    """A token that another edge has made, made good here too; the record that is there when it is good already."""
    match = _TEXT.match(text)
    if match is None:
        raise StateError("that is not the text of a token, fly_ID_SECRET", 65)
    known = find(connection, match[1])
    if known is not None:
        same = authenticate(connection, text)
        if same is not None and same.backend == backend:
            return same
        what = "is revoked here" if not known.live else f"is {known.backend}'s" if same else "has another secret here"
        raise StateError(f"the token {known.id} {what} (see flyby token list {known.backend})")
    _check_room(connection, backend_id, backend)
    record = TokenRecord(match[1], backend_id, backend, now_ms, None)
    connection.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, NULL)", (record.id, backend_id, _digest(text), now_ms))
    return record


def select(connection: sqlite3.Connection, backend: str | None = None) -> list[TokenRecord]:
    """The tokens of one backend or of all, the oldest first, revoked ones too."""
    where = " WHERE backends.name = ?" if backend is not None else ""
    order = " ORDER BY tokens.created_ms, tokens.rowid"
    return [TokenRecord(*row) for row in connection.execute(_COLUMNS + where + order, (backend,) if where else ())]


def find(connection: sqlite3.Connection, token: str) -> TokenRecord | None:
    row = connection.execute(f"{_COLUMNS} WHERE tokens.id = ?", (token,)).fetchone()
    return TokenRecord(*row) if row is not None else None


def authenticate(connection: sqlite3.Connection, text: str) -> TokenRecord | None:
    """The live token whose text this is."""
    match = _TEXT.match(text)
    if match is None:
        return None
    wanted = "SELECT digest FROM tokens WHERE id = ? AND revoked_ms IS NULL"
    row = connection.execute(wanted, (match[1],)).fetchone()
    same = hmac.compare_digest(_digest(text), row[0] if row is not None else _NO_DIGEST)
    return find(connection, match[1]) if same else None


def revoke(connection: sqlite3.Connection, token: str, now_ms: int) -> bool:
    """Whether it was live until now."""
    revoked = "UPDATE tokens SET revoked_ms = ? WHERE id = ? AND revoked_ms IS NULL"
    return connection.execute(revoked, (now_ms, token)).rowcount > 0


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("ascii")).digest()
