# cython: language_level=3
"""Handles on fetches under way, by name."""

from libc.stdint cimport uint32_t, uint64_t

from flyby.store._attachment cimport Attachment
from flyby.store._fill cimport Fill
from flyby.store._hash cimport Digest

cdef Fill fill_claimed(Attachment attachment, const char* key, uint32_t length, Digest digest, uint64_t since)
cdef Fill fill_joined(Attachment attachment, const char* key, uint32_t length, Digest digest)
