"""The control state as one worker of the edge sees it: opened when it is there, read again when it has changed.

    no file ──appears──▶ open ──`changed`, or another file in its place──▶ read ──▶ the edge takes it up
       └── looked for ten times a second; a failure is logged once, and what was known stays in use

A file that goes away is logged once, too. It stays open, so what it said goes on: backends are served and its tokens
are good, until it is there again, or another one.

The edge never makes the state: a proxy that only serves its configuration leaves nothing in anybody's home. What the
state adds to a configuration is decided by two pure functions at the end.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from flyby.clock import Clock
from flyby.config import Backend, Config
from flyby.control import DATABASE, BackendRecord, State
from flyby.errors import StateError

LOOK_S = 0.1  # between two looks
WAIT_S = 0.01  # how long a worker may wait for another program's lock: its event loop stands still meanwhile

logger = logging.getLogger("flyby.edge")


class Watch:
    """`state` is what is open, None while there is none; `records` its backends as last read."""

    __slots__ = ("_behind", "_clock", "_directory", "_file", "_gone", "_told", "records", "state")

    def __init__(self, directory: Path | None, state: State | None, clock: Clock) -> None:
        self.state = state
        self.records: tuple[BackendRecord, ...] = tuple(state.backends()) if state is not None else ()
        self._directory = directory if state is None else None  # a state that was given is its giver's to open
        self._file: tuple[int, int] | None = None
        self._clock = clock
        self._told = ""
        self._behind = False  # there was a change that could not be read
        self._gone = False  # the file that is open cannot be found any more

    def __repr__(self) -> str:
        return f"<Watch {self.state!r}, {len(self.records)} backends>"

    def look(self) -> bool:
        """Whether anything is different since the last look: backends, tokens or releases."""
        try:
            opened = self._directory is not None and self._open(self._directory)
            if self.state is None or not (opened or self.state.changed() or self._behind):
                return False
            self._behind = True
            self.records = tuple(self.state.backends())
        except StateError as error:
            if str(error) != self._told:
                self._told = str(error)
                logger.error("%s; what is known of its backends stays in use", error)
            return False
        self._behind = False
        self._told = ""
        return True

    def _open(self, directory: Path) -> bool:
        """Open the file if it is one that we do not have open; it may have been restored from a copy."""
        place = directory / DATABASE
        try:
            found = os.stat(place)
        except OSError as error:
            if self._file is not None and not self._gone:
                self._gone = True
                logger.error("%s: %s; its backends and tokens stay in use until it is back", place, error.strerror)
            return False
        if self._gone:
            self._gone = False
            logger.info("%s is there again", place)
        file = (found.st_dev, found.st_ino)
        if file == self._file:
            return False
        fresh = State.open(directory, create=False, clock=self._clock, wait_s=WAIT_S)
        if self.state is not None:
            self.state.close()
        self.state, self._file = fresh, file
        return True

    def close(self) -> None:
        """Close what was opened here."""
        if self._directory is not None and self.state is not None:
            self.state.close()
        self.state = None


def joined(config: Config, records: Iterable[BackendRecord]) -> dict[str, Backend]:
    """The configuration's backends and the state's. Of one that is in both, the configuration's settings count."""
    backends = dict(config.backends)
    for record in records:
        known = backends.get(record.name)
        origins = list(record.origins)
        if known is None:
            backends[record.name] = Backend(origins=origins, tunnel=True)
        else:
            backends[record.name] = replace(known, origins=known.origins or origins, tunnel=True)
    return backends


def previews(config: Config, records: Iterable[BackendRecord]) -> dict[str, str]:
    """The host name of each preview, and its backend. Only the state's backends have one: a backend that is only
    configured may be meant for no other way in than its routes."""
    domain = config.server.preview_domain.lower()
    return {f"{record.name}.{domain}": record.name for record in records} if domain else {}
