"""Configuration: its model, reading and writing it, and finding everything that is wrong with it.

`Config` and its tables are plain frozen values, made from a file (`Config.load`), from text, from the command line or
in Python. Reading, checking and rendering are imported when they are used: a worker needs only the values.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

from flyby.config.model import (
    Backend,
    Cache,
    Certificate,
    Config,
    Eject,
    HeaderRules,
    Health,
    Limits,
    Pool,
    Purge,
    Redirect,
    Route,
    RouteCache,
    Server,
    Timeouts,
    Tunnel,
)
from flyby.config.values import Address, OriginURL, parse_duration, parse_listen, parse_origin, parse_size

if TYPE_CHECKING:
    from flyby.errors import Problem

__all__ = [
    "Address",
    "Backend",
    "Cache",
    "Certificate",
    "Config",
    "Eject",
    "HeaderRules",
    "Health",
    "Limits",
    "OriginURL",
    "Pool",
    "Purge",
    "Redirect",
    "Route",
    "RouteCache",
    "Server",
    "Timeouts",
    "Tunnel",
    "check",
    "parse_duration",
    "parse_listen",
    "parse_origin",
    "parse_size",
]


def check(path: str | PathLike[str]) -> list[Problem]:
    """Every problem in a file, each with its place; empty when the file can be used."""
    from flyby.config.load import read

    return read(path)[1]
