# cython: language_level=3
"""What was purged, and when: so that nothing whose fetch began before a purge is stored after it.

Purges are counted (`Header.epoch`). A fetch notes the count when it begins; when its object is to be published, what
was purged since is asked for by name. A name is 64 bits: the hash of a stem (one URL: its key up to the first NUL),
of a tag, or of a place (see `_tags`). The table forgets nothing that matters: a set of names is one cache line,

    ┌──────┬────────┬ ... ┬────────┐     a word:  fingerprint of the name 24 │ count of the purge 40
    │ lost │ word 1 │     │ word 7 │     lost:   the latest count of a word that had to give way
    └──────┴────────┴ ... ┴────────┘

and who began before `lost` takes it that its name was among the lost ones. Two names can pass for one another (one
chance in 2^24 for each that shares a set). Either error keeps a response from being stored once, and no more.

The order makes it hold without a common lock: a purge raises the count, notes its names, and only then goes through
the shards; a publication looks at the notes under its shard's lock. Either it sees the note, or the purge comes to
that shard after it and finds the object. Notes are written under the fill table's lock; a purge that cannot have that
counts for everything instead.

A purge of everything is a number too. A hard one raises `cleared`: a shard that was emptied for another number counts
as empty, and is made so by who next takes its lock. A soft one says since when whatever is not younger than a
generation has been stale; of the latest of these, fifteen are told apart.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memchr

from flyby.store._hash cimport siphash
from flyby.store._layout cimport (
    Block, Map, Softened, Tag, add64, fresh_of, key_of, load64, purged_at, step, store64, tags_of,
)
from flyby.store._tags cimport group_name, is_place, tag_name

cdef extern from * nogil:
    """
    #include <stdint.h>
    static inline void fb_raise64(uint64_t *p, uint64_t v) {
        uint64_t old = __atomic_load_n(p, __ATOMIC_ACQUIRE);
        while (old < v && !__atomic_compare_exchange_n(p, &old, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {}
    }
    """
    void raise64 "fb_raise64"(uint64_t* p, uint64_t v)

cdef enum:
    WORDS = 8
    COUNT_BITS = 40
    REMEMBERED = 16  # soft purges of everything


cdef inline uint64_t mixed(uint64_t name) noexcept nogil:
    return name * <uint64_t>0x9E3779B97F4A7C15


cdef inline uint64_t* set_of(Map* m, uint64_t name) noexcept nogil:
    return purged_at(m) + (mixed(name) >> 40 & (m.header.purged_sets - 1)) * WORDS


cdef inline uint64_t fingerprint(uint64_t name) noexcept nogil:
    return mixed(name) >> 16 & 0xFFFFFF


cdef inline uint64_t count_of(uint64_t word) noexcept nogil:
    return word & ((<uint64_t>1 << COUNT_BITS) - 1)


cdef uint64_t stem_name(Map* m, const char* key, size_t length) noexcept nogil:
    """The name of the URL that a key belongs to."""
    cdef const char* end = <const char*>memchr(key, 0, length)
    if end != NULL:
        length = end - key
    return siphash(m.header.key0, m.header.key1, <const unsigned char*>key, length).low


cdef void note(Map* m, uint64_t name, uint64_t count) noexcept nogil:
    cdef uint64_t* words = set_of(m, name)
    cdef int number, oldest = 1
    for number in range(1, WORDS):
        if words[number] >> COUNT_BITS == fingerprint(name) and words[number]:
            oldest = number
            break
        if count_of(words[number]) < count_of(words[oldest]):
            oldest = number
    else:
        if count_of(words[oldest]) > words[0]:
            store64(&words[0], count_of(words[oldest]))
            step(m)
    store64(&words[oldest], fingerprint(name) << COUNT_BITS | count)
    step(m)


cdef void purged_names(Map* m, const uint64_t* names, int count) noexcept nogil:
    """What bears one of these names and was asked for before is not stored from now on. Under the fill table's lock."""
    cdef uint64_t now = add64(&m.header.epoch, 1) + 1
    cdef int number
    step(m)
    for number in range(count):
        note(m, names[number], now)


cdef uint64_t purged_everything(Map* m) noexcept nogil:
    """From now on, nothing that was asked for before is stored; returns the count of this purge."""
    cdef uint64_t now = add64(&m.header.epoch, 1) + 1
    step(m)
    raise64(&m.header.everything, now)
    return now


cdef bint purged_since(Map* m, uint64_t name, uint64_t since) noexcept nogil:
    """Whether anything of that name was purged after the count was `since`."""
    cdef uint64_t* words
    cdef uint64_t word
    cdef int number
    if load64(&m.header.epoch) == since:
        return False
    if load64(&m.header.everything) > since:
        return True
    words = set_of(m, name)
    for number in range(1, WORDS):
        word = load64(&words[number])
        if word >> COUNT_BITS == fingerprint(name) and count_of(word) > since:
            return True
    # Last: a word that gave way while we read is among the lost by then.
    return load64(&words[0]) > since


cdef bint outdated(Map* m, Block* b, uint64_t since) noexcept nogil:
    """Whether the object of b, which was asked for at `since`, has been purged by a name of its own."""
    cdef Tag* tag = tags_of(b)
    cdef int number
    if load64(&m.header.epoch) == since:
        return False
    if purged_since(m, stem_name(m, key_of(b), b.key_length), since):
        return True
    for number in range(b.tags):
        if purged_since(m, tag_name(tag[number].hash), since):
            return True
        if is_place(tag[number].hash) and purged_since(m, group_name(tag[number].hash), since):
            return True
    return False


cdef void purged_hard(Map* m) noexcept nogil:
    """From now on there is nothing."""
    raise64(&m.header.cleared, purged_everything(m))


cdef void purged_soft(Map* m, int64_t now_ms) noexcept nogil:
    """From now on, what there is has been stale since `now_ms`. Under the fill table's lock."""
    cdef uint64_t count = load64(&m.header.softened)
    cdef Softened* latest = &m.header.softenings[count % REMEMBERED]
    purged_everything(m)
    step(m)
    # No reader looks at the oldest, which gives way.
    latest.now_ms = now_ms
    latest.generation = load64(&m.header.generation)
    step(m)
    store64(&m.header.softened, count + 1)
    step(m)


cdef int64_t freshness_of(Map* m, Block* b) noexcept nogil:
    """Until when an object is fresh: as it says, or until it was softened with everything else."""
    cdef int64_t fresh_ms
    cdef uint64_t count, number
    cdef Softened* softened
    while True:
        fresh_ms = fresh_of(b)
        count = number = load64(&m.header.softened)
        while number:
            if count - number == REMEMBERED - 1:
                fresh_ms = min(fresh_ms, 0)  # since when is forgotten; too long is safe
                break
            softened = &m.header.softenings[(number - 1) % REMEMBERED]
            if softened.generation < b.generation:
                break
            fresh_ms = min(fresh_ms, softened.now_ms)
            number -= 1
        if load64(&m.header.softened) <= count + 1:
            return fresh_ms
