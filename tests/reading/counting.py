"""The files of `src/` whose lines run while something is played."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from flyby.wire import Fields

SRC = Path(__file__).parents[2] / "src"
PACKAGE = "flyby/"


def built_for_it() -> bool:
    """Whether the extensions call the tracer: a Cython function that is called shows."""
    with counted() as seen:
        Fields().get(b"x")
    return any(name.endswith(".pyx") for name in seen.lines)


@dataclass
class Seen:
    """What ran, by the path of its file below `src/`."""

    lines: dict[str, set[int]] = field(default_factory=dict)

    def files(self, leave_out: str = "") -> dict[str, int]:
        """Each file and how many lines it has; without those below `leave_out`."""
        return {
            name: len((SRC / name).read_text().splitlines())
            for name in sorted(self.lines)
            if not (leave_out and name.startswith(leave_out))
        }


def _below_source(filename: str) -> str | None:
    """The part of a file's name that is its path below `src/`; None for files of others."""
    at = filename.rfind(PACKAGE)
    name = filename[at:]
    return name if at >= 0 and (SRC / name).is_file() else None


@contextlib.contextmanager
def counted() -> Iterator[Seen]:
    """Count in this thread while the block runs; only what is called in it, not what is running already."""
    seen = Seen()
    known: dict[str, str | None] = {}

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        filename = frame.f_code.co_filename
        if filename not in known:
            known[filename] = _below_source(filename)
        name = known[filename]
        if name is None:
            return None
        if event == "line":
            seen.lines.setdefault(name, set()).add(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(before)
