"""Conditional requests (RFC 9110 13, RFC 9111 4.3): answering the client's, making our own.

Precedence (RFC 9110 13.2.2): If-Match, else If-Unmodified-Since; then If-None-Match, else If-Modified-Since. A field
that is no valid condition is ignored. If-Range belongs to ranges.
"""

from __future__ import annotations

import re

from flyby.policy.dates import parse_http_date
from flyby.policy.entry import Request
from flyby.wire import Fields

ETAG = re.compile(rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_LIST = re.compile(rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"|[^ \t,][^,]*')


def entity_tags(value: bytes) -> list[bytes]:
    """The entity tags of If-Match or If-None-Match (RFC 9110 8.8.3), which may hold commas; junk between them as it
    is.
    """
    return [tag.rstrip(b" \t") for tag in _LIST.findall(value)]


def strong_match(one: bytes, other: bytes) -> bool:
    """RFC 9110 8.8.3.2: both strong, and the same."""
    return one == other and one.startswith(b'"') and ETAG.fullmatch(one) is not None


def weak_match(one: bytes, other: bytes) -> bool:
    """RFC 9110 8.8.3.2: the same, but for a W/. Tags that are not well-formed match byte for byte."""
    return one.removeprefix(b"W/") == other.removeprefix(b"W/")


def evaluate(request: Request, fields: Fields, status: int) -> int | None:
    """304 or 412 where the request's conditions forbid sending the stored response, else None (RFC 9110 13.2.2).

    `fields` and `status` are the stored response's. Conditions on what is not a success are ignored (13.2.1).
    """
    if status not in (200, 203, 204, 206) or request.method not in (b"GET", b"HEAD"):
        return None
    given = request.fields
    etag = fields.get(b"etag")
    condition = given.combined(b"if-match")
    if condition is not None:
        tags = entity_tags(condition)
        if b"*" not in tags and (etag is None or not any(strong_match(tag, etag) for tag in tags)):
            return 412
    else:
        since = _date(given, b"if-unmodified-since")
        modified = _date(fields, b"last-modified")
        if since is not None and modified is not None and modified > since:
            return 412
    condition = given.combined(b"if-none-match")
    if condition is not None:
        tags = entity_tags(condition)
        return 304 if b"*" in tags or (etag is not None and any(weak_match(tag, etag) for tag in tags)) else None
    since = _date(given, b"if-modified-since")
    if since is None:
        return None
    # RFC 9111 4.3.2: without a Last-Modified, the Date stands in for it.
    modified = _date(fields, b"last-modified")
    if modified is None:
        modified = _date(fields, b"date")
    return 304 if modified is not None and modified <= since else None


def validators_for(fields: Fields) -> list[tuple[bytes, bytes]]:
    """The conditions to send upstream with a stored response's validators (RFC 9111 4.3.1)."""
    conditions = []
    etag = fields.get(b"etag")
    if etag:
        conditions.append((b"If-None-Match", etag))
    modified = fields.get(b"last-modified")
    if modified:
        conditions.append((b"If-Modified-Since", modified))
    return conditions


def strong_last_modified(fields: Fields) -> bytes | None:
    """A Last-Modified that is a strong validator: a second or more before Date (RFC 9110 8.8.2.2)."""
    line = fields.get(b"last-modified")
    modified, date = _date(fields, b"last-modified"), _date(fields, b"date")
    return line if modified is not None and date is not None and modified < date else None


def strong_validator(fields: Fields) -> bytes | None:
    """What two parts must share to be parts of one representation (RFC 9110 8.8.1): an ETag, or a strong
    Last-Modified.
    """
    etag = fields.get(b"etag")
    if etag is not None:
        return etag if strong_match(etag, etag) else None
    return strong_last_modified(fields)


def _date(fields: Fields, name: bytes) -> int | None:
    lines = fields.get_all(name)
    return parse_http_date(lines[0]) if len(lines) == 1 else None
