# cython: language_level=3
"""What the store counts, read without a lock."""

from flyby.store._layout cimport Map


cdef object statistics_of(Map* m)
