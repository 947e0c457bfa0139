"""The rules of header fields: names and values that a message can carry, and those that flyby alone writes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from flyby.config.model import HeaderRules
from flyby.config.positions import Path
from flyby.config.shape import Fault

_FIELD_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z", re.ASCII)  # token, RFC 9110 5.6.2
_FIELD_VALUE = re.compile(r"(?:[!-~](?:[ \t!-~]*[!-~])?)?\Z")  # field-value, RFC 9110 5.5, in ASCII

# Fields that frame or route a message: flyby writes them itself, a rule that touched them would break the message.
FRAMING = frozenset(
    name.lower()
    for name in (
        *("Connection", "Content-Length", "Host", "Keep-Alive", "Proxy-Connection", "TE", "Trailer"),
        *("Transfer-Encoding", "Upgrade", "Age", "Cache-Status", "CDN-Loop"),
    )
)


def names_faults(names: list[str], path: Path) -> Iterator[Fault]:
    """Names that are none, or that are there twice."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if not _FIELD_NAME.match(name):
            yield Fault((*path, index), f'"{name}" is not a header name', _name_hint(name))
        elif name.lower() in seen:
            yield Fault((*path, index), f'"{name}" is given twice', "remove one of them")
        seen.add(name.lower())


def header_faults(rules: HeaderRules, path: Path) -> Iterator[Fault]:
    """What is wrong with the changes that a route makes to a message."""
    changes = [(("set", name), name, value) for name, value in rules.set.items()]
    changes += [(("add", name), name, value) for name, value in rules.add.items()]
    yield from names_faults(rules.remove, (*path, "remove"))
    for (verb, key), name, value in changes:
        yield from field_faults(name, value, (*path, verb, key))
    places: list[tuple[Path, str]] = [((verb, key), name) for (verb, key), name, _ in changes]
    places += [(("remove", index), name) for index, name in enumerate(rules.remove)]
    for place, name in places:
        if name.lower() in FRAMING:
            hint = "a backend's host sets it" if name.lower() == "host" else ""
            yield Fault((*path, *place), f'"{name}" is written by flyby itself and cannot be changed by a rule', hint)


def field_faults(name: str, value: str, path: Path) -> Iterator[Fault]:
    """A name or a value that no field line can have."""
    if not _FIELD_NAME.match(name):
        yield Fault(path, f'"{name}" is not a header name', _name_hint(name), on_key=True)
    if not _FIELD_VALUE.match(value):
        yield Fault(path, f'"{name}" has a value that no header can carry', "visible ASCII, with no space at its ends")


def _name_hint(name: str) -> str:
    near = re.sub(r"[^!#$%&'*+\-.^_`|~0-9A-Za-z]+", "-", name.strip().rstrip(":").strip()).strip("-")
    return f'did you mean "{near}"?' if near else ""
