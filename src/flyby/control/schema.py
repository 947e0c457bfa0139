"""The file of the control state: its tables, how it is made, and how an older one is brought up to date.

    PRAGMA application_id   that the file is flyby's
    PRAGMA user_version     how many of MIGRATIONS have been applied to it

A new file is made whole under a name of its own and then linked to the real one, so the database appears complete or
not at all, and of two programs that make it at once one wins. Migrations run in one transaction under the write lock.
A file of a newer flyby is refused: its rows might mean something that this one does not know. The journal is a WAL, so
that readers never wait for a writer; every commit is synced, since it may be the revocation of a token.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from flyby.control.directory import DATABASE, EX_DATAERR, explained, prepare
from flyby.errors import StateError

APPLICATION_ID = 0x466C7962  # "Flyb"
OLDEST_SQLITE = (3, 37, 0)  # the first with STRICT tables

# Each is applied once, in order; one that has been released is never changed.
MIGRATIONS = (
    """
    CREATE TABLE backends (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        created_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE origins (
        backend TEXT NOT NULL REFERENCES backends ON DELETE CASCADE,
        position INTEGER NOT NULL,
        url TEXT NOT NULL,
        PRIMARY KEY (backend, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY,
        backend TEXT NOT NULL REFERENCES backends ON DELETE CASCADE,
        digest BLOB NOT NULL CHECK (length(digest) = 32),
        created_ms INTEGER NOT NULL,
        revoked_ms INTEGER
    ) STRICT;
    CREATE INDEX tokens_of_backend ON tokens (backend);
    CREATE TABLE releases (
        backend TEXT NOT NULL REFERENCES backends ON DELETE CASCADE,
        id TEXT NOT NULL,
        description TEXT NOT NULL,
        branch TEXT NOT NULL,
        first_seen_ms INTEGER NOT NULL,
        first_ready_ms INTEGER,
        PRIMARY KEY (backend, id)
    ) STRICT, WITHOUT ROWID;
    """,
)


def connect(directory: Path, wait_s: float) -> sqlite3.Connection:
    """The database in `directory`, made if it is not there, and up to date. `StateError` says why it cannot be used."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StateError(f"SQLite {sqlite3.sqlite_version} is too old, flyby needs 3.37 or newer", EX_DATAERR)
    prepare(directory)
    path = directory / DATABASE
    if not path.exists():
        _create(directory, path)
    with explained(path):
        connection = _open(path, wait_s)
        try:
            _verify(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _open(path: Path, wait_s: float) -> sqlite3.Connection:
    # mode=rw: a file that vanished in between is an error, not an empty database without its mode.
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=wait_s)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _create(directory: Path, path: Path) -> None:
    draft = directory / f".{DATABASE}.{secrets.token_hex(8)}"
    try:
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(f"{path} cannot be made: {error.strerror} (choose another with --state DIR)", 73) from None
    try:
        os.close(descriptor)
        if os.geteuid() == 0:
            # Made by root for the user that the directory was given to: he must be able to open it.
            owner = directory.stat()
            os.chown(draft, owner.st_uid, owner.st_gid)
        with explained(path), closing(_open(draft, 0)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            _migrate(connection, 0)
        with suppress(FileExistsError):  # another program was quicker; its file is as good
            os.link(draft, path)
    except OSError as error:
        raise StateError(f"{path} cannot be made: {error.strerror} (choose another with --state DIR)", 73) from None
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{draft}{suffix}").unlink(missing_ok=True)


def _verify(connection: sqlite3.Connection, path: Path) -> None:
    [application] = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise StateError(f"{path} is not flyby's database (is this the directory that you mean?)", EX_DATAERR)
    version = _version(connection)
    if version > len(MIGRATIONS):
        raise StateError(
            f"{path} was written by a newer flyby (version {version} of its tables, this flyby knows"
            f" {len(MIGRATIONS)}; upgrade flyby)",
            EX_DATAERR,
        )
    if version < len(MIGRATIONS):
        _migrate(connection, version)
    connection.execute("SELECT count(*) FROM backends").fetchone()


def _version(connection: sqlite3.Connection) -> int:
    [version] = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Somebody may have been here while we waited for the lock.
        version = max(version, _version(connection))
        for migration in MIGRATIONS[version:]:
            for statement in filter(None, map(str.strip, migration.split(";"))):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
