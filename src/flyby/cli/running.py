"""The processes of a running flyby, as /proc tells of them: where they listen, and since when they run.

A configuration file without `cache.path` names its edge only by the addresses that it listens on; a list of several
that run is of use only with what tells them apart.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from flyby.config import Address, parse_listen

_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


def listening(process: int, proc: Path = Path("/proc")) -> list[tuple[str, int]]:
    """The addresses that a process listens on; none when this user may not look."""
    held: set[str] = set()
    found: set[tuple[str, int]] = set()
    with contextlib.suppress(OSError):
        for descriptor in (proc / str(process) / "fd").iterdir():
            with contextlib.suppress(OSError):
                held.add(os.readlink(descriptor))
        for table in ("tcp", "tcp6"):
            with contextlib.suppress(FileNotFoundError), (proc / str(process) / "net" / table).open() as rows:
                found.update(_rows(rows, held))
    return sorted(found)


def _rows(rows: Iterable[str], held: set[str]) -> Iterator[tuple[str, int]]:
    for row in rows:
        columns = row.split()
        if len(columns) > 9 and columns[3] == _LISTENING and f"socket:[{columns[9]}]" in held:
            host, port = columns[1].split(":")
            yield _address(host), int(port, 16)


def _address(text: str) -> str:
    """An address as the kernel prints it: words of four bytes, each in the machine's order."""
    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, b"".join(words))


def serves(process: int, listen: Iterable[str]) -> bool:
    """Whether a process listens on one of the addresses of a configuration. A port 0 tells nothing."""
    open_now = listening(process)
    return any(_is(address, *each) for address in map(parse_listen, listen) for each in open_now if address.port)


def _is(address: Address, host: str, port: int) -> bool:
    if address.port != port:
        return False
    if not address.host:
        return host in ("0.0.0.0", "::")
    try:
        return any(each[4][0] == host for each in socket.getaddrinfo(address.host, port, type=socket.SOCK_STREAM))
    except OSError:
        return False


def described(process: int, name: str) -> str:
    """A process for a list from which one is to be chosen."""
    where = ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in listening(process))
    details = [name, *([f"listens on {where}"] if where else []), *_since(process)]
    return f"{process} ({', '.join(details)})"


def _since(process: int, proc: Path = Path("/proc")) -> list[str]:
    try:
        stat = (proc / str(process) / "stat").read_text().rpartition(")")[2].split()
        up = float((proc / "uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return []
    lived = up - int(stat[19]) / os.sysconf("SC_CLK_TCK")
    return [time.strftime("since %F %H:%M", time.localtime(time.time() - lived))]
