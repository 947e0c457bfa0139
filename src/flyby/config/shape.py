"""The shape of a configuration: are the keys known, are the values of the right kind.

msgspec stops at the first fault; an operator wants all of them. So the decoded file is walked beside the model:
each value is converted on its own, and what does not fit becomes a `Fault` and is left out. What remains always
decodes, so the rules between values (`rules.py`) can look at the rest of a file that has a wrong word in it.
"""

from __future__ import annotations

import datetime
import difflib
import functools
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields, force_setattr

from flyby.config.model import Config
from flyby.config.positions import Path
from flyby.config.values import parse_duration, parse_size
from flyby.errors import ConfigError, Problem

_KINDS: dict[Any, str] = {
    bool: "true or false",  # before int, of which Python makes it a kind
    int: "a whole number",
    float: "a number",
    str: "text in quotes",
    list: "an array",
    dict: "a table",
}
_WITH_UNIT = {"duration": 'a duration such as 30 or "30s"', "size": 'a size such as 8192 or "8KiB"'}
# What people write instead of a table: the key that it belongs to.
_MEANT = {
    ("Redirect", str): "to",
    ("Health", str): "path",
    ("Backend", str): "origins",
    ("Server", str): "listen",
    ("Cache", str): "size",
    ("RouteCache", int): "ttl_s",
    ("RouteCache", str): "ttl_s",
    ("Purge", str): "secret",
    ("Pool", int): "max_connections",
}
MAX_LISTED = 12  # known words that a hint lists in full
_UNITS = {"duration": parse_duration, "size": parse_size}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault at a key path; `on_key` when the key itself is wrong, not its value."""

    path: Path
    message: str
    hint: str = ""
    on_key: bool = False


def sentence(path: Path, error: ValueError, *, on_key: bool = False) -> Fault:
    """The fault that a parser of `values.py` or `patterns.py` found; what follows its semicolon is the hint."""
    message, _, hint = str(error).partition("; ")
    return Fault(path, message, hint, on_key)


def did_you_mean(word: str, known: list[str]) -> str:
    """A hint with the nearest known word, or with all of them when they are few."""
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    if near:
        return f'did you mean "{near[0]}"?'
    return f"known: {', '.join(known)}" if 0 < len(known) <= MAX_LISTED else ""


def decode(raw: dict[str, Any]) -> tuple[Config, list[Fault]]:
    """The configuration without what does not fit, and a fault for each thing that does not."""
    faults: list[Fault] = []
    sound = _table(raw, Config, (), faults)
    return msgspec.convert(sound, Config), faults


def fit(table: msgspec.Struct) -> None:
    """Convert, in place, what a table made in Python says in text; `ConfigError` tells all that does not fit."""
    faults: list[Fault] = []
    for name, kind, default, struct in _expectations(type(table)):
        value = getattr(table, name)
        if value is default or type(value) is struct:  # most are: no need to look closer
            continue
        fitted = _of_python(value, kind, (name,), faults)
        if fitted is not value:
            force_setattr(table, name, fitted)
    if faults:
        owner = type(table).__name__
        raise ConfigError(
            [Problem("", 0, 0, f"{owner}.{spelled(each.path)}: {each.message}", each.hint) for each in faults]
        )


@functools.cache
def _expectations(model: type[msgspec.Struct]) -> tuple[tuple[str, Any, Any, Any], ...]:
    """Of each key its name, kind, default, and the table that it is, if it is one."""
    return tuple((info.name, info.type, info.default, struct_of(info.type)) for info in fields(model))


def _of_python(value: Any, kind: Any, path: Path, faults: list[Fault]) -> Any:
    """As `_value`, for what only Python has: None, tables made already, paths, and tuples and sets as arrays."""
    branches = _branches(kind)
    if value is None and type(None) in branches:
        return None
    struct = struct_of(kind)
    if struct is not None:
        if not isinstance(value, struct):
            name = struct.__name__
            faults.append(Fault(path, f"expected {name}, got {_kind(value)}", f"write {name}(...)"))
        return value
    element = element_of(kind)
    wanted = [get_origin(branch) or branch for branch in branches]
    if list in wanted and isinstance(value, tuple | set | frozenset):
        value = list(value)
    if str in wanted and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if element is None:
        return _value(value, kind, path, faults)
    if not isinstance(value, list | dict) or type(value) not in wanted:
        collection = "a table" if dict in wanted else "an array"
        faults.append(Fault(path, f"expected {collection} of {element.__name__}, got {_kind(value)}"))
        return value
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        _of_python(each, element, (*path, key), faults)
    return value


def spelled(path: Path) -> str:
    """A path as a program would write it."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _table(raw: dict[str, Any], model: type[msgspec.Struct], path: Path, faults: list[Fault]) -> dict[str, Any]:
    known = {name: kind for name, kind, _, _ in _expectations(model)}
    sound: dict[str, Any] = {}
    for key, value in raw.items():
        place = (*path, key)
        if key not in known:
            faults.append(Fault(place, f'unknown key "{key}"', _unknown(key, list(known), path), on_key=True))
            continue
        fitted = _value(value, known[key], place, faults)
        if fitted is not None:
            sound[key] = fitted
    return sound


