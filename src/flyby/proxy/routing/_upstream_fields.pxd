"""The map of what makes an upstream request's fields."""

from flyby.wire._fields cimport Fields
from flyby.wire._head cimport RequestHead

cdef enum Fate:
    DROPPED = 1
    ADDRESSES = 2  # X-Forwarded-For
    PROXIES = 3    # Via
    LOOP = 4       # CDN-Loop
    HOPS = 5       # Forwarded

cpdef Fields upstream_fields(
    RequestHead request, Fields given, str address, bytes port, bytes identity, bytes host, now_ms, left_out,
)
