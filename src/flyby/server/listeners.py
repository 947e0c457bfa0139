"""Listening sockets, opened once by the supervisor, before it forks.

Every address gets one socket for each worker, in one SO_REUSEPORT group: the kernel spreads new connections over the
group, and no worker waits for another's accept lock. The supervisor keeps all of them open, so the connections that
wait in the queue of a worker that died are served by its successor; it closes them only when it drains.

SO_REUSEPORT also lets a second flyby of the same user join the group and silently take half of the connections, so
each address is first bound without it: a port where anybody listens is refused with one line. Port 0 is chosen once
and shared by the group.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from flyby.config import parse_listen
from flyby.errors import FlybyError

BACKLOG = 4096  # the kernel lowers it to net.core.somaxconn

EX_OSERR = 71
EX_TEMPFAIL = 75
EX_NOPERM = 77
EX_CONFIG = 78

# An address that a name has but this machine lacks (::1 for localhost without IPv6) is passed over.
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class BindError(FlybyError):
    """An address cannot be listened on; `exit_code` is the sysexits code that says why."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Target:
    """One resolved address: the arguments of socket() and bind()."""

    family: socket.AddressFamily
    host: str
    port: int


def show(host: str, port: int) -> str:
    """HOST:PORT as it is written in a URL (RFC 3986 3.2.2: an IPv6 address stands in brackets)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Listener(socket.socket):
    """A listening socket that knows whether TLS, and whether a PROXY header first, is spoken on its connections."""

    __slots__ = ("proxy_protocol", "secure")

    secure: bool
    proxy_protocol: bool

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self.secure else 'http'}://{show(*self.getsockname()[:2])}"


class Listeners:
    """The sockets of all workers. `addresses` is where they listen, (host, port), each once; `urls` tell the same."""

    __slots__ = ("_groups", "addresses", "urls")

    def __init__(self, groups: list[list[Listener]]) -> None:
        self._groups = groups  # one list an address, one socket a worker in each
        self.addresses: list[tuple[str, int]] = [group[0].getsockname()[:2] for group in groups]
        self.urls = [group[0].url for group in groups]

    def of_worker(self, index: int) -> list[Listener]:
        return [group[index] for group in self._groups]

    def keep_only(self, index: int) -> list[Listener]:
        """In worker `index`, after the fork: close what belongs to the others, give its own.

        A copy left open here would keep the queue of another worker alive after the drain.
        """
        for group in self._groups:
            for other, each in enumerate(group):
                if other != index:
                    each.close()
        return self.of_worker(index)

    def close(self) -> None:
        for group in self._groups:
            for each in group:
                each.close()


def open_listeners(listen: Sequence[str], workers: int) -> Listeners:
    """Open every address for `workers` workers. All or nothing: BindError closes what was opened."""
    groups: list[list[Listener]] = []
    try:
        for text in listen:
            try:
                address = parse_listen(text)
            except ValueError as error:
                raise BindError(f"cannot listen on {text}: {error}", EX_CONFIG) from error
            for group in _open_name(text, address.host, address.port, workers):
                for listener in group:
                    listener.secure, listener.proxy_protocol = address.secure, address.proxy_protocol
                groups.append(group)
    except BaseException:
        for group in groups:
            for each in group:
                each.close()
        raise
    return Listeners(groups)


def _open_name(text: str, host: str, port: int, workers: int) -> list[list[Listener]]:
    """The groups of one name: one for each address that it has and this machine too."""
    opened: list[list[Listener]] = []
    refused: OSError | None = None
    try:
        for target in _resolve(text, host, port):
            # A name with several addresses gets the same port on all of them.
            chosen = opened[0][0].getsockname()[1] if opened else target.port
            try:
                opened.append(_open_group(Target(target.family, target.host, chosen), workers))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise _explained(target.host or text, chosen, error) from error
                refused = error
    except BaseException:
        for group in opened:
            for each in group:
                each.close()
        raise
    if not opened:
        raise _explained(host, port, refused or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL)))
    return opened


def _resolve(text: str, host: str, port: int) -> list[Target]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        later = error.errno == socket.EAI_AGAIN
        raise BindError(f"cannot listen on {text}: {error.strerror}", EX_TEMPFAIL if later else EX_CONFIG) from error
    targets: list[Target] = []
    for family, _, _, _, address in found:
        target = Target(family, str(address[0]), port)
        if target not in targets:
            targets.append(target)
    return targets


def _open_group(target: Target, workers: int) -> list[Listener]:
    group: list[Listener] = []
    port = target.port
    try:
        if workers > 1 and port:
            _bound(target, port, shared=False).close()
        for _ in range(workers):
            listener = _bound(target, port, shared=workers > 1)
            group.append(listener)
            port = listener.getsockname()[1]
        for listener in group:
            listener.listen(BACKLOG)
    except BaseException:
        for listener in group:
            listener.close()
        raise
    return group


def _bound(target: Target, port: int, *, shared: bool) -> Listener:
    listener = Listener(target.family, socket.SOCK_STREAM)
    try:
        # So that connections of the last run in TIME_WAIT do not hold up the next one.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if target.family == socket.AF_INET6:
            # Every address has a socket of its own, so :: must not claim the IPv4 port as well.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind((target.host, port))
    except BaseException:
        listener.close()
        raise
    return listener


def _explained(host: str, port: int, error: OSError) -> BindError:
    where = show(host, port)
    if error.errno == errno.EADDRINUSE:
        return BindError(f"cannot listen on {where}: the address is in use by another program", EX_TEMPFAIL)
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = ""
        if 0 < port < 1024:
            hint = (
                "; ports below 1024 need the capability CAP_NET_BIND_SERVICE"
                " (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE), or listen on 8080"
            )
        return BindError(f"cannot listen on {where}: permission denied{hint}", EX_NOPERM)
    return BindError(f"cannot listen on {where}: {error.strerror or error}", EX_OSERR)
