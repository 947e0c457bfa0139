# cython: language_level=3
"""The table of fetches under way: who fetches what, how far it has come, and who is to hear of it.

A slot is claimed under a name. Its state only moves onward (EMPTY, HEAD, STREAMING, then COMPLETE or FAILED) and only
its owner moves it, or the sweeper once the owner is dead; a slot that has ended, or has become a window (`_window`),
answers to its name no more. It is
free again when its last holder has left. Until then the block that it fills is `held`, so that slow readers come to
its end.

Bells: whoever moves a slot sets its bit in the words of every other holder, and writes to a holder's eventfd unless
that is known to have been rung already. The holder reads the eventfd, takes `rung` back, and only then the bits:
nothing is missed. A ringer that dies between its two steps leaves a bell that nobody else would ring, so a sweep
rings everybody's.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from flyby.store._guard cimport PATIENCE, TABLE_LOCK, guard_give, guard_take
from flyby.store._hash cimport Digest
from flyby.store._layout cimport (
    DOOMED, FILL_COMPLETE, FILL_EMPTY, FILL_FAILED, FILL_KEY, FILL_UNUSED, FILLING, READ_BITS, REASON_LOST, Block,
    FillSlot, Map, and64, block_of, fence, fill_buckets, load32, load64, lowest64, or64, pending_at, read_word,
    reads_at, slot_at, step, store32, store64, swap32, worker_at,
)
from flyby.store._purged cimport outdated, purged_since, stem_name


cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd_write(int, uint64_t)


cdef void fills_format(Map* m) noexcept nogil:
    cdef uint32_t number
    for number in range(m.header.fill_slots):
        slot_at(m, number).state = FILL_UNUSED
    recover(m)


cdef bint fills_lock(Map* m) noexcept nogil:
    return taken(m, False)


cdef bint fills_insist(Map* m) noexcept nogil:
    """For what must be done."""
    cdef int turn
    for turn in range(PATIENCE):
        if taken(m, True):
            return True
    return False


cdef bint taken(Map* m, bint insist) noexcept nogil:
    if not guard_take(m, &m.fills.lock, TABLE_LOCK, insist):
        return False
    if load32(&m.fills.dirty):
        recover(m)
        m.fills.recoveries += 1
        store32(&m.fills.dirty, 0)
        step(m)
    return True


cdef void fills_unlock(Map* m) noexcept nogil:
    guard_give(&m.fills.lock)


cdef void recover(Map* m) noexcept nogil:
    """Derive the chains and the free slots from what each slot tells."""
    cdef uint32_t number
    cdef FillSlot* slot
    memset(fill_buckets(m), 0, m.header.fill_buckets * sizeof(uint32_t))
    m.fills.free_head = 0
    step(m)
    m.fills.used = 0
    for number in range(m.header.fill_slots - 1, -1, -1):
        slot = slot_at(m, number)
        if slot.state != FILL_UNUSED and slot.holders:
            link(m, slot, number)
            m.fills.used += 1
            step(m)
        else:
            vacate(m, slot)
            step(m)
            slot.next_free = m.fills.free_head
            m.fills.free_head = number + 1
            step(m)


cdef void link(Map* m, FillSlot* slot, uint32_t number) noexcept nogil:
    cdef uint32_t* bucket = &fill_buckets(m)[slot.hash0 & (m.header.fill_buckets - 1)]
    slot.next = bucket[0]
    bucket[0] = number + 1
    step(m)


cdef void drop_block(Map* m, uint64_t unit) noexcept nogil:
    """No slot refers to the block any more; what was being filled there is of no use."""
    cdef Block* b = block_of(m, unit)
    b.held = 0
    step(m)
    if b.state == FILLING:
        b.state = DOOMED
        step(m)


cdef void vacate(Map* m, FillSlot* slot) noexcept nogil:
    """Let go of the blocks; may be done twice."""
    if slot.object:
        drop_block(m, slot.object)
        store64(&slot.object, 0)
        step(m)
    if slot.ring:
        drop_block(m, slot.ring)
        store64(&slot.ring, 0)
        step(m)
    slot.holders = 0
    step(m)
    store32(&slot.state, FILL_UNUSED)


cdef void free_slot(Map* m, FillSlot* slot, uint32_t number) noexcept nogil:
    cdef uint32_t* link_in = &fill_buckets(m)[slot.hash0 & (m.header.fill_buckets - 1)]
    swap32(&m.fills.dirty, 1)
    step(m)
    vacate(m, slot)
    step(m)
    while link_in[0] and link_in[0] != number + 1:
        link_in = &slot_at(m, link_in[0] - 1).next
    if link_in[0]:
        link_in[0] = slot.next
        step(m)
    slot.next_free = m.fills.free_head
    m.fills.free_head = number + 1
    step(m)
    m.fills.used -= 1
    step(m)
    store32(&m.fills.dirty, 0)
    step(m)


cdef bint named(FillSlot* slot, const char* key, uint32_t length, Digest digest) noexcept nogil:
    cdef uint32_t compared = length if length < FILL_KEY else <uint32_t>FILL_KEY
    return (
        slot.hash0 == digest.low and slot.hash1 == digest.high and slot.key_length == length
        and memcmp(slot.key, key, compared) == 0
    )


cdef bint fill_outdated(Map* m, FillSlot* slot, Block* b) noexcept nogil:
    """Whether what is fetched there has been purged since that began, as far as is known: by its tags, once it is b."""
    return purged_since(m, slot.stem, slot.epoch) or (b != NULL and outdated(m, b, slot.epoch))


cdef int64_t find(Map* m, const char* key, uint32_t length, Digest digest) noexcept nogil:
    cdef uint32_t entry = fill_buckets(m)[digest.low & (m.header.fill_buckets - 1)]
    cdef FillSlot* slot
    while entry:
        slot = slot_at(m, entry - 1)
        if (
            named(slot, key, length, digest) and load32(&slot.state) < FILL_COMPLETE and not slot.ring
            and not fill_outdated(m, slot, block_of(m, slot.object) if slot.object else NULL)
        ):
            return entry - 1
        entry = slot.next
    return -1


cdef void enter(Map* m, uint32_t number) noexcept nogil:
    """This worker reads the slot, once more, and from its beginning."""
    cdef uint64_t* word = &reads_at(m, m.worker)[number]
    store64(word, read_word((word[0] >> READ_BITS) + 1, 0))
    step(m)
    or64(&slot_at(m, number).holders, <uint64_t>1 << m.worker)
    step(m)


cdef int64_t fills_claim(
    Map* m, const char* key, uint32_t length, Digest digest, uint64_t since, bint* owner
) noexcept nogil:
    """The slot of the fetch of that name, begun now when there was none; -1 when the table is full or busy.

    Its origin was, or is going to be, asked when the count of purges is `since`.
    """
    cdef int64_t number
    cdef FillSlot* slot
    if not fills_lock(m):
        return -1
    number = find(m, key, length, digest)
    owner[0] = number < 0
    if number >= 0:
        enter(m, <uint32_t>number)
    elif m.fills.free_head:
        number = m.fills.free_head - 1
        slot = slot_at(m, <uint32_t>number)
        swap32(&m.fills.dirty, 1)
        step(m)
        m.fills.free_head = slot.next_free
        step(m)
        slot.reason = REASON_LOST
        slot.owner = m.worker
        slot.serial += 1
        slot.hash0 = digest.low
        slot.hash1 = digest.high
        slot.object = 0
        slot.ring = 0
        slot.base = 0
        slot.floor = 0
        slot.starved = 0
        slot.available = 0
        slot.length = -1
        slot.epoch = since
        slot.stem = stem_name(m, key, length)
        slot.key_length = length
        memcpy(slot.key, key, length if length < FILL_KEY else <uint32_t>FILL_KEY)
        store64(&slot.holders, <uint64_t>1 << m.worker)
        step(m)
        store32(&slot.state, FILL_EMPTY)
        step(m)
        link(m, slot, <uint32_t>number)
        m.fills.used += 1
        store32(&m.fills.dirty, 0)
        step(m)
    fills_unlock(m)
    return number


cdef int64_t fills_join(Map* m, const char* key, uint32_t length, Digest digest) noexcept nogil:
    """The slot of the fetch of that name, if there is one; -1 when there is none, or the table is busy.

    Most who ask find nothing in the name's bucket, and take no lock: they came just before whoever claims it now.
    """
    cdef int64_t number
    if not load32(&fill_buckets(m)[digest.low & (m.header.fill_buckets - 1)]) or not fills_lock(m):
        return -1
    number = find(m, key, length, digest)
    if number >= 0:
        enter(m, <uint32_t>number)
    fills_unlock(m)
    return number


cdef bint fills_leave(Map* m, uint32_t number) noexcept nogil:
    """This worker holds the slot no more. False when the table was busy: to be tried again."""
    cdef FillSlot* slot = slot_at(m, number)
    if not fills_lock(m):
        return False
    and64(&slot.holders, ~(<uint64_t>1 << m.worker))
    step(m)
    if not slot.holders and slot.state != FILL_UNUSED:
        free_slot(m, slot, number)
    fills_unlock(m)
    return True


cdef bint fills_sweep(Map* m, uint32_t worker) noexcept nogil:
    """End what a dead worker was fetching, and leave what it was reading."""
    cdef uint64_t its = <uint64_t>1 << worker
    cdef uint32_t number
    cdef FillSlot* slot
    if not fills_insist(m):
        return False
    memset(reads_at(m, worker), 0, m.header.fill_slots * sizeof(uint64_t))
    for number in range(m.header.fill_slots):
        slot = slot_at(m, number)
        if slot.state == FILL_UNUSED:
            continue
        if and64(&slot.holders, ~its) & its and slot.owner != worker:
            # Its owner may have nobody left to fetch for, or room in its window.
            fills_ring(m, slot, True)
        if slot.owner == worker and slot.state < FILL_COMPLETE:
            # When all that was announced has come, the death came too late to do harm.
            if slot.length >= 0 and slot.available == <uint64_t>slot.length and (slot.object or slot.ring):
                store32(&slot.state, FILL_COMPLETE)
            else:
                slot.reason = REASON_LOST
                store32(&slot.state, FILL_FAILED)
            fills_ring(m, slot, True)
        if not slot.holders:
            free_slot(m, slot, number)
    fills_unlock(m)
    for number in range(m.header.workers):
        store32(&worker_at(m, number).rung, 1)
        eventfd_write(m.bells[number], 1)
    return True


cdef void fills_ring(Map* m, FillSlot* slot, bint ourselves) noexcept nogil:
    """Tell the other holders (and ourselves, when this is another process's business) that the slot has moved."""
    cdef uint64_t holders
    cdef uint64_t number = (<char*>slot - <char*>slot_at(m, 0)) // sizeof(FillSlot)
    fence()
    holders = load64(&slot.holders)
    if not ourselves:
        holders &= ~(<uint64_t>1 << m.worker)
    while holders:
        fills_call(m, number, <uint32_t>lowest64(holders))
        holders &= holders - 1


cdef void fills_call(Map* m, uint64_t number, uint32_t worker) noexcept nogil:
    """Tell one worker, which may be this one, that the slot of that number has moved."""
    or64(&pending_at(m, worker)[number // 64], <uint64_t>1 << (number % 64))
    step(m)
    if swap32(&worker_at(m, worker).rung, 1) == 0:
        eventfd_write(m.bells[worker], 1)
