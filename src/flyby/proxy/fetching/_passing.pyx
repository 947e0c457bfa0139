# cython: language_level=3
"""A response that is passed on as it comes, and not stored: its head, for the client's side to frame."""

from functools import lru_cache

from flyby.policy import TAG_FIELDS as _TAG_FIELDS
from flyby.policy import cache_status
from flyby.proxy.routing import forwarding
from flyby.proxy.fetching._answer cimport Answer
from flyby.proxy.routing._upstream_fields import VIA as _VIA
from flyby.wire import HOP_BY_HOP as _HOP_BY_HOP
from flyby.wire import BodyKind, strip_hop_by_hop
from flyby.upstream._connection cimport Connection
from flyby.wire._fields cimport Fields
from flyby.wire._head cimport RequestHead, ResponseHead
from flyby.wire._serialise cimport open_response

cdef object NONE = BodyKind.NONE
cdef object LENGTH = BodyKind.LENGTH
cdef bytes VIA_AND_STATUS = b"Via: " + _VIA + b"\r\nCache-Status: "

# Our connection's own affair, and framing, which the client's side writes.
cdef frozenset LEFT_OUT = _HOP_BY_HOP | {b"content-length"}
cdef frozenset TAGS_LEFT_OUT = LEFT_OUT.union(_TAG_FIELDS)


@lru_cache(maxsize=1024)
def status_field(outcome, why, int fwd_status, bint stored=False, detail=None):
    """Our member of Cache-Status on a response that was fetched; there are few, and all are made once."""
    return cache_status(outcome, why, fwd_status=fwd_status, stored=stored, detail=detail)


cpdef send(exchange, Answer answer, bytes status):
    """Pass the response on as it comes; `status` is our member of Cache-Status."""
    rules = exchange.match.route.response_headers
    pass_on(exchange, exchange.request, answer, status, rules if changes(rules) else None, exchange.rules.strip_tags)


cdef bint changes(rules) except -1:
    """Whether a route's rules for fields do anything."""
    return bool(rules.remove or rules.set or rules.add)


cdef int pass_on(
    exchange, RequestHead request, Answer answer, bytes status, rules, bint strip_tags
) except -1:
    """`send`, by `rules` that do something, or None."""
    cdef ResponseHead head = answer.head
    cdef Fields fields = head.fields
    cdef bytes opened
    cdef bint bodiless
    kind, length = head.framing(request.method)
    if kind is not LENGTH:
        bodiless = request.method == b"HEAD" or head.status == 204 or head.status == 304
        length = 0 if kind is NONE and not bodiless else -1
    if rules is not None or kind is NONE or b"connection" in fields or b"via" in fields:
        opened = open_response(
            head.status, head.reason, _changed(request, head, rules, strip_tags), None, b"Cache-Status: " + status + b"\r\n"
        )
    else:
        left_out = TAGS_LEFT_OUT if strip_tags else LEFT_OUT
        opened = open_response(head.status, head.reason, fields, left_out, VIA_AND_STATUS + status + b"\r\n")
    downstream = exchange.downstream
    downstream.begin_ready(opened, length, head.status)
    (<Connection>answer.lease.connection).stream(answer.to_client(exchange))
    downstream.flush()
    return 0


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
