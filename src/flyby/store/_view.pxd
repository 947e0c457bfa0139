# cython: language_level=3
"""A look at a store from outside."""

from flyby.store._layout cimport Map


cdef class StoreView:
    cdef Map m
    cdef Py_buffer _buffer  # keeps the mapping mapped
    cdef object _mapping
    cdef readonly str path
