# cython: language_level=3
"""SipHash-2-4 with 128 bits of output (Aumasson and Bernstein; the reference's `SIPHASH_128` variant).

Keys come from strangers' URLs. With a key of its own, drawn anew for every store, nobody can choose URLs that meet in
one bucket. The tests compare it with the reference's vectors.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy


cdef inline uint64_t rotate(uint64_t value, int by) noexcept nogil:
    return (value << by) | (value >> (64 - by))


cdef inline void sip_round(uint64_t* v) noexcept nogil:
    v[0] += v[1]
    v[1] = rotate(v[1], 13) ^ v[0]
    v[0] = rotate(v[0], 32)
    v[2] += v[3]
    v[3] = rotate(v[3], 16) ^ v[2]
    v[0] += v[3]
    v[3] = rotate(v[3], 21) ^ v[0]
    v[2] += v[1]
    v[1] = rotate(v[1], 17) ^ v[2]
    v[2] = rotate(v[2], 32)


cdef Digest siphash(uint64_t key0, uint64_t key1, const unsigned char* data, size_t length) noexcept nogil:
    cdef uint64_t v[4]
    cdef uint64_t word
    cdef size_t at = 0
    cdef Digest digest
    cdef int turn
    v[0] = key0 ^ <uint64_t>0x736F6D6570736575
    v[1] = key1 ^ <uint64_t>0x646F72616E646F6D ^ 0xEE
    v[2] = key0 ^ <uint64_t>0x6C7967656E657261
    v[3] = key1 ^ <uint64_t>0x7465646279746573
    while at + 8 <= length:
        memcpy(&word, data + at, 8)
        v[3] ^= word
        sip_round(v)
        sip_round(v)
        v[0] ^= word
        at += 8
    word = 0
    memcpy(&word, data + at, length - at)
    word |= (<uint64_t>length & 0xFF) << 56
    v[3] ^= word
    sip_round(v)
    sip_round(v)
    v[0] ^= word
    v[2] ^= 0xEE
    for turn in range(4):
        sip_round(v)
    digest.low = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    for turn in range(4):
        sip_round(v)
    digest.high = v[0] ^ v[1] ^ v[2] ^ v[3]
    return digest


def siphash_128(key: bytes, data: bytes) -> bytes:
    """The digest as the reference writes it: little-endian, low half first."""
    cdef uint64_t keys[2]
    cdef Digest digest
    cdef const unsigned char* start = data
    if len(key) != 16:
        raise ValueError("the key has 16 bytes")
    memcpy(keys, <const char*>key, 16)
    digest = siphash(keys[0], keys[1], start, len(data))
    return (<char*>&digest.low)[:8] + (<char*>&digest.high)[:8]
