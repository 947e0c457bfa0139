"""`flyby backend`: what the edge stands in front of, kept in the control state, which a running edge follows.

`add` is the start of connecting an app: it makes the backend and its first token, says under which host name the edge
serves it, and what to type next. The token is shown then and never again. `list` and `show` tell which dynos are
connected, as the workers of the edge say (`control.presence`).
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import click

from flyby.cli.dynos import ConnectedDyno, age, connected
from flyby.cli.options import checked, on_state
from flyby.cli.state import Place, confirm, place, utc, warn_unread, write_fields, write_json, write_table
from flyby.config.values import parse_origin
from flyby.control import DATABASE, BackendRecord, State, backend_name

RELEASES_SHOWN = 5


@click.group("backend")
def command() -> None:
    """Add, list and remove what the edge stands in front of."""


@command.command("add")
@click.argument("name", callback=checked(backend_name))
@click.option(
    "--origin",
    "origins",
    multiple=True,
    metavar="URL",
    callback=checked(parse_origin),
    help="Where the app can be reached without a tunnel; can be repeated.",
)
@on_state
def add(name: str, origins: tuple[str, ...], directory: str | None, path: str | None, as_json: bool) -> None:
    """Add the backend NAME, and print its first token."""
    where = place(directory, path)
    with where.open(create=True) as state:
        record, token = state.add_backend(name, list(dict.fromkeys(origins)))
    if as_json:
        write_json({**_described(record, where), "token": token})
        return
    write_fields([*_fields(record, where), ("token", token)])
    click.echo("\nThe token is shown only now. With EDGE as this edge's host name, on the app:")
    click.echo("\n  heroku buildpacks:add --index 1 https://EDGE/.flyby/buildpack.tgz")
    click.echo(f"  heroku config:set FLY_TOKEN={token}")
    warn_unread(where)


@command.command("list")
@on_state
def list_(directory: str | None, path: str | None, as_json: bool) -> None:
    """List the backends."""
    records: list[BackendRecord] = []
    live: dict[str, int] = {}
    where = place(directory, path)
    if (where.directory / DATABASE).exists() or (where.directory.exists() and not where.directory.is_dir()):
        with where.open() as state:
            records = state.backends()
            live = {record.name: _live(state, record.name) for record in records}
    dynos = connected(where.directory)
    if as_json:
        write_json(
            [
                {
                    **_described(record, where),
                    "live_tokens": live[record.name],
                    "dynos": [asdict(dyno) for dyno in dynos.get(record.name, ())],
                }
                for record in records
            ]
        )
    elif not records:
        click.echo(f"no backends yet in {where.directory} (flyby backend add NAME)")
    else:
        rows = [
            (
                *(record.name, where.preview(record.name) or "-", ", ".join(record.origins) or "-"),
                *(str(live[record.name]), str(len(dynos.get(record.name, ()))), utc(record.created_ms)),
            )
            for record in records
        ]
        write_table(("NAME", "PREVIEW", "ORIGINS", "TOKENS", "DYNOS", "CREATED"), rows)


@command.command("show")
@click.argument("name")
@on_state
def show(name: str, directory: str | None, path: str | None, as_json: bool) -> None:
    """Show one backend with its dynos, tokens and latest releases."""
    from flyby.tunnel import printable

    where = place(directory, path)
    with where.open() as state:
        tokens, releases = state.tokens(name), state.releases(name)
        record = state.backend(name)
        assert record is not None  # else `tokens` would have said so
    dynos = connected(where.directory).get(name, [])
    if as_json:
        write_json(
            {
                **_described(record, where),
                "dynos": [asdict(dyno) for dyno in dynos],
                "tokens": [
                    {"id": token.id, "created_ms": token.created_ms, "revoked_ms": token.revoked_ms} for token in tokens
                ],
                "releases": [asdict(release) for release in releases],
            }
        )
        return
    write_fields([*_fields(record, where), ("created", utc(record.created_ms))])
    click.echo()
    if dynos:
        write_table(
            ("DYNO", "RELEASE", "STATE", "AGE", "IN FLIGHT", "IDLE", "LATENCY", "WORKERS", "REGION", "NODE"),
            [_row(dyno) for dyno in dynos],
        )
    else:
        click.echo("no dyno is connected")
    click.echo()
    write_table(
        ("TOKEN", "CREATED", "REVOKED"),
        [
            (token.id, utc(token.created_ms), "-" if token.revoked_ms is None else utc(token.revoked_ms))
            for token in tokens
        ],
    )
    if releases:
        click.echo()
        write_table(
            ("RELEASE", "BRANCH", "FIRST SEEN", "FIRST READY", "DESCRIPTION"),
            [
                (
                    *(printable(release.id), printable(release.branch or "-"), utc(release.first_seen_ms)),
                    "-" if release.first_ready_ms is None else utc(release.first_ready_ms),
                    printable(release.description or "-"),
                )
                for release in releases[:RELEASES_SHOWN]
            ],
        )


@command.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@on_state
def remove(name: str, yes: bool, directory: str | None, path: str | None, as_json: bool) -> None:
    """Remove the backend NAME with its tokens: its dynos are cut off at once."""
    where = place(directory, path)
    with where.open() as state:
        live = _live(state, name)
        confirm(f"Remove backend {name} with {live} live token{'s' * (live != 1)}?", yes)
        state.remove_backend(name)
    if as_json:
        write_json({"removed": name})
    else:
        click.echo(f"backend {name} removed")


def _row(dyno: ConnectedDyno) -> tuple[str, ...]:
    from flyby.tunnel import printable

    return (
        f"{printable(dyno.name)} ({dyno.id[:8]})",
        printable(dyno.release or "-"),
        dyno.state,
        age(time.time() * 1000 - dyno.joined_ms),
        *(str(dyno.in_flight), str(dyno.idle), f"{dyno.latency_ms:.1f} ms" if dyno.latency_ms else "-"),
        f"{dyno.workers}/{dyno.of_workers}",
        *(printable(dyno.region or "-"), printable(dyno.node)),
    )


def _live(state: State, name: str) -> int:
    return sum(token.live for token in state.tokens(name))


def _fields(record: BackendRecord, where: Place) -> list[tuple[str, str]]:
    return [
        ("backend", record.name),
        ("id", record.id),
        ("preview", where.preview(record.name) or "-"),
        ("state", str(where.directory) if where.read else f"{where.directory} (no edge runs with it)"),
        *(("origin", origin) for origin in record.origins),
    ]


def _described(record: BackendRecord, where: Place) -> dict[str, Any]:
    return {
        **asdict(record),
        "preview": where.preview(record.name),
        "state": str(where.directory),
        "edges": [edge.process for edge in where.edges],
    }
