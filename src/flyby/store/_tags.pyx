# cython: language_level=3
"""The index of tags: for each shard a table of lists, threaded through the blocks that bear the tags.

    Tag, 16 bytes, after the block's header, so that a place in the arena names it and it tells where its block begins:
              ┌──────────────────────────────────── hash 64 ─┬─ next 32 ─┬─ previous 32 ─┐      (0: nobody)
    a tag     │ keyed hash of its bytes 55 │ 0 │ its number 8│           │               │
    a place   │ group 31 │ branch 24       │ 1 │ its number 8│           │               │
              └──────────────────────────────────────────────┴───────────┴───────────────┘
    lists     uint32 each, the place of the first Tag:  │ lists of tags │ lists of places │   and so for each shard

A *place* says where in its key's order an object belongs: the group (of HTTP: scheme and host) and the branch within it
(the first segment of the path), both told by how much of the key they are. The branches of one group are spread over
64 lists that stand side by side, so that a group is found by walking those, and a branch by walking one of them.

A list holds whatever hashes to it; hashes are compared in full (55 bits for a tag: of ten million other tags one is
mistaken for it with a chance of 1 in 10^9; for places the key itself is compared too). To find the n objects of a tag
takes n steps and, on average, as many more as there are Tags for each list.

LIVE blocks are in the lists, and no others. They are changed under the shard's lock with `dirty` set, and are made anew
from the blocks when the shard is.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from flyby.store._hash cimport siphash
from flyby.store._layout cimport HEADER_UNITS, LIVE, Block, Map, Shard, Tag, place_of, step, tags_of


cdef uint64_t tag_hash(Map* m, const char* tag, size_t length) noexcept nogil:
    cdef uint64_t hash = siphash(m.header.key0, m.header.key1, <const unsigned char*>tag, length).high
    return hash >> INDEX_BITS + KIND_BITS << INDEX_BITS + KIND_BITS


cdef uint64_t place_hash(Map* m, const char* key, size_t group, size_t branch) noexcept nogil:
    """The hash of the place of a key, whose first bytes are the group's and the branch's name."""
    cdef uint64_t of_group = siphash(m.header.key0, m.header.key1, <const unsigned char*>key, group).high
    cdef uint64_t of_branch = siphash(m.header.key0, m.header.key1, <const unsigned char*>key, branch).high
    return (
        of_group >> 64 - GROUP_BITS << 64 - GROUP_BITS
        | of_branch >> 64 - BRANCH_BITS << INDEX_BITS + KIND_BITS
        | <uint64_t>1 << INDEX_BITS
    )


cdef uint32_t* lists_of(Map* m, Shard* s) noexcept nogil:
    return <uint32_t*>(m.base + m.header.at_tags) + <uint64_t>s.number * (m.header.tag_lists + m.header.place_lists)


cdef uint32_t list_of(Map* m, uint64_t hash) noexcept nogil:
    """Which list a hash belongs to; of a group with branch 0, the first of its lists."""
    cdef uint32_t branch
    if not is_place(hash):
        return <uint32_t>(hash >> INDEX_BITS + KIND_BITS) & (m.header.tag_lists - 1)
    branch = <uint32_t>(hash >> INDEX_BITS + KIND_BITS) & (BRANCHES - 1)
    return m.header.tag_lists + ((<uint32_t>(hash >> 64 - GROUP_BITS) + branch) & (m.header.place_lists - 1))


cdef void tags_set(Block* b, const Labels* labels) noexcept nogil:
    """Give a block that is being filled its tags; its header says already how many."""
    cdef Tag* tag = tags_of(b)
    cdef int number
    for number in range(labels.count):
        tag[number].hash = tag_name(labels.hashes[number]) | <uint64_t>number
        tag[number].next = 0
        tag[number].previous = 0


cdef void tags_link(Map* m, Shard* s, Block* b) noexcept nogil:
    """Enter a LIVE block into the lists of its tags."""
    cdef uint32_t* lists = lists_of(m, s)
    cdef uint32_t* first
    cdef Tag* tag = tags_of(b)
    cdef int number
    for number in range(b.tags):
        first = &lists[list_of(m, tag[number].hash)]
        tag[number].previous = 0
        tag[number].next = first[0]
        step(m)
        if first[0]:
            tag_at(m, s, first[0]).previous = place_of(m, s, <Block*>&tag[number])
            step(m)
        first[0] = place_of(m, s, <Block*>&tag[number])
        step(m)


cdef void tags_unlink(Map* m, Shard* s, Block* b) noexcept nogil:
    """Take a block out of the lists of its tags."""
    cdef Tag* tag = tags_of(b)
    cdef int number
    for number in range(b.tags):
        if tag[number].previous:
            tag_at(m, s, tag[number].previous).next = tag[number].next
        else:
            lists_of(m, s)[list_of(m, tag[number].hash)] = tag[number].next
        step(m)
        if tag[number].next:
            tag_at(m, s, tag[number].next).previous = tag[number].previous
            step(m)


cdef void tags_forget(Map* m, Shard* s) noexcept nogil:
    """Empty all lists; who makes the shard anew links its LIVE blocks again."""
    memset(lists_of(m, s), 0, <size_t>(m.header.tag_lists + m.header.place_lists) * sizeof(uint32_t))
    step(m)


cdef int64_t check_tags(Map* m, Shard* s, uint64_t most, list problems) except -1:
    """Every list leads through tags of LIVE blocks that belong to it, there and back; how many, `most` at the most.

    The memory may hold anything: no place is believed.
    """
    cdef uint32_t* lists = lists_of(m, s)
    cdef uint32_t number, place, before, index
    cdef uint64_t seen = 0
    cdef Block* b
    cdef Tag* tag
    for number in range(m.header.tag_lists + m.header.place_lists):
        before = 0
        place = lists[number]
        while place:
            tag = tag_at(m, s, place) if place < s.end else NULL
            index = <uint32_t>(tag.hash & 0xFF) + HEADER_UNITS if tag != NULL else 0
            b = bearer(tag) if tag != NULL and index <= place else NULL
            if (
                b == NULL or b.state != LIVE or index >= HEADER_UNITS + b.tags or seen == most
                or list_of(m, tag.hash) != number or tag.previous != before
            ):
                problems.append(f"shard {s.number}: list {number} of its tags is broken at {place}")
                return <int64_t>seen
            seen += 1
            before = place
            place = tag.next
    return <int64_t>seen
