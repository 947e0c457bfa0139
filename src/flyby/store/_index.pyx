# cython: language_level=3
"""The index of one shard: from a key's hash to its block, and what the ghosts remember of those that went.

A key has two buckets of one cache line and may lie in either; a new one goes to the emptier. The number of buckets is
any number: `reduced` is linear hashing, so that the index grows by one bucket at a time, each taking its share of
the words of one other (`index_widen`), whatever the number of objects. When both buckets of a key are full, one of
the sixteen words in them moves to its other bucket, or takes the place of one that moves from there. So seven words of
eight may be in use, and an object's share of the index and the ghosts is about twelve bytes, be the objects small or
large.

Readers take no lock. A word that moves is in its new place before it leaves the old one, and `moves` is raised in
between: who found nothing, and sees that it has changed, looks again.

The ghosts of a bucket are the last eight that went from it, sixteen bits of their hash each: about as many as there
are objects, so what they remember is about as old as the main queue is long.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from flyby.store._layout cimport (
    BUCKET_LOAD, BUCKET_WORDS, MAIN, SEGMENT_BUCKETS, SEGMENT_UNITS, SMALL, UNIT, Block, Map, Shard, block_at,
    bucket_at, fence, ghosts_at, segment_at, step, store32, store64,
)

cdef enum:
    MOVES = 1  # words that move for the sake of the one that makes room


cdef uint64_t* index_find(Map* m, Shard* s, uint64_t hash, const char* key, uint32_t length) noexcept nogil:
    """Where the index names the key, under the lock."""
    cdef uint64_t* words
    cdef int side, number
    for side in range(2):
        words = bucket_at(m, s, bucket_of(hash, side, s.buckets))
        for number in range(BUCKET_WORDS):
            if words[number] and words[number] >> 48 == hash >> 48:
                if same_key(block_at(m, s, <uint32_t>words[number]), hash, key, length):
                    return &words[number]
    return NULL


cdef uint64_t* index_word(Map* m, Shard* s, Block* b) noexcept nogil:
    """Where the index names the block."""
    cdef uint64_t* words
    cdef uint64_t word = word_for(m, s, b)
    cdef int side, number
    for side in range(2):
        words = bucket_at(m, s, bucket_of(b.hash, side, s.buckets))
        for number in range(BUCKET_WORDS):
            if words[number] == word:
                return &words[number]
    return NULL


cdef inline uint64_t* hole_in(uint64_t* words, int* room) noexcept nogil:
    cdef uint64_t* hole = NULL
    cdef int number
    room[0] = 0
    for number in range(BUCKET_WORDS):
        if not words[number]:
            room[0] += 1
            hole = &words[number]
    return hole


cdef inline uint32_t other_bucket(Map* m, Shard* s, uint64_t word, uint32_t bucket) noexcept nogil:
    cdef uint64_t hash = block_at(m, s, <uint32_t>word).hash
    cdef uint32_t first = bucket_of(hash, 0, s.buckets)
    return first if first != bucket else bucket_of(hash, 1, s.buckets)


cdef uint64_t* hole_by_moving(Map* m, Shard* s, uint32_t bucket, int depth) noexcept nogil:
    """Make a hole in a full bucket: one of its words moves to its other bucket, where another one may have to move."""
    cdef uint64_t* words = bucket_at(m, s, bucket)
    cdef uint64_t* hole = NULL
    cdef uint32_t other
    cdef int number, room, deep
    for deep in range(depth + 1):
        for number in range(BUCKET_WORDS):
            other = other_bucket(m, s, words[number], bucket)
            if not deep:
                hole = hole_in(bucket_at(m, s, other), &room)
            elif other != bucket:
                hole = hole_by_moving(m, s, other, deep - 1)
            if hole != NULL:
                store64(hole, words[number])
                step(m)
                store32(&s.moves, s.moves + 1)
                fence()
                store64(&words[number], 0)
                step(m)
                return &words[number]
    return NULL


cdef uint64_t* index_room(Map* m, Shard* s, uint64_t hash) noexcept nogil:
    """A free place for the key, in the emptier of its buckets; NULL when both are full and nothing there can move."""
    cdef uint32_t first = bucket_of(hash, 0, s.buckets), second = bucket_of(hash, 1, s.buckets)
    cdef uint64_t* hole
    cdef uint64_t* other
    cdef int room, more
    hole = hole_in(bucket_at(m, s, first), &room)
    other = hole_in(bucket_at(m, s, second), &more)
    if other != NULL and more > room:
        return other
    if hole != NULL:
        return hole
    hole = hole_by_moving(m, s, first, MOVES)
    return hole if hole != NULL else hole_by_moving(m, s, second, MOVES)


cdef inline bint index_loaded(Shard* s) noexcept nogil:
    """Whether one object more is more than the buckets in use should carry."""
    return s.queues[SMALL].count + s.queues[MAIN].count >= <uint64_t>s.buckets * BUCKET_LOAD


cdef void index_segment(Map* m, Shard* s) noexcept nogil:
    """The arena has ceded a segment."""
    memset(segment_at(m, s, s.segments), 0, SEGMENT_UNITS * UNIT)
    s.segments += 1
    step(m)


cdef void index_widen(Map* m, Shard* s) noexcept nogil:
    """Use one bucket more of those that there are; it takes its share of one other's words, and knows its ghosts."""
    cdef uint32_t buckets = s.buckets + 1
    cdef uint32_t from_bucket = reduced(s.buckets, s.buckets)
    cdef uint64_t* old = bucket_at(m, s, from_bucket)
    cdef uint64_t* new = bucket_at(m, s, s.buckets)
    cdef uint64_t hash
    cdef int number, count = 0
    cdef uint32_t moved = 0
    memset(new, 0, BUCKET_WORDS * sizeof(uint64_t))
    for number in range(BUCKET_WORDS):
        if not old[number]:
            continue
        hash = block_at(m, s, <uint32_t>old[number]).hash
        if bucket_of(hash, 0, buckets) != from_bucket and bucket_of(hash, 1, buckets) != from_bucket:
            store64(&new[count], old[number])
            count += 1
            moved |= <uint32_t>1 << number
    memcpy(ghosts_at(m, s, s.buckets), ghosts_at(m, s, from_bucket), BUCKET_WORDS * sizeof(uint16_t))
    step(m)
    store32(&s.buckets, buckets)
    store32(&s.moves, s.moves + 1)
    fence()
    step(m)
    for number in range(BUCKET_WORDS):
        if moved >> number & 1:
            store64(&old[number], 0)
            step(m)


cdef void index_clear(Map* m, Shard* s) noexcept nogil:
    """Name nothing any more, and use all the buckets that there are."""
    cdef uint32_t number
    for number in range(s.segments):
        memset(segment_at(m, s, number), 0, SEGMENT_BUCKETS * BUCKET_WORDS * sizeof(uint64_t))
    store32(&s.buckets, s.segments * SEGMENT_BUCKETS)
    store32(&s.moves, s.moves + 1)
    fence()


cdef bint ghost_known(Map* m, Shard* s, uint64_t hash) noexcept nogil:
    cdef uint16_t* ghosts = ghosts_at(m, s, bucket_of(hash, 0, s.buckets))
    cdef uint16_t mark = <uint16_t>(hash >> 38) | 1
    cdef int number
    for number in range(BUCKET_WORDS):
        if ghosts[number] == mark:
            return True
    return False


cdef void ghost_add(Map* m, Shard* s, uint64_t hash) noexcept nogil:
    cdef uint16_t* ghosts = ghosts_at(m, s, bucket_of(hash, 0, s.buckets))
    memmove(ghosts + 1, ghosts, (BUCKET_WORDS - 1) * sizeof(uint16_t))
    ghosts[0] = <uint16_t>(hash >> 38) | 1
