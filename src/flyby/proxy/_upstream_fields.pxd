"""The map of what makes an upstream request's fields."""

from flyby.wire._fields cimport Fields
from flyby.wire._head cimport RequestHead

cpdef Fields upstream_fields(
    RequestHead request, Fields given, str address, bytes port, bytes identity, bytes host, now_ms, left_out,
)
