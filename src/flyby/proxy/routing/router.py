"""Which route a request takes, and where that leads: a backend with a path, or a redirect.

Pure: the routes are compiled once, a match looks at them in their order and the first that fits wins; None means
that no route does. Everything is compared on the raw bytes that the client sent, nothing is decoded (RFC 3986 6.2 is
the origin's to apply): only the host is normalised, and that by the parser. A match costs at most one pass over the
path for each route and never backtracks, whatever the patterns and the path are.

A preview host belongs to its backend: routes that name no host are not looked at for it, and after those that name one
it leads to its backend, with the rules of a route that says nothing else. So `[[routes]] backend = "app"` at the end of
a configuration does not take the previews of all other backends.

The query takes no part in matching. It is passed on as it came, and handed to a redirect whose target has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from flyby.config import Config, Route
from flyby.config.patterns import (
    Capture,
    HostPattern,
    Literal,
    Part,
    PathPattern,
    Suffix,
    parse_host,
    parse_path,
    parse_redirect,
    parse_rewrite,
)
from flyby.proxy.routing.shares import Shares, shares_of

Captures = dict[str, bytes]
NO_CAPTURES: Captures = {}
ANY_VALUE = b"*"


class RequestFields(Protocol):
    """What a route asks of field lines; `wire.Fields` has it."""

    def get_all(self, lname: bytes, /) -> list[bytes]:
        """The values of all lines of that lower-case name."""


class Routable(Protocol):
    """What a route asks of a request; `wire.RequestHead` has it."""

    @property
    def scheme(self) -> bytes:
        """`http` or `https`."""

    @property
    def host(self) -> bytes:
        """The normalised authority."""

    @property
    def path(self) -> bytes:
        """Path and query as received, or `*` (RFC 9112 3.2.4)."""

    @property
    def fields(self) -> RequestFields:
        """The field lines."""


class Redirection(NamedTuple):
    """An answer that the edge gives itself."""

    location: bytes
    status: int


class Match:
    """The route that a request takes: to a `backend` with `path`, or with "" as the backend to a `redirect`.

    Where it has several backends, `shares` says which one a visitor gets.
    """

    __slots__ = ("backend", "path", "redirect", "route", "shares")

    def __init__(
        self,
        route: Route,
        backend: str,
        path: bytes,
        redirect: Redirection | None = None,
        shares: Shares | None = None,
    ) -> None:
        self.route = route
        self.shares = shares
        self.backend = backend
        self.path = path
        self.redirect = redirect

    def __repr__(self) -> str:
        if self.redirect is not None:
            return f"<Match {self.redirect.status} {self.redirect.location!r}>"
        return f"<Match {self.backend} {self.path!r}>"


class Sign(NamedTuple):
    """What of a route can be told by host and path alone; see `_signpost.pyx`."""

    scheme: bytes | None
    host: bytes | None
    wildcard: bool
    ported: bool
    prefix: bytes | None
    segments: bool  # the prefix ends where a segment does
    certain: bool  # nothing else is asked of a request
    serves: bool  # it leads to one backend, by way of the cache
    backend: str
    suffix: bytes | None = None  # of the path, behind the prefix
    preview: bool = False  # its host is a preview's, which routes without a host do not take


class Router:
    """The compiled routes of one configuration, which must have passed its check.

    `previews` maps a host name in lower case to the backend whose preview it is.
    """

    __slots__ = ("_compiled", "_previews", "routes")

    def __init__(self, config: Config, previews: Mapping[str, str] = MappingProxyType({})) -> None:
        ordinary = config.effective_routes()
        hosts = {host: Route(host=host, backend=backend) for host, backend in previews.items()}
        self.routes: tuple[Route, ...] = (*ordinary, *hosts.values())
        self._compiled = tuple(_Compiled(route) for route in ordinary)
        self._previews = {host.encode("ascii"): route for host, route in hosts.items()}

    def match(self, request: Routable) -> Match | None:
        """The first route that fits, or None."""
        whole = request.path
        path, mark, query = whole.partition(b"?")
        preview = self._previews.get(_without_port(request.host)) if self._previews else None
        for compiled in self._compiled:
            if preview is not None and not compiled.names_host:
                continue
            captures = compiled.fits(request, path)
            if captures is not None:
                return compiled.outcome(whole, path, mark + query, captures)
        return None if preview is None else Match(preview, next(iter(preview.shares)), whole)

    def signs(self) -> list[tuple[Sign, Route]]:
        """The routes in their order, each with what host and path tell of it."""
        previews = [_Compiled(route) for route in self._previews.values()]
        signs = [(compiled.sign(), compiled.route) for compiled in self._compiled]
        return signs + [(compiled.sign()._replace(preview=True), compiled.route) for compiled in previews]


class _Compiled:
    """One route, ready to be matched."""

    __slots__ = (
        "_backend",
        "_fields",
        "_host",
        "_pattern",
        "_plain",
        "_prefix",
        "_rewrite",
        "_scheme",
        "_target",
        "names_host",
        "route",
        "shares",
    )

    def __init__(self, route: Route) -> None:
        self.route = route
        # Of several, a visitor's is drawn when the request is routed.
        self._backend = next(iter(route.shares), "")
        self.shares = shares_of(tuple(route.shares.items())) if len(route.shares) > 1 else None
        self._host: HostPattern | None = parse_host(route.host) if route.host is not None else None
        self.names_host = self._host is not None
        self._scheme = route.scheme.encode("ascii") if route.scheme is not None else None
        self._fields = tuple(
            (name.lower().encode("ascii"), value.encode("ascii")) for name, value in route.headers.items()
        )
        pattern = parse_path(route.path) if route.path is not None else None
        self._pattern: PathPattern | None = None if pattern is None or pattern.prefix else pattern
        self._prefix = route.path.encode("ascii") if route.path is not None and self._pattern is None else None
        names = pattern.names if pattern is not None else frozenset()
        self._rewrite = parse_rewrite(route.rewrite, names) if route.rewrite is not None else None
        self._target = parse_redirect(route.redirect.to, names) if route.redirect is not None else None
        # The one backend of a Heroku app, with no conditions: the match is the same but for the path.
        self._plain = self._rewrite is None and self._target is None

    def fits(self, request: Routable, path: bytes) -> Captures | None:
        """What the path's pattern captured, or None when the route is not this request's."""
        if self._scheme is not None and self._scheme != request.scheme:
            return None
        if self._host is not None and not _host_fits(self._host, request.host):
            return None
        if self._prefix is not None and not _prefix_fits(self._prefix, path):
            return None
        for name, value in self._fields:
            values = request.fields.get_all(name)
            if not values or (value != ANY_VALUE and value not in values):
                return None
        return NO_CAPTURES if self._pattern is None else _captures(self._pattern.parts, path)

    def sign(self) -> Sign:
        """The part of the route that host and path decide."""
        host = self._host
        prefix, suffix = self._prefix, None
        parts = self._pattern.parts if self._pattern is not None else ()
        # What matches a pattern begins and ends as the pattern does.
        if parts and isinstance(parts[0], Literal):
            prefix = parts[0].text
        if parts and isinstance(parts[-1], Suffix):
            suffix = parts[-1].text
        # Among several backends the general path draws for each visitor.
        backend = self.route.backend if isinstance(self.route.backend, str) else ""
        exact = suffix is not None and len(parts) == 2 and prefix is not None
        return Sign(
            scheme=self._scheme,
            host=host.name if host is not None else None,
            wildcard=host is not None and host.wildcard,
            ported=host is not None and host.ported,
            prefix=prefix,
            segments=self._pattern is None,
            certain=(self._pattern is None or exact) and not self._fields,
            serves=backend != "" and self._target is None and not self.route.cache.off,
            backend=backend,
            suffix=suffix,
        )

    def outcome(self, whole: bytes, path: bytes, query: bytes, captures: Captures) -> Match:
        """Where the route leads a request that fits it."""
        route = self.route
        if self._plain:
            return Match(route, self._backend, whole, None, self.shares)
        if self._target is not None and route.redirect is not None:
            location = _location(_filled(self._target, captures), query)
            return Match(route, "", whole, Redirection(location, route.redirect.status))
        if self._rewrite is None or path == b"*":  # `OPTIONS *` is about the server, there is no path to change
            return Match(route, self._backend, whole, None, self.shares)
        rewritten = _filled(self._rewrite, captures)
        if self._pattern is None:
            # Of a prefix only the prefix is replaced; the slash between it and the rest is there once.
            rest = path[len((self._prefix or b"/").rstrip(b"/")) :]
            rewritten = rewritten.rstrip(b"/") + rest or b"/"
        return Match(route, self._backend, rewritten + query, None, self.shares)


def _host_fits(pattern: HostPattern, authority: bytes) -> bool:
    # Without a port in the pattern any port will do.
    host = authority if pattern.ported else _without_port(authority)
    if pattern.wildcard:  # at least one more label: "*.example.com" is not example.com
        return len(host) > len(pattern.name) and host.endswith(pattern.name)
    return host == pattern.name


def _without_port(authority: bytes) -> bytes:
    # "]" ends an IPv6 address, whose colons are no ports.
    colon = authority.rfind(b":")
    return authority[:colon] if colon > authority.rfind(b"]") else authority


def _prefix_fits(prefix: bytes, path: bytes) -> bool:
    if not path.startswith(prefix):
        return False
    # A prefix ends where a segment does.
    return len(path) == len(prefix) or prefix.endswith(b"/") or path[len(prefix)] == 0x2F


def _captures(parts: tuple[Part, ...], path: bytes) -> Captures | None:
    captures: Captures = {}
    at = 0
    for part in parts:
        if isinstance(part, Literal):
            if not path.startswith(part.text, at):
                return None
            at += len(part.text)
            continue
        if isinstance(part, Suffix):
            return captures if path.endswith(part.text, at) else None
        end = len(path)
        if not part.rest:
            slash = path.find(b"/", at)
            end = slash if slash >= 0 else end
            if end == at:
                return None
        captures[part.name] = path[at:end]
        at = end
    return captures if at == len(path) else None


def _filled(template: tuple[Part, ...], captures: Captures) -> bytes:
    return b"".join(captures[part.name] if isinstance(part, Capture) else part.text for part in template)


def _location(target: bytes, query: bytes) -> bytes:
    if target.startswith(b"/"):
        # "//evil.example" and "/\evil.example" would be another site's address: a path from the request starts as one.
        target = b"/" + target.lstrip(b"/\\")
    if b"?" in target or b"#" in target:
        return target
    return target + query
