"""The little languages of a route: hosts, path patterns, and the templates that captured parts are put into.

A path is either a plain prefix or, with a `:segment`, a final `*rest` or a final `*.ending`, a pattern for the whole
path:

    /api             prefix: /api, /api/, /api/x, but not /apix
    /api/            prefix: what stands below /api/
    /users/:id       exactly two segments; `:id` takes one segment, never an empty one
    /old/*rest       `*rest` takes everything after "/old/", slashes and all, also nothing
    /img/*.css       everything below /img/, at any depth, that ends with ".css"; it captures nothing
    *.css            the same below /

`:` and `*` are special only at the start of a segment. Matching is on the raw bytes of a path, nothing is decoded
(a proxy that decodes for its routes and not for its origin can be led past its own rules). Parsing is done once;
matching looks at each byte at most once for each route, and never backtracks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from flyby.config.lookalikes import NEVER, is_expression, translated, variable_in
from flyby.config.values import parse_authority

_CAPTURE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_IN_TEMPLATE = re.compile(r"(?<=/)([:*])([A-Za-z_][A-Za-z0-9_]*)", re.ASCII)
_SUFFIX = re.compile(r"\*[^A-Za-z0-9_*][^*]*\Z", re.ASCII)  # a name would follow the star of a capture
_VISIBLE = re.compile(r"[!-~]*\Z")


@dataclass(frozen=True, slots=True)
class Literal:
    """Bytes that stand there as they are."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Capture:
    """A named part: one segment, or with `rest` all that follows."""

    name: str
    rest: bool


@dataclass(frozen=True, slots=True)
class Suffix:
    """All that follows, if it ends with these bytes; always the last part."""

    text: bytes


Part = Literal | Capture | Suffix


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A parsed path: `parts` of a whole-path pattern, or one literal when it is a prefix."""

    parts: tuple[Part, ...]
    prefix: bool

    @property
    def names(self) -> frozenset[str]:
        """The names that it captures."""
        return frozenset(part.name for part in self.parts if isinstance(part, Capture))

    @property
    def suffix(self) -> str:
        """What the whole path must end with; "" when that may be anything."""
        last = self.parts[-1] if self.parts else None
        return last.text.decode("ascii") if isinstance(last, Suffix) else ""


@dataclass(frozen=True, slots=True)
class HostPattern:
    """A parsed host in lower case; with `wildcard` a suffix that starts with a dot, with `ported` it has a port."""

    name: bytes
    wildcard: bool
    ported: bool


def parse_host(text: str) -> HostPattern | None:
    """`"example.com"`, `"*.example.com"`, either with a port, or `"*"` for any host (None)."""
    if text == "*":
        return None
    wildcard = text.startswith("*.")
    name = text[2:] if wildcard else text
    if "*" in name:
        raise ValueError(f"{text!r} can have a wildcard only as its whole first label, as in *.example.com")
    if "://" in text or "/" in text:
        bare = re.split(r"[/?#]", text.partition("://")[2] or text, maxsplit=1)[0]
        raise ValueError(f"{text!r} must be a host, without scheme and path; write {bare}")
    if is_expression(text):
        raise ValueError(f"{text!r} is no regular expression here; write example.com or *.example.com")
    if text.startswith("."):
        raise ValueError(f"{text!r} must have a label before its first dot; write *{text} for every name below it")
    host, port = parse_authority(name)
    host = host.removesuffix(".")  # which the parser of requests removes, too
    authority = (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
    return HostPattern((("." if wildcard else "") + authority).encode("ascii"), wildcard, port is not None)


def parse_path(text: str) -> PathPattern:
    """A route's `path`; ValueError says what is wrong with it."""
    if NEVER.search(text):
        raise ValueError(f"{text!r} never matches: no path holds {NEVER.findall(text)[0]}; {in_our_words(text)}")
    _check_bytes(text)
    if re.match(r"\*[^A-Za-z0-9_*/]", text):
        text = "/" + text
    if not text.startswith("/"):
        raise ValueError(f"{text!r} must start with a slash; write /{text}")
    if "?" in text or "#" in text:
        raise ValueError(f"{text!r} must be a path without a query: a route matches the path only")
    parts: list[Part] = []
    names: set[str] = set()
    literal = ""
    segments = text.split("/")[1:]
    for number, segment in enumerate(segments, start=1):
        literal += "/"
        if segment[:1] not in (":", "*") or not segment:
            literal += segment
            continue
        if segment[0] == "*" and number == len(segments) and _SUFFIX.match(segment):
            return PathPattern((*parts, Literal(literal.encode("ascii")), Suffix(segment[1:].encode("ascii"))), False)
        capture = Capture(segment[1:], segment[0] == "*")
        if capture.rest and number != len(segments):
            raise ValueError(f"{segment!r} in {text!r} takes all that follows, so it must be the last segment")
        if capture.rest and "." in capture.name and "*" not in capture.name:
            ending = "*" + capture.name[capture.name.index(".") :]
            raise ValueError(f"{segment!r} in {text!r} is neither a name nor an ending; write {ending}")
        if not _CAPTURE_NAME.match(capture.name):
            raise ValueError(f"{segment!r} in {text!r} needs a name of letters, digits and _; write {segment[0]}name")
        if capture.name in names:
            raise ValueError(f"{text!r} captures {capture.name!r} twice")
        names.add(capture.name)
        parts += [Literal(literal.encode("ascii")), capture]
        literal = ""
    if literal:
        parts.append(Literal(literal.encode("ascii")))
    return PathPattern(tuple(parts), prefix=not names)


