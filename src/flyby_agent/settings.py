"""What the agent is told: FLY_* variables, by the names of Fly's agent, and flags for the same; a flag wins.

Every fault is found before anything is dialled, and named by the variable and the flag that set it. The token is never
part of a message.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from typing import NamedTuple

from flyby_agent import endpoints, forward, trust
from flyby_agent.endpoints import Endpoint
from flyby_agent.log import LEVELS, flat

# Setting, variable, default, what it is. The flag is the setting with dashes. The order is that of --help.
TABLE = (
    ("token", "FLY_TOKEN", "", "what `flyby backend add` printed (better by the environment: flags show in ps)"),
    ("remote_endpoint", "FLY_REMOTE_ENDPOINT", "", "URLs of the edge's nodes, separated by commas or space"),
    ("port", "FLY_PORT", "", "the app's port on 127.0.0.1  [PORT, else 5000]"),
    ("local_endpoint", "FLY_LOCAL_ENDPOINT", "", "HOST:PORT or unix:PATH of the app, in place of a port"),
    ("local_keepalive", "FLY_LOCAL_KEEPALIVE", "4", "seconds for which an idle connection to the app is kept"),
    ("release_id", "FLY_RELEASE_ID", "", "id of the app's release"),
    ("release_desc", "FLY_RELEASE_DESC", "", "what the release is"),
    ("release_branch", "FLY_RELEASE_BRANCH", "", "its branch"),
    ("region", "FLY_REGION", "", "where this runs, as a label"),
    ("capacity", "FLY_CAPACITY", "100", "requests at a time, from each worker of an edge node"),
    ("health_path", "FLY_HEALTH_PATH", "", "ask the app for this path; without one, that it accepts is enough"),
    ("health_rise", "FLY_HEALTH_RISE", "2", "checks passed in a row that make it ready"),
    ("health_fall", "FLY_HEALTH_FALL", "3", "checks failed in a row that make it not ready"),
    ("drain_seconds", "FLY_DRAIN_SECONDS", "22", "for what is in flight, after SIGTERM"),
    ("process_types", "FLY_PROCESS_TYPES", "", "run only in these, of DYNO  [any but run, release, scheduler]"),
    ("ca_file", "FLY_CA_FILE", "", "PEM file of the authorities to trust, in place of the system's"),
    ("pin", "FLY_PIN", "", "sha256/BASE64 of the edge's public key, asked for on top"),
    ("log_level", "FLY_LOG_LEVEL", "info", "one of error, warning, info, debug"),
)
NEVER = frozenset(("run", "release", "scheduler"))
NONE = ["none"]  # as FLY_PROCESS_TYPES: no agent beside a process, only around one
DEFAULT_PORT = "5000"
MOST_WORD = 64  # what the edge takes for a name (docs/tunnel.md)
MOST_RELEASE = 128
MOST_TEXT = 1024

_TOKEN = re.compile(r"[!-~]{1,512}")
_PATH = re.compile(r"/[!-~]*")
_LOCAL = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_FIR = re.compile(r"(.+)-[0-9a-z]+-[0-9a-z]+")


class SettingsError(Exception):
    """What is wrong, in one line, and with which setting."""


class Settings(NamedTuple):
    token: str
    endpoints: list[Endpoint]
    local: tuple[str, int] | None  # None: the app listens on `local_path`
    local_path: str
    keep_s: float
    release: dict[str, str]
    region: str
    dyno: str
    process: str
    capacity: int
    health_path: str
    rise: int
    fall: int
    drain_s: float
    ca_file: str
    pins: tuple[bytes, ...]
    insecure: bool


class NotHere(Exception):
    """The settings say that no agent should run in this process; the message says why."""


def process_type(dyno: str) -> str:
    """Of the name of a dyno: `web.1` (Cedar), `web-12a34b56d-e78f9` (Fir)."""
    fir = _FIR.fullmatch(dyno)
    return fir[1] if fir and "." not in dyno else dyno.partition(".")[0]


def merged(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> dict[str, str]:
    """Each setting's text, by flag, variable, default."""
    found = {}
    for name, variable, default, _ in TABLE:
        flag = flags.get(name)
        found[name] = flag if flag is not None else environment.get(variable, "").strip() or default
    return found


def gate(given: Mapping[str, str], environment: Mapping[str, str], around: bool) -> None:
    """NotHere when this process is not to have an agent. `around`: it is to be the parent of the app."""
    if environment.get("FLY_DISABLED", "").strip().lower() not in ("", "0", "false", "no", "off"):
        raise NotHere("FLY_DISABLED is set")
    process = process_type(environment.get("DYNO", ""))
    wanted = re.split(r"[\s,]+", given["process_types"].strip(", \t\r\n"))
    if wanted == NONE and not around:
        raise NotHere("FLY_PROCESS_TYPES is none: it runs only around an app (flyby-agent -- COMMAND)")
    if wanted in ([""], NONE):
        if process in NEVER:
            raise NotHere(f"a process of type {process} serves no HTTP")
    elif process and process not in wanted:
        raise NotHere(f"a process of type {process} is not one of FLY_PROCESS_TYPES")


