"""Which stores are in use on this machine, as far as this user may see: found by who holds their memory.

A process has a descriptor of the store that it maps, and /proc lets its user (and root) open the same memory through
it. So nothing needs to be written down, cleaned up or asked for, and an embedded edge is found as `flyby serve` is.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from flyby.store.cache_file import OPEN, RECORD_AT, read_record
from flyby.store.segment import MEMFD_NAME, MINIMUM


@dataclass(frozen=True, slots=True)
class RunningStore:
    """A store in use. `path` opens it; `name` is for people: its file, or "memory"."""

    process: int  # the one that made it
    processes: tuple[int, ...]
    path: str
    name: str


def running_stores(proc: Path = Path("/proc")) -> list[RunningStore]:
    """Every store that a living process of ours has open, by the process that made it."""
    holders: dict[tuple[int, int], list[tuple[int, str, str]]] = {}
    makers: dict[tuple[int, int], int | None] = {}
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # not ours, or it ended while we looked
            for descriptor in (entry / "fd").iterdir():
                with contextlib.suppress(OSError):
                    found = descriptor.stat()
                    if not stat.S_ISREG(found.st_mode) or found.st_size < MINIMUM or found.st_blocks == 0:
                        continue
                    file = (found.st_dev, found.st_ino)
                    if file not in makers:
                        makers[file] = _maker(descriptor)
                    if makers[file] is not None:
                        # Read now: a process that ends before all are counted has nothing to read any more.
                        held_by = (int(entry.name), str(descriptor), os.readlink(descriptor))
                        holders.setdefault(file, []).append(held_by)
    stores = []
    for file, held in holders.items():
        maker = makers[file]
        process, path, link = next((each for each in held if each[0] == maker), min(held))
        name = "memory" if link.startswith(f"/memfd:{MEMFD_NAME}") else link
        stores.append(RunningStore(process, tuple(sorted({pid for pid, *_ in held})), path, name))
    return sorted(stores, key=lambda store: store.process)


def _maker(descriptor: Path) -> int | None:
    """The process that opened the store behind a descriptor; None when there is no store."""
    fd = os.open(descriptor, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        record = read_record(bytes(RECORD_AT) + os.pread(fd, RECORD_AT, RECORD_AT))
    finally:
        os.close(fd)
    return record.process if record is not None and record.state == OPEN else None
