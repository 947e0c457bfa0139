"""Which dynos are connected, as each worker of a running edge says: one small file a worker, beside the database.

    DIR/running/NAME.json      replaced whole when the worker's dynos change, and every few seconds

Written by each worker for itself, read by the other workers (is a dyno to be expected here too?) and by the command
line. Nothing is kept: a file that has not been written for `STALE_S` says nothing any more, and is removed in time.
It is not in the database because it changes with every second of traffic, and a commit there is synced to the disk.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

FOLDER = "running"
STALE_S = 15.0
REMOVED_S = 3600.0
_ENDING = ".json"


def publish(directory: Path, name: str, said: dict[str, Any]) -> None:
    """Put what worker `name` says in the place of what it said before. Raises `OSError`."""
    folder = directory / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    draft = folder / f".{name}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(json.dumps(said, separators=(",", ":")).encode())
    os.replace(draft, folder / (name + _ENDING))


def withdraw(directory: Path, name: str) -> None:
    """Worker `name` has nothing to say any more."""
    with suppress(OSError):
        (directory / FOLDER / (name + _ENDING)).unlink()


def sweep(directory: Path) -> None:
    """Remove what workers that were killed have left, some time ago."""
    for path, age_s in _files(directory):
        if age_s > REMOVED_S:
            with suppress(OSError):
                path.unlink()


def read(directory: Path, but: str = "") -> list[dict[str, Any]]:
    """What every worker says that is running, but for the one of that name. What cannot be read is left out."""
    found = []
    for path, age_s in _files(directory):
        if age_s <= STALE_S and path.name != but + _ENDING:
            with suppress(OSError, ValueError):
                said = json.loads(path.read_bytes())
                if isinstance(said, dict):
                    found.append(said)
    return found


def _files(directory: Path) -> Iterator[tuple[Path, float]]:
    """Each file, in the order of the names, and how long ago it was written; by the wall clock, as files are."""
    with suppress(OSError):
        for path in sorted((directory / FOLDER).iterdir()):
            if path.name.endswith(_ENDING) and not path.name.startswith("."):
                with suppress(OSError):
                    yield path, abs(time.time() - path.stat().st_mtime)
