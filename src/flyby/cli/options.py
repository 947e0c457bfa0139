"""Options that several commands share: text that the configuration's own parsers judge, and where the state lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Callback = Callable[[click.Context, click.Parameter, Any], Any]
Command = TypeVar("Command", bound=Callable[..., Any])


def checked(parse: Callable[[str], object]) -> Callback:
    """A callback that lets one of the configuration's parsers judge the text, and keeps it as it was written."""

    def check(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        try:
            for text in (value,) if isinstance(value, str) else value or ():
                parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from None
        return value

    return check


def on_state(function: Command) -> Command:
    """The options of every command that reads or changes the control state."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Write JSON."),
        click.option("-c", "--config", "path", metavar="FILE", help="The edge's file: its state and preview domain."),
        click.option(
            "--state",
            "directory",
            metavar="DIR",
            help="Where the state is kept.  [default: the file's, $STATE_DIRECTORY, or ~/.local/state/flyby]",
        ),
    ):
        function = option(function)
    return function
