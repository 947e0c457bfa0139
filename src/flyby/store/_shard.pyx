# cython: language_level=3
"""One shard: how objects are found, published, and go.

`shard_lookup` takes no lock: word, pin, word again, then the whole key. Everything else runs under the shard's lock,
with `dirty` set while the shard is between two sound states; who takes the lock and finds it dirty makes the shard
anew from what its blocks tell (`_rebuild`).

Replacing an object is one store to its word, so that no reader ever finds a gap between the old and the new one.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flyby.store._arena cimport arena_after, arena_cede, arena_first, arena_format, arena_give, arena_trim
from flyby.store._candidates cimport improvable, propose
from flyby.store._guard cimport PATIENCE, guard_format, guard_give, guard_take, pin, pinned, unpin
from flyby.store._hash cimport Digest
from flyby.store._index cimport (
    bucket_of, ghost_known, index_clear, index_find, index_loaded, index_room, index_segment, index_widen, index_word,
    same_key, word_for,
)
from flyby.store._layout cimport (
    APART, BUCKET_WORDS, DOOMED, FILLING, FREE, GONE_PURGED, GONE_REPLACED, GONE_ROOM, HEADER_UNITS, LIVE, LOOSE, LZ4,
    MAIN, PLAIN, PROMOTED, SEGMENT_BUCKETS, SEGMENT_UNITS, SMALL, UNIT, Block, FillSlot, Map, Shard, Tag, add64,
    block_at, bucket_at, ends_of, fence, fresh_of, holder_of, key_of, load32, load64, place_of, room_of, set_fresh,
    shard_at, shard_holding, shard_of, step, store32, store64, swap32, tail_of, unit_of,
)
from flyby.store._purged cimport freshness_of, outdated, purged_since
from flyby.store._queues cimport count_in, count_out, ends_at, queue_drop, queue_push
from flyby.store._rebuild cimport filled, reset_sums, shard_rebuild

cdef enum:
    WIDENINGS = 4  # buckets that one new object adds at most
    CRAMPED = 64  # objects that come before an index that could not grow tries it again


cdef uint64_t units_for(uint64_t key_length, uint64_t head_length, uint64_t body_length, uint32_t tags) noexcept nogil:
    return HEADER_UNITS + (tags * sizeof(Tag) + key_length + head_length + body_length + UNIT - 1) // UNIT


cdef int shard_format(Map* m, uint32_t number) noexcept nogil:
    cdef Shard* s = shard_at(m, number)
    s.number = number
    index_segment(m, s)
    index_clear(m, s)
    reset_sums(s)
    s.since_lap = m.header.arena_units  # so that the first lap need not be earned
    arena_format(m, s)
    return guard_format(&s.lock)


cdef bint shard_lock(Map* m, Shard* s) noexcept nogil:
    return taken(m, s, False)


cdef bint shard_insist(Map* m, Shard* s) noexcept nogil:
    """For what must be done."""
    cdef int turn
    for turn in range(PATIENCE):
        if taken(m, s, True):
            return True
    return False


cdef bint taken(Map* m, Shard* s, bint insist) noexcept nogil:
    if not guard_take(m, &s.lock, s.number, insist):
        return False
    if load32(&s.dirty):
        # Its last owner died between two sound states.
        if not shard_rebuild(m, s, True):
            guard_give(&s.lock)
            return False
        s.rebuilds += 1
    if load64(&s.epoch) != load64(&m.header.cleared) and not emptied(m, s):
        guard_give(&s.lock)
        return False
    return True


cdef bint emptied(Map* m, Shard* s) noexcept nogil:
    """Everything was purged since this shard was last written to: readers know that already."""
    cdef uint64_t cleared = load64(&m.header.cleared)
    cdef uint64_t objects = s.queues[SMALL].count + s.queues[MAIN].count
    if not shard_rebuild(m, s, False):
        return False
    s.gone[GONE_PURGED] += objects
    store64(&s.epoch, cleared)
    step(m)
    return True


cdef void shard_unlock(Map* m, Shard* s) noexcept nogil:
    guard_give(&s.lock)


cdef Block* shard_lookup(Map* m, Digest digest, const char* key, uint32_t length) noexcept nogil:
    """The live block of that key, pinned for this worker; NULL when there is none."""
    cdef Shard* s = shard_of(m, digest.low)
    cdef uint64_t tag = digest.low >> 48
    cdef uint64_t word
    cdef uint64_t* words
    cdef Block* b
    cdef uint32_t moves
    cdef int again, side, number, turn
    if load64(&s.epoch) != load64(&m.header.cleared):
        return NULL
    for again in range(4):
        moves = load32(&s.moves)
        for side in range(2):
            words = bucket_at(m, s, bucket_of(digest.low, side, load32(&s.buckets)))
            for number in range(BUCKET_WORDS):
                # A word that keeps changing belongs to keys that come and go; four looks are enough.
                for turn in range(4):
                    word = load64(&words[number])
                    if not word or word >> 48 != tag:
                        break
                    b = block_at(m, s, <uint32_t>word)
                    if not pin(m, unit_of(m, b)):
                        return NULL
                    if load64(&words[number]) == word:
                        if same_key(b, digest.low, key, length):
                            return b
                        unpin(m, unit_of(m, b))
                        break
                    unpin(m, unit_of(m, b))
        if load32(&s.moves) == moves:
            break
    return NULL


cdef Block* shard_hold(Map* m, uint64_t hash, uint64_t unit) noexcept nogil:
    """The block there, pinned for this worker, if the index names it for an object of that hash; else NULL."""
    cdef Shard* s = shard_of(m, hash)
    cdef uint64_t word
    cdef uint64_t* words
    cdef Block* b
    cdef int side, number
    if load64(&s.epoch) != load64(&m.header.cleared):
        return NULL
    for side in range(2):
        words = bucket_at(m, s, bucket_of(hash, side, load32(&s.buckets)))
        for number in range(BUCKET_WORDS):
            word = load64(&words[number])
            if not word or word >> 48 != hash >> 48:
                continue
            b = block_at(m, s, <uint32_t>word)
            if unit_of(m, b) != unit or not pin(m, unit):
                continue
            if load64(&words[number]) == word and b.hash == hash:
                return b
            unpin(m, unit)
    return NULL


# ---- objects come and go ---------------------------------------------------------------------------------------------


cdef void retire(Map* m, Shard* s, Block* b, int reason) noexcept nogil:
    """A DOOMED block that the index names no more: free it, or keep it until its last reader has gone."""
    cdef Block* holder = holder_of(b)
    count_out(m, s, b)
    s.gone[reason] += 1
    queue_drop(m, s, b)
    step(m)
    if holder != b and holder.previous == place_of(m, s, b):
        holder.previous = 0
    fence()
    if b.held or pinned(m, unit_of(m, b)):
        queue_push(m, s, b, LOOSE)
    else:
        let_go(m, s, b)


cdef void let_go(Map* m, Shard* s, Block* b) noexcept nogil:
    """Free a block, and with the last one that refers to it the block that its body lies in."""
    cdef Block* holder = holder_of(b)
    arena_give(m, s, b)
    if holder.state != APART:
        return
    holder.next -= 1
    step(m)
    if not holder.next:
        s.apart_units -= holder.units
        holder.state = DOOMED
        step(m)
        if holder.held or pinned(m, unit_of(m, holder)):
            queue_push(m, s, holder, LOOSE)
        else:
            arena_give(m, s, holder)


cdef bint evictable(Map* m, Block* b) noexcept nogil:
    """Whether its memory can be had now: of an object, or of the body of one."""
    cdef Block* owner = b
    if b.state == APART:
        owner = block_at(m, shard_holding(m, b), b.previous)
        if b.next != 1 or b.held or pinned(m, unit_of(m, b)):
            return False
    return owner.state == LIVE and not owner.held and not pinned(m, unit_of(m, owner))


cdef void shard_clear(Map* m, Shard* s, Block* b) noexcept nogil:
    """Take out the evictable object to which the memory of b belongs; nothing, when that is free."""
    if b.state == APART:
        b = block_at(m, s, b.previous)
    if b.state == LIVE:
        shard_remove(m, s, b, GONE_ROOM)


cdef void shard_remove(Map* m, Shard* s, Block* b, int reason) noexcept nogil:
    """Take a live block out; the caller has set `dirty`."""
    cdef uint64_t* word = index_word(m, s, b)
    b.state = DOOMED  # first, so that a rebuild does not bring back what was removed
    step(m)
    store64(word, 0)
    step(m)
    retire(m, s, b, reason)


cdef void widen(Map* m, Shard* s) noexcept nogil:
    """Let the index grow with the objects, if need be at the cost of those at the arena's end."""
    cdef int turn
    for turn in range(WIDENINGS):
        if not index_loaded(s):
            return
        if s.buckets == s.segments * SEGMENT_BUCKETS:
            if s.cramped:
                s.cramped -= 1
                return
            if not lengthen(m, s):
                s.cramped = CRAMPED
                return
        index_widen(m, s)


