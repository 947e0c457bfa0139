"""What works but should be looked at: a configuration with remarks is served, and `flyby check` says each.

The server logs them when it takes the configuration up, but for the place in the file.

What a remark is about depends on this machine, too (its processors, its limits, who may read a file), so two machines
may say different things of one file.
"""

from __future__ import annotations

import contextlib
import os
import resource
import stat
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path as FilePath

from flyby.config.lookalikes import is_expression, looks_foreign, translated, variable_in
from flyby.config.model import Config, Route, RouteCache, Server
from flyby.config.patterns import parse_host
from flyby.config.positions import Path
from flyby.config.shape import Fault

WORKERS_PER_CPU = 4  # more only take turns on the processors, and each has connections of its own to the origins
FEW_DESCRIPTORS = 1024  # with fewer, a few hundred clients are too many


def remarks_of(config: Config) -> Iterator[Fault]:
    """The remarks on a sound configuration, each at its place."""
    yield from _workers(config.server)
    yield from _descriptors(config.server)
    yield from _trust(config.server)
    yield from _certificates(config.server)
    for index, route in enumerate(config.routes):
        yield from _route(route, ("routes", index))


def remarks_of_file(path: str, config: Config) -> Iterator[Fault]:
    """The remarks that only the file itself gives rise to: what it names, and who can read it."""
    yield from _state(config.server)
    secret: Path = ("server", "purge", "secret")
    if config.server.purge.secret is not None and _readable_by_all(path):
        yield Fault(secret, f"{path} holds it, and can be read by every user", f"chmod o-r {path}")


def _route(route: Route, path: Path) -> Iterator[Fault]:
    if route.path is not None and looks_foreign(route.path):
        ours = translated(route.path)
        hint = f"write {ours}" if ours else "write :name for a segment, *rest for what follows, *.css for an end"
        what = f'"{route.path}" is matched literally: it is no regular expression and no template'
        yield Fault((*path, "path"), what, hint)
    pattern = parse_host(route.host) if route.host is not None else None
    if pattern is not None and pattern.ported and pattern.name.rpartition(b":")[2] in (b"80", b"443"):
        what = f'"{route.host}" matches no client that leaves the default port out, as all do'
        yield Fault((*path, "host"), what, "leave the port out: then it is any")
    targets: list[tuple[Path, str | None]] = [((*path, "rewrite"), route.rewrite)]
    targets.append(((*path, "redirect", "to"), route.redirect.to if route.redirect is not None else None))
    for place, target in targets:
        variable = variable_in(target) if target is not None else None
        if variable is not None:
            hint = 'a path = "/*rest" captures all of it, to be written as /*rest; the query goes along by itself'
            yield Fault(place, f'"{variable}" is sent literally: there are no variables', hint)
    for name, value in route.headers.items():
        if is_expression(value):
            what = f'"{value}" is compared literally: it is no regular expression'
            yield Fault((*path, "headers", name), what, 'write the whole value, or "*" for any')
    yield from _names(route.cache, (*path, "cache"))


def _names(cache: RouteCache, path: Path) -> Iterator[Fault]:
    """Names of parameters and cookies that look like patterns; only a cookie's may end in a star."""
    for key, names, hint in (
        ("query_allow", cache.query_allow, "name each parameter"),
        ("query_deny", cache.query_deny, "name each parameter"),
        ("ignore_cookies", cache.ignore_cookies, 'only a "*" at the end stands for any ending'),
        ("keep_cookies", cache.keep_cookies, 'only a "*" at the end stands for any ending'),
    ):
        for index, name in enumerate(names or ()):
            starred = "*" in (name[:-1] if key.endswith("cookies") else name)
            if starred or is_expression(name):
                yield Fault((*path, key, index), f'"{name}" is compared literally: it is no pattern', hint)


def _workers(server: Server) -> Iterator[Fault]:
    cpus = len(os.sched_getaffinity(0))
    if server.workers != "auto" and server.workers > WORKERS_PER_CPU * cpus:
        what = f"{server.workers} workers share {cpus} processor{'s' * (cpus != 1)}"
        yield Fault(("server", "workers"), what, '"auto" is one for each')


def _descriptors(server: Server) -> Iterator[Fault]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return
    if server.limits.connections >= hard:
        what = f"only {hard} descriptors can be opened, and origins need some of them"
        yield Fault(("server", "limits", "connections"), what, "raise LimitNOFILE or ulimit -Hn")
    elif hard < FEW_DESCRIPTORS:
        what = f"a worker can open only {hard} descriptors, three quarters of them for clients"
        yield Fault(("server",), what, "raise LimitNOFILE or ulimit -Hn", on_key=True)


def _trust(server: Server) -> Iterator[Fault]:
    for index, text in enumerate(server.trusted_proxies):
        if text.endswith("/0"):
            what = f'"{text}" is everybody: any client can say that it is another'
            yield Fault(("server", "trusted_proxies", index), what, "name the networks of the proxies")


def _state(server: Server) -> Iterator[Fault]:
    if server.state is not None and not FilePath(server.state).exists():
        what = f'"{server.state}" is not there: the edge has no backends of its own until flyby backend makes it'
        yield Fault(("server", "state"), what, "is it spelled right?")


def _certificates(server: Server) -> Iterator[Fault]:
    if not server.tls or find_spec("ssl") is None:
        return
    from flyby.config.certificates import CertificateError, load

    for index, each in enumerate(server.tls):
        with contextlib.suppress(CertificateError):  # it was sound just now; what it is by now is found at a reload
            for remark in load(each.certificate, each.key, each.hosts).remarks:
                yield Fault(("server", "tls", index), remark, on_key=True)


def _readable_by_all(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & stat.S_IROTH)
    except OSError:
        return False
