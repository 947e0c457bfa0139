# cython: language_level=3
"""The bytes of the store's one mapping.

Everything refers by offset: processes may map the store anywhere. A *unit* is 16 bytes; a block's place is its unit
counted from the start of its shard's arena (32 bits; 0 is nobody), or from the start of the mapping (48 bits) where
shards mix.

    0         Header      half a page: magic, version, geometry, hash key; then `apart` what changes
    2048      Record      half a page: is the store in use, by whom, or was it closed (cache_file.py)
    workers   Worker      one for each worker and one for the process that made the store until it joins
                          │ counters │ words of pending fills, a bit a fill slot │ reads │ pins: sets of eight words │
    fills     FillTable   │ lock │ name buckets │ FillSlot (512 bytes each): the fetches under way │
    purged    sets of eight words: what was purged, and when (`_purged`)
    tags      for every shard, uint32 each: the lists of its tags (`_tags`)
    shards    Shard       │ lock, queues, free lists │ arena ───▶ END ◀─── index │      the same again for every shard

    arena     blocks, back to back; each tells its own size. The last is END, of size 0: what lies above is the index.
              ┌──────────── 64 bytes ────────────┬──────┬─────┬──────┬─────────────┬─────┐
              │ Block: size, state, links, hash, │ tags │ key │ head │ body or lz4 │ pad │
              │        times, lengths, flags     │ 16 n │     │      │             │     │
              └──────────────────────────────────┴──────┴─────┴──────┴─────────────┴─────┘
              A FREE block has its size once more in its last four bytes, and the one after it says `after_free`.
    Block      0 units ............. 4 state, hits, queue, held 8 next ........ 12 previous ....
              16 hash ......................................   24 generation 45 │ apart │ codec 2 │ status 10 │ slack 6
              32 born 48 ................. │ key length 16      40 fresh 48 ............... │ swr, sie: the high 8 each
              48 length 36 ....... │ head length 20 │ tags 8    56 flags ........ 60 swr, sie: the low 16 each
    index     segments of 64 buckets, from the top of the shard downwards; it grows at the arena's end as objects come:
              ┌────────┬────────┬ 64 bytes ┬────────┐ × 64 ┌──── 16 bytes ────┐ × 64
              │ word 0 │ word 1 │    ...   │ word 7 │      │ eight ghosts     │      word: tag 16 │ 0 │ block's unit 32
              └────────┴────────┴──────────┴────────┘      └──────────────────┘      (0: empty)  ghost: 16 of a hash
              A bucket is one cache line; a key has two of them, and a place in either.
    reads     a word for each fill slot:  readers here 16 │ how far the slowest has read 48.  Only its worker writes it
    pins      a word:  count 16 │ block's unit in the mapping 48.  Only its worker writes it; no pinned block is freed

    apart     an object that was refreshed has a new head, and its body where it was:
              ┌─────────────────────────────────────┐           ┌──────────────────────────┬───────────────┐
              │ LIVE: tags, key, head, distance 64 ─│──────────▶│ APART: next: how many    │ body          │
              └─────────────────────────────────────┘           │ refer to it; previous:   │               │
                                                                │ which of them is LIVE    │               │
                                                                └──────────────────────────┴───────────────┘

A block's life:  FREE ─▶ FILLING ─▶ LIVE ─▶ DOOMED ─▶ FREE   (FILLING may go straight to DOOMED). LIVE blocks are in the
index and in one of the queues; FILLING and DOOMED ones are *loose*, on the list of that name; FREE ones in lists of
their own.

Rules that keep it whole when a process dies at any instruction:
  * readers take no lock: they read a word, pin the block, and read the word again. Whoever removes a word does so
    first, then looks at the pins, so one of the two sees the other (both sides are separated by a full fence);
  * a shard changes under its robust mutex with `dirty` set. A block's size and its state are each one store, and at
    every instant a walk from block to block finds the arena as it is: all else (index, queues, free lists, sums) can be
    told from that walk, and whoever finds a shard dirty makes it anew (`_rebuild`). What was LIVE is LIVE again;
  * of two LIVE blocks of one key the younger generation counts: a replacement is LIVE before the index names it, and a
    removed object is DOOMED before the index forgets it;
  * a block that a worker touches outside the lock is pinned by that worker, so a rebuilt shard never pulls it away;
  * in the fill table every slot tells for itself whether it is in use; chains and free slots are derived, and are
    rebuilt.
Lock order: a shard's, then the fill table's. No lock is held between two calls from Python.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass


from flyby.store._atomic cimport (
    FAULTS, add64, and64, fault, fence, floor_log2, load32, load64, lowest32, lowest64, or64, store32, store64, swap32,
    swap64, within,
)
from flyby.store._block cimport (
    HEADER_UNITS, UNIT, Block, Tag, body_of, born_of, clipped, ends_of, fresh_of, head_of, holder_of, key_of,
    room_of, set_born, set_fresh, set_times, sie_of, stored_of, swr_of, tags_of, tail_of, window_code, window_of,
)


cdef enum:
    LAYOUT_VERSION = 3
    PAGE = 4096
    FIRST_PLACE = 4  # place 0 means nobody; blocks begin a cache line after the arena
    FIRST_LEVELS = 32  # free lists: one row for each power of two of units,
    SECOND_LEVELS = 16  # each divided in sixteen
    BUCKET_WORDS = 8
    BUCKET_LOAD = 7  # words of eight that are in use when the index grows
    SEGMENT_BUCKETS = 64
    SEGMENT_UNITS = 320  # 64 buckets of 64 bytes and 64 sets of eight 16-bit ghosts
    PIN_WAYS = 8
    READ_BITS = 48  # of the offset in a word of reads
    FILL_KEY = 392  # bytes of a claimed key kept in its slot; longer ones are told apart by their 128-bit hash as well
    HOT = 3  # where the hit counter stops
    LONGEST_KEY = 0xFFFF
    KEPT_APART = 16384  # a refreshed body of so many bytes stays where it is
    LONGEST_HEAD = 0xFFFFF
    MOST_TAGS = 0xFF
    SIZE_CLASSES = 8

cdef enum:  # a block's state
    FREE = 0
    FILLING = 1
    LIVE = 2
    DOOMED = 3
    END = 4
    APART = 5  # the body of another block's object

cdef enum:  # where a block is queued
    SMALL = 0
    MAIN = 1
    LOOSE = 2
    NOWHERE = 3

cdef enum:  # why an object went
    GONE_SMALL = 0  # the small queue's oldest
    GONE_MAIN = 1  # the main queue's oldest
    GONE_ROOM = 2  # for a large neighbour's sake, the index's, or because its buckets were full
    GONE_EXPIRED = 3
    GONE_PURGED = 4
    GONE_REPLACED = 5
    GONE_RECOVERED = 6  # lost with the process that changed it
    GONE_REASONS = 7

cdef enum:  # how a body lies in its block
    PLAIN = 0
    LZ4 = 1
    PROMOTED = 2  # plain again, because it was hot
    KEPT = 3  # plain for good: packing was not wanted, or does not pay

cdef enum:  # how hard bodies are packed
    PACK_OFF = 0
    PACK_FAST = 1
    PACK_HIGH = 2

cdef enum:  # a fill slot's state
    FILL_EMPTY = 0
    FILL_HEAD = 1
    FILL_STREAMING = 2
    FILL_COMPLETE = 3
    FILL_FAILED = 4
    FILL_UNUSED = 5

cdef enum:  # why a fill failed, when the store says so
    REASON_LOST = 0
    REASON_UNSTORABLE = 1


cdef struct Softened:
    uint64_t generation  # whose object is not younger
    int64_t now_ms  # has been stale since then


cdef struct Header:
    uint64_t magic
    uint32_t version
    uint32_t sizes  # a digest of the sizes of these structs: another build's layout is not ours
    uint64_t size  # of the whole mapping, in bytes
    uint64_t max_object  # the longest body that is stored
    uint64_t key0  # the key of the hash
    uint64_t key1
    uint64_t nonce  # makes the seals of blocks unguessable
    uint32_t workers  # worker areas: the workers and one for the maker
    uint32_t shards  # a power of two
    uint32_t fill_slots  # a multiple of 64
    uint32_t fill_buckets  # a power of two
    uint32_t pin_sets  # a power of two
    uint32_t arena_units  # of a shard, with its index
    uint32_t purged_sets  # of the memory of purges: a power of two
    uint32_t tag_lists  # of each shard: a power of two
    uint32_t place_lists  # of each shard: a power of two
    uint64_t at_workers
    uint64_t worker_stride
    uint64_t at_fills
    uint64_t at_purged
    uint64_t at_tags
    uint64_t at_shards
    uint64_t shard_stride
    uint64_t apart[8]  # what stands before this never changes, and a digest of it guards a kept store
    uint64_t generation  # the last one given out
    uint64_t epoch  # how many purges there were
    uint64_t everything  # the latest that meant everything, hard or soft
    uint64_t cleared  # the latest that left nothing
    uint64_t softened  # how many soft purges of everything there were
    Softened softenings[16]  # the latest of them, each at its number modulo 16


cdef struct Worker:
    uint32_t rung  # its eventfd has been written and not yet read
    uint32_t unused
    uint64_t hits
    uint64_t misses
    uint64_t hit_bytes
    uint64_t inserts
    uint64_t insert_bytes
    uint64_t refused  # objects that did not fit, or whose shard was busy
    uint64_t fills
    uint64_t collapsed  # claims that found an owner
    uint64_t committed
    uint64_t failed
    uint64_t pin_overflows
    uint64_t busy  # a lock that was not had in time
    uint64_t purges
    uint64_t outdated  # objects that purges made stale
    uint64_t purge_steps  # tags that purges looked at


cdef struct FillSlot:
    uint32_t state
    uint32_t reason
    uint32_t owner
    uint32_t serial  # of the slot's uses
    uint64_t holders  # a bit for every worker that has the fill open
    uint64_t hash0
    uint64_t hash1
    uint64_t object  # the block that it fills: its unit in the mapping, 0 before the head is known
    uint64_t available  # bytes of the body that may be read
    int64_t length  # of the body, -1 while unknown
    uint64_t epoch  # what had been purged when it began
    uint64_t stem  # the name of its URL, by which that is asked for
    uint32_t next  # in its name's bucket: slot number + 1
    uint32_t starved  # its owner waits for room in the window
    uint32_t key_length
    uint32_t next_free
    uint64_t ring  # of a window: the block that holds what came last, its unit in the mapping; else 0
    uint64_t base  # of a window: the first byte that came into the ring
    uint64_t floor  # of a window: the first byte that can still be read
    char key[392]


cdef struct FillTable:
    pthread_mutex_t lock
    uint32_t dirty
    uint32_t free_head  # slot number + 1
    uint32_t used
    uint32_t recoveries


cdef struct QueueEnds:
    uint32_t head
    uint32_t tail
    uint32_t count
    uint32_t unused
    uint64_t units


cdef struct Shard:
    pthread_mutex_t lock
    uint32_t dirty
    uint32_t number
    uint32_t moves  # of words between buckets: a reader that found nothing looks again when this has changed
    uint32_t buckets  # of the index in use
    uint32_t segments  # of the index
    uint32_t end  # the place of END
    uint32_t cramped  # objects to come before the index tries again to grow
    uint64_t rebuilds  # after a death
    uint64_t epoch  # what it was emptied for: when `cleared` is another, it counts as empty
    uint64_t resets  # with nothing kept, because the arena was damaged
    uint64_t free_units
    uint64_t promoted_units
    uint64_t apart_units  # of APART blocks
    uint64_t plain_bytes  # of live bodies, as their readers see them
    uint64_t stored_bytes  # of live bodies, as they lie here
    uint64_t compressed  # live objects that are held as lz4
    uint64_t by_size[8]  # live objects by the length of their bodies
    uint64_t gone[7]  # objects that went, by reason
    uint64_t promotions
    uint64_t demotions
    uint64_t ghost_hits
    int64_t soonest  # no live object is of no more use before that
    int64_t soonest_seen  # of the objects that the hand has passed
    uint64_t since_lap  # units that were allocated since the hand set out
    uint32_t hand  # the place of the block that it comes to next, 0 when it rests
    uint32_t unused
    QueueEnds queues[3]
    uint32_t first_map
    uint32_t second_map[32]
    uint32_t free_lists[512]


cdef struct Candidate:
    uint64_t unit  # of an object's block in the mapping
    uint64_t hash
    uint64_t generation


cdef struct Map:
    char* base  # where this process sees the mapping
    Header* header
    FillTable* fills
    uint32_t worker  # the area that this process writes
    int packing  # how hard this process packs
    bint stands[65]  # locks that were not had in time, each shard's and the fill table's: not waited for again
    int bells[64]  # the eventfd of every worker area
    void* clock  # a Clock that the attachment owns; NULL: the machine's
    Candidate candidates[64]  # objects to be packed or unpacked, a ring (`_candidates`)
    uint32_t first_candidate
    uint32_t candidate_count
    uint64_t fault  # fault points left until this process sends itself `fault_signal`; 0: never
    int fault_signal


cdef inline void step(Map* m) noexcept nogil:
    """A fault point: where a build with FLYBY_FAULTS can be made to die or stop between two steps. Else nothing."""
    fault(&m.fault, m.fault_signal)


cdef inline Worker* worker_at(Map* m, uint32_t number) noexcept nogil:
    within(number, m.header.workers)
    return <Worker*>(m.base + m.header.at_workers + number * m.header.worker_stride)


cdef inline uint64_t* pending_at(Map* m, uint32_t number) noexcept nogil:
    return <uint64_t*>(m.base + m.header.at_workers + number * m.header.worker_stride + 256)


cdef inline uint64_t* reads_at(Map* m, uint32_t number) noexcept nogil:
    # The words of pending fills are padded to whole cache lines.
    cdef uint64_t words = (m.header.fill_slots // 64 + 7) // 8 * 8
    return <uint64_t*>(m.base + m.header.at_workers + number * m.header.worker_stride + 256 + words * 8)


cdef inline uint64_t read_word(uint64_t readers, uint64_t offset) noexcept nogil:
    """More readers than can be counted are as many as can."""
    return min(readers, <uint64_t>0xFFFF) << READ_BITS | offset


cdef inline uint64_t* pins_at(Map* m, uint32_t number) noexcept nogil:
    return reads_at(m, number) + m.header.fill_slots  # a multiple of 64


cdef inline uint32_t* fill_buckets(Map* m) noexcept nogil:
    return <uint32_t*>(m.base + m.header.at_fills + 128)


cdef inline FillSlot* slot_at(Map* m, uint32_t number) noexcept nogil:
    within(number, m.header.fill_slots)
    cdef char* slots = m.base + m.header.at_fills + 128 + m.header.fill_buckets * 4
    return <FillSlot*>(slots + number * <uint64_t>sizeof(FillSlot))


cdef inline uint64_t* purged_at(Map* m) noexcept nogil:
    return <uint64_t*>(m.base + m.header.at_purged)


cdef inline Shard* shard_at(Map* m, uint32_t number) noexcept nogil:
    within(number, m.header.shards)
    return <Shard*>(m.base + m.header.at_shards + number * m.header.shard_stride)


cdef inline Shard* shard_of(Map* m, uint64_t hash) noexcept nogil:
    return shard_at(m, <uint32_t>(hash >> 32) & (m.header.shards - 1))


cdef inline char* arena_of(Map* m, Shard* s) noexcept nogil:
    return <char*>s + PAGE


cdef inline char* segment_at(Map* m, Shard* s, uint32_t number) noexcept nogil:
    within(<uint64_t>SEGMENT_UNITS * number, m.header.arena_units - SEGMENT_UNITS)
    return <char*>s + PAGE + (<uint64_t>m.header.arena_units - <uint64_t>SEGMENT_UNITS * (number + 1)) * UNIT


cdef inline uint64_t* bucket_at(Map* m, Shard* s, uint32_t number) noexcept nogil:
    return <uint64_t*>segment_at(m, s, number >> 6) + (number & 63) * BUCKET_WORDS


cdef inline uint16_t* ghosts_at(Map* m, Shard* s, uint32_t number) noexcept nogil:
    cdef char* start = segment_at(m, s, number >> 6) + SEGMENT_BUCKETS * BUCKET_WORDS * 8
    return <uint16_t*>start + (number & 63) * BUCKET_WORDS


cdef inline Block* block_at(Map* m, Shard* s, uint32_t place) noexcept nogil:
    within(place, m.header.arena_units)
    return <Block*>(<char*>s + PAGE + <uint64_t>place * UNIT)


cdef inline uint32_t place_of(Map* m, Shard* s, Block* b) noexcept nogil:
    return <uint32_t>((<char*>b - (<char*>s + PAGE)) // UNIT)


cdef inline uint64_t unit_of(Map* m, Block* b) noexcept nogil:
    return <uint64_t>(<char*>b - m.base) // UNIT


cdef inline Block* block_of(Map* m, uint64_t unit) noexcept nogil:
    return <Block*>(m.base + unit * UNIT)


cdef inline Shard* shard_holding(Map* m, Block* b) noexcept nogil:
    return shard_at(m, <uint32_t>((<char*>b - m.base - m.header.at_shards) // m.header.shard_stride))
