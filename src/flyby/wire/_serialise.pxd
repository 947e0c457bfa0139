"""The map of what writes heads."""

from flyby.wire._fields cimport Fields

cpdef bytes serialise_request(bytes method, bytes path, Fields fields)
cpdef bytes open_response(int status, bytes reason, Fields fields, left_out, bytes more)
