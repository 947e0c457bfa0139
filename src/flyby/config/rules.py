"""The rules of a configuration: what a well-typed file may still get wrong.

Each function owns one table and yields a `Fault` for each thing that is wrong there; nothing stops at the first.
Faults about something that is missing point at its table, so that a misspelt key is not reported twice. What would
only fail at the first request (a CA file that cannot be read, a package that is not installed) is found here.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import Any

import msgspec

from flyby.config.header_rules import names_faults
from flyby.config.model import MAX_WORKERS, MIB, Backend, Cache, Config, Server
from flyby.config.patterns import parse_host
from flyby.config.positions import Path
from flyby.config.route_rules import route_faults
from flyby.config.shape import Fault, decode, sentence, spelled
from flyby.config.values import Address, parse_authority, parse_listen, parse_origin, parse_size
from flyby.errors import ConfigError, Problem

MIN_CACHE = MIB  # a store smaller than this has room for its own tables and little else

_BACKEND_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z", re.ASCII)
_LOOPBACK = ("127.0.0.1", "::1")
_VISIBLE = re.compile(r"[!-~]+\Z")

# What a feature needs installed: (module, what needs it, where it is asked for, how to get it).
Need = tuple[str, str, Callable[[Config], Iterable[Path]], str]


def _tls_origins(config: Config) -> Iterator[Path]:
    for name, backend in config.backends.items():
        for index, origin in enumerate(backend.origins):
            if origin.lower().startswith("https://"):
                yield ("backends", name, "origins", index)


def _tls_listeners(config: Config) -> Iterator[Path]:
    yield from (("server", "tls", index) for index in range(len(config.server.tls)))


def _always(_: Config) -> Iterator[Path]:
    yield ("server",)


NEEDS: tuple[Need, ...] = (
    ("ssl", "an https origin", _tls_origins, "this Python was built without OpenSSL; install one that has it"),
    ("ssl", "TLS", _tls_listeners, "this Python was built without OpenSSL; install one that has it"),
    ("httptools", "reading HTTP", _always, "pip install httptools"),
    ("uvloop", "the event loop", _always, "pip install uvloop"),
    ("lz4", "the cache's compression", _always, "pip install lz4"),
)


def problems_of(config: Config, file: str = "<config>", *, certificates: bool = True) -> list[Problem]:
    """Every problem of a configuration that was made in Python: its shape (Python checks no types), then the rules."""
    raw = _without_none(msgspec.to_builtins(config))
    sound, faults = decode(raw)
    faults += faults_of(sound, certificates=certificates)
    return [Problem(file, 0, 0, f"{spelled(fault.path)}: {fault.message}", fault.hint) for fault in faults]


def refuse_to_empty(running: Config, new: Config) -> None:
    """Raise `ConfigError` when a reload would take away everything that is served.

    An editor that truncates a file before it writes it, or a template that failed, must not turn all pages into 404s.
    """
    if new.empty and not running.empty:
        hint = "name one; to serve none, stop flyby"
        raise ConfigError([Problem("", 0, 0, "no backend and no route would be left", hint)])


def faults_of(config: Config, *, certificates: bool = True) -> list[Fault]:
    """Every rule that a well-typed configuration breaks."""
    return [
        *(certificate_faults(config.server) if certificates else ()),
        *_server(config.server, ("server",)),
        *_cache(config.cache, ("cache",)),
        *(fault for name, backend in config.backends.items() for fault in _backend(name, backend)),
        *route_faults(config),
        *_own_addresses(config),
        *_needs(config),
    ]


def _server(server: Server, path: Path) -> Iterator[Fault]:
    if not server.listen:
        yield Fault((*path, "listen"), "no address to listen on", 'write ["127.0.0.1:8080"]')
    addresses: list[Address] = []
    for index, text in enumerate(server.listen):
        try:
            address = parse_listen(text)
        except ValueError as error:
            yield sentence((*path, "listen", index), error)
            continue
        for other in addresses:
            if address.port and address.port == other.port and _overlap(address.host, other.host):
                same = address.host.lower() == other.host.lower()
                what = (
                    f'"{text}" is given twice'
                    if same
                    else f'"{text}" and another address at port {address.port} overlap'
                )
                yield Fault((*path, "listen", index), what, "remove one of them")
                break
        addresses.append(address)
        if address.secure and not server.tls:
            hint = "write [[server.tls]] with certificate and key"
            yield Fault((*path, "listen", index), f'"{text}" needs a certificate', hint)
        if address.proxy_protocol and not server.trusted_proxies:
            hint = "write server.trusted_proxies with the networks of the balancer"
            yield Fault((*path, "listen", index), f'nobody may connect to "{text}": no proxy is trusted', hint)
    if server.tls and len(addresses) == len(server.listen) and not any(each.secure for each in addresses):
        hint = 'write one as "https://HOST:PORT"'
        yield Fault((*path, "tls"), "no address in server.listen speaks TLS", hint, on_key=True)
    if server.workers != "auto" and server.workers > MAX_WORKERS:
        hint = '"auto" is one for each processor'
        yield Fault((*path, "workers"), f"{server.workers} workers are more than any machine has use for", hint)
    if server.state is not None and (not server.state or _is(server.state, os.path.isfile)):
        hint = "name the one that flyby backend add --state was given"
        yield Fault((*path, "state"), f'"{server.state}" is not a directory', hint)
    if server.preview_domain:
        yield from _preview_domain(server.preview_domain, (*path, "preview_domain"))
    if server.tunnel.node is not None and not _VISIBLE.match(server.tunnel.node):
        yield Fault((*path, "tunnel", "node"), "must be visible ASCII characters without spaces, at least one")
    purge = server.purge
    if purge.secret is not None and not _VISIBLE.match(purge.secret):
        hint = "" if purge.secret else "remove the key to have no secret"
        yield Fault((*path, "purge", "secret"), "must be visible ASCII characters without spaces, at least one", hint)
    yield from _networks(purge.allow, (*path, "purge", "allow"))
    yield from _networks(server.trusted_proxies, (*path, "trusted_proxies"), "unix")


def _overlap(one: str, other: str) -> bool:
    """Whether two hosts to listen on take connections to the same address. Names are not resolved here."""
    if "" in (one, other) or one.lower() == other.lower():
        return True
    try:
        first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    except ValueError:
        return False
    return first.version == second.version and (first == second or first.is_unspecified or second.is_unspecified)


def _own_addresses(config: Config) -> Iterator[Fault]:
    """Origins that are this edge itself: every request would come back to it."""
    listens = []
    for text in config.server.listen:
        with contextlib.suppress(ValueError):
            listens.append(parse_listen(text))
    for name, backend in config.backends.items():
        for index, text in enumerate(backend.origins):
            try:
                origin = parse_origin(text)
            except ValueError:
                continue
            if any(each.port == origin.port and _reaches(origin.host, each.host) for each in listens):
                what = f'"{text}" is this edge itself, which listens there'
                yield Fault(("backends", name, "origins", index), what, "name the app's own address and port")


def _reaches(origin: str, listen: str) -> bool:
    """Whether a connection to the origin's host is one to the address to listen on, as far as the text tells."""
    if origin == listen.lower():
        return True
    loopback = origin == "localhost" or origin == "::1" or bool(re.match(r"127\.\d+\.\d+\.\d+\Z", origin))
    return loopback and (
        listen in ("", "0.0.0.0", "::", "localhost") or (origin == "localhost" and listen in _LOOPBACK)
    )


