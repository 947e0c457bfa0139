"""`flyby check`: is this file a configuration that can be served.

Prints every problem on a line of its own, in the form that editors and compilers share, `file:line:column: message`,
to standard output since it is what was asked for. What can be served but should be looked at is a warning in the same
form. Exits 0, also with warnings, or 78 (EX_CONFIG in sysexits).
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import click

EX_CONFIG = 78


@click.command("check")
@click.argument("file", required=False, metavar="[FILE]")
@click.option("-c", "--config", "path", metavar="FILE", help="The file to check.  [default: flyby.toml]")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object instead of lines.")
def command(file: str | None, path: str | None, as_json: bool) -> int:
    """Check a configuration file and report every problem in it."""
    from flyby.config.load import read, remarks

    if file is not None and path is not None:
        raise click.UsageError("FILE and --config name the same thing: give one", click.get_current_context())
    path = file or path or "flyby.toml"
    config, problems = read(path)
    noticed = [] if problems else remarks(path, config)
    if as_json:
        report = {
            "file": path,
            "ok": not problems,
            "problems": [asdict(problem) for problem in problems],
            "remarks": [asdict(remark) for remark in noticed],
        }
        click.echo(json.dumps(report, indent=2))
    elif problems:
        for problem in problems:
            click.echo(str(problem))
    else:
        backends, routes = len(config.backends), len(config.effective_routes())
        click.echo(f"{path}: ok, {_count(backends, 'backend')}, {_count(routes, 'route')}")
        for remark in noticed:
            click.echo(str(replace(remark, message=f"warning: {remark.message}")))
    return EX_CONFIG if problems else 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
