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

from flyby.config.lookalikes import looks_foreign, translated
from flyby.config.model import Config, Server
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
        if route.path is not None and looks_foreign(route.path):
            ours = translated(route.path)
            hint = f"write {ours}" if ours else "write :name for a segment, *rest for what follows, *.css for an end"
            what = f'"{route.path}" is matched literally: it is no regular expression and no template'
            yield Fault(("routes", index, "path"), what, hint)
        pattern = parse_host(route.host) if route.host is not None else None
        if pattern is not None and pattern.name.rpartition(b":")[2] in (b"80", b"443") and pattern.ported:
            what = f'"{route.host}" matches no client that leaves the default port out, as all do'
            yield Fault(("routes", index, "host"), what, "leave the port out: then it is any")


def remarks_of_file(path: str, config: Config) -> Iterator[Fault]:
    """The remarks that only the file itself gives rise to: what it names, and who can read it."""
    yield from _state(config.server)
    secret: Path = ("server", "purge", "secret")
    if config.server.purge.secret is not None and _readable_by_all(path):
        yield Fault(secret, f"{path} holds it, and can be read by every user", f"chmod o-r {path}")


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
