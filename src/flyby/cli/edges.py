"""Which edges run on this machine, as far as this user may see, and which control state each of them reads.

    /proc/PID/cmdline, cwd, environ of `flyby serve …` ──▶ the options that it was started with, and its file

A process is known for an edge by the store that it has made (`store.running`), as `flyby stat` knows it. Its command
line is read again as `flyby serve` reads it. An edge that a program embeds has no such command line, and is not found.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from flyby.config import Config
from flyby.control import default_directory
from flyby.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RunningEdge:
    """An edge: its supervisor's process, and where it looks for backends."""

    process: int
    directory: Path
    preview_domain: str
    config: str | None  # its file

    def __str__(self) -> str:
        return f"process {self.process}, state {self.directory}"


def running_edges(proc: Path = Path("/proc")) -> list[RunningEdge]:
    """Every `flyby serve` of which this user may see the memory, by process."""
    from flyby.store.running import running_stores

    found = []
    for process in sorted({store.process for store in running_stores(proc)}):
        with suppress(OSError, ValueError, ConfigError, click.ClickException):
            found.append(_edge(proc / str(process), process))
    return found


def _edge(entry: Path, process: int) -> RunningEdge:
    arguments = [each.decode(errors="surrogateescape") for each in (entry / "cmdline").read_bytes().split(b"\0")[:-1]]
    home = Path(os.readlink(entry / "cwd"))
    pairs = (each.partition(b"=") for each in (entry / "environ").read_bytes().split(b"\0") if each)
    environment = {name.decode(errors="replace"): value.decode(errors="surrogateescape") for name, _, value in pairs}
    return described(process, arguments[arguments.index("serve") + 1 :], home, environment)


def described(process: int, options: list[str], home: Path, environment: Mapping[str, str]) -> RunningEdge:
    """The edge that `flyby serve OPTIONS` is, when it is started in `home` with such an environment."""
    from flyby.cli.serve import command

    given = command.make_context("serve", list(options), resilient_parsing=True).params
    path = str(home / given["path"]) if given.get("path") else None
    config = Config.load(path) if path is not None else Config()
    named = given.get("state") or config.server.state
    directory = home / named if named else default_directory(environment)
    return RunningEdge(process, directory, config.server.preview_domain, path)
