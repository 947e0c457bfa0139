"""`State`: the control state as everybody uses it.

One object a process, opened after the fork (SQLite's connections do not survive one) and used by one thread. Backends
are named by their name. Every change is one transaction; every failure is a `StateError` of one sentence.

`changed` is cheap enough to be asked all the time: SQLite keeps a counter that moves with each commit of another
connection (PRAGMA data_version), and reading it touches shared memory only; this connection's own are counted in it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from flyby.clock import Clock, SystemClock
from flyby.control import backends, releases, schema, tokens
from flyby.control.backends import BackendRecord, backend_name
from flyby.control.directory import DATABASE, explained
from flyby.control.releases import ReleaseRecord
from flyby.control.tokens import TokenRecord
from flyby.errors import StateError

EX_NOINPUT = 66

WAIT_S = 5.0  # how long a change waits for another program's


class State:
    """See the module's text."""

    __slots__ = ("_clock", "_connection", "_seen", "path")

    def __init__(self, path: Path, connection: sqlite3.Connection, clock: Clock) -> None:
        self.path = path
        self._connection = connection
        self._clock = clock
        self._seen = self._version()

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        create: bool = True,
        clock: Clock | None = None,
        wait_s: float = WAIT_S,
    ) -> State:
        """The state in `directory`; with `create` it is made if it is not there. `wait_s` bounds the wait for another
        writer.
        """
        place = Path(directory)
        if not create and place.exists() and not place.is_dir():
            raise StateError(f"{place} is not a directory (--state names the directory)", EX_NOINPUT)
        if not create and not (place / DATABASE).exists():
            raise StateError(f"{place / DATABASE} is not there (flyby backend add NAME makes it)", EX_NOINPUT)
        connection = schema.connect(place, wait_s)
        return cls(place / DATABASE, connection, clock or SystemClock())

    def __repr__(self) -> str:
        return f"<State {self.path}>"

    def __enter__(self) -> State:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def changed(self) -> bool:
        """Whether anything has changed, here or in another process, since this was asked last or since the opening."""
        before, self._seen = self._seen, self._version()
        return self._seen != before

    def _version(self) -> tuple[int, int]:
        with explained(self.path):
            [others] = self._connection.execute("PRAGMA data_version").fetchone()
        return others, self._connection.total_changes

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """One transaction that holds the write lock from its start, so that what it reads stays true."""
        with explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk has made SQLite roll back by itself.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    # ---- backends ----------------------------------------------------------------------------------------------------

    def backends(self) -> list[BackendRecord]:
        """Every backend, by name."""
        with explained(self.path):
            return backends.select(self._connection)

    def backend(self, name: str) -> BackendRecord | None:
        """One backend, or None."""
        return next((record for record in self.backends() if record.name == name), None)

    def add_backend(self, name: str, origins: Sequence[str] = ()) -> tuple[BackendRecord, str]:
        """A new backend, and the text of its first token. `origins` are URLs that the configuration would take."""
        try:
            backend_name(name)
        except ValueError as error:
            raise StateError(str(error)) from None
        with self._change() as connection:
            now = self._clock.wall_ms()
            record = backends.insert(connection, name, origins, now)
            _, text = tokens.insert(connection, record.id, name, now)
        return record, text

    def remove_backend(self, name: str) -> None:
        """Remove a backend with its origins, tokens and releases."""
        with self._change() as connection:
            if not backends.delete(connection, name):
                raise self._unknown(name)

    # ---- tokens ------------------------------------------------------------------------------------------------------

    def create_token(self, backend: str) -> tuple[TokenRecord, str]:
        """One more token of a backend, and its text, which cannot be had again."""
        with self._change() as connection:
            record = self._known(backend)
            return tokens.insert(connection, record.id, backend, self._clock.wall_ms())

    def import_token(self, backend: str, text: str, *, add: bool = False) -> TokenRecord:
        """Make a token good here that another edge has made; nothing changes when it is. With `add` the backend is made
        if it is not there."""
        with self._change() as connection:
            record = self.backend(backend)
            if record is None and add:
                try:
                    backend_name(backend)
                except ValueError as error:
                    raise StateError(str(error)) from None
                record = backends.insert(connection, backend, (), self._clock.wall_ms())
            if record is None:
                raise self._unknown(backend)
            return tokens.adopt(connection, record.id, backend, text, self._clock.wall_ms())

    def tokens(self, backend: str) -> list[TokenRecord]:
        """A backend's tokens, the oldest first, revoked ones too."""
        self._known(backend)
        with explained(self.path):
            return tokens.select(self._connection, backend)

    def live_tokens(self) -> frozenset[str]:
        """The ids of all tokens that `authenticate` would still take."""
        with explained(self.path):
            return frozenset(record.id for record in tokens.select(self._connection) if record.live)

    def token(self, token: str) -> TokenRecord | None:
        """The token of that id, or None."""
        with explained(self.path):
            return tokens.find(self._connection, token)

    def revoke(self, token: str) -> TokenRecord:
        """Revoke the token of that id; one that was revoked before keeps its time."""
        with self._change() as connection:
            tokens.revoke(connection, token, self._clock.wall_ms())
            record = tokens.find(connection, token)
            if record is None:
                raise StateError(f"there is no token {token} (see flyby token list BACKEND)")
        return record

    def authenticate(self, text: str) -> TokenRecord | None:
        """The live token whose text this is, or None; takes as long for a wrong one."""
        with explained(self.path):
            return tokens.authenticate(self._connection, text)

    # ---- releases ----------------------------------------------------------------------------------------------------

    def record_release(self, backend: str, release: str, *, description: str = "", branch: str = "") -> bool:
        """Note a release that a dyno has named; True for the one caller that is the first to name it."""
        with self._change() as connection:
            record = self._known(backend)
            return releases.insert(connection, record.id, release, description, branch, self._clock.wall_ms())

    def release_ready(self, backend: str, release: str) -> bool:
        """Note that a dyno of the release takes traffic; True for the one caller whose dyno is its first."""
        with self._change() as connection:
            return releases.ready(connection, self._known(backend).id, release, self._clock.wall_ms())

    def releases(self, backend: str) -> list[ReleaseRecord]:
        """A backend's releases, the newest first."""
        self._known(backend)
        with explained(self.path):
            return releases.select(self._connection, backend)

    def _known(self, backend: str) -> BackendRecord:
        record = self.backend(backend)
        if record is None:
            raise self._unknown(backend)
        return record

    def _unknown(self, backend: str) -> StateError:
        names = ", ".join(record.name for record in self.backends())
        hint = f"known: {names}" if names else f"flyby backend add {backend}"
        return StateError(f"there is no backend {backend} ({hint})")
