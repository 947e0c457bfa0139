# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""The head of a fetched response as its client gets it, without the framing fields, which the client's side writes."""

from functools import lru_cache

from flyby.policy import TAG_FIELDS as _TAG_FIELDS
from flyby.policy import cache_status
from flyby.proxy.road._identity import VIA as _VIA
from flyby.proxy.routing import forwarding
from flyby.wire import HOP_BY_HOP as _HOP_BY_HOP
from flyby.wire import BodyKind, strip_hop_by_hop
from flyby.wire._fields cimport Fields
from flyby.wire._head cimport RequestHead, ResponseHead
from flyby.wire._serialise cimport open_response

cdef object NONE = BodyKind.NONE
cdef object LENGTH = BodyKind.LENGTH
cdef bytes VIA_AND_STATUS = b"Via: " + _VIA + b"\r\nCache-Status: "

# The connection's own affair, and framing.
cdef frozenset LEFT_OUT = _HOP_BY_HOP | {b"content-length"}
cdef frozenset TAGS_LEFT_OUT = LEFT_OUT.union(_TAG_FIELDS)


@lru_cache(maxsize=1024)
def status_field(outcome, why, int fwd_status, bint stored=False, detail=None):
    """Our member of Cache-Status on a response that was fetched; there are few, and all are made once."""
    return cache_status(outcome, why, fwd_status=fwd_status, stored=stored, detail=detail)


def changes(rules):
    """Whether a route's rules for fields do anything."""
    return bool(rules.remove or rules.set or rules.add)


def content_length(ResponseHead head not None, bytes method not None):
    """How long the content is that follows to the client, in bytes: -1 when only its end will tell, or when there is
    none by the rules and a Content-Length of the origin's is passed on as a field (RFC 9110 8.6)."""
    kind, length = head.framing(method)
    if kind is LENGTH:
        return length
    bodiless = method == b"HEAD" or head.status == 204 or head.status == 304
    return 0 if kind is NONE and not bodiless else -1


cpdef bytes response_head(exchange, ResponseHead head, bytes status):
    """Status line and field lines of `head` for the client of `exchange`; `status` is our member of Cache-Status."""
    cdef RequestHead request = exchange.request
    cdef bytes ours = status + b"\r\n" + <bytes>exchange.own_lines
    cdef Fields fields = head.fields
    rules = exchange.match.route.response_headers
    strip_tags = exchange.rules.strip_tags
    kind, _ = head.framing(request.method)
    changed = changes(rules)
    if changed or kind is NONE or b"connection" in fields or b"via" in fields:
        fields = _changed(request, head, rules if changed else None, strip_tags)
        return open_response(head.status, head.reason, fields, None, b"Cache-Status: " + ours)
    left_out = TAGS_LEFT_OUT if strip_tags else LEFT_OUT
    return open_response(head.status, head.reason, fields, left_out, VIA_AND_STATUS + ours)


cdef Fields _changed(RequestHead request, ResponseHead head, rules, bint strip_tags):
    """The fields of a response that cannot be passed on as they are."""
    cdef Fields fields = strip_hop_by_hop(head.fields)
    fields.remove(b"content-length")
    if request.method == b"HEAD" or head.status == 304:
        given = head.fields.get(b"content-length")
        if given is not None and b"transfer-encoding" not in head.fields:
            fields.set(b"Content-Length", given)
    forwarding.add_via(fields)
    if strip_tags:
        fields = fields.without(_TAG_FIELDS)
    if rules is not None:
        forwarding.apply_rules(fields, rules)
    return fields
