# cython: language_level=3
"""Death on demand, for the tests of a build with `CFLAGS=-DFLYBY_FAULTS`; no other build has fault points."""

from libc.stdint cimport uint64_t

from flyby.store._layout cimport FAULTS
from flyby.store._store cimport Store


def kill_at(Store store, uint64_t number):
    """Be killed at the `number`th fault point from here on (0: not at all). False in a build without fault points."""
    store._attachment.m.fault = number
    return FAULTS