cdef bint lengthen(Map* m, Shard* s) noexcept nogil:
    """One segment more, or a sixteenth of what there is when objects have to give way: finding them takes a walk."""
    cdef uint32_t pieces = 1 + s.segments // 16
    cdef uint32_t wanted = pieces * SEGMENT_UNITS + HEADER_UNITS
    cdef uint32_t turn
    cdef Block* b
    cdef Block* first
    cdef Block* end = block_at(m, s, s.end)
    cdef Block* after
    if arena_cede(m, s):
        index_segment(m, s)
        return True
    if s.end // 2 < wanted:
        return False
    first = arena_first(m, s)
    while place_of(m, s, first) + first.units <= s.end - wanted:
        first = arena_after(first)
    b = first
    while b != end:
        if b.state != FREE and not evictable(m, b):
            return False
        b = arena_after(b)
    b = first
    while b != end:
        after = arena_after(b)  # stays legible when b has become a part of the hole
        shard_clear(m, s, b)
        b = after
    for turn in range(pieces):
        if not arena_cede(m, s):
            break
        index_segment(m, s)
    return s.buckets < s.segments * SEGMENT_BUCKETS


cdef uint64_t* word_room(Map* m, Shard* s, uint64_t hash) noexcept nogil:
    """A place for the key's word; where there is none, the least wanted object of its buckets makes room."""
    cdef uint64_t* at = index_room(m, s, hash)
    cdef uint64_t* words
    cdef Block* b
    cdef Block* victim = NULL
    cdef int side, number
    if at != NULL:
        return at
    for side in range(2):
        words = bucket_at(m, s, bucket_of(hash, side, s.buckets))
        for number in range(BUCKET_WORDS):
            b = block_at(m, s, <uint32_t>words[number])
            if evictable(m, b) and (victim == NULL or b.hits < victim.hits):
                victim = b
                at = &words[number]
    if victim != NULL:
        shard_remove(m, s, victim, GONE_ROOM)
    return at


