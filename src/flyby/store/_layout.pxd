# cython: language_level=3
"""The bytes of the store's one mapping, and the atomic operations that its parts share.

Everything refers by offset: processes may map the store anywhere. A *unit* is 16 bytes; a block's place is its unit
counted from the start of its shard's arena (32 bits; 0 is nobody), or from the start of the mapping (48 bits) where
shards mix.

    0         Header      half a page: magic, version, geometry, hash key; then `apart` what changes
    2048      Record      half a page: is the store in use, by whom, or was it closed (cache_file.py)
    workers   Worker      one for each worker and one for the process that made the store until it joins
                          │ counters │ words of pending fills, a bit a fill slot │ pins: sets of eight words │
    fills     FillTable   │ lock │ name buckets │ FillSlot (512 bytes each): the fetches under way │
    shards    Shard       │ lock, queues, free lists │ index │ ghosts │ arena │      the same again for every shard

    index     buckets of one cache line; a key has two of them, and a place in either:
              ┌────────┬────────┬────────┬ ... ┬────────┐      a word:  tag 16 │ 0 │ block's unit 32     (0: empty)
              │ word 0 │ word 1 │ word 2 │     │ word 7 │      tag: the top 16 bits of the key's hash
              └────────┴────────┴────────┴ ... ┴────────┘
    pins      a word:  count 16 │ block's unit in the mapping 48.  Only its worker writes it; a pinned block is never freed
    ghosts    a word:  fingerprint 32 │ sequence 32
    arena     blocks, back to back, each with the size of the one before it; closed by a block of size 0:
              ┌───────────────────── 96 bytes ─────────────────────┬───────┬────────┬────────────────┬──────┐
              │ Block: sizes, links, hash, times, lengths, state   │ key   │ head   │ body or lz4    │ pad  │
              └────────────────────────────────────────────────────┴───────┴────────┴────────────────┴──────┘

A block's life:  FREE ─▶ FILLING ─▶ LIVE ─▶ DOOMED ─▶ FREE   (FILLING may go straight to DOOMED). LIVE blocks are in the
index and in one of the queues; FILLING and DOOMED ones are *loose*, on the list of that name; FREE ones in the free lists.

Rules that keep it whole when a process dies at any instruction:
  * readers take no lock: they read a word, pin the block, and read the word again. Whoever removes a word does so
    first, then looks at the pins, so one of the two sees the other (both sides are separated by a full fence);
  * a shard changes under its robust mutex with `dirty` set. Whoever finds it dirty empties that shard: what is pinned
    or belongs to a fetch under way stays as it is, everything else becomes free. Nothing is mended in place;
  * a block that a worker touches outside the lock is pinned by that worker, so an emptied shard never pulls it away;
  * in the fill table every slot tells for itself whether it is in use; chains and free slots are derived, and are
    rebuilt.
Lock order: a shard's, then the fill table's. No lock is held between two calls from Python.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass


cdef extern from * nogil:
    """
    #include <stdint.h>
    static inline uint64_t fb_load64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline uint32_t fb_load32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void fb_store64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline void fb_store32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline uint64_t fb_add64(uint64_t *p, uint64_t v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }
    static inline uint64_t fb_or64(uint64_t *p, uint64_t v) { return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST); }
    static inline uint64_t fb_and64(uint64_t *p, uint64_t v) { return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST); }
    static inline uint64_t fb_swap64(uint64_t *p, uint64_t v) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }
    static inline uint32_t fb_swap32(uint32_t *p, uint32_t v) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }
    static inline void fb_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
    static inline int fb_log2(uint32_t v) { return 31 - __builtin_clz(v); }
    static inline int fb_low32(uint32_t v) { return __builtin_ctz(v); }
    static inline int fb_low64(uint64_t v) { return __builtin_ctzll(v); }
    #ifdef FLYBY_FAULTS
    #include <signal.h>
    #define FB_FAULTS 1
    static inline void fb_fault(uint64_t *left) { if (*left && !--*left) raise(SIGKILL); }
    #else
    #define FB_FAULTS 0
    static inline void fb_fault(uint64_t *left) { (void)left; }
    #endif
    """
    uint64_t load64 "fb_load64"(const uint64_t* p)
    uint32_t load32 "fb_load32"(const uint32_t* p)
    void store64 "fb_store64"(uint64_t* p, uint64_t v)
    void store32 "fb_store32"(uint32_t* p, uint32_t v)
    uint64_t add64 "fb_add64"(uint64_t* p, uint64_t v)
    uint64_t or64 "fb_or64"(uint64_t* p, uint64_t v)
    uint64_t and64 "fb_and64"(uint64_t* p, uint64_t v)
    uint64_t swap64 "fb_swap64"(uint64_t* p, uint64_t v)
    uint32_t swap32 "fb_swap32"(uint32_t* p, uint32_t v)
    void fence "fb_fence"()
    int floor_log2 "fb_log2"(uint32_t v)
    int lowest32 "fb_low32"(uint32_t v)
    int lowest64 "fb_low64"(uint64_t v)
    bint FAULTS "FB_FAULTS"
    void fault "fb_fault"(uint64_t* left)


cdef enum:
    LAYOUT_VERSION = 1
    PAGE = 4096
    UNIT = 16
    HEADER_UNITS = 6  # of a block: 96 bytes, and the smallest block there is
    FIRST_LEVELS = 32  # free lists: one row for each power of two of units,
    SECOND_LEVELS = 16  # each divided in sixteen
    BUCKET_WORDS = 8
    PIN_WAYS = 8
    FILL_KEY = 424  # bytes of a claimed key kept in its slot; longer ones are told apart by their 128-bit hash as well
    NO_FILL = 0xFFFFFFFF
    HOT = 3  # where the hit counter stops

cdef enum:  # a block's state
    FREE = 0
    FILLING = 1
    LIVE = 2
    DOOMED = 3
    END = 4

cdef enum:  # where a block is queued
    SMALL = 0
    MAIN = 1
    LOOSE = 2
    NOWHERE = 3

cdef enum:  # how a body lies in its block
    PLAIN = 0
    LZ4 = 1
    PROMOTED = 2  # plain again, because it was hot

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
    uint32_t buckets  # in a shard's index: a power of two
    uint32_t ghosts  # words in a shard's ghost table: a power of two
    uint32_t arena_units
    uint64_t at_workers
    uint64_t worker_stride
    uint64_t at_fills
    uint64_t at_shards
    uint64_t shard_stride
    uint64_t in_shard_ghosts
    uint64_t in_shard_arena
    uint64_t apart[8]  # what stands before this never changes, and a digest of it guards a kept store
    uint64_t generation  # the last one given out
    uint64_t epoch  # how often everything was purged


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
    uint64_t epoch
    uint32_t next  # in its name's bucket: slot number + 1
    uint32_t tainted  # purged while under way: not to be published
    uint32_t key_length
    uint32_t next_free
    char key[424]


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
    uint64_t resets
    uint64_t free_units
    uint64_t promoted_units
    uint64_t plain_bytes  # of live bodies, as their readers see them
    uint64_t stored_bytes  # of live bodies, as they lie here
    uint64_t compressed  # live objects that are held as lz4
    uint64_t evicted_small
    uint64_t evicted_main
    uint64_t evicted_room  # for a large neighbour's sake, or because their buckets were full
    uint64_t promotions
    uint64_t ghost_hits
    uint32_t ghost_sequence
    uint32_t unused
    QueueEnds queues[3]
    uint32_t first_map
    uint32_t second_map[32]
    uint32_t free_lists[512]


cdef struct Block:
    uint32_t units
    uint32_t before  # units of the block before this one, 0 for the first
    uint32_t seal  # tells an allocated block's start from any other place
    uint32_t next  # towards the tail: younger to older
    uint32_t previous
    uint32_t fill  # the slot that fills it, or NO_FILL
    uint64_t hash
    uint64_t generation
    int64_t born_ms
    int64_t fresh_ms
    uint32_t swr_s
    uint32_t sie_s
    uint64_t length  # of the body, for its readers
    uint32_t stored  # of the body as it lies here, when that is lz4
    uint32_t head_length
    uint32_t flags
    uint16_t key_length
    uint16_t status
    uint8_t state
    uint8_t hits  # 0 to 3; all that a hit writes
    uint8_t queue
    uint8_t codec
    uint8_t held  # a fill slot in use refers to it
    uint8_t owner  # the worker that fills it
    uint16_t unused


cdef struct Map:
    char* base  # where this process sees the mapping
    Header* header
    FillTable* fills
    uint32_t worker  # the area that this process writes
    int bells[64]  # the eventfd of every worker area
    uint64_t fault  # fault points left until this process kills itself; 0: never


cdef inline void step(Map* m) noexcept nogil:
    """A fault point: where a build with FLYBY_FAULTS can be made to die, between any two steps. Else nothing."""
    fault(&m.fault)


cdef inline Worker* worker_at(Map* m, uint32_t number) noexcept nogil:
    return <Worker*>(m.base + m.header.at_workers + number * m.header.worker_stride)


cdef inline uint64_t* pending_at(Map* m, uint32_t number) noexcept nogil:
    return <uint64_t*>(m.base + m.header.at_workers + number * m.header.worker_stride + 256)


cdef inline uint64_t* pins_at(Map* m, uint32_t number) noexcept nogil:
    # The words of pending fills are padded to whole cache lines.
    cdef uint64_t words = (m.header.fill_slots // 64 + 7) // 8 * 8
    return <uint64_t*>(m.base + m.header.at_workers + number * m.header.worker_stride + 256 + words * 8)


cdef inline uint32_t* fill_buckets(Map* m) noexcept nogil:
    return <uint32_t*>(m.base + m.header.at_fills + 128)


cdef inline FillSlot* slot_at(Map* m, uint32_t number) noexcept nogil:
    cdef char* slots = m.base + m.header.at_fills + 128 + m.header.fill_buckets * 4
    return <FillSlot*>(slots + number * <uint64_t>sizeof(FillSlot))


cdef inline Shard* shard_at(Map* m, uint32_t number) noexcept nogil:
    return <Shard*>(m.base + m.header.at_shards + number * m.header.shard_stride)


cdef inline Shard* shard_of(Map* m, uint64_t hash) noexcept nogil:
    return shard_at(m, <uint32_t>(hash >> 32) & (m.header.shards - 1))


cdef inline uint64_t* index_of(Map* m, Shard* s) noexcept nogil:
    return <uint64_t*>(<char*>s + PAGE)


cdef inline uint64_t* ghosts_of(Map* m, Shard* s) noexcept nogil:
    return <uint64_t*>(<char*>s + m.header.in_shard_ghosts)


cdef inline char* arena_of(Map* m, Shard* s) noexcept nogil:
    return <char*>s + m.header.in_shard_arena


cdef inline Block* block_at(Map* m, Shard* s, uint32_t place) noexcept nogil:
    return <Block*>(<char*>s + m.header.in_shard_arena + <uint64_t>place * UNIT)


cdef inline uint32_t place_of(Map* m, Shard* s, Block* b) noexcept nogil:
    return <uint32_t>((<char*>b - (<char*>s + m.header.in_shard_arena)) // UNIT)


cdef inline uint64_t unit_of(Map* m, Block* b) noexcept nogil:
    return <uint64_t>(<char*>b - m.base) // UNIT


cdef inline Block* block_of(Map* m, uint64_t unit) noexcept nogil:
    return <Block*>(m.base + unit * UNIT)


cdef inline Shard* shard_holding(Map* m, Block* b) noexcept nogil:
    return shard_at(m, <uint32_t>((<char*>b - m.base - m.header.at_shards) // m.header.shard_stride))


cdef inline char* key_of(Block* b) noexcept nogil:
    return <char*>b + HEADER_UNITS * UNIT


cdef inline char* head_of(Block* b) noexcept nogil:
    return <char*>b + HEADER_UNITS * UNIT + b.key_length


cdef inline char* body_of(Block* b) noexcept nogil:
    return <char*>b + HEADER_UNITS * UNIT + b.key_length + b.head_length


cdef inline uint64_t room_of(Block* b) noexcept nogil:
    """Bytes of body that fit in a block."""
    return <uint64_t>b.units * UNIT - HEADER_UNITS * UNIT - b.key_length - b.head_length


cdef inline uint64_t stored_of(Block* b) noexcept nogil:
    return b.stored if b.codec == LZ4 else b.length