def _value(value: Any, kind: Any, path: Path, faults: list[Fault]) -> Any:
    """The value made to fit, or None with a fault noted. A table is kept without its faulty parts."""
    struct = struct_of(kind)
    if struct is not None:
        if isinstance(value, dict):
            return _table(value, struct, path, faults)
        faults.append(Fault(path, f"expected a table, got {_kind(value)}", _as_table(value, struct, path)))
        return None
    element = element_of(kind)
    if element is not None:
        return _collection(value, kind, element, path, faults)
    for branch in _branches(kind):
        if isinstance(value, list) and get_origin(branch) is list:
            items = [_value(each, get_args(branch)[0], (*path, index), faults) for index, each in enumerate(value)]
            return [each for each in items if each is not None]
        if isinstance(value, dict) and get_origin(branch) is dict:
            named = {key: _value(each, get_args(branch)[1], (*path, key), faults) for key, each in value.items()}
            return {key: each for key, each in named.items() if each is not None}
    options = _options(kind)
    if isinstance(value, str) and options and not _takes_text(kind):
        if value in options:
            return value
        message = f'"{value}" is not {"" if int in _branches(kind) else "one of "}{_expected(kind)}'
        faults.append(Fault(path, message, _near(value, options)))
        return None
    unit = _unit(kind)
    if unit is not None and isinstance(value, str) and not _takes_text(kind):
        try:
            value = _UNITS[unit](value)
        except ValueError as error:
            faults.append(sentence(path, error))
            return None
    if isinstance(value, float) and not math.isfinite(value):
        faults.append(Fault(path, f"{value} is not a time or a number that can be counted to"))
        return None
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        faults.append(_mistyped(value, kind, path, str(error)))
        return None
    return value


def _as_table(value: Any, struct: type[msgspec.Struct], path: Path) -> str:
    """The hint for a plain value where a table belongs: what it was probably meant to say."""
    name = struct.__name__
    if name == "RouteCache" and (value is False or value in ("off", "no", "none", "false")):
        return "write cache = { off = true }"
    if name == "Cache" and (value is False or value in ("off", "no", "none", "false")):
        return "there is always a cache: write cache = { off = true } in [[routes]]"
    key = _MEANT.get((name, type(value)))
    if key is None:
        return f"write it as [{_dotted(path)}]"
    told = json.dumps(value, ensure_ascii=False)
    return f"write {path[-1]} = {{ {key} = {f'[{told}]' if key in ('origins', 'listen') else told} }}"


def _collection(value: Any, kind: Any, element: type[msgspec.Struct], path: Path, faults: list[Fault]) -> Any:
    if get_origin(kind) is dict:
        if not isinstance(value, dict):
            faults.append(Fault(path, f"expected a table of tables, got {_kind(value)}", f"write [{path[-1]}.NAME]"))
            return None
        named = {key: _value(each, element, (*path, key), faults) for key, each in value.items()}
        return {key: each if each is not None else {} for key, each in named.items()}
    if not isinstance(value, list):
        faults.append(Fault(path, f"expected an array of tables, got {_kind(value)}", f"write [[{_dotted(path)}]]"))
        return None
    items = [_value(each, element, (*path, index), faults) for index, each in enumerate(value)]
    return [each if each is not None else {} for each in items]


