"""What the commands of the control state have in common: finding it, and writing tables, times and JSON.

Which state is meant, when nobody names it by --state or -c: that of an edge which runs here. A state which no running
edge reads is a trap: a token that is made there is known to nobody. So `Place` knows the edges that read it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from flyby.cli.edges import RunningEdge, running_edges
from flyby.config import Config
from flyby.control import DATABASE, State, default_directory, presence
from flyby.errors import StateError


@dataclass(frozen=True, slots=True)
class Place:
    """Where the state lies, the domain of its backends' preview hosts, and the running edges that read it."""

    directory: Path
    preview_domain: str
    edges: tuple[RunningEdge, ...] = ()

    def preview(self, name: str) -> str | None:
        return f"{name}.{self.preview_domain}" if self.preview_domain else None

    @property
    def read(self) -> bool:
        """Whether an edge runs with this state, as far as this user can see."""
        return bool(self.edges or presence.read(self.directory))

    def open(self, *, create: bool = False) -> State:
        return State.open(self.directory, create=create)


def place(directory: str | None, path: str | None) -> Place:
    """The place that the options name; without any, that of the edge which runs here, else the default one."""
    edges = running_edges()
    if directory is None and path is None:
        return _found(edges)
    config = Config.load(path) if path is not None else None
    named = directory or (config.server.state if config is not None else None)
    chosen = Path(named) if named is not None else default_directory()
    readers = _readers(chosen, edges)
    domain = config.server.preview_domain if config is not None else _domain(readers)
    return Place(chosen, domain, readers)


def _found(edges: Sequence[RunningEdge]) -> Place:
    default = default_directory()
    readers = _readers(default, edges)
    states = {edge.directory.resolve() for edge in edges}
    chosen_by_hand = os.environ.get("STATE_DIRECTORY") or os.environ.get("XDG_STATE_HOME")
    if not readers and states and not chosen_by_hand and not (default / DATABASE).exists():
        if len(states) > 1:
            known = "; ".join(map(str, edges))
            raise StateError(f"several edges run here ({known}): name one by -c FILE or --state DIR", 2)
        return Place(edges[0].directory, _domain(edges), tuple(edges))
    return Place(default, _domain(readers), readers)


def _readers(directory: Path, edges: Sequence[RunningEdge]) -> tuple[RunningEdge, ...]:
    return tuple(edge for edge in edges if edge.directory.resolve() == directory.resolve())


def _domain(edges: Sequence[RunningEdge]) -> str:
    return edges[0].preview_domain if edges else Config().server.preview_domain


def warn_unread(where: Place) -> None:
    """Say so, below what people read, when no running edge reads the state that was changed."""
    if not where.read:
        click.echo(f"\nNo edge that this user can see runs with this state, {where.directory}.")
        click.echo("-c FILE (the configuration of an edge) or --state DIR names another.")


def write_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def write_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; the last is not filled up."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def write_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Name and value, a line each."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        click.echo(f"{name.ljust(width)}  {value}".rstrip())


def utc(milliseconds: int) -> str:
    """A moment for people, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(milliseconds // 1000))


def confirm(question: str, yes: bool) -> None:
    """Ask unless `--yes` was given; without anybody to ask that is an error."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked: say --yes", click.get_current_context())
    click.confirm(question, abort=True, err=True)
