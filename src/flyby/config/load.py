"""Reading a configuration file: bytes to text to TOML to `Config`, with every fault given its line and column.

`read` never raises: it returns what it could make and the list of problems. `load` and `from_text` are for those
who want a configuration or a `ConfigError`.
"""

from __future__ import annotations

import codecs
import os
import re
import tomllib
from pathlib import Path as FilePath

from flyby.config.model import Config
from flyby.config.positions import Positions
from flyby.config.remarks import remarks_of, remarks_of_file
from flyby.config.rules import faults_of
from flyby.config.shape import Fault, decode
from flyby.errors import ConfigError, Problem

MAX_FILE = 4 * 1024 * 1024  # a larger file is not a configuration but a mistake in the path

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")
_HINTS = (
    ("Invalid value", "text needs quotes; true and false are written in lower case"),
    ("Cannot overwrite a value", "a key may be given only once in a table"),
    ("Cannot declare", "a [table] may be given only once; [[table]] starts one more of an array"),
    ("Cannot mutate immutable", "an inline table or array is closed: add to it where it is written"),
    ("Expected '=' after a key", "a line is KEY = VALUE or [TABLE]"),
    ("Invalid statement", "a line is KEY = VALUE or [TABLE]"),
    ("Unescaped '\\'", "a backslash in text is written \\\\, or use 'single quotes'"),
    ("Illegal character '\\n'", "the text is not closed by a quote on its line"),
    ("Unclosed array", "a closing ] is missing"),
    ("Unterminated string", "a closing quote is missing"),
)


def load(path: str | os.PathLike[str]) -> Config:
    """The configuration in a file; `ConfigError` lists every problem."""
    return _sound(read(path))


def from_text(text: str, file: str = "<text>") -> Config:
    """The configuration in TOML text; `ConfigError` lists every problem."""
    return _sound(read_text(text, file))


def _sound(result: tuple[Config, list[Problem]]) -> Config:
    config, problems = result
    if problems:
        raise ConfigError(problems)
    return config


def read(path: str | os.PathLike[str]) -> tuple[Config, list[Problem]]:
    """What could be made of a file, and every problem in it."""
    file = os.fspath(path)
    try:
        with FilePath(file).open("rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except OSError as error:
        return Config(), [Problem(file, 0, 0, f"cannot be read: {error.strerror}")]
    if len(data) > MAX_FILE:
        return Config(), [Problem(file, 0, 0, f"is larger than {MAX_FILE} bytes", "is this a configuration file?")]
    data = data.removeprefix(codecs.BOM_UTF8)  # some editors write it; it means nothing in UTF-8
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        return Config(), [Problem(file, line, column, f"byte 0x{data[error.start]:02x} is not UTF-8", "TOML is UTF-8")]
    return read_text(text, file)


def read_text(text: str, file: str) -> tuple[Config, list[Problem]]:
    """What could be made of TOML text, and every problem in it, in the order of the file."""
    text = text.replace("\r\n", "\n")  # as tomllib does, so that both count the same columns
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return Config(), [_syntax(str(error), text, file)]
    except RecursionError:
        return Config(), [Problem(file, 1, 1, "arrays or tables are nested too deeply")]
    config, faults = decode(raw)
    wrong = [fault.path for fault in faults]
    for fault in faults_of(config):
        # A rule about a value that was left out would only repeat, in other words, what is said about it already.
        if not any(_covers(path, fault.path) for path in wrong):
            faults.append(fault)
    return config, _placed(faults, text, file)


def remarks(path: str | os.PathLike[str], config: Config) -> list[Problem]:
    """What works in a file whose sound configuration is `config`, but should be looked at."""
    file = os.fspath(path)
    with FilePath(file).open("rb") as stream:
        text = stream.read(MAX_FILE).decode("utf-8-sig").replace("\r\n", "\n")
    return _placed([*remarks_of(config), *remarks_of_file(file, config)], text, file)


def _placed(faults: list[Fault], text: str, file: str) -> list[Problem]:
    """The faults with their lines and columns, in the order of the file."""
    if not faults:
        return []
    places = Positions(text)
    problems = []
    for fault in faults:
        line, column = (places.key if fault.on_key else places.value)(fault.path)
        problems.append(Problem(file, line, column, fault.message, fault.hint))
    return sorted(problems, key=lambda problem: (problem.line, problem.column))


def _covers(one: tuple[str | int, ...], other: tuple[str | int, ...]) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _syntax(message: str, text: str, file: str) -> Problem:
    place = _PLACE.search(message)
    message = _PLACE.sub("", message)
    if place is not None and place[1]:
        line, column = int(place[1]), int(place[2])
    else:
        line, column = text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1
    hint = next((hint for start, hint in _HINTS if message.startswith(start)), "")
    return Problem(file, line, column, f"not TOML: {message[:1].lower()}{message[1:]}", hint)
