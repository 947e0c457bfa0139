"""What the commands of the control state have in common: finding it, and writing tables, times and JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from flyby.config import Config
from flyby.control import State, default_directory


@dataclass(frozen=True, slots=True)
class Place:
    """Where the state lies, and the domain below which its backends have their preview hosts."""

    directory: Path
    preview_domain: str

    def preview(self, name: str) -> str | None:
        return f"{name}.{self.preview_domain}" if self.preview_domain else None

    def open(self, *, create: bool = False) -> State:
        return State.open(self.directory, create=create)


def place(directory: str | None, path: str | None) -> Place:
    """The place that the options name."""
    config = Config.load(path) if path is not None else Config()
    chosen = directory or config.server.state
    return Place(Path(chosen) if chosen is not None else default_directory(), config.server.preview_domain)


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
