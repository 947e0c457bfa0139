"""The command `flyby`: one group, whose commands are imported only when they are called.

Manners: what was asked for goes to standard output, what went wrong to standard error as one line. Exit codes are
0 done, 1 failed while running, 2 wrong use, 130 interrupted, and of sysexits: 65 data that is damaged or not ours, 66 a
state that is not there, 69 nobody answers, 73 and 74 it cannot be made or written, 75 try again, 76 what answers is not
flyby, 77 not permitted, 78 wrong configuration.
"""

from __future__ import annotations

import difflib
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from flyby import __version__
from flyby.errors import ConfigError, StateError

EX_FAILED = 1
EX_USAGE = 2
EX_CONFIG = 78
EX_INTERRUPTED = 130

# Each command is the attribute `command` of the module of its name.
COMMANDS = ("agent", "backend", "buildpack", "check", "purge", "serve", "stat", "token")


class Commands(click.Group):
    """A group that knows the names of its commands and loads one when it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"flyby.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if args[0] not in COMMANDS and near and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)


@click.group(name="flyby", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="flyby", message="%(prog)s %(version)s")
def group() -> None:
    """A caching, programmable HTTP edge in front of an application."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    sys.exit(_run(sys.argv[1:] if arguments is None else list(arguments)))


def _run(arguments: list[str]) -> int:
    if not arguments:
        click.echo(group.get_help(click.Context(group, info_name="flyby")), err=True)
        return EX_USAGE
    try:
        code = group.main(arguments, prog_name="flyby", standalone_mode=False)
        sys.stdout.flush()  # so that a reader that went away is met here, not at the interpreter's end
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if isinstance(context, click.Context) else "flyby"
        if error.format_message().startswith("Usage:"):  # a group without a command: what it has is the answer
            click.echo(error.format_message(), err=True)
            return error.exit_code
        message = " ".join(error.format_message().split())
        hint = f" (see {command} --help)" if isinstance(error, click.UsageError) else ""
        click.echo(f"{command}: {message}{hint}", err=True)
        return error.exit_code
    except StateError as error:
        click.echo(f"flyby: {error}", err=True)
        return error.exit_code
    except ConfigError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        return EX_CONFIG
    except (click.Abort, KeyboardInterrupt):
        return EX_INTERRUPTED
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        # `flyby check | head`: nobody reads any more, and the interpreter's last flush must not say so again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EX_FAILED
    return code if isinstance(code, int) else 0
