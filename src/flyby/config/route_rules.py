"""The rules of routes: what each matches and does, and which of them can never be used."""

from __future__ import annotations

from collections.abc import Iterator

from flyby.config.coverage import hidden
from flyby.config.header_rules import field_faults, header_faults, names_faults
from flyby.config.model import Backend, Config, Route, RouteCache
from flyby.config.patterns import PathPattern, parse_host, parse_path, parse_redirect, parse_rewrite
from flyby.config.positions import Path
from flyby.config.shape import Fault, did_you_mean, sentence


def route_faults(config: Config) -> Iterator[Fault]:
    """What is wrong with each route, and with all of them together."""
    if len(config.backends) > 1 and not config.routes:
        names = ", ".join(config.backends)
        yield Fault(
            ("backends",), f"no routes say what goes to which backend ({names})", "write [[routes]]", on_key=True
        )
    for index, route in enumerate(config.routes):
        yield from _route(route, ("routes", index), config.backends)
    for index, before, alike in hidden(config.routes):
        if alike:
            what, hint = "matches the same requests", "remove one of them"
        else:
            what, hint = "stands before it and matches all of its requests", f"move it above number {before + 1}"
        yield Fault(("routes", index), f"is never used: route number {before + 1} {what}", hint)


def _route(route: Route, path: Path, backends: dict[str, Backend]) -> Iterator[Fault]:
    for name in route.shares:
        if name not in backends:
            place = (*path, "backend") if isinstance(route.backend, str) else (*path, "backend", name)
            hint = did_you_mean(name, list(backends)) or f"write [backends.{name}]"
            yield Fault(place, f'there is no backend "{name}"', hint, on_key=not isinstance(route.backend, str))
    if route.backend is not None and not any(route.shares.values()):
        yield Fault((*path, "backend"), "no backend has a share", "write { app = 95, canary = 5 }")
    if route.backend is not None and route.redirect is not None:
        yield Fault(path, "has both a backend and a redirect", "keep one of them")
    if route.backend is None and route.redirect is None and len(backends) != 1:
        yield Fault(path, "has neither a backend nor a redirect", did_you_mean("", list(backends)))
    if route.host is not None:
        try:
            parse_host(route.host)
        except ValueError as error:
            yield sentence((*path, "host"), error)
    pattern: PathPattern | None = PathPattern((), prefix=True)
    if route.path is not None:
        try:
            pattern = parse_path(route.path)
        except ValueError as error:
            yield sentence((*path, "path"), error)
            pattern = None
    yield from _targets(route, path, pattern)
    for name, value in route.headers.items():
        yield from field_faults(name, value, (*path, "headers", name))
    yield from _route_cache(route.cache, (*path, "cache"))
    yield from header_faults(route.request_headers, (*path, "request_headers"))
    yield from header_faults(route.response_headers, (*path, "response_headers"))


def _targets(route: Route, path: Path, pattern: PathPattern | None) -> Iterator[Fault]:
    """Where the request goes. Without a valid path there are no names to check against."""
    if route.redirect is not None and not route.redirect.to:
        yield Fault((*path, "redirect"), "has no target", 'write to = "https://..."')
    elif route.redirect is not None and pattern is not None:
        try:
            parse_redirect(route.redirect.to, pattern.names)
        except ValueError as error:
            yield sentence((*path, "redirect", "to"), error)
    if route.rewrite is not None and route.redirect is not None:
        yield Fault((*path, "rewrite"), "has no effect beside a redirect", "put the new path into redirect.to")
    elif route.rewrite is not None and pattern is not None:
        try:
            parse_rewrite(route.rewrite, pattern.names)
        except ValueError as error:
            yield sentence((*path, "rewrite"), error)


def _route_cache(cache: RouteCache, path: Path) -> Iterator[Fault]:
    pairs = (
        ("query_allow", cache.query_allow, "query_deny", cache.query_deny),
        ("keep_cookies", cache.keep_cookies, "ignore_cookies", cache.ignore_cookies),
    )
    for allow, allowed, deny, denied in pairs:
        if allowed is not None and denied is not None:
            yield Fault((*path, deny), f"{allow} and {deny} exclude each other", "keep one of them", on_key=True)
    if cache.vary_allow is not None:
        yield from names_faults(cache.vary_allow, (*path, "vary_allow"))
