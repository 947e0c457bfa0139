# cython: language_level=3
"""Death and standstill on demand, for the tests of a build with `CFLAGS=-DFLYBY_FAULTS`; others have no fault point."""

from libc.stdint cimport uint64_t

from flyby.store._layout cimport FAULTS
from flyby.store._store cimport Store

cdef extern from "<signal.h>" nogil:
    int SIGKILL
    int SIGSTOP


def kill_at(Store store, uint64_t number):
    """Be killed at the `number`th fault point from here on (0: not at all). False in a build without fault points."""
    store._attachment.m.fault_signal = SIGKILL
    store._attachment.m.fault = number
    return FAULTS


def stop_at(Store store, uint64_t number):
    """The same, but be stopped there, until somebody sends SIGCONT."""
    store._attachment.m.fault_signal = SIGSTOP
    store._attachment.m.fault = number
    return FAULTS
