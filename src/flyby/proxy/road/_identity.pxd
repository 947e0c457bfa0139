# cython: language_level=3
"""The map of ids of requests."""

from flyby.wire._head cimport RequestHead

cpdef bytes fresh_identity()
cpdef bytes request_identity(RequestHead request)
