"""Hop-by-hop fields (RFC 9110 7.6.1): what stands for one connection only and is never passed on.

A sender may name further fields in `Connection`, and a recipient drops those too; but a client that could name any
field could take `Host`, `Authorization` or `X-Forwarded-For` out of the request that the origin sees, and so undo
what an edge asserts. The protected set cannot be dropped that way. `Content-Length` is protected because framing
is read before anything is dropped; the proxy writes its own framing afterwards.
"""

from __future__ import annotations

import re

from flyby.wire._fields import Fields

HOP_BY_HOP: frozenset[bytes] = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        # Credentials and challenges for the next proxy, which is us (RFC 9110 11.7).
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-authentication-info",
        # The settings of an h2c upgrade that we do not take (RFC 7540 3.2.1, obsolete).
        b"http2-settings",
    }
)

PROTECTED: frozenset[bytes] = frozenset(
    {
        b"host",
        b"content-length",
        b"content-type",
        b"content-encoding",
        b"content-range",
        b"authorization",
        b"cache-control",
        b"cookie",
        b"set-cookie",
        b"date",
        b"age",
        b"expires",
        b"etag",
        b"last-modified",
        b"location",
        b"vary",
        b"via",
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-request-id",
        b"cache-status",
        b"cdn-loop",
    }
)

_OPTION = re.compile(rb"[^,\t ]+")


def connection_options(fields: Fields) -> frozenset[bytes]:
    """The options of all `Connection` lines in lower case (RFC 9110 7.6.1)."""
    value = fields.combined(b"connection")
    if value is None:
        return frozenset()
    return frozenset(_OPTION.findall(value.lower()))


def effective_fields(fields: Fields) -> Fields:
    """The fields of a request that its origin may see, and that rules may therefore obey: see `policy.effective`.

    Names with an underscore are not among them: to CGI, WSGI and Rack they are aliases of names with a hyphen, and they
    are never sent on.
    """
    kept = strip_hop_by_hop(fields)
    for name in {name.lower() for name, _ in kept if b"_" in name}:
        kept.remove(name)
    return kept


def strip_hop_by_hop(fields: Fields) -> Fields:
    """A copy without hop-by-hop fields and without those that `Connection` names, the protected ones excepted."""
    options = connection_options(fields)
    if options:
        return fields.without(HOP_BY_HOP | (options - PROTECTED))
    return fields.without(HOP_BY_HOP)