def _networks(texts: list[str], path: Path, *words: str) -> Iterator[Fault]:
    """What is neither an address, nor a network, nor one of the words."""
    for index, text in enumerate(texts):
        if text in words:
            continue
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            what = " or ".join(("an address or network", *(f'"{word}"' for word in words)))
            yield Fault((*path, index), f'"{text}" is not {what}', _network(text, error))


def _preview_domain(text: str, path: Path) -> Iterator[Fault]:
    try:
        name, port = parse_authority(text)
    except ValueError as error:
        yield sentence(path, error)
        return
    if port is not None or ":" in name or text.endswith("."):
        yield Fault(path, f'"{text}" must be a domain name, without a port', 'as in "preview.example.com"')


def _network(text: str, error: ValueError) -> str:
    try:
        return f'{error}; did you mean "{ipaddress.ip_network(text, strict=False)}"?'
    except ValueError:
        return "write an address, or a network as 10.0.0.0/8 or fd00::/8"


def _is(path: str, kind: Callable[[str], bool]) -> bool:
    """What os.path says of a path, which may be none that the system could have."""
    try:
        return kind(path)
    except (OSError, ValueError):
        return False


def _cache(cache: Cache, path: Path) -> Iterator[Fault]:
    size = largest = None
    try:
        size = parse_size(cache.size)
        if size < MIN_CACHE:
            yield Fault((*path, "size"), f"{size} bytes are too small for a cache", "the least is 1MiB")
    except ValueError as error:
        yield sentence((*path, "size"), error)
    if cache.max_object is not None:
        try:
            largest = parse_size(cache.max_object)
        except ValueError as error:
            yield sentence((*path, "max_object"), error)
    if size is not None and largest is not None and not 0 < largest <= size:
        yield Fault((*path, "max_object"), f"must be from 1 byte to the size of the cache ({cache.size})")
    if cache.path is not None and not (cache.path and _is(os.path.dirname(cache.path) or ".", os.path.isdir)):
        yield Fault((*path, "path"), f'"{cache.path}" is not in a directory that exists', "create the directory first")
    yield from names_faults(cache.targeted, (*path, "targeted"))


