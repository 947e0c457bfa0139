"""The command `flyby-agent`: run beside the app, run the app, or tell how things are.

    flyby-agent [options]                     sidecar
    flyby-agent [options] -- bin/web args…    supervisor
    flyby-agent status [--json] | diagnose

Exit codes: 0 done, 1 failed, 2 wrong use, 78 wrong settings (sysexits); a supervisor's is its child's. What concerns
the tunnel never keeps the app down: a supervisor whose settings are wrong or that is disabled says so in one line and
becomes the app.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Callable

from flyby_agent import __version__, log, status
from flyby_agent.settings import TABLE, NotHere, Settings, SettingsError, app_port, gate, level, merged, settle
from flyby_agent.supervisor import sidecar, supervised, unstarted

EX_CONFIG = 78


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name,
        usage=f"{name} [run | status | diagnose] [options] [-- command…]",
        description="Connects the app in this dyno to a flyby edge. Options can be set by the variables in brackets.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "action", nargs="?", choices=("run", "status", "diagnose"), default="run", help=argparse.SUPPRESS
    )
    for setting, variable, default, text in TABLE:
        shown = f" [{variable}, {default}]" if default else f" [{variable}]"
        parser.add_argument("--" + setting.replace("_", "-"), metavar="X", help=(text + shown).replace("%", "%%"))
    parser.add_argument("--insecure", action="store_true", help="do not verify certificates: loopback only")
    parser.add_argument("--json", action="store_true", help="with status: one JSON object")
    parser.add_argument("--version", action="version", version=f"flyby-agent {__version__}")
    return parser


def main(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None, name: str = "flyby-agent"
) -> int:
    """Run it and return the exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    environment = os.environ if environment is None else environment
    child: list[str] | None = None
    if "--" in argv:
        at = argv.index("--")
        argv, child = argv[:at], argv[at + 1 :]
    parser = _parser(name)
    flags = parser.parse_args(argv)
    if child is not None and (not child or flags.action != "run"):
        parser.error("-- is followed by the command that runs the app")
    if flags.action == "status":
        return _read(lambda: status.command(flags.json))
    given = merged(vars(flags), environment)
    port = app_port(given, environment)
    if child is not None and port and not environment.get("PORT", "").strip():
        # A process type that was renamed gets no PORT from the platform: the app gets the one that the agent dials, and
        # gets it also where no agent runs.
        environment = {**environment, "PORT": port}
    try:
        log.set_level(level(given))
        if flags.action == "run":
            gate(given, environment, around=child is not None)
        settings = settle(given, environment, flags.insecure)
    except NotHere as reason:
        log.info(f"no agent runs here: {reason}")
        return _become(child, environment) if child else 0
    except SettingsError as error:
        log.error(str(error))
        return _become(child, environment) if child else EX_CONFIG
    if flags.action == "diagnose":
        from flyby_agent import diagnose  # a megabyte that the agent itself has no use for

        return _read(lambda: diagnose.command(settings))
    return _run(settings, child, environment)


def _read(report: Callable[[], int]) -> int:
    """The exit code of a report, 1 when its reader went away (`diagnose | head -3`)."""
    try:
        return report()
    except BrokenPipeError:
        # What is still buffered goes nowhere, and the interpreter's last flush must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(settings: Settings, child: list[str] | None, environment: Mapping[str, str]) -> int:
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # its lines are not ours; supervisor.py says what matters
    try:
        if child is None:
            return asyncio.run(sidecar(settings))
        return asyncio.run(supervised(child, settings, environment))
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError) as error:
        log.error(f"the agent cannot start: {error}")
        return _become(child, environment) if child else EX_CONFIG


def _become(argv: list[str], environment: Mapping[str, str]) -> int:
    """The app in place of this process."""
    try:
        os.execvpe(argv[0], argv, dict(environment))
    except OSError as error:
        return unstarted(argv, error)
