"""CPU time of a process and all its descendants, as the kernel accounts for it (proc(5), /proc/PID/stat).

A proxy is measured as a tree: a master, its workers, and children that came and went. The time of a child that has
ended and was waited for is in its parent's `cutime` and `cstime`, that of a living one in its own `utime` and
`stime`, so the sum of the four over the living tree counts every tick once. One tick is 10 ms: a measurement must
burn a good second of CPU before its last digit means anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND: int = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessTimes:
    """What one line of /proc/PID/stat says."""

    pid: int
    parent: int
    ticks: int


def parse_stat(text: str) -> ProcessTimes:
    """One process; its name stands in parentheses and may itself hold spaces and parentheses."""
    front, _, rest = text.rpartition(")")
    fields = rest.split()
    # fields[0] is field 3 of proc(5): 4 is the parent, 14 to 17 are utime, stime, cutime, cstime.
    return ProcessTimes(int(front.split(" ", 1)[0]), int(fields[1]), sum(int(each) for each in fields[11:15]))


def tree(root: int, processes: Iterable[ProcessTimes]) -> list[ProcessTimes]:
    """`root` and everything below it; empty when it does not live."""
    known = {process.pid: process for process in processes}
    children: dict[int, list[int]] = {}
    for process in known.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: list[ProcessTimes] = []
    waiting = [root] if root in known else []
    while waiting:
        pid = waiting.pop()
        found.append(known[pid])
        waiting += children.get(pid, [])
    return found


def living() -> list[ProcessTimes]:
    """Every process of the machine that can be read."""
    processes = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                processes.append(parse_stat((entry / "stat").read_text(errors="replace")))
            except OSError:  # it ended while we looked
                continue
    return processes


def seconds(root: int) -> float:
    """CPU seconds, user and system, that the tree below `root` has used since it began."""
    return sum(process.ticks for process in tree(root, living())) / TICKS_PER_SECOND
