"""What an unsafe request makes untrue (RFC 9111 4.4), and how a reference in a response is resolved (RFC 3986 5).

After a response to an unsafe request that is no error, what is stored of the target is dropped, and of the URIs in
Location and Content-Location where these are of the same origin. A method that is not known to be safe counts as
unsafe.
"""

from __future__ import annotations

import re

from flyby.policy.entry import Request, Response

# Safe by the IANA registry (RFC 9110 16.1).
SAFE_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PRI", b"PROPFIND", b"QUERY", b"REPORT", b"SEARCH"))

Target = tuple[bytes, bytes, bytes]

_REFERENCE = re.compile(rb"(?:([A-Za-z][A-Za-z0-9+.\-]*):)?(?://([^/?#]*))?([^?#]*)(\?[^#]*)?(?:#.*)?\Z", re.DOTALL)
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}


def is_unsafe(method: bytes) -> bool:
    """Whether a method may change what its target is (RFC 9110 9.2.1); the unknown ones may."""
    return method not in SAFE_METHODS


class _Unsafe:
    """All methods but the safe ones."""

    __slots__ = ()

    def __contains__(self, method: bytes) -> bool:
        return is_unsafe(method)


UNSAFE_METHODS = _Unsafe()


def invalidation_targets(request: Request, response: Response) -> list[Target]:
    """The (scheme, host, path) whose stored responses are to be dropped (RFC 9111 4.4)."""
    if not is_unsafe(request.method) or not 200 <= response.status < 400:
        return []
    targets = [(request.scheme, request.host, request.path)]
    for name in (b"location", b"content-location"):
        value = response.fields.get(name)
        target = resolve(request, value) if value is not None else None
        if target is not None and target[:2] == (request.scheme, request.host) and target not in targets:
            targets.append(target)
    return targets


def resolve(request: Request, reference: bytes) -> Target | None:
    """The absolute form of a URI reference, against the request's target (RFC 3986 5.2); None when it is none of
    http(s).
    """
    match = _REFERENCE.match(reference.strip(b" \t"))
    if match is None:
        return None
    scheme = (match[1] or request.scheme).lower()
    query = match[4] or b""
    path = match[3]
    if scheme not in _DEFAULT_PORTS or (match[1] is not None and match[2] is None):
        return None
    if match[2] is not None:
        host = _normal_host(scheme, match[2])
        return None if not host else (scheme, host, (_without_dots(path) or b"/") + query)
    base_path, mark, base_query = request.path.partition(b"?")
    if not path:
        return scheme, request.host, base_path + (query or mark + base_query)
    if not path.startswith(b"/"):
        path = base_path[: base_path.rfind(b"/") + 1] + path
    return scheme, request.host, _without_dots(path) + query


def _normal_host(scheme: bytes, authority: bytes) -> bytes:
    """The authority as a request's host is normalised: lower-case, no default port, no final dot (RFC 9110 4.2.3)."""
    host = authority.lower().removesuffix(b":").removesuffix(_DEFAULT_PORTS[scheme])
    return host.removesuffix(b".")


def _without_dots(path: bytes) -> bytes:
    """RFC 3986 5.2.4."""
    if b"/." not in path:
        return path
    out: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            del out[-1:]
        elif segment != b".":
            out.append(segment)
    if segments[-1] in (b".", b".."):
        out.append(b"")
    return b"/" + b"/".join(out)
