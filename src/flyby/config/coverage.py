"""Whether one route takes every request that another would: then the other, if it comes later, is never used.

A route's path is a set of strings. Each set is written as one or two alternatives, (segments, tail): a segment is a
literal or None for any that is not empty, and a tail of None ends the path there, else a slash and anything that ends
with the tail's text follows ("" for anything at all).

    /api             (("api",), None) and (("api",), "")
    /api/, /api/*rest                     (("api",), "")
    /users/:id       (("users", None), None)
    /img/*.css       (("img",), ".css")

One set covers another when each alternative of the other lies in one of its own. That misses sets which only several
routes together cover, and never says so where it is not true.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flyby.config.model import Route
from flyby.config.patterns import HostPattern, parse_host, parse_path

Alternative = tuple[tuple[str | None, ...], str | None]
EVERY_PATH: tuple[Alternative, ...] = (((), ""),)


@dataclass(frozen=True, slots=True)
class Scope:
    """The requests that a route matches."""

    host: HostPattern | None
    paths: tuple[Alternative, ...]
    scheme: str | None
    fields: tuple[tuple[str, str], ...]

    def covers(self, other: Scope) -> bool:
        """Whether every request of the other is one of these."""
        return (
            self.scheme in (None, other.scheme)
            and _host_covers(self.host, other.host)
            and all(_field_covers(field, other.fields) for field in self.fields)
            and all(any(_path_covers(own, path) for own in self.paths) for path in other.paths)
        )


def scope(route: Route) -> Scope | None:
    """What a route matches; None when its host or path cannot be read."""
    try:
        host = parse_host(route.host) if route.host is not None else None
        paths = _alternatives(route.path) if route.path is not None else EVERY_PATH
    except ValueError:
        return None
    fields = tuple(sorted((name.lower(), value) for name, value in route.headers.items()))
    return Scope(host, paths, route.scheme, fields)


def hidden(routes: Iterable[Route]) -> Iterator[tuple[int, int, bool]]:
    """Each route that an earlier one hides, by their numbers from 0, and whether both match the same requests."""
    # Only a route that begins with the same segment, or with any, can cover another: most are never compared.
    earlier: dict[str | None, list[tuple[int, Scope]]] = defaultdict(list)
    for number, route in enumerate(routes):
        own = scope(route)
        if own is None:
            continue
        begins = {_beginning(path) for path in own.paths}
        candidates = sorted((each for begin in {None, *begins} for each in earlier[begin]), key=lambda each: each[0])
        found = next(((index, each) for index, each in candidates if each.covers(own)), None)
        if found is not None:
            yield number, found[0], own.covers(found[1])
            continue
        for begin in begins:
            earlier[begin].append((number, own))


def _beginning(path: Alternative) -> str | None:
    segments, _ = path
    return segments[0] if segments else None


def _alternatives(text: str) -> tuple[Alternative, ...]:
    pattern = parse_path(text)
    segments: list[str | None] = [None if each[:1] == ":" else each for each in text.removeprefix("/").split("/")]
    if pattern.prefix:
        if not segments[-1]:
            return ((tuple(segments[:-1]), ""),)
        return ((tuple(segments), None), (tuple(segments), ""))
    last = segments[-1]
    if last is not None and last[:1] == "*":
        return ((tuple(segments[:-1]), pattern.suffix),)
    return ((tuple(segments), None),)


def _path_covers(one: Alternative, other: Alternative) -> bool:
    (segments, tail), (others, other_tail) = one, other
    if len(others) < len(segments) or not all(map(_segment_covers, segments, others)):
        return False
    if tail is None:
        return other_tail is None and len(others) == len(segments)
    if other_tail is not None:
        return other_tail.endswith(tail)
    return len(others) > len(segments) and (not tail or (others[-1] or "").endswith(tail))


def _segment_covers(one: str | None, other: str | None) -> bool:
    return other != "" if one is None else one == other


def _host_covers(one: HostPattern | None, other: HostPattern | None) -> bool:
    if one is None:
        return True
    if other is None or (one.ported and not other.ported):
        return False
    name = other.name if one.ported or not other.ported else other.name.rpartition(b":")[0]
    if one.wildcard:
        return name.endswith(one.name) and (other.wildcard or len(name) > len(one.name))
    return not other.wildcard and name == one.name


def _field_covers(field: tuple[str, str], others: tuple[tuple[str, str], ...]) -> bool:
    name, value = field
    return any(name == other and value in ("*", wanted) for other, wanted in others)
