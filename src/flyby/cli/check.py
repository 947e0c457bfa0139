"""`flyby check`: is this file a configuration that can be served.

Prints every problem on a line of its own, in the form that editors and compilers share, `file:line:column: message`,
to standard output since it is what was asked for. Exits 0, or 78 (EX_CONFIG in sysexits).
"""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from flyby.config import Config

EX_CONFIG = 78


@click.command("check")
@click.option(
    "-c", "--config", "path", default="flyby.toml", show_default=True, metavar="FILE", help="The file to check."
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object instead of lines.")
def command(path: str, as_json: bool) -> int:
    """Check a configuration file and report every problem in it."""
    from flyby.config.load import read

    config, problems = read(path)
    remarks = [] if problems else _remarks(config)
    if as_json:
        report = {
            "file": path,
            "ok": not problems,
            "problems": [asdict(problem) for problem in problems],
            "remarks": remarks,
        }
        click.echo(json.dumps(report, indent=2))
    elif problems:
        for problem in problems:
            click.echo(str(problem))
    else:
        backends, routes = len(config.backends), len(config.effective_routes())
        click.echo(f"{path}: ok, {_count(backends, 'backend')}, {_count(routes, 'route')}")
        for remark in remarks:
            click.echo(f"{path}: {remark}")
    return EX_CONFIG if problems else 0


def _remarks(config: Config) -> list[str]:
    """What works but should be mended: certificates that end soon, keys that everybody can read."""
    if not config.server.tls:
        return []
    from flyby.config.certificates import load

    loaded = [load(each.certificate, each.key, each.hosts) for each in config.server.tls]
    return [remark for context in loaded for remark in context.remarks]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