cdef bint shard_publish(
    Map* m, Block* b, uint64_t stored, uint64_t replaced, uint64_t since, int64_t vacant_ms, FillSlot* slot
) noexcept nogil:
    """Make a filled block visible: see `publish`."""
    return publish(m, b, stored, replaced, since, vacant_ms, slot, NULL)


cdef bint shard_renew(Map* m, Block* b, Block* holder, uint64_t replaced) noexcept nogil:
    """The same for a block without a body of its own: that stays where it is, if it is still the object's."""
    return publish(m, b, sizeof(int64_t), replaced, 0, ALWAYS, NULL, holder)


cdef bint publish(
    Map* m, Block* b, uint64_t stored, uint64_t replaced, uint64_t since, int64_t vacant_ms, FillSlot* slot,
    Block* holder,
) noexcept nogil:
    """Make a filled block, whose body takes `stored` bytes, visible in place of the object of that key.

    With `replaced`, only if that is the generation of the object there: what was purged or outdated has another one.
    Else not if it was purged since it was asked for, when the count of purges was `since`: purges are noted before they
    come for this lock. With `vacant_ms`, only if there is no object that is fresh at that time.
    """
    cdef Shard* s = shard_holding(m, b)
    cdef uint64_t* at
    cdef Block* old = NULL
    cdef int64_t away
    cdef int queue
    if not shard_lock(m, s):
        return False
    if not replaced and (outdated(m, b, since) or (slot != NULL and purged_since(m, slot.stem, since))):
        shard_unlock(m, s)
        return False
    at = index_find(m, s, b.hash, key_of(b), b.key_length)
    if at != NULL:
        old = block_at(m, s, <uint32_t>at[0])
    if replaced and (old == NULL or old.generation != replaced or (holder != NULL and holder_of(old) != holder)):
        shard_unlock(m, s)
        return False
    if vacant_ms != ALWAYS and old != NULL and freshness_of(m, old) > vacant_ms:
        shard_unlock(m, s)
        return False
    swap32(&s.dirty, 1)
    step(m)
    if at == NULL:
        widen(m, s)
        at = word_room(m, s, b.hash)
    if at != NULL:
        queue_drop(m, s, b)
        step(m)
        arena_trim(m, s, b, <uint32_t>units_for(b.key_length, b.head_length, stored, b.tags))
        b.slack = room_of(b) - stored
        b.hits = 0  # it told who filled it
        if holder != NULL:
            away = (<char*>holder - <char*>b) // UNIT
            memcpy(tail_of(b), &away, sizeof(away))
            b.apart = 1
        queue = MAIN if ghost_known(m, s, b.hash) else SMALL
        if old != NULL:
            queue = old.queue
            b.hits = old.hits
            s.promotions += b.codec == PROMOTED and old.codec == LZ4
        elif queue == MAIN:
            s.ghost_hits += 1
        b.state = LIVE
        step(m)
        store64(at, word_for(m, s, b))
        step(m)
        if holder != NULL:
            take_over(m, s, b, old, holder)
        if old != NULL and old != holder:
            old.state = DOOMED
            step(m)
            retire(m, s, old, GONE_REPLACED)
            step(m)
        queue_push(m, s, b, queue)
        count_in(m, s, b)
        step(m)
        if b.codec == PLAIN and (queue == MAIN or b.hits) and improvable(m, b):
            propose(m, b)  # it was asked for before
    store32(&s.dirty, 0)
    step(m)
    shard_unlock(m, s)
    return at != NULL