def _backend(name: str, backend: Backend) -> Iterator[Fault]:
    path: Path = ("backends", name)
    if not _BACKEND_NAME.match(name):
        yield Fault(path, f'"{name}" is no name for a backend', "use letters, digits, and _ . - inside", on_key=True)
    if not backend.origins and not backend.tunnel:
        hint = 'write origins = ["https://..."], or tunnel = true'
        yield Fault(path, f'backend "{name}" has no origins', hint, on_key=True)
    seen: set[object] = set()
    for index, text in enumerate(backend.origins):
        try:
            origin = parse_origin(text)
        except ValueError as error:
            yield sentence((*path, "origins", index), error)
            continue
        if origin in seen:
            yield Fault((*path, "origins", index), f'"{text}" is given twice in backend "{name}"', "remove one of them")
        seen.add(origin)
    for key, name_sent in (("host", backend.host), ("tls_name", backend.tls_name)):
        if name_sent is None or (key == "host" and name_sent in ("origin", "client")):
            continue
        try:
            _, port = parse_authority(name_sent)
        except ValueError as error:
            yield sentence((*path, key), error)
            continue
        if key == "tls_name" and port is not None:
            yield Fault((*path, key), f'"{name_sent}" must be a name without a port')
    if backend.ca_file is not None:
        yield from _ca_file(backend.ca_file, (*path, "ca_file"))
    if backend.health is not None and not (backend.health.path.startswith("/") and _VISIBLE.match(backend.health.path)):
        yield Fault((*path, "health", "path"), f'"{backend.health.path}" must start with a slash and hold no spaces')
    if backend.eject.max_backoff_s < backend.eject.backoff_s:
        yield Fault((*path, "eject", "max_backoff_s"), f"must not be less than backoff_s ({backend.eject.backoff_s:g})")


def certificate_faults(server: Server) -> Iterator[Fault]:
    """What is wrong with the files of `[[server.tls]]`."""
    if not server.tls or find_spec("ssl") is None:
        return  # `_needs` says so, if there is anything to say
    from flyby.config.certificates import faults_in

    for index, each in enumerate(server.tls):
        path: Path = ("server", "tls", index)
        missing = [key for key in ("certificate", "key") if not getattr(each, key)]
        for key in missing:
            yield Fault(path, f'has no "{key}"', "both are files in PEM form", on_key=True)
        for place, host in enumerate(each.hosts or ()):
            try:
                if host != "*":
                    parse_host(host)
            except ValueError as error:
                yield sentence((*path, "hosts", place), error)
        for found in faults_in(each.certificate, each.key, each.hosts):
            if found.which not in missing:
                yield Fault((*path, found.which), str(found), found.hint)


def _ca_file(text: str, path: Path) -> Iterator[Fault]:
    if find_spec("ssl") is None:
        return  # `_needs` says so
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=text)
    except ssl.SSLError:
        yield Fault(path, f'"{text}" holds no certificates', "it must be PEM, as in -----BEGIN CERTIFICATE-----")
    except (OSError, ValueError) as error:
        yield Fault(path, f'"{text}" cannot be read: {getattr(error, "strerror", None) or error}')


def _needs(config: Config) -> Iterator[Fault]:
    for module, what, where, remedy in NEEDS:
        places = list(where(config))
        if places and find_spec(module) is None:
            yield Fault(places[0], f"{what} needs the Python package {module}, which is not installed", remedy)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_none(each) for each in value]
    return value
