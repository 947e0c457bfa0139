"""The buildpack as one gzipped tar: the scripts of the folder beside this file, the agent, and the edge's URL.

    bin/…  lib/…  boot/…  python.txt  buildpack.toml   as they lie in `buildpack/`; the last with flyby's version in it
    agent/flyby-agent.pyz                              the agent, which needs nothing but a Python
    edge                                               one line: the URL that the agent dials

Both of Heroku's generations read the same archive: the classic one runs bin/detect, bin/compile and bin/release, the
Cloud Native one buildpack.toml, bin/detect and bin/build. The same input gives the same bytes, so that a cache, a
checksum or a reviewer can tell whether anything changed.
"""

from __future__ import annotations

import gzip
import ipaddress
import re
import tarfile
from importlib.resources import files
from importlib.resources.abc import Traversable

from flyby import __version__
from flyby.errors import FlybyError

_ANY_VERSION = b'version = "0.0.0"'
_PROGRAMS = ("bin/", "boot/exec.d", "boot/flyby-")

_EDGE = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::([0-9]{1,5}))?/?\Z")


class EdgeURLError(FlybyError):
    """The URL cannot be an edge's."""


def checked_edge_url(url: str) -> str:
    """The URL in its one spelling, `scheme://host[:port]`.

    Raises `EdgeURLError` when it is none, has a path, or would send the token in clear to another machine.
    """
    found = _EDGE.match(url)
    if found is None or (found[3] is not None and not 0 < int(found[3]) < 65536):
        raise EdgeURLError(f"{url!r} is no edge's URL: it looks like https://edge.example.com or https://10.0.0.1:8443")
    if found[1] == "http" and not is_loopback(found[2]):
        raise EdgeURLError(
            f"{url!r} would carry the token unencrypted: an edge on another machine is reached by https://"
        )
    return found[0].rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host, as it stands in a URL, is this machine whatever a resolver says."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Buildpack:
    """The archive but for its last member, which is the edge's URL; made once, for any edge.

    A gzip file may have several members (RFC 1952 2.2): the large one is compressed once, and a stamp costs
    microseconds, so that an edge can serve it under every name that a client gives in Host.
    """

    def __init__(self, agent: bytes) -> None:
        members = dict(_scripts(files("flyby.heroku") / "buildpack", ""))
        members["buildpack.toml"] = members["buildpack.toml"].replace(
            _ANY_VERSION, f'version = "{__version__}"'.encode()
        )
        members["agent/flyby-agent.pyz"] = agent
        tar = b"".join(_member(name, members[name]) for name in sorted(members))
        self._constant = gzip.compress(tar, mtime=0)

    def stamped(self, edge_url: str) -> bytes:
        """The whole archive, which dials `edge_url`. Raises `EdgeURLError`."""
        tar = _member("edge", checked_edge_url(edge_url).encode() + b"\n") + bytes(2 * tarfile.BLOCKSIZE)
        return self._constant + gzip.compress(tar, mtime=0)


def _member(name: str, content: bytes) -> bytes:
    """One file of a tar: its header, its bytes, and zeros up to a block's end."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o755 if name.startswith(_PROGRAMS) else 0o644
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def _scripts(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _scripts(entry, f"{prefix}{entry.name}/")
        else:
            found.append((prefix + entry.name, entry.read_bytes()))
    return found
