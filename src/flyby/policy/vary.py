"""Which stored response a request selects (RFC 9111 4.1, RFC 9110 12.5.5).

The values of the fields that Vary names become one key. Two values that mean the same must give the same key, two
that do not must not: so lines are combined, white space about commas is dropped, Accept-Encoding becomes the set of
codings that are acceptable, Accept-Language its preferences in order, with languages of equal weight in any order.

    key = for each name: u32 length, value   ·   an absent field has length 2^32 - 1
"""

from __future__ import annotations

import re
from typing import Protocol

from flyby.wire import Fields

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
# A quoted string that never ends is the rest of the value; to look for its end from each quote would be quadratic.
_MEMBER = re.compile(rb'(?:[^",]|"(?:[^"\\]|\\.?)*+(?:"|\Z))+', re.DOTALL)
_WEIGHTED = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*(?:;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?\Z")
_LANGUAGE = re.compile(rb"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*\Z")

_ABSENT = b"\xff\xff\xff\xff"
_FULL_WEIGHT = 1000

# RFC 9110 8.4.1: the x- names are the same codings.
_ALIASES = {b"x-gzip": b"gzip", b"x-compress": b"compress"}


class FieldValues(Protocol):
    """Where the values of a request's fields are to be had: `Fields`, or what stands for those that are sent on."""

    def combined(self, lname: bytes, /) -> bytes | None: ...


def members(value: bytes) -> list[bytes]:
    """The members of a comma list, trimmed, empty ones dropped; commas in quoted strings do not split (RFC 9110
    5.6.1).
    """
    return [part for part in (match.strip(b" \t") for match in _MEMBER.findall(value)) if part]


def vary_names(fields: Fields) -> tuple[bytes, ...] | None:
    """The names in Vary, lower-case and sorted; None for `*`, or for what is no name, which no request matches."""
    return names_in(fields.combined(b"vary"))


def names_in(value: bytes | None) -> tuple[bytes, ...] | None:
    """`vary_names` of the combined value of Vary."""
    if value is None:
        return ()
    names = {name.lower() for name in members(value)}
    if b"*" in names or not all(_TOKEN.match(name) for name in names):
        return None
    return tuple(sorted(names))


def variant_key(names: tuple[bytes, ...], fields: FieldValues) -> bytes:
    """The part of the cache key that Vary asks for, of a request with `fields` (RFC 9111 4.1)."""
    return b"".join(_part(normalised(name, fields)) for name in names)


def language_key(names: tuple[bytes, ...], fields: FieldValues) -> bytes | None:
    """The key of the variant in the one language that the request likes best, if there is one such.

    A response that says its Content-Language, and is in the very language that a request prefers to all others, is
    what the origin would choose again, whatever else the request would settle for (RFC 9110 12.5.4). Looked up after
    `variant_key`.
    """
    value = fields.combined(b"accept-language")
    if b"accept-language" not in names or value is None:
        return None
    weighted = _weighted(value)
    if not weighted:
        return None
    best = max(weight for _, weight in weighted)
    favourites = {language for language, weight in weighted if weight == best}
    if best == 0 or len(favourites) != 1:
        return None
    return _by_language(names, fields, favourites.pop())


def stored_language_key(names: tuple[bytes, ...], request_fields: FieldValues, response_fields: Fields) -> bytes | None:
    """The `language_key` under which a response may also be found: that of its one Content-Language."""
    value = response_fields.combined(b"content-language")
    if b"accept-language" not in names or value is None:
        return None
    languages = members(value.lower())
    if len(languages) != 1 or _LANGUAGE.match(languages[0]) is None:
        return None
    return _by_language(names, request_fields, languages[0])


def normalised(name: bytes, fields: FieldValues) -> bytes | None:
    """One request field in its normal form; None when it is absent."""
    value = fields.combined(name)
    if name == b"accept-encoding":
        return _codings(value or b"")
    if value is None:
        return None
    if name == b"accept-language":
        return _languages(value)
    return b",".join(members(value))


def _codings(value: bytes) -> bytes:
    """The acceptable codings as a set (RFC 9110 12.5.3). No field, an empty one and `identity` all ask for no
    coding.
    """
    weighted = _weighted(value)
    if weighted is None:
        return b",".join(members(value))
    accepted = {_ALIASES.get(coding, coding) for coding, weight in weighted if weight}
    accepted.discard(b"identity")
    # Only of these does a weight of nought say more than absence: what else is acceptable would be so anyway.
    refused = {coding + b";q=0" for coding, weight in weighted if not weight and coding in (b"identity", b"*")}
    if b"*" in accepted:
        refused |= {coding + b";q=0" for coding, weight in weighted if not weight}
    return b",".join(sorted(accepted | refused))


def _languages(value: bytes) -> bytes:
    """The language ranges from the most to the least preferred; those of one weight in alphabetical order."""
    weighted = _weighted(value)
    if weighted is None:
        return b",".join(members(value))
    groups: dict[int, set[bytes]] = {}
    for language, weight in weighted:
        groups.setdefault(weight, set()).add(language)
    ranked = [b",".join(sorted(groups[weight])) for weight in sorted(groups, reverse=True) if weight]
    refused = [b"!" + b",".join(sorted(groups[0]))] if 0 in groups else []
    return b";".join(ranked + refused)


def _weighted(value: bytes) -> list[tuple[bytes, int]] | None:
    """Lower-case members with their weight in thousandths (RFC 9110 12.4.2); None when one of them is malformed."""
    found = []
    for member in members(value):
        match = _WEIGHTED.match(member)
        if match is None:
            return None
        quality = match[2]
        weight = _FULL_WEIGHT
        if quality is not None and quality[:1] == b"0":
            weight = int(quality[2:].ljust(3, b"0") or b"0")
        found.append((match[1].lower(), weight))
    return found


def _by_language(names: tuple[bytes, ...], fields: FieldValues, language: bytes) -> bytes:
    parts = [b"=" + language if name == b"accept-language" else normalised(name, fields) for name in names]
    return b"".join(_part(part) for part in parts)


def _part(value: bytes | None) -> bytes:
    return _ABSENT if value is None else len(value).to_bytes(4, "big") + value
