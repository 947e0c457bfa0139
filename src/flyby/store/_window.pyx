# cython: language_level=3
"""A fetch that outgrew the store: its readers, in all processes, go on in a window of what came last.

    bytes of the body    0 ............ floor ............ base ................. available
                         │ nobody reads │ ── the object's block ── │ ─── the ring ─── │
                                                          byte n at (n - base) modulo the ring's size

The object's block stays as it is, since views of it are out; it is let go of when the floor has passed its end. The ring
is a block of its own. Its bytes are overwritten, so they are read as copies. A window is never stored, and nobody joins
it any more: `ring` is set under the fill table's lock, as joining is.

The *floor* is the first byte that can still be read. Each worker tells, in a word of `reads_at` that only it writes, how
many readers it has and the offset of its slowest; the owner takes the least of them before it overwrites anything.

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

from flyby.store._inflight cimport drop_block
from flyby.store._layout cimport (
    READ_BITS, Block, FillSlot, Map, block_of, body_of, fence, load64, reads_at, step, store32, store64, unit_of,
)


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
            lowest = min(lowest, word & ((<uint64_t>1 << READ_BITS) - 1))
    return max(lowest, slot.floor)


cdef void window_begin(Map* m, FillSlot* slot, Block* ring, uint64_t size) noexcept nogil:
    """What comes from now on goes to the ring. Under the fill table's lock."""
    ring.length = size
    ring.held = 1
    step(m)
    slot.base = slot.available
    slot.floor = 0
    step(m)
    store64(&slot.ring, unit_of(m, ring))
    step(m)


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
