"""`flyby serve`: a configuration from a file, from options, or from both, and the server that runs it.

Options and a file make the same `Config`: `configured` reads the file if there is one and lays the options over it.
It is also what a reload calls, so that HUP sees the changed file under the same options. A wrong option is wrong use
(exit 2, one line); a wrong file is a wrong configuration (exit 78, every problem on a line).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import click
from msgspec.structs import replace

from flyby.cli.options import checked
from flyby.config.model import (
    LOG_FORMATS,
    MAX_WORKERS,
    PROFILES,
    Backend,
    Cache,
    Certificate,
    Config,
    LogFormat,
    Profile,
    Route,
)
from flyby.config.values import parse_listen, parse_origin, parse_size
from flyby.control import default_directory
from flyby.errors import ConfigError, Problem

EX_CONFIG = 78

ORIGIN = "origin"  # the backend that --origin makes


def _workers(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    if value is None or value == "auto":
        return value
    if not (value.isascii() and value.isdigit() and 0 < int(value) <= MAX_WORKERS):
        raise click.BadParameter(f"{value!r} is neither a number from 1 to {MAX_WORKERS} nor auto", ctx, param)
    return int(value)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says about the configuration; None and () leave it as the file has it."""

    path: str | None = None
    listen: tuple[str, ...] = ()
    origin: tuple[str, ...] = ()
    workers: int | Literal["auto"] | None = None
    cache_size: str | None = None
    profile: Profile | None = None
    log: LogFormat | None = None
    state: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    demo: bool = False


def configured(options: Options) -> Config:
    """The configuration that the file and the options make; `ConfigError` lists every problem."""
    config = Config.load(options.path) if options.path is not None else Config()
    server, cache = config.server, config.cache
    if options.listen:
        server = replace(server, listen=list(options.listen))
    if options.workers is not None:
        server = replace(server, workers=options.workers)
    if options.log is not None:
        server = replace(server, log=options.log)
    if options.state is not None:
        server = replace(server, state=options.state)
    if options.tls_cert is not None or options.tls_key is not None:
        server = replace(server, tls=[Certificate(certificate=options.tls_cert or "", key=options.tls_key or "")])
    if options.cache_size is not None:
        cache = replace(cache, size=options.cache_size)
    if options.profile is not None:
        cache = replace(cache, profile=options.profile)
    config = _with_origins(replace(config, server=server, cache=cache), list(options.origin))
    if options.demo and not config.empty:
        raise ConfigError([Problem("options", 0, 0, "--demo serves the demo app, but a backend or route is named")])
    problems = config.problems("options")
    if problems:
        raise ConfigError(problems)
    return config


def _with_origins(config: Config, origins: list[str]) -> Config:
    if not origins:
        return config
    if len(config.backends) > 1:
        names = ", ".join(config.backends)
        raise ConfigError([Problem("options", 0, 0, f"--origin could be any of the file's backends ({names})")])
    if config.backends:
        [(name, backend)] = config.backends.items()
        return replace(config, backends={name: replace(backend, origins=origins)})
    everything = Route(backend=ORIGIN)
    return replace(config, backends={ORIGIN: Backend(origins=origins)}, routes=[*config.routes, everything])


@click.command("serve")
@click.option("-c", "--config", "path", metavar="FILE", help="A TOML file; options override what it says.")
@click.option(
    "--listen",
    multiple=True,
    metavar="HOST:PORT",
    callback=checked(parse_listen),
    help="Where to listen, https://HOST:PORT with TLS; can be repeated.  [default: 127.0.0.1:8080]",
)
@click.option("--tls-cert", metavar="FILE", help="The certificate for https, with its chain, in PEM form.")
@click.option("--tls-key", metavar="FILE", help="Its key, in PEM form.")
@click.option(
    "--origin",
    multiple=True,
    metavar="URL",
    callback=checked(parse_origin),
    help="What to stand in front of; repeat it for several equal origins.",
)
@click.option("--demo", is_flag=True, help="Serve the built-in demo app.")
@click.option(
    "--workers",
    metavar="N|auto",
    callback=_workers,
    help="How many worker processes.  [default: auto, one for each CPU]",
)
@click.option(
    "--cache-size",
    metavar="SIZE",
    callback=checked(parse_size),
    help=f"Shared memory for the cache, all workers together.  [default: {Cache().size}]",
)
@click.option("--profile", type=click.Choice(PROFILES), help="Caching rules: safe in front of apps, or to the letter.")
@click.option("--log", type=click.Choice(LOG_FORMATS), help="Format of the access log.  [default: console]")
@click.option(
    "--state",
    metavar="DIR",
    help="Where flyby backend keeps backends and tokens.  [default: $STATE_DIRECTORY, or ~/.local/state/flyby]",
)
@click.argument("extra", nargs=-1, metavar="")
@click.option("--print-config", is_flag=True, help="Write the equivalent configuration file and exit.")
def command(extra: tuple[str, ...], print_config: bool, **given: Any) -> int:
    """Serve an origin through the cache.

    Without a file and an origin, and as long as flyby backend has added none, a built-in demo app is served, with a few
    requests to try.
    """
    if extra:
        option = "-c" if extra[0].endswith(".toml") else "--origin"
        message = f"unexpected extra argument {extra[0]!r}; write {option} {extra[0]}"
        raise click.UsageError(message, click.get_current_context())
    options = Options(**given)
    try:
        config = configured(options)
    except ConfigError as error:
        return _refuse(error)
    if print_config:
        click.echo(config.to_toml(), nl=False)
        return 0
    from flyby.server import run

    return run(_with_state(config), demo=_demo(options), reload=lambda: _with_state(configured(options)))


def _demo(options: Options) -> Literal["yes", "alone", "no"]:
    """An edge that anybody has configured never serves the demo app by itself: its visitors are not there to try it."""
    if options.demo:
        return "yes"
    return "no" if options.path is not None or options.tls_cert is not None else "alone"


def _with_state(config: Config) -> Config:
    """The configuration with the state's place spelled out: what is printed has it only where somebody named it."""
    if config.server.state is not None:
        return config
    return replace(config, server=replace(config.server, state=str(default_directory())))


def _refuse(error: ConfigError) -> int:
    if all(problem.file == "options" for problem in error.problems):
        told = "; ".join(f"{each.message} ({each.hint})" if each.hint else each.message for each in error.problems)
        raise click.UsageError(told, click.get_current_context())
    for problem in error.problems:
        click.echo(str(problem), err=True)
    return EX_CONFIG
