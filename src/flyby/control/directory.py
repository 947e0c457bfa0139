"""Where the control state lies: which directory, who may look into it, and what SQLite's failures mean there.

The directory is the one that `--state` or `server.state` names, else the systemd unit's StateDirectory, else
`flyby` in the state home of the XDG base directory specification. It is made with mode 0700 and the file in it with
0600: tokens are hashed, but who can write the file can let himself in.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from flyby.errors import StateError

DATABASE = "flyby.db"

EX_DATAERR = 65
EX_CANTCREAT = 73
EX_IOERR = 74
EX_TEMPFAIL = 75
EX_NOPERM = 77

# What SQLite says, in its primary codes, and what we make of it: (what is wrong, what to do, the exit code).
_BROKEN = ("is damaged", "restore it from a copy, or move it away and add the backends again", EX_DATAERR)
_FAILURES = {
    sqlite3.SQLITE_PERM: ("cannot be opened", "it must belong to the user that flyby runs as", EX_NOPERM),
    sqlite3.SQLITE_AUTH: ("cannot be opened", "it must belong to the user that flyby runs as", EX_NOPERM),
    sqlite3.SQLITE_BUSY: ("is locked by another program", "try again", EX_TEMPFAIL),
    sqlite3.SQLITE_LOCKED: ("is locked by another program", "try again", EX_TEMPFAIL),
    sqlite3.SQLITE_READONLY: (
        "cannot be written",
        "its directory must be writable, too, for the user that flyby runs as",
        EX_NOPERM,
    ),
    sqlite3.SQLITE_IOERR: ("cannot be read or written", "see the kernel's log for the disk's errors", EX_IOERR),
    sqlite3.SQLITE_CORRUPT: _BROKEN,
    sqlite3.SQLITE_FULL: ("cannot grow: the disk is full", "make room, then try again", EX_IOERR),
    sqlite3.SQLITE_CANTOPEN: (
        "cannot be opened",
        "it and its directory must be readable and writable for the user that flyby runs as",
        EX_NOPERM,
    ),
    sqlite3.SQLITE_NOTADB: ("is not a SQLite database", "is this the directory that you mean?", EX_DATAERR),
}
_PRIMARY = 0xFF  # the part of an extended result code that is the primary one


def default_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """The state's directory when nobody names one."""
    # systemd joins several directories with a colon; the first is ours.
    unit = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    if unit:
        return Path(unit)
    home = environment.get("XDG_STATE_HOME", "")
    # A relative path in the variable is to be ignored, says the specification.
    return (Path(home) if home.startswith("/") else Path("~/.local/state").expanduser()) / "flyby"


def prepare(directory: Path) -> None:
    """Make the directory unless it is there; refuse one in which others could put a file of their own."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
    except (FileExistsError, NotADirectoryError):
        raise StateError(f"{directory} is not a directory (--state names the directory)", EX_CANTCREAT) from None
    except OSError as error:
        code = EX_NOPERM if isinstance(error, PermissionError) else EX_CANTCREAT
        raise StateError(f"{directory} cannot be made: {error.strerror} (choose one with --state DIR)", code) from None
    if stat.S_IMODE(found.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
        raise StateError(f"{directory} can be written by other users (chmod go-w {directory})", EX_NOPERM)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into one sentence with a remedy."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY
        what, remedy, exit_code = _FAILURES.get(code, (f"cannot be used: {error}", "is it flyby's own?", EX_DATAERR))
        raise StateError(f"{path} {what} ({remedy})", exit_code) from error
