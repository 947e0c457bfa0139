# cython: language_level=3
"""The index of a shard's tags. What changes it runs under the shard's lock."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from flyby.store._layout cimport HEADER_UNITS, UNIT, Block, Map, Shard, Tag, block_at

cdef enum:
    INDEX_BITS = 8  # the tag's number in its block
    KIND_BITS = 1  # set: a place
    BRANCH_BITS = 24
    GROUP_BITS = 31
    BRANCHES = 64  # lists over which one group is spread
    MOST = 255  # tags of one block, its place among them


cdef struct Labels:
    int count
    uint64_t hashes[255]


cdef uint64_t tag_hash(Map* m, const char* tag, size_t length) noexcept nogil
cdef uint64_t place_hash(Map* m, const char* key, size_t group, size_t branch) noexcept nogil
cdef void tags_set(Block* b, const Labels* labels) noexcept nogil
cdef void tags_link(Map* m, Shard* s, Block* b) noexcept nogil
cdef void tags_unlink(Map* m, Shard* s, Block* b) noexcept nogil
cdef void tags_forget(Map* m, Shard* s) noexcept nogil
cdef uint32_t list_of(Map* m, uint64_t hash) noexcept nogil
cdef uint32_t* lists_of(Map* m, Shard* s) noexcept nogil
cdef int64_t check_tags(Map* m, Shard* s, uint64_t most, list problems) except -1


cdef inline uint64_t tag_name(uint64_t hash) noexcept nogil:
    return hash >> INDEX_BITS << INDEX_BITS


cdef inline bint is_place(uint64_t hash) noexcept nogil:
    return hash >> INDEX_BITS & 1


cdef inline uint64_t group_mask() noexcept nogil:
    return ~((<uint64_t>1 << INDEX_BITS + KIND_BITS + BRANCH_BITS) - 1) | <uint64_t>1 << INDEX_BITS


cdef inline uint64_t group_name(uint64_t hash) noexcept nogil:
    """The name of the group of a place; told apart from the name of its branch 0 by the index, which that has not."""
    return hash & group_mask() | 1


cdef inline Tag* tag_at(Map* m, Shard* s, uint32_t place) noexcept nogil:
    return <Tag*>block_at(m, s, place)


cdef inline Block* bearer(Tag* tag) noexcept nogil:
    """The block that a tag stands in."""
    return <Block*>(<char*>tag - (HEADER_UNITS + (tag.hash & 0xFF)) * UNIT)
