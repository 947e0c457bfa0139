"""Structured field dictionaries, strictly (RFC 9651 4.2): what the targeted cache-control fields are made of (RFC
9213).

A dictionary is read whole or not at all: one wrong byte and there is no dictionary. Bare items become

    Integer int · Decimal `Decimal` · String str · Token `Token` · Byte Sequence bytes · Boolean bool
    Date `Date` · Display String `DisplayString`

and an inner list becomes a tuple of bare items. Parameters are checked and dropped: no directive that we know has any
(RFC 9213 2.1 says to ignore them).
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Token:
    """RFC 9651 3.3.4."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Decimal:
    """RFC 9651 3.3.2, in thousandths."""

    thousandths: int


@dataclass(frozen=True, slots=True)
class Date:
    """RFC 9651 3.3.7, in seconds since 1970."""

    seconds: int


@dataclass(frozen=True, slots=True)
class DisplayString:
    """RFC 9651 3.3.8."""

    value: str


Bare = int | bool | str | bytes | Token | Decimal | Date | DisplayString
Value = Bare | tuple[Bare, ...]

_KEY = re.compile(rb"[a-z*][a-z0-9_\-.*]*")
_NUMBER = re.compile(rb"(-?)([0-9]+)(?:\.([0-9]+))?(\.?)")
_STRING = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_TOKEN = re.compile(rb"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*")
_BYTES = re.compile(rb":([A-Za-z0-9+/]*={0,2}):")
_BOOLEAN = re.compile(rb"\?([01])")
_DISPLAY = re.compile(rb'%"((?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*)"')
_ESCAPE = re.compile(rb"\\(.)")
_PERCENT = re.compile(rb"%([0-9a-f]{2})")
_OWS = re.compile(rb"[ \t]*")
_SP = re.compile(rb" *")

_INTEGER_DIGITS = 15
_DECIMAL_DIGITS = 12
_FRACTION_DIGITS = 3


class _Malformed(Exception):
    """Ends the parse; never leaves this module."""


def parse_dictionary(value: bytes) -> dict[bytes, Value] | None:
    """The members of a dictionary (RFC 9651 4.2.2), or None when `value` is not one. The last of equal keys counts."""
    try:
        return _Reader(value).dictionary()
    except _Malformed:
        return None


class _Reader:
    """A place in the field value, and the algorithms of RFC 9651 4.2 by their names."""

    __slots__ = ("_at", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0

    def dictionary(self) -> dict[bytes, Value]:
        members: dict[bytes, Value] = {}
        self._take(_SP)
        while self._at < len(self._text):
            key = self._need(_KEY)[0]
            members.pop(key, None)
            members[key] = self._member()
            self._take(_OWS)
            if self._at == len(self._text):
                break
            self._expect(b",")
            self._take(_OWS)
            if self._at == len(self._text):
                raise _Malformed
        return members

    def _member(self) -> Value:
        value: Value = True
        if self._skip(b"="):
            value = self._inner_list() if self._skip(b"(") else self._bare_item()
        self._parameters()
        return value

    def _inner_list(self) -> tuple[Bare, ...]:
        items: list[Bare] = []
        while True:
            self._take(_SP)
            if self._skip(b")"):
                return tuple(items)
            items.append(self._bare_item())
            self._parameters()
            if self._text[self._at : self._at + 1] not in (b" ", b")"):
                raise _Malformed

    def _parameters(self) -> None:
        while self._skip(b";"):
            self._take(_SP)
            self._need(_KEY)
            if self._skip(b"="):
                self._bare_item()

    def _bare_item(self) -> Bare:
        first = self._text[self._at : self._at + 1]
        if first == b'"':
            return _ESCAPE.sub(rb"\1", self._need(_STRING)[1]).decode("ascii")
        if first == b":":
            return _decoded(self._need(_BYTES)[1])
        if first == b"?":
            return self._need(_BOOLEAN)[1] == b"1"
        if first == b"@":
            self._at += 1
            number = self._number()
            if isinstance(number, Decimal):
                raise _Malformed
            return Date(number)
        if first == b"%":
            return self._display_string()
        if _TOKEN.match(first):
            return Token(self._need(_TOKEN)[0])
        return self._number()

    def _number(self) -> int | Decimal:
        match = self._need(_NUMBER)
        sign, whole, fraction, stray = match[1], match[2], match[3], match[4]
        if stray:
            raise _Malformed
        if fraction is None:
            if len(whole) > _INTEGER_DIGITS:
                raise _Malformed
            return int(sign + whole)
        if len(whole) > _DECIMAL_DIGITS or len(fraction) > _FRACTION_DIGITS:
            raise _Malformed
        return Decimal(int(sign + whole + fraction.ljust(_FRACTION_DIGITS, b"0")))

    def _display_string(self) -> DisplayString:
        raw = _PERCENT.sub(lambda match: binascii.unhexlify(match[1]), self._need(_DISPLAY)[1])
        try:
            return DisplayString(raw.decode("utf-8"))
        except UnicodeDecodeError:
            raise _Malformed from None

    def _take(self, pattern: re.Pattern[bytes]) -> None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()

    def _need(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise _Malformed
        self._at = match.end()
        return match

    def _skip(self, byte: bytes) -> bool:
        if self._text.startswith(byte, self._at):
            self._at += 1
            return True
        return False

    def _expect(self, byte: bytes) -> None:
        if not self._skip(byte):
            raise _Malformed


def _decoded(text: bytes) -> bytes:
    """Base64 whose padding may be missing (RFC 9651 4.2.7)."""
    text = text.rstrip(b"=")
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        raise _Malformed from None
