"""`flyby token`: the tokens by which a backend's dynos dial in.

Two may live at once, so that a token is replaced without a gap: create the new one, give it to the app, and revoke
the old one when every dyno has the new. A revoked token cuts off the dynos that still use it within a second.
`import` makes the token of another edge good here, for an app whose dynos dial in to both.
"""

from __future__ import annotations

import re
import sys

import click

from flyby.cli.options import checked, on_state
from flyby.cli.state import confirm, place, utc, warn_unread, write_fields, write_json, write_table
from flyby.control import TokenRecord, backend_name
from flyby.errors import StateError

MOST_READ = 4096  # of standard input; a token is 56 characters

_WHOLE = re.compile(r"fly_([0-9A-Za-z]+)_[0-9A-Za-z]*\Z", re.ASCII)


@click.group("token")
def command() -> None:
    """Create, list and revoke the tokens of a backend."""


@command.command("create")
@click.argument("backend")
@on_state
def create(backend: str, directory: str | None, path: str | None, as_json: bool) -> None:
    """Create one more token for BACKEND, and print it."""
    where = place(directory, path)
    with where.open() as state:
        record, text = state.create_token(backend)
        others = [token.id for token in state.tokens(backend) if token.live and token.id != record.id]
    if as_json:
        write_json({"id": record.id, "backend": backend, "created_ms": record.created_ms, "token": text})
        return
    write_fields([("backend", backend), ("id", record.id), ("token", text)])
    click.echo("\nThe token is shown only now. Give it to the app:")
    click.echo(f"\n  heroku config:set FLY_TOKEN={text}")
    for other in others:
        click.echo(f"\nand when all its dynos have it:\n\n  flyby token revoke {backend} {other}")
    warn_unread(where)


@command.command("import")
@click.argument("backend", callback=checked(backend_name))
@click.option("--add", is_flag=True, help="Add BACKEND if it is not there.")
@on_state
def import_(backend: str, add: bool, directory: str | None, path: str | None, as_json: bool) -> None:
    """Take the token of BACKEND that another edge has made, from standard input.

    So the dynos of an app dial in to both edges with one FLY_TOKEN.
    """
    if sys.stdin.isatty():
        raise click.UsageError("the token is read from standard input: echo $FLY_TOKEN | flyby token import BACKEND")
    where = place(directory, path)
    with where.open(create=add) as state:
        record = state.import_token(backend, sys.stdin.read(MOST_READ).strip(), add=add)
    if as_json:
        write_json({"id": record.id, "backend": backend, "created_ms": record.created_ms})
    else:
        click.echo(f"token {record.id} of {backend} is good here")
        warn_unread(where)


@command.command("list")
@click.argument("backend")
@on_state
def list_(backend: str, directory: str | None, path: str | None, as_json: bool) -> None:
    """List the tokens of BACKEND, revoked ones too."""
    with place(directory, path).open() as state:
        tokens = state.tokens(backend)
    if as_json:
        write_json(
            [{"id": token.id, "created_ms": token.created_ms, "revoked_ms": token.revoked_ms} for token in tokens]
        )
        return
    rows = [
        (token.id, utc(token.created_ms), "-" if token.revoked_ms is None else utc(token.revoked_ms))
        for token in tokens
    ]
    write_table(("TOKEN", "CREATED", "REVOKED"), rows)


@command.command("revoke")
@click.argument("backend")
@click.argument("token", required=False)
@click.option("--yes", is_flag=True, help="Do not ask, though it be the last live token.")
@on_state
def revoke(backend: str, token: str | None, yes: bool, directory: str | None, path: str | None, as_json: bool) -> None:
    """Revoke TOKEN of BACKEND, by its id or its whole text; without one, the only live token."""
    with place(directory, path).open() as state:
        chosen = _chosen(backend, token, state.tokens(backend))
        if chosen.live:
            if not any(other.live and other.id != chosen.id for other in state.tokens(backend)):
                confirm(f"{chosen.id} is the last live token of {backend}: no dyno can dial in. Revoke it?", yes)
            chosen = state.revoke(chosen.id)
    if as_json:
        write_json({"id": chosen.id, "backend": backend, "revoked_ms": chosen.revoked_ms})
    else:
        click.echo(f"token {chosen.id} of {backend} revoked")


def _chosen(backend: str, text: str | None, tokens: list[TokenRecord]) -> TokenRecord:
    live = [token for token in tokens if token.live]
    if text is None:
        if len(live) == 1:
            return live[0]
        hint = f"name one of {', '.join(token.id for token in live)}" if live else f"flyby token create {backend}"
        raise StateError(f"backend {backend} has {len(live) or 'no'} live tokens ({hint})")
    whole = _WHOLE.match(text)
    wanted = whole[1] if whole else text
    for token in tokens:
        if token.id == wanted:
            return token
    raise StateError(f"backend {backend} has no token {wanted} (see flyby token list {backend})")
