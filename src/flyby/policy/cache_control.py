"""Cache-Control (RFC 9111 5.2) of requests and responses, and the targeted fields that stand in for it (RFC 9213).

Directives are `token [ "=" ( token / quoted-string ) ]` in a comma list. Unknown ones are ignored (5.2.3). A known
one that is spelt wrongly errs to the safe side: what restricts still restricts, what permits does not permit, and a
lifetime that is no number, or is given twice differently, is INVALID: the response is stale (4.2.1). A quoted string
that never ends leaves everything after it in doubt: the field is `malformed`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from flyby.policy.structured import Token, Value, parse_dictionary
from flyby.wire import Fields

DELTA_MAX = 1 << 31  # RFC 9111 1.2.2: more than this counts as this
REMEMBERED = 256  # bytes: sites use few values, and one that is not longer is read once
INVALID = -1  # a lifetime that is there, but is no number

_DIGITS = re.compile(rb"[0-9]+\Z")
_MEMBER = re.compile(rb'(?:[^",]|"(?:[^"\\]|\\.)*")+', re.DOTALL)
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ARGUMENT = re.compile(rb'=(?:([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)|"((?:[^"\\]|\\.)*)")\Z', re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_FIELD_NAME = re.compile(rb"[^, \t]+")

_LIFETIMES = frozenset((b"max-age", b"s-maxage", b"stale-while-revalidate", b"stale-if-error", b"min-fresh"))
_QUALIFIED = frozenset((b"no-cache", b"private"))
_PERMISSIONS = frozenset((b"public", b"must-understand"))
_RESTRICTIONS = frozenset((b"no-store", b"must-revalidate", b"proxy-revalidate", b"only-if-cached"))


@dataclass(slots=True)
class CacheControl:
    """The directives that we act on; a lifetime is None when absent and INVALID when it is not a number of seconds."""

    present: bool = False
    malformed: bool = False
    targeted: bool = False
    no_store: bool = False
    no_cache: bool = False
    no_cache_fields: tuple[bytes, ...] = ()
    private: bool = False
    private_fields: tuple[bytes, ...] = ()
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    only_if_cached: bool = False
    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    min_fresh: int | None = None
    max_stale: int | None = None  # DELTA_MAX when bare: any staleness (RFC 9111 5.2.1.2)


NONE = CacheControl()


def delta_seconds(text: bytes) -> int | None:
    """A number of seconds (RFC 9111 1.2.2), at most DELTA_MAX; None when `text` is not digits alone."""
    if _DIGITS.match(text) is None:
        return None
    text = text.lstrip(b"0")
    # Compared by length first: Python would take long over thousands of digits.
    return DELTA_MAX if len(text) > 10 else min(int(text or b"0"), DELTA_MAX)


def parse_cache_control(value: bytes) -> CacheControl:
    """Read a combined Cache-Control value (RFC 9111 5.2). Never raises; the result is shared, and never changed."""
    return _read(value) if len(value) > REMEMBERED else _remembered(value)


def _read(value: bytes) -> CacheControl:
    control = CacheControl(present=True)
    at = 0
    while at < len(value):
        match = _MEMBER.match(value, at)
        if match is None:
            if value[at : at + 1] == b'"':
                control.malformed = True
                break
            at += 1
            continue
        member = match[0].strip(b" \t")
        at = match.end()
        if value[at : at + 1] == b'"':
            control.malformed = True
        name = _NAME.match(member)
        if name is not None:
            _directive(control, name[0].lower(), member[name.end() :])
    return control


_remembered = lru_cache(maxsize=512)(_read)


def request_control(fields: Fields) -> CacheControl:
    """The request's directives (RFC 9111 5.2.1)."""
    value = fields.combined(b"cache-control")
    return NONE if value is None else parse_cache_control(value)


def response_control(fields: Fields, targeted: tuple[bytes, ...]) -> CacheControl:
    """The directives that bind us in a response with these fields; see `control_of`."""
    return control_of(control_values(fields, targeted), targeted)


def control_values(fields: Fields, targeted: tuple[bytes, ...]) -> tuple[bytes | None, ...]:
    """The combined values of the targeted fields and, at the end, of Cache-Control; None for one that is not there."""
    return (*(fields.combined(name) for name in targeted), fields.combined(b"cache-control"))


def control_of(values: tuple[bytes | None, ...], targeted: tuple[bytes, ...]) -> CacheControl:
    """The directives in `control_values`: of the first targeted field that is valid and not empty (RFC 9213 2.2), else
    of Cache-Control.
    """
    for name, value in zip(targeted, values, strict=False):
        if value is not None:
            # Surrogate-Control is older than structured fields: its directives are named in any case.
            control = parse_targeted(value.lower() if name == b"surrogate-control" else value)
            if control is not None:
                return control
    value = values[-1]
    return NONE if value is None else parse_cache_control(value)


def parse_targeted(value: bytes) -> CacheControl | None:
    """Read a targeted field (RFC 9213 2.1); None when it is empty, no dictionary, or has a known directive of a
    wrong type.
    """
    members = parse_dictionary(value)
    if not members:
        return None
    control = CacheControl(present=True, targeted=True)
    for name, argument in members.items():
        if not _targeted_directive(control, name, argument):
            return None
    return control


def _targeted_directive(control: CacheControl, name: bytes, argument: Value) -> bool:
    if name in _LIFETIMES:
        if isinstance(argument, bool) or not isinstance(argument, int) or argument < 0:
            return False
        _lifetime(control, name, min(argument, DELTA_MAX))
    elif name in _QUALIFIED:
        if argument is True:
            _qualified(control, name, b"")
        elif isinstance(argument, str):
            _qualified(control, name, argument.encode())
        elif isinstance(argument, Token):
            _qualified(control, name, argument.value)
        else:
            return False
    elif name in _PERMISSIONS or name in _RESTRICTIONS:
        if argument is not True:
            return False
        setattr(control, name.replace(b"-", b"_").decode(), True)
    return True


def _directive(control: CacheControl, name: bytes, rest: bytes) -> None:
    """One directive of Cache-Control; `rest` is what follows its name."""
    match = _ARGUMENT.match(rest)
    argument: bytes | None = None
    if match is not None:
        argument = match[1] if match[1] is not None else _ESCAPE.sub(rb"\1", match[2])
    if name in _LIFETIMES:
        seconds = delta_seconds(argument) if argument is not None else None
        _lifetime(control, name, INVALID if seconds is None else seconds)
    elif name == b"max-stale":
        seconds = delta_seconds(argument) if argument is not None else DELTA_MAX if not rest else None
        control.max_stale = seconds if control.max_stale is None else min(control.max_stale, seconds or 0)
    elif name in _QUALIFIED:
        _qualified(control, name, argument or b"")
    elif name in _RESTRICTIONS or (name in _PERMISSIONS and not rest):
        setattr(control, name.replace(b"-", b"_").decode(), True)


def _lifetime(control: CacheControl, name: bytes, seconds: int) -> None:
    attribute = name.replace(b"-", b"_").decode()
    known: int | None = getattr(control, attribute)
    setattr(control, attribute, seconds if known is None or known == seconds else INVALID)


def _qualified(control: CacheControl, name: bytes, argument: bytes) -> None:
    """no-cache and private, of the whole response or of the named fields only (RFC 9111 5.2.2.4, 5.2.2.7)."""
    names = tuple(_FIELD_NAME.findall(argument.lower()))
    if name == b"no-cache":
        control.no_cache = control.no_cache or not names
        control.no_cache_fields += names
    else:
        control.private = control.private or not names
        control.private_fields += names
