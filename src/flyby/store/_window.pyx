# cython: language_level=3
"""A fetch that outgrew the store: its readers, in all processes, go on in a window of what came last.

    bytes of the body    0 ............ floor ............ base ................. available
                         │ nobody reads │ ── the object's block ── │ ─── the ring ─── │
                                                          byte n at (n - base) modulo the ring's size

The object's block stays as it is, since views of it are out; it is let go of when the floor has passed its end. The
ring is a block of its own. Its bytes are overwritten, so they are read as copies. A window is never stored, and nobody
joins it any more: `ring` is set under the fill table's lock, as joining is.

The *floor* is the first byte that can still be read. Each worker tells, in a word of `reads_at` that only it writes,
how many readers it has and the offset of its slowest; the owner takes the least of them before it overwrites anything.

    reader   stores its word │ fence │ looks whether the owner is `starved`, and rings its bell
    owner    stores `starved` │ fence │ looks at the words once more

so one of the two sees the other. A reader copies, and then looks whether the floor has passed what it copied: the owner
raises the floor first, and overwrites after a fence. That matters when the owner lifts the floor over readers that hold
it back (`window_cut`); they are `lost`.

A worker that dies leaves its word; the sweep clears it and rings the owner.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from flyby.store._attachment cimport Attachment
from flyby.store._entry cimport copied
from flyby.store._guard cimport unpin
from flyby.store._inflight cimport drop_block, fills_call, fills_lock, fills_unlock
from flyby.store._layout cimport (
    DOOMED, FILL_COMPLETE, READ_BITS, Block, FillSlot, Map, block_of, body_of, fence, head_of, load32, load64,
    read_word, reads_at, slot_at, step, store32, store64, swap32, unit_of,
)
from flyby.store._tags cimport Labels

cdef enum:
    RING = 262144  # bytes of a window
    LEAST_RING = 16384  # where there is no room for more

cdef uint64_t OFFSET = (<uint64_t>1 << READ_BITS) - 1


cdef void reader_enter(Attachment attachment, uint32_t number, Reader* reader) noexcept:
    cdef Reader** first = <Reader**>&attachment._readers[number]
    reader.next = first[0]
    if reader.next != NULL:
        reader.next.previous = reader
    first[0] = reader
    reader.listed = True
    if slot_at(&attachment.m, number).ring:
        reader.passed = slot_at(&attachment.m, number).floor
    readers_report(attachment, number)


cdef void reader_leave(Attachment attachment, uint32_t number, Reader* reader, bint tell) noexcept:
    """Without `tell` the slot is not ours any more."""
    if not reader.listed:
        return
    reader.listed = False
    if reader.next != NULL:
        reader.next.previous = reader.previous
    if reader.previous != NULL:
        reader.previous.next = reader.next
    else:
        attachment._readers[number] = reader.next
    if tell:
        readers_report(attachment, number)


cdef void reader_pass(Attachment attachment, uint32_t number, Reader* reader, uint64_t offset) noexcept:
    """The reader has done with what lies before `offset`. In a window that is told at once."""
    cdef Map* m = &attachment.m
    cdef uint64_t before = reader.passed
    if offset <= before or not reader.listed:
        return
    reader.passed = offset
    if slot_at(m, number).ring and before <= reads_at(m, m.worker)[number] & OFFSET:
        readers_report(attachment, number)


cdef void readers_report(Attachment attachment, uint32_t number) noexcept:
    """Tell how many of this process read the slot, and where the slowest of them is. Its owner hears what it waits for.

    The owner is told through its bell, in its own process as well: it is not called while a reader reads.
    """
    cdef Map* m = &attachment.m
    cdef FillSlot* slot = slot_at(m, number)
    cdef uint64_t* word = &reads_at(m, m.worker)[number]
    cdef uint64_t before = word[0], count = 0, lowest = OFFSET
    cdef Reader* reader = <Reader*>attachment._readers[number]
    while reader != NULL:
        count += 1
        lowest = min(lowest, reader.passed)
        reader = reader.next
    store64(word, read_word(count, lowest) if count else 0)
    fence()
    step(m)
    if slot.ring and load32(&slot.starved) and swap32(&slot.starved, 0):
        fills_call(m, number, slot.owner)
    elif before and not count and load32(&slot.state) < FILL_COMPLETE:
        fills_call(m, number, slot.owner)


cdef uint64_t readers_of(Map* m, uint32_t number) noexcept nogil:
    """How many read the slot, its owner not counted."""
    cdef uint64_t count = 0
    cdef uint32_t worker
    for worker in range(m.header.workers):
        count += load64(&reads_at(m, worker)[number]) >> READ_BITS
    return count


cdef uint64_t floor_of(Map* m, FillSlot* slot, uint32_t number) noexcept nogil:
    """Where the slowest reader is; where nobody reads, the end."""
    cdef uint64_t lowest = slot.available
    cdef uint64_t word
    cdef uint32_t worker
    for worker in range(m.header.workers):
        word = load64(&reads_at(m, worker)[number])
        if word >> READ_BITS:
            lowest = min(lowest, word & OFFSET)
    return max(lowest, slot.floor)


cdef bint window_begin(Attachment attachment, uint32_t number) noexcept:
    """What comes from now on goes to a ring. False, with nothing changed, when there is no room for one."""
    cdef Map* m = &attachment.m
    cdef FillSlot* slot = slot_at(m, number)
    cdef Block* b = block_of(m, slot.object)
    cdef Block* ring = NULL
    cdef Labels labels
    cdef uint64_t size = 4 * <uint64_t>RING
    labels.count = 0
    while ring == NULL and size > LEAST_RING:
        size //= 4
        ring = copied(attachment, b, head_of(b), 0, size, &labels, True)
    if ring == NULL:
        return False
    if not fills_lock(m):
        ring.state = DOOMED
        unpin(m, unit_of(m, ring))
        return False
    ring.length = size
    ring.held = 1
    step(m)
    slot.base = slot.available
    slot.floor = 0
    step(m)
    store64(&slot.ring, unit_of(m, ring))
    step(m)
    fills_unlock(m)
    unpin(m, unit_of(m, ring))
    readers_report(attachment, number)
    return True


cdef void raise_floor(Map* m, FillSlot* slot, uint64_t floor) noexcept nogil:
    cdef uint64_t unit = slot.object
    if floor > slot.floor:
        store64(&slot.floor, floor)
        fence()
        step(m)
    if unit and floor >= slot.base:
        # First the reference: a block that nobody refers to is given up by the sweep of the worker that filled it.
        store64(&slot.object, 0)
        step(m)
        drop_block(m, unit)


cdef uint64_t window_put(
    Map* m, FillSlot* slot, uint32_t number, const unsigned char* data, uint64_t length
) noexcept nogil:
    """Append what there is room for past the slowest reader; returns how many bytes that are.

    When those are not all, whoever makes room rings the owner.
    """
    cdef Block* ring = block_of(m, slot.ring)
    cdef uint64_t size = ring.length
    cdef uint64_t done = 0, floor, count, at, first
    while True:
        floor = floor_of(m, slot, number)
        raise_floor(m, slot, floor)
        count = min(length - done, size - (slot.available - max(floor, slot.base)))
        if count:
            at = (slot.available - slot.base) % size
            first = min(count, size - at)
            memcpy(body_of(ring) + at, data + done, first)
            memcpy(body_of(ring), data + done + first, count - first)
            step(m)
            store64(&slot.available, slot.available + count)
            step(m)
            done += count
        if done == length:
            return done
        store32(&slot.starved, 1)
        fence()
        step(m)
        if floor_of(m, slot, number) == floor:
            return done


cdef void window_cut(Map* m, FillSlot* slot) noexcept nogil:
    """Raise the floor to the end: readers that have not come so far are lost."""
    raise_floor(m, slot, slot.available)


cdef object window_read(Map* m, FillSlot* slot, uint64_t offset, uint64_t limit):
    """A copy of at most `limit` bytes from `offset` on, which is not below `base`; nothing when they are lost.

    Half of the ring at most: a reader tells that it has read only when it reads on, and it must not hold all of it.
    """
    cdef Block* ring = block_of(m, slot.ring)
    cdef uint64_t size = ring.length
    cdef uint64_t at = (offset - slot.base) % size
    cdef uint64_t count = min(limit, load64(&slot.available) - offset, size // 2)
    cdef uint64_t first = min(count, size - at)
    cdef bytes copy = PyBytes_FromStringAndSize(NULL, count)
    memcpy(PyBytes_AS_STRING(copy), body_of(ring) + at, first)
    memcpy(PyBytes_AS_STRING(copy) + first, body_of(ring), count - first)
    fence()
    return copy if load64(&slot.floor) <= offset else b""
