"""`flyby buildpack build`: the buildpack that connects an app's dynos to an edge, as one file to publish or to try."""

from __future__ import annotations

from pathlib import Path

import click

from flyby.cli.output import write_file


@click.group("buildpack")
def command() -> None:
    """Make the buildpack that puts the agent into an app's dynos."""


@command.command("build")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("flyby-buildpack.tgz"),
    show_default=True,
    metavar="FILE",
    help="What to write.",
)
@click.option("--edge", "edge_url", required=True, metavar="URL", help="What the dynos dial: https://edge.example.com")
def build(output: Path, edge_url: str) -> int:
    """Write a self-contained archive, with the agent inside and the edge's URL stamped in.

    An edge serves the same at /.flyby/buildpack.tgz, so that
    `heroku buildpacks:add --index 1 https://EDGE/.flyby/buildpack.tgz` needs no file.
    """
    from flyby.heroku import Buildpack, EdgeURLError
    from flyby_agent.archive import zipapp

    try:
        archive = Buildpack(zipapp()).stamped(edge_url)
    except EdgeURLError as error:
        raise click.UsageError(f"--edge: {error}") from None
    write_file(output, archive, 0o644)
    click.echo(f"{output}: {len(archive) // 1024} KiB, dials {edge_url}")
    return 0
