# cython: language_level=3
"""A block's header and what stands behind it; `_layout` shows both as a picture, and gives them on.

All that is written after a block is LIVE has bytes or a word of its own: state, hits, queue (with `after_free`), held,
the links, and the words of the generation, the birth and the freshness. The other fields are bits beside each other.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flyby.store._atomic cimport store64


cdef enum:
    UNIT = 16
    HEADER_UNITS = 4  # of a block: 64 bytes, and the smallest block there is


cdef extern from * nogil:
    """
    #include <stdint.h>
    typedef struct fb_block {
        uint32_t units;
        uint8_t state;
        uint8_t hits;
        uint8_t queue : 7;
        uint8_t after_free : 1;
        uint8_t held;
        uint32_t next;
        uint32_t previous;
        uint64_t hash;
        uint64_t generation : 45;
        uint64_t apart : 1;
        uint64_t codec : 2;
        uint64_t status : 10;
        uint64_t slack : 6;
        union {
            struct {
                int64_t born : 48;
                uint64_t key_length : 16;
            };
            uint64_t birth;
        };
        union {
            struct {
                int64_t fresh : 48;
                uint64_t swr_high : 8;
                uint64_t sie_high : 8;
            };
            uint64_t freshness;
        };
        uint64_t length : 36;
        uint64_t head_length : 20;
        uint64_t tags : 8;
        uint32_t flags;
        uint16_t swr_low;
        uint16_t sie_low;
    } fb_block;
    _Static_assert(sizeof(fb_block) == 64, "a block's header is one cache line");
    """
    ctypedef struct Block "fb_block":
        uint32_t units
        uint8_t state
        uint8_t hits  # 0 to 3; all that a hit writes. While FILLING: the worker that fills it
        uint8_t queue  # these two bits change under the shard's lock alone
        uint8_t after_free  # the block before this one is FREE
        uint8_t held  # a fill slot in use refers to it
        uint32_t next  # towards the tail: younger to older
        uint32_t previous
        uint64_t hash
        uint64_t generation
        uint8_t apart  # the body lies in another block
        uint8_t codec
        uint16_t status
        uint8_t slack  # bytes at its end that are nobody's, once LIVE
        int64_t born  # with the length of the key in `birth`, so that it changes in one store
        uint64_t birth
        uint16_t key_length
        int64_t fresh  # with the high parts of swr and sie in `freshness`, so that it changes in one store
        uint8_t swr_high
        uint8_t sie_high
        uint64_t freshness
        uint64_t length  # of the body, for its readers
        uint32_t head_length
        uint8_t tags  # how many Tags follow the header
        uint32_t flags
        uint16_t swr_low
        uint16_t sie_low


cdef struct Tag:
    uint64_t hash
    uint32_t next  # the index of tags is `_tags`'s
    uint32_t previous


cdef inline Tag* tags_of(Block* b) noexcept nogil:
    return <Tag*>(<char*>b + HEADER_UNITS * UNIT)


cdef inline char* key_of(Block* b) noexcept nogil:
    return <char*>b + HEADER_UNITS * UNIT + <uint64_t>b.tags * sizeof(Tag)


cdef inline char* head_of(Block* b) noexcept nogil:
    return key_of(b) + b.key_length


cdef inline char* tail_of(Block* b) noexcept nogil:
    """Where the head ends: the body begins there, or the distance in units to the block where that lies."""
    return key_of(b) + b.key_length + b.head_length


cdef inline Block* holder_of(Block* b) noexcept nogil:
    """The block with the body of b's object: b itself, if it is not apart."""
    cdef int64_t away
    if not b.apart:
        return b
    memcpy(&away, tail_of(b), sizeof(away))
    return <Block*>(<char*>b + away * UNIT)


cdef inline char* body_of(Block* b) noexcept nogil:
    return tail_of(holder_of(b))


cdef inline uint64_t room_of(Block* b) noexcept nogil:
    """Bytes of body that fit in a block."""
    return <uint64_t>b.units * UNIT - <uint64_t>(tail_of(b) - <char*>b)


cdef inline uint64_t stored_of(Block* b) noexcept nogil:
    """Bytes that a LIVE block's body takes as it lies."""
    cdef Block* holder = holder_of(b)
    return room_of(holder) - holder.slack


# Times have 48 bits and the windows 24: seconds up to 97 days, minutes above. What is beyond is for ever.

cdef inline int64_t born_of(Block* b) noexcept nogil:
    return b.born


cdef inline int64_t fresh_of(Block* b) noexcept nogil:
    return b.fresh if b.fresh < (<int64_t>1 << 47) - 1 else <int64_t>1 << 62


cdef inline int64_t clipped(int64_t ms) noexcept nogil:
    return max(-(<int64_t>1 << 47), min(ms, (<int64_t>1 << 47) - 1))


cdef inline uint32_t window_code(uint32_t seconds) noexcept nogil:
    cdef uint32_t minutes = seconds // 60
    if seconds < 1 << 23:
        return seconds
    return 1 << 23 | (minutes if minutes < 1 << 23 else (1 << 23) - 1)


cdef inline uint32_t window_of(uint32_t code) noexcept nogil:
    return code if code < 1 << 23 else (code - (1 << 23)) * 60


cdef inline uint32_t swr_of(Block* b) noexcept nogil:
    return window_of(<uint32_t>b.swr_high << 16 | b.swr_low)


cdef inline uint32_t sie_of(Block* b) noexcept nogil:
    return window_of(<uint32_t>b.sie_high << 16 | b.sie_low)


cdef inline int64_t ends_of(Block* b) noexcept nogil:
    """When the object is of no more use, not even stale."""
    return fresh_of(b) + <int64_t>max(swr_of(b), sie_of(b)) * 1000


cdef inline void set_times(Block* b, int64_t born_ms, int64_t fresh_ms, uint32_t swr_s, uint32_t sie_s) noexcept nogil:
    cdef uint32_t swr = window_code(swr_s)
    cdef uint32_t sie = window_code(sie_s)
    b.born = clipped(born_ms)
    b.fresh = clipped(fresh_ms)
    b.swr_high = swr >> 16
    b.swr_low = swr & 0xFFFF
    b.sie_high = sie >> 16
    b.sie_low = sie & 0xFFFF


cdef inline void set_born(Block* b, int64_t born_ms) noexcept nogil:
    """Of a LIVE block, in one store."""
    store64(&b.birth, (<uint64_t>clipped(born_ms) & ((<uint64_t>1 << 48) - 1)) | b.birth >> 48 << 48)


cdef inline void set_fresh(Block* b, int64_t fresh_ms) noexcept nogil:
    """Of a LIVE block, in one store."""
    store64(&b.freshness, (<uint64_t>clipped(fresh_ms) & ((<uint64_t>1 << 48) - 1)) | b.freshness >> 48 << 48)
