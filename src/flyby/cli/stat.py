"""`flyby stat`: what a running flyby does and its cache holds, read from its memory without its knowing.

Requests are counted in pages of the process's (`flyby.metrics`), objects and evictions in its store; a lookup in the
store is no request, and is not shown. A cache that no process has open tells nothing of requests.

In a terminal a table is drawn again every second, with what happens a second beside the totals, as much of it as there
is room for; otherwise, or with `--once`, it is printed once, and with `--json` as one object for programs. Which cache:
the file that `--path` or the configuration's `cache.path` names, the one of the flyby that listens where the
configuration says, the one of process `--pid`, or else the only one in use that this user may see.

Exit codes: 0, 66 (EX_NOINPUT) when there is no such cache, 65 (EX_DATAERR) when it is another version's or damaged, 69
(EX_UNAVAILABLE) when the process that had it has ended, 78 when the configuration cannot be read.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from flyby.cli.figures import requests_report
from flyby.cli.running import described, serves
from flyby.cli.table import Look, table
from flyby.errors import ConfigError, StoreError
from flyby.metrics import PagesView, total

if TYPE_CHECKING:
    from flyby.store import StoreView

CLEAR = "\x1b[H\x1b[J"  # to the top of the screen, and nothing left below
LOOKUPS = {"hits", "misses", "hit_bytes", "failed"}  # counts of the store whose names are those of requests here


@click.command("stat")
@click.option("--pid", type=click.IntRange(min=1), metavar="PID", help="The cache of the flyby with that process id.")
@click.option("--path", metavar="FILE", help="The cache that this file keeps.")
@click.option("-c", "--config", metavar="FILE", help="The cache of the flyby with this file.")
@click.option("--once", is_flag=True, help="Print the table once, also in a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.option(
    "--interval", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds between two looks."
)
def command(pid: int | None, path: str | None, config: str | None, once: bool, as_json: bool, interval: float) -> int:
    """Show what a running flyby does, and what its cache holds.

    Without a choice it is the only one in use that this user may look into.
    """
    from flyby.store import StoreView

    if sum(each is not None for each in (pid, path, config)) > 1:
        raise click.UsageError("--pid, --path and --config each name a cache: give one", click.get_current_context())
    try:
        where, name = _configured(config) if config is not None else chosen(pid, path)
        view = StoreView.open(where)
        with PagesView(_process(view)) as pages:
            if as_json:
                click.echo(json.dumps(report(view, pages, name), indent=2))
            elif once or not sys.stdout.isatty():
                click.echo("\n".join(table(name, view.record, _look(view, pages))))
            else:
                _live(view, pages, name, interval)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        return os.EX_CONFIG
    except StoreError as error:
        click.echo(f"flyby stat: {error}", err=True)
        return error.exit_code
    return 0


def chosen(pid: int | None, path: str | None) -> tuple[str, str]:
    """What to open, and its name for people. Raises `StoreError` when that is not one cache."""
    from flyby.store.running import running_stores

    if path is not None:
        return path, path
    found = running_stores()
    if pid is not None:
        found = [store for store in found if pid in store.processes]
        if not found:
            raise StoreError(f"process {pid} has no cache that this user may look into", os.EX_NOINPUT)
    if not found:
        raise StoreError("no flyby is running that this user may look into", os.EX_NOINPUT)
    if len(found) > 1:
        each = ", ".join(described(store.process, store.name) for store in found)
        raise StoreError(f"several are running, name one with --pid: {each}", os.EX_NOINPUT)
    return found[0].path, found[0].name


def _configured(file: str) -> tuple[str, str]:
    """The same for the flyby of a configuration file."""
    from flyby.config import Config
    from flyby.store.running import running_stores

    config = Config.load(file)
    if config.cache.path is not None:
        return config.cache.path, config.cache.path
    listen = config.server.listen
    for store in running_stores():
        if any(serves(process, listen) for process in (store.process, *store.processes)):
            return store.path, store.name
    where = ", ".join(listen)
    raise StoreError(f"no flyby is running that listens on {where}, as {file} says, and keeps a cache", os.EX_NOINPUT)


def report(view: StoreView, pages: PagesView, name: str) -> dict[str, object]:
    """Everything, for programs; without the figures of requests where nobody counts them."""
    from flyby.store.cache_file import OPEN

    record, look = view.record, _look(view, pages)
    stored = asdict(look.store)
    by_area = stored.pop("workers")  # the last one is the process that made the store
    workers = []
    for number, area in enumerate(by_area):
        counts = number < len(look.workers) and number < len(by_area) - 1
        requests = requests_report(look.workers[number]) if counts else {}
        workers.append(_without_lookups(area) | requests)
    return {
        "name": name,
        "process": record.process,
        "open": record.state == OPEN,
        "opened_ms": record.opened_ms,
        "closed_ms": record.closed_ms,
        **_without_lookups(stored),
        "evictions": look.store.evictions,
        **(requests_report(total(look.workers)) if look.workers else {}),
        "workers": workers,
    }


def _without_lookups(counts: dict[str, object]) -> dict[str, object]:
    return {name: each for name, each in counts.items() if name not in LOOKUPS}


def _process(view: StoreView) -> int:
    """The process that has the cache open; 0, which is none, when it is closed."""
    from flyby.store.cache_file import OPEN

    record = view.record
    return record.process if record.state == OPEN else 0


def _look(view: StoreView, pages: PagesView) -> Look:
    return Look(pages.snapshots(), view.statistics())


def _live(view: StoreView, pages: PagesView, name: str, interval: float) -> None:
    """Until the user or the cache ends it."""
    before, then = None, 0.0
    while True:
        now, look, record = time.monotonic(), _look(view, pages), view.record
        size = shutil.get_terminal_size()
        lines = [line[: size.columns] for line in table(name, record, look, before, now - then)][: size.lines - 1]
        # One write, so that a terminal never shows half of it.
        click.echo(CLEAR + "\n".join(lines), nl=True)
        if not _lives(record.process):
            raise StoreError(f"process {record.process} has ended", os.EX_UNAVAILABLE)
        before, then = look, now
        time.sleep(interval)


def _lives(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")
