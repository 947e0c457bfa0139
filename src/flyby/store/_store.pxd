# cython: language_level=3
"""The store as the rest of flyby sees it."""

from libc.stdint cimport uint32_t, uint64_t

from flyby.store._attachment cimport Attachment
from flyby.store._layout cimport Block, Shard
from flyby.store._packing cimport Packer
from flyby.store._purge cimport Hunt


cdef class Store:
    cdef Attachment _attachment
    cdef Packer _packer
    cdef readonly uint64_t size  # of the whole mapping
    cdef readonly uint64_t max_object  # the longest body that is stored
    cdef readonly uint32_t workers

    cdef Shard* _locked(self, bytes key, Block** b) noexcept
    cdef void _announce_stem(self, bytes key) noexcept
    cdef uint64_t _hunt(self, Hunt* h) except? 0