def in_our_words(text: str) -> str:
    """The hint for a path in another language."""
    ours = translated(text)
    if ours is not None and ours != text:
        return f"it is no regular expression or template here, write {ours}"
    return (
        "it is no regular expression or template: write :name for a segment, *rest for what follows, *.css for an end"
    )


def parse_template(text: str, names: frozenset[str]) -> tuple[Part, ...]:
    """A `rewrite` or a redirect's target: captures stand at the start of a segment and must be among `names`."""
    _check_bytes(text)
    parts: list[Part] = []
    scheme = text.find("://")
    # Nothing in the authority may come from the client, or it could send people to a site of its choice.
    path = 0 if scheme < 0 else text.find("/", scheme + 3)
    at = 0
    for match in _IN_TEMPLATE.finditer(text, path if path >= 0 else len(text)):
        if match[2] not in names:
            captured = ", ".join(sorted(names)) or "nothing"
            raise ValueError(f"{match[0]!r} in {text!r} is not a part of the route's path; it captures {captured}")
        if match.start() > at:
            parts.append(Literal(text[at : match.start()].encode("ascii")))
        parts.append(Capture(match[2], match[1] == "*"))
        at = match.end()
    if at < len(text):
        parts.append(Literal(text[at:].encode("ascii")))
    return tuple(parts)


def parse_redirect(text: str, names: frozenset[str]) -> tuple[Part, ...]:
    """A redirect's target: an absolute URL, or a path; the authority is never taken from the request."""
    scheme, separator, rest = text.partition("://")
    if separator:
        if scheme not in ("http", "https"):
            raise ValueError(f"{text!r} must be an http:// or https:// URL, or a path")
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
        variable = variable_in(authority)
        if variable is not None:
            hint = 'a path = "/*rest" captures the path, to be written as https://HOST/*rest'
            raise ValueError(f"{variable!r} in {text!r} is no part of a host, and there are no variables; {hint}")
        parse_authority(authority)
    elif not text.startswith("/") or text.startswith(("//", "/\\")):
        raise ValueError(f"{text!r} must be an absolute URL or a path that starts with one slash")
    return parse_template(text, names)


def parse_rewrite(text: str, names: frozenset[str]) -> tuple[Part, ...]:
    """A rewrite's target: a path."""
    if not text.startswith("/"):
        raise ValueError(f"{text!r} must start with a slash; write /{text}")
    if "?" in text or "#" in text:
        raise ValueError(f"{text!r} must be a path: the query is passed on as it came")
    return parse_template(text, names)


def _check_bytes(text: str) -> None:
    if not _VISIBLE.match(text):
        quoted = "".join(c if "!" <= c <= "~" else "".join(f"%{b:02X}" for b in c.encode()) for c in text)
        raise ValueError(f"{text!r} is matched byte for byte, so it must be percent-encoded; write {quoted}")
