"""Releases of a backend's app, as its dynos name them when they register.

A release is noted once, by whichever worker hears of it first, and becomes ready once, when the first dyno that runs
it takes traffic. Both are decided by the database, so that of all workers exactly one acts on either. What a dyno says
about itself is cut to a length that a page can show, and only the newest hundred releases of a backend are kept.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

MOST_KEPT = 100
ID_LENGTH = 128
TEXT_LENGTH = 256


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """One release. `first_ready_ms` is None until a dyno of it was ready."""

    id: str
    description: str
    branch: str
    first_seen_ms: int
    first_ready_ms: int | None


def insert(
    connection: sqlite3.Connection, backend_id: str, release: str, description: str, branch: str, now_ms: int
) -> bool:
    """Note a release; whether it is a new one."""
    row = (backend_id, release[:ID_LENGTH], description[:TEXT_LENGTH], branch[:TEXT_LENGTH], now_ms)
    new = connection.execute("INSERT OR IGNORE INTO releases VALUES (?, ?, ?, ?, ?, NULL)", row).rowcount > 0
    if new:
        kept = "SELECT id FROM releases WHERE backend = ?1 ORDER BY first_seen_ms DESC, id DESC LIMIT ?2"
        connection.execute(
            f"DELETE FROM releases WHERE backend = ?1 AND id NOT IN ({kept}) AND id <> ?3",
            (backend_id, MOST_KEPT, row[1]),
        )
    return new


def ready(connection: sqlite3.Connection, backend_id: str, release: str, now_ms: int) -> bool:
    """Note that a dyno of the release is ready; whether it is the first."""
    statement = "UPDATE releases SET first_ready_ms = ? WHERE backend = ? AND id = ? AND first_ready_ms IS NULL"
    return connection.execute(statement, (now_ms, backend_id, release[:ID_LENGTH])).rowcount > 0


def select(connection: sqlite3.Connection, backend: str) -> list[ReleaseRecord]:
    """The releases of a backend, the newest first."""
    rows = connection.execute(
        "SELECT releases.id, description, branch, first_seen_ms, first_ready_ms"
        " FROM releases JOIN backends ON backends.id = releases.backend WHERE backends.name = ?"
        " ORDER BY first_seen_ms DESC, releases.id DESC",
        (backend,),
    )
    return [ReleaseRecord(*row) for row in rows]
