"""What of a request and its response decides whether and how the response is stored, apart from times.

`facts_of` reads it out of two heads; `plan_template` decides by nothing else. A Facts is hashable, so it is the key
under which a caller may remember a Template: a site has few of them, however many pages it has. The tuples below name
every field that can change a Facts; the tests change all others and compare.
"""

from __future__ import annotations

from typing import NamedTuple

from flyby.policy.cache_control import control_values, delta_seconds, request_control
from flyby.policy.entry import Request, Response
from flyby.policy.invalidation import resolve
from flyby.policy.key import has_dot_segments
from flyby.policy.ranges import parse_content_range
from flyby.policy.rules import CacheRules
from flyby.wire import Fields

# Of the request. Of an error (400 and above) every field counts, by `provoking`.
REQUEST_FACTS: tuple[bytes, ...] = (
    b"authorization",  # that it is there
    b"cache-control",  # no-store
    b"content-length",  # that it is not 0
    b"cookie",  # that it is there
    b"range",  # that it is there
    b"transfer-encoding",  # that it is there
)

# Of the response: the raw values of Cache-Control, of the rules' targeted fields and of Vary; of all others one bit.
RESPONSE_VALUES: tuple[bytes, ...] = (b"cache-control", b"vary")
RESPONSE_FACTS: tuple[bytes, ...] = (
    b"etag",  # that it is there and not empty
    b"last-modified",  # likewise
    b"expires",  # that it is there
    b"set-cookie",  # likewise
    b"content-length",  # of a 200 to a Range request: that it is there; of a 206: that it is the range's length
    b"transfer-encoding",  # of a 200 to a Range request: that it is there
    b"content-range",  # of a 206: that it says a part
    b"content-location",  # of a response to POST: that it is the target
    b"location",  # of a redirect: that it is the target
)

REDIRECTS = frozenset((301, 302, 303, 307, 308))

# A server error is believed to be cacheable, where it says so, only after a request with nothing unusual about it.
_UNUSUAL = (b"range", b"if-range", b"if-match", b"if-unmodified-since", b"expect", b"upgrade", b"te", b"content-type")
_PLAIN_VALUE = 1024
_PLAIN_TOTAL = 4096


class Facts(NamedTuple):
    """Everything that `plan_template` looks at. What does not matter for the status or method is False."""

    method: bytes
    no_store: bool  # the request says so
    content: bool  # the request has content
    dotted: bool  # its path has dot segments
    authorization: bool
    cookie: bool
    ranged: bool
    provoking: bool  # something about a request that got an error is unusual
    status: int
    control: tuple[bytes | None, ...]  # the raw values of the targeted fields, then of Cache-Control
    vary: bytes | None
    set_cookie: bool
    etag: bool
    last_modified: bool
    expires: bool
    delimited: bool  # of a 200 to a Range request: its end can be seen
    part: bool  # of a 206: it says which one part it is
    exact: bool  # of a 206: its Content-Length is that of the part, or is not there
    describes_target: bool  # of a response to POST
    loops: bool  # of a redirect


def facts_of(request: Request, response: Response, rules: CacheRules) -> Facts:
    """The facts of a request, as the rules see it, and of the response to it."""
    asked, fields, status = request.fields, response.fields, response.status
    ranged = b"range" in asked
    held = parse_content_range(fields.get(b"content-range")) if status == 206 else None
    length = fields.get(b"content-length")
    return Facts(
        method=request.method,
        no_store=request_control(asked).no_store,
        content=has_content(request),
        dotted=has_dot_segments(request.path),
        authorization=b"authorization" in asked,
        cookie=b"cookie" in asked,
        ranged=ranged,
        provoking=status >= 400 and _provoking(asked),
        status=status,
        control=control_values(fields, rules.targeted),
        vary=fields.combined(b"vary"),
        set_cookie=b"set-cookie" in fields,
        etag=bool(fields.get(b"etag")),
        last_modified=bool(fields.get(b"last-modified")),
        expires=b"expires" in fields,
        delimited=status != 200 or not ranged or length is not None or b"transfer-encoding" in fields,
        part=held is not None,
        exact=held is None or length is None or length == b"%d" % held.length,
        describes_target=request.method == b"POST" and _names_target(request, fields, b"content-location"),
        loops=status in REDIRECTS and _names_target(request, fields, b"location"),
    )


def has_content(request: Request) -> bool:
    """Whether a request came with content (RFC 9110 6.4), which no key covers."""
    length = request.fields.get(b"content-length")
    return b"transfer-encoding" in request.fields or (length is not None and delta_seconds(length) != 0)


def _provoking(fields: Fields) -> bool:
    total = sum(len(name) + len(value) for name, value in fields)
    return (
        total > _PLAIN_TOTAL
        or any(name in fields for name in _UNUSUAL)
        or any(len(value) > _PLAIN_VALUE or not value.isascii() for _, value in fields)
    )


def _names_target(request: Request, fields: Fields, name: bytes) -> bool:
    reference = fields.get(name)
    return reference is not None and resolve(request, reference) == (request.scheme, request.host, request.path)
