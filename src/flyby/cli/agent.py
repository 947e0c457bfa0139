"""`flyby agent`: the dyno's end of the tunnel, from an installed flyby.

`run`, `status` and `diagnose` are the command `flyby-agent` in this process, with its own options and exit codes;
`build` writes the one file that runs without flyby in a dyno. No other module of flyby knows flyby_agent.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import click

from flyby.cli.output import write_file

UNTOUCHED = {"ignore_unknown_options": True, "help_option_names": []}


@click.group("agent", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Connect an app to an edge: the agent, run or built."""


@command.command("build")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("flyby-agent.pyz"),
    show_default=True,
    metavar="FILE",
    help="What to write.",
)
def build(output: Path) -> int:
    """Build the agent as one file that any Python 3.9 or newer runs."""
    from flyby_agent.archive import zipapp

    made = zipapp()
    write_file(output, made, 0o755)
    click.echo(f"{output}: {len(made):,} bytes, sha256 {hashlib.sha256(made).hexdigest()}")
    return 0


def _passed_on(action: str, text: str) -> click.Command:
    @click.command(action, help=text, context_settings=UNTOUCHED, add_help_option=False)
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def passed_on(arguments: tuple[str, ...]) -> int:
        from flyby_agent.command import main

        # click takes the `--` out, so the command line is read where it stands.
        given = sys.argv[sys.argv.index("agent") + 2 :] if "--" in sys.argv else list(arguments)
        return main([action, *given], name="flyby agent")

    return passed_on


command.add_command(_passed_on("run", "Run the agent, beside the app or (after --) around it."))
command.add_command(_passed_on("status", "Show the links of the agents that run here."))
command.add_command(_passed_on("diagnose", "Check everything between here, the edge and the app."))