def level(given: Mapping[str, str]) -> str:
    name = given["log_level"].lower()
    name = {"warn": "warning", "fatal": "error", "panic": "error", "trace": "debug"}.get(name, name)
    if name not in LEVELS:
        raise SettingsError(f"FLY_LOG_LEVEL (--log-level): {given['log_level']!r} is none of {', '.join(LEVELS)}")
    return name


def settle(given: Mapping[str, str], environment: Mapping[str, str], insecure: bool = False) -> Settings:
    """SettingsError for the first fault."""
    if not given["token"]:
        raise SettingsError("FLY_TOKEN is not set: `flyby backend add NAME` on the edge prints one")
    if not _TOKEN.fullmatch(given["token"]):
        raise SettingsError("FLY_TOKEN is not a token: it has no spaces and no characters beyond ASCII")
    if not given["remote_endpoint"]:
        raise SettingsError("FLY_REMOTE_ENDPOINT is not set: it is the edge's URL, like https://edge.example")
    with _Named("remote_endpoint"):
        remote = endpoints.parse(given["remote_endpoint"], insecure)
    try:
        remote = [
            each._replace(proxy=forward.choose(each.host, each.port, environment)) if each.scheme == "https" else each
            for each in remote
        ]
    except ValueError as error:
        raise SettingsError(str(error)) from None
    with _Named("pin"):
        pins = trust.parse_pins(given["pin"]) if given["pin"] else ()
    if given["ca_file"] and not os.path.isfile(given["ca_file"]):
        raise SettingsError(f"FLY_CA_FILE (--ca-file): there is no file {given['ca_file']!r}")
    path = given["health_path"]
    if path and not _PATH.fullmatch(path):
        raise SettingsError(f"FLY_HEALTH_PATH (--health-path): {path!r} does not begin with / or has spaces")
    local, local_path = _local(given, environment)
    dyno = environment.get("DYNO", "").strip()
    return Settings(
        token=given["token"],
        endpoints=remote,
        local=local,
        local_path=local_path,
        keep_s=_number(given, "local_keepalive", 0, 600),
        release={
            "id": word(given["release_id"], MOST_RELEASE),
            "description": flat(given["release_desc"], MOST_TEXT),
            "branch": flat(given["release_branch"], MOST_TEXT),
        },
        region=word(given["region"]),
        dyno=word(dyno or socket.gethostname()),
        process=word(process_type(dyno) or "web"),
        capacity=int(_number(given, "capacity", 1, 10_000)),
        health_path=path,
        rise=int(_number(given, "health_rise", 1, 100)),
        fall=int(_number(given, "health_fall", 1, 100)),
        drain_s=_number(given, "drain_seconds", 0, 3600),
        ca_file=given["ca_file"],
        pins=pins,
        insecure=insecure,
    )


def word(text: str, most: int = MOST_WORD) -> str:
    """A name as the edge takes it: visible ASCII, of a bounded length."""
    return re.sub(r"[^!-~]+", "_", text.strip())[:most]


class _Named:
    """Puts the setting's name before what a parser says."""

    def __init__(self, name: str) -> None:
        self._label = label(name)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValueError):
            raise SettingsError(f"{self._label}: {error}") from None


def label(name: str) -> str:
    [variable] = [row[1] for row in TABLE if row[0] == name]
    return f"{variable} (--{name.replace('_', '-')})"


def _number(given: Mapping[str, str], name: str, least: int, most: int) -> float:
    text = given[name]
    if re.fullmatch(r"[0-9]{1,6}(?:\.[0-9]{1,3})?", text) and least <= float(text) <= most:
        return float(text)
    raise SettingsError(f"{label(name)}: {text!r} is not a number from {least} to {most}")


def app_port(given: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """The port that an app under the agent is told to listen on; empty when it is expected on a unix socket."""
    try:
        local, _ = _local(given, environment)
    except SettingsError:
        return DEFAULT_PORT  # no agent will dial it, and the app needs one all the same
    return str(local[1]) if local is not None else ""


def _local(given: Mapping[str, str], environment: Mapping[str, str]) -> tuple[tuple[str, int] | None, str]:
    """Where the app listens: (host, port), or a unix socket's path."""
    text = given["local_endpoint"]
    if text.startswith("unix:"):
        if not text[5:]:
            raise SettingsError(f"{label('local_endpoint')}: unix: needs a path")
        return None, text[5:]
    if text:
        found = _LOCAL.fullmatch(text)
        if found is None or not 0 < int(found[2]) < 65536:
            raise SettingsError(f"{label('local_endpoint')}: {text!r} is neither HOST:PORT nor unix:PATH")
        return (found[1].strip("[]"), int(found[2])), ""
    port = given["port"] or environment.get("PORT", "").strip() or DEFAULT_PORT
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise SettingsError(f"{label('port')}: {port!r} is not a port")
    return ("127.0.0.1", int(port)), ""