def _mistyped(value: Any, kind: Any, path: Path, error: str) -> Fault:
    """The fault of one plain value that msgspec does not take."""
    text = isinstance(value, str)
    if _options(kind) and isinstance(value, int) and not isinstance(value, bool) and int not in _branches(kind):
        return Fault(path, f"{value} is not one of {_expected(kind)}")
    if " >= " in error or " > " in error or " <= " in error:  # it is a number, but too small or too large
        _, sign, bound = error.rpartition("> " if " > " in error else "= ")
        most = " <= " in error
        words = "of at most" if most else ("greater than" if sign == "> " else "of at least")
        number = "a whole number" if int in _branches(kind) else "a number"
        return Fault(path, f"expected {number} {words} {bound.removesuffix('.0')}")
    expected = _expected(kind)
    hint = ""
    if text and "number" in expected and value.strip().lstrip("+-").replace(".", "", 1).isdecimal():
        hint = f"write {value.strip()} without quotes"
    elif text and "an array" in expected:
        hint = f'write ["{value}"]'
    elif text and "true or false" in expected:
        hint = "write true or false without quotes"
    elif "text in quotes" in expected and isinstance(value, int | float | datetime.date | datetime.time):
        hint = f'write "{str(value).lower() if isinstance(value, bool) else value}"'
    return Fault(path, f"expected {expected}, got {_kind(value)}", hint)


def _expected(kind: Any) -> str:
    """What a value may be, in words."""
    unit = _unit(kind)
    if unit is not None:
        return _WITH_UNIT[unit]
    branches = [get_origin(branch) or branch for branch in _branches(kind)]
    words = [word for each, word in _KINDS.items() if each in branches]
    words += [f'"{option}"' if isinstance(option, str) else str(option) for option in _options(kind)]
    return " or ".join(words) if int in branches or str in branches else ", ".join(words)


def _unknown(key: str, known: list[str], path: Path) -> str:
    near = did_you_mean(key, known)
    if near.startswith("did"):
        return near
    homes = [home for home, name in _homes(Config, ()) if name == key and home != _dotted(path)]
    if homes:
        return f'"{key}" belongs in {" or ".join(f"[{home}]" if home else "the top level" for home in homes[:3])}'
    return near


def _homes(model: type[msgspec.Struct], path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for info in fields(model):
        yield ".".join(path), info.name
        yield from _inner_homes(info, (*path, info.name))


def _inner_homes(info: FieldInfo, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    element = element_of(info.type)
    struct = struct_of(info.type) or element
    if struct is not None:
        yield from _homes(struct, (*path, "NAME") if get_origin(info.type) is dict else path)


@functools.cache
def _branches(kind: Any) -> tuple[Any, ...]:
    """The members of a union with their Annotated covers taken off."""
    origin = get_origin(kind)
    if origin is Literal or origin in (list, dict) or not get_args(kind):
        return (kind,)
    if hasattr(kind, "__metadata__"):
        return _branches(get_args(kind)[0])
    return tuple(inner for each in get_args(kind) for inner in _branches(each))


@functools.cache
def struct_of(kind: Any) -> type[msgspec.Struct] | None:
    """The table that a key of this kind is."""
    for branch in _branches(kind):
        if isinstance(branch, type) and issubclass(branch, msgspec.Struct):
            return branch
    return None


@functools.cache
def element_of(kind: Any) -> type[msgspec.Struct] | None:
    """The table that an array of tables or a table of tables holds."""
    if get_origin(kind) not in (list, dict):
        return None
    return struct_of(get_args(kind)[-1])


def _options(kind: Any) -> list[Any]:
    return [option for branch in _branches(kind) if get_origin(branch) is Literal for option in get_args(branch)]


def _near(word: str, options: list[Any]) -> str:
    near = difflib.get_close_matches(word.lower(), [str(option) for option in options], n=1)
    if not near:
        return ""
    if near[0] in options:
        return f'did you mean "{near[0]}"?'
    return f"write {near[0]} without quotes"


def _takes_text(kind: Any) -> bool:
    return str in _branches(kind)


@functools.cache
def _unit(kind: Any) -> str | None:
    """The unit in an Annotated's metadata, which says how text becomes a number."""
    for each in (kind, *get_args(kind)):
        for note in getattr(each, "__metadata__", ()):
            if isinstance(note, msgspec.Meta) and note.extra:
                return str(note.extra["unit"])
    return None


def _dotted(path: Path) -> str:
    return ".".join(part for part in path if isinstance(part, str))


def _kind(value: Any) -> str:
    if isinstance(value, datetime.date | datetime.time):
        return "a date or time"
    return next((word for kind, word in _KINDS.items() if isinstance(value, kind)), type(value).__name__)
