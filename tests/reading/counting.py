"""The files of `src/` whose lines run while something is played.

Lines are told by sys.monitoring (PEP 669), to which Cython's code reports from CPython 3.13 on. Before, it reports to
the tracer of `sys.settrace`, and also makes a Python object of whatever a function returns, which the C structures here
do not survive: such a build is not counted with.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType

from flyby.wire import Fields

SRC = Path(__file__).parents[2] / "src"
PACKAGE = "flyby/"
TOOL = 4  # one of those that nobody has reserved


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
    """Count while the block runs."""
    seen = Seen()
    if sys.version_info < (3, 13):
        yield seen
        return
    known: dict[str, str | None] = {}

    def line(code: CodeType, number: int) -> None:
        if code.co_filename not in known:
            known[code.co_filename] = _below_source(code.co_filename)
        name = known[code.co_filename]
        if name is not None:
            seen.lines.setdefault(name, set()).add(number)

    monitoring = sys.monitoring
    monitoring.use_tool_id(TOOL, "flyby's reading")
    monitoring.register_callback(TOOL, monitoring.events.LINE, line)
    monitoring.set_events(TOOL, monitoring.events.LINE)
    try:
        yield seen
    finally:
        monitoring.set_events(TOOL, 0)
        monitoring.register_callback(TOOL, monitoring.events.LINE, None)
        monitoring.free_tool_id(TOOL)
