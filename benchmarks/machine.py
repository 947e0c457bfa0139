"""The machine that a figure belongs to, and which of its cores does what.

The client and the origin share one core, the server under test has the other to itself, so that what is measured is
the server. With one core, or without taskset, nothing is pinned and the report says so.
"""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """What stands above every table."""

    cpu: str
    cores: int
    kernel: str
    python: str
    client_core: int | None
    server_core: int | None

    @property
    def client_pin(self) -> tuple[str, ...]:
        """The prefix of wrk's and the origin's command lines."""
        return _pin(self.client_core)

    @property
    def server_pin(self) -> tuple[str, ...]:
        """The prefix of the command line of the server under test."""
        return _pin(self.server_core)

    def describe(self) -> str:
        """One line."""
        pinned = (
            "not pinned"
            if self.server_core is None
            else f"wrk and origin on core {self.client_core}, the server on core {self.server_core}"
        )
        return f"{self.cpu}, {self.cores} cores, Linux {self.kernel}, Python {self.python}; {pinned}"


def _pin(core: int | None) -> tuple[str, ...]:
    return () if core is None else ("taskset", "-c", str(core))


def cpu_model(cpuinfo: str) -> str:
    """The first model that /proc/cpuinfo names; ARM kernels name none."""
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() in ("model name", "Model"):
            return " ".join(value.split())
    return platform.machine()


def machine() -> Machine:
    """This one."""
    cores = sorted(os.sched_getaffinity(0))
    pinned = len(cores) >= 2 and shutil.which("taskset") is not None
    return Machine(
        cpu=cpu_model(Path("/proc/cpuinfo").read_text(errors="replace")),
        cores=len(cores),
        kernel=platform.release(),
        python=platform.python_version(),
        client_core=cores[0] if pinned else None,
        server_core=cores[-1] if pinned else None,
    )