cdef void shard_outdate(Map* m, Shard* s, Block* b, int64_t now_ms) noexcept nogil:
    """Make a live block stale from then on. A refresh that began before must not make it fresh again."""
    if fresh_of(b) > now_ms:
        set_fresh(b, now_ms)
        ends_at(s, ends_of(b))
    fence()
    b.generation = add64(&m.header.generation, 1) + 1


cdef void take_over(Map* m, Shard* s, Block* b, Block* old, Block* holder) noexcept nogil:
    """The object of b has its body in `holder`, which may be the whole of what it replaces."""
    if holder == old:
        count_out(m, s, old)
        s.gone[GONE_REPLACED] += 1
        queue_drop(m, s, old)
        old.next = 0
        old.state = APART
        step(m)
        s.apart_units += old.units
    holder.next += 1
    holder.previous = place_of(m, s, b)
    step(m)


cdef void shard_reap(Map* m, Shard* s, uint32_t limit) noexcept nogil:
    """Free loose blocks that nobody reads any more; at most `limit` are looked at, the oldest first."""
    cdef Block* b
    if limit > s.queues[LOOSE].count:
        limit = s.queues[LOOSE].count
    while limit:
        limit -= 1
        b = block_at(m, s, s.queues[LOOSE].tail)
        queue_drop(m, s, b)
        step(m)
        if b.state == DOOMED and not b.held and not pinned(m, unit_of(m, b)):
            let_go(m, s, b)
        else:
            queue_push(m, s, b, LOOSE)


cdef bint shard_sweep(Map* m, Shard* s, uint32_t worker) noexcept nogil:
    """Give up what a dead worker was filling, but for what fetches still refer to, and free what it read."""
    cdef uint32_t place
    cdef Block* b
    if not shard_insist(m, s):
        return False
    swap32(&s.dirty, 1)
    step(m)
    place = s.queues[LOOSE].head
    while place:
        b = block_at(m, s, place)
        if b.state == FILLING and b.hits == worker and not filled(m, b):
            b.held = 0
            b.state = DOOMED
            step(m)
        place = b.next
    shard_reap(m, s, s.queues[LOOSE].count)
    store32(&s.dirty, 0)
    step(m)
    shard_unlock(m, s)
    return True
