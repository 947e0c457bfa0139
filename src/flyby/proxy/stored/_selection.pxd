# cython: language_level=3
"""The map of what has been worked out about variants."""

from flyby.store._serve cimport Attachment, Digest, Found
from flyby.wire._glance cimport Glance, GlanceLimits

cdef enum:
    KNOWN = 2048  # selections that are remembered
    MATERIAL = 8192  # bytes of names and values that are looked at
    SUFFIX = 33  # bytes that a variant's key adds to the primary one

cdef struct Known:
    Digest of  # the marker and the request's values
    unsigned char digest[16]  # what they select


cdef class Selection:
    cdef Known *_known
    cdef unsigned char *_material

    cdef int _work_out(
        self, const unsigned char *body, Py_ssize_t length, const Glance *seen, const unsigned char *base,
        unsigned char *to,
    ) except -1
    cdef bint selects(
        self, Attachment store, bytes primary, bytes suffix, bytes request, const GlanceLimits *limits
    ) except -1
    cdef bint suffix(
        self, Attachment store, const Found *marker, const Glance *seen, const unsigned char *base, unsigned char *to
    ) except -1
