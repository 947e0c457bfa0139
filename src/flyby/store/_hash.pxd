# cython: language_level=3
"""The keyed hash of the store: SipHash-2-4 with 128 bits of output."""

from libc.stdint cimport uint64_t


cdef struct Digest:
    uint64_t low  # shard, buckets and tag come from here
    uint64_t high


cdef Digest siphash(uint64_t key0, uint64_t key1, const unsigned char* data, size_t length) noexcept nogil
