"""Where each key and value of a TOML file stands, since tomllib does not say.

A scanner for text that tomllib has already accepted, so it need not judge: it walks headers, dotted keys, strings,
arrays and inline tables, and notes an offset for each key path. A path is a tuple such as
`("routes", 0, "cache", "ttl_s")`, numbers being indexes of arrays, exactly as in the decoded data. Lines and columns
count from 1, columns in characters.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}'  # up to two quotes may stand before the closing three
    r"|'''(?:[^']|'(?!''))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]*")


class Positions:
    """The places of one text's keys and values."""

    __slots__ = ("_arrays", "_at", "_keys", "_lines", "_text", "_values")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._keys: dict[Path, int] = {}
        self._values: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}  # how many [[tables]] each array of tables has so far
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self._document()

    def key(self, path: Path) -> tuple[int, int]:
        """Line and column of the key, or of the nearest table around it that is written down."""
        return self._find(path, self._keys)

    def value(self, path: Path) -> tuple[int, int]:
        """Line and column of the value, or of the nearest table around it that is written down."""
        return self._find(path, self._values)

    def _find(self, path: Path, places: dict[Path, int]) -> tuple[int, int]:
        while path:
            offset = places.get(path, self._keys.get(path))
            if offset is not None:
                line = bisect_right(self._lines, offset)
                return line, offset - self._lines[line - 1] + 1
            path = path[:-1]
        return 1, 1

    def _document(self) -> None:
        table: Path = ()
        while self._skip(_BLANK) < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        start = self._at
        of_array = self._text.startswith("[[", self._at)
        self._at += 2 if of_array else 1
        parts = self._dotted()
        self._at += 2 if of_array else 1
        path: Path = ()
        for number, (part, offset) in enumerate(parts, start=1):
            path += (part,)
            self._keys.setdefault(path, offset)
            if number == len(parts) and of_array:
                self._arrays[path] = self._arrays.get(path, 0) + 1
            if path in self._arrays:  # a name below an array of tables means the latest of them
                path += (self._arrays[path] - 1,)
                self._keys.setdefault(path, start)
        return path

    def _pair(self, table: Path) -> None:
        path = table
        for part, offset in self._dotted():
            path += (part,)
            self._keys.setdefault(path, offset)
        self._at += 1  # the equals sign
        self._value(path)

    def _dotted(self) -> list[tuple[str, int]]:
        """A dotted key; afterwards we stand on what follows it."""
        parts: list[tuple[str, int]] = []
        while True:
            start = self._skip(_SPACE)
            bare = _BARE_KEY.match(self._text, start)
            self._at = bare.end() if bare else self._string()
            name = self._text[start : self._at]
            parts.append((name if bare else tomllib.loads(f"key = {name}")["key"], start))
            if self._text[self._skip(_SPACE)] != ".":
                return parts
            self._at += 1

    def _value(self, path: Path) -> None:
        start = self._skip(_SPACE)
        self._values[path] = start
        match self._text[start]:
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case '"' | "'":
                self._at = self._string()
            case _:
                self._skip(_SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while self._text[self._skip(_BLANK)] != "]":
            self._value((*path, index))
            index += 1
            if self._text[self._skip(_BLANK)] == ",":
                self._at += 1
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._text[self._skip(_BLANK)] != "}":
            self._pair(path)
            if self._text[self._skip(_BLANK)] == ",":
                self._at += 1
        self._at += 1

    def _string(self) -> int:
        match = _STRING.match(self._text, self._at)
        if match is None:
            raise ValueError("positions are only found in text that is valid TOML")
        return match.end()

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
        return self._at
