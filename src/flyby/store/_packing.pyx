# cython: language_level=3
"""Objects take another form, a slice at a time: the work of a process that has nothing else to do.

    PLAIN ──pack_slice()──▶ LZ4 ──unpack_slice()──▶ PROMOTED ──(eviction: hot no more)──▶ PLAIN
      ├── it does not pay ──▶ KEPT                     ▲
      └── hot by now ──────────────────────────────────┘

A slice is one piece of 64 KiB at most. The new form grows in a block of its own, pinned and loose like one that a fetch
fills, and takes the object's place when it is whole; if the object has changed meanwhile (replaced, refreshed, purged)
its generation is another, and the new form is dropped. A death on the way leaves the object as it was.

The room for a packed body of several pieces is estimated from the first one, an eighth more; a body that needs more has
the block grow. All that is beyond is cut off at the end.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from flyby.errors import StoreError

from flyby.store._candidates cimport CANDIDATES, improvable, promotable
from flyby.store._entry cimport copied
from flyby.store._eviction cimport grow
from flyby.store._guard cimport unpin
from flyby.store._layout cimport (
    DOOMED, HOT, KEPT, LIVE, LZ4, PLAIN, PROMOTED, Block, Candidate, Map, Shard, block_of, body_of, head_of, holder_of,
    room_of, shard_holding, step, store32, stored_of, swap32, unit_of,
)
from flyby.store._pack cimport PIECE, pack_piece, piece_to, promising, unpack
from flyby.store._shard cimport ALWAYS, shard_hold, shard_lock, shard_publish, shard_unlock, units_for


cdef bint relabel(Map* m, Block* b, uint64_t generation, int codec) noexcept nogil:
    """Call the plain form of a pinned object KEPT or PROMOTED, if it is still what it was."""
    cdef Shard* s = shard_holding(m, b)
    cdef bint found
    if not shard_lock(m, s):
        return False
    found = b.state == LIVE and b.generation == generation and b.codec == PLAIN
    if found:
        swap32(&s.dirty, 1)
        step(m)
        b.codec = codec
        step(m)
        if codec == PROMOTED:
            s.promoted_units += holder_of(b).units
            s.promotions += 1
        store32(&s.dirty, 0)
        step(m)
    shard_unlock(m, s)
    return found


cdef Packer packer_of(Attachment attachment):
    cdef Packer packer = Packer.__new__(Packer)
    packer._attachment = attachment
    packer._serial = attachment.serial
    return packer


@cython.final
cdef class Packer:
    def __init__(self):
        raise TypeError("a store has its packer")

    cdef bint busy(self) noexcept:
        """Whether there is work; what was begun before a fork or a close is none."""
        if self._serial != self._attachment.serial:
            self._serial = self._attachment.serial
            self._source = NULL
            self._target = NULL
        return self._attachment.usable and (self._source != NULL or self._attachment.m.candidate_count > 0)

    cdef bint step(self) except -1:
        """One slice of work; whether there is more."""
        if not self.busy():
            return False
        try:
            if self._source != NULL or self.begin():
                if self._source.codec == LZ4:
                    self.unpack_slice()
                else:
                    self.pack_slice()
        except Exception:
            self.drop()
            raise
        return self.busy()

    cdef bint begin(self) noexcept:
        """Take the next candidate that is still there; False when none is."""
        cdef Map* m = &self._attachment.m
        cdef Candidate* candidate
        cdef Block* b
        while m.candidate_count:
            candidate = &m.candidates[m.first_candidate]
            m.first_candidate = (m.first_candidate + 1) % CANDIDATES
            m.candidate_count -= 1
            b = shard_hold(m, candidate.hash, candidate.unit)
            if b == NULL:
                continue
            if b.generation == candidate.generation and improvable(m, b):
                if b.codec == LZ4 or b.hits < HOT or not promotable(m, b):
                    self._source = b
                    self._done = 0
                    self._stored = 0
                    self._cursor.number = 0
                    self._cursor.at = 0
                    return True
                relabel(m, b, b.generation, PROMOTED)
            unpin(m, unit_of(m, b))
        return False

    cdef int pack_slice(self) except -1:
        cdef Map* m = &self._attachment.m
        cdef Block* b = self._source
        cdef uint64_t length = min(b.length - self._done, <uint64_t>PIECE)
        cdef uint64_t most = b.length - b.length // 8
        cdef bytes size, packed
        cdef list pieces = []
        cdef uint64_t taken
        if self._done or promising(body_of(b), b.length):
            pack_piece(pieces, body_of(b) + self._done, <uint32_t>length, m.packing)
            size, packed = pieces
            taken = len(size) + len(packed)
            if self._target == NULL and taken <= length - length // 8:
                self._target = copied(
                    self._attachment, b, head_of(b), b.head_length,
                    taken if length == b.length else min(most, b.length * taken // length * 9 // 8), NULL, True,
                )
                if self._target == NULL:
                    self.drop()
                    return 0
                self._target.codec = LZ4
        if self._target == NULL or self._stored + taken > most:
            relabel(m, b, b.generation, KEPT)
            self.drop()
        elif not self.room_for(self._stored + taken):
            self.drop()
        else:
            memcpy(body_of(self._target) + self._stored, <const char*>size, len(size))
            memcpy(body_of(self._target) + self._stored + len(size), <const char*>packed, len(packed))
            self._stored += taken
            self._done += length
            if self._done == b.length:
                self.publish(self._stored)
        return 0

    cdef bint room_for(self, uint64_t size) noexcept:
        """Make the new form's block larger, when it was estimated too small."""
        cdef Block* b = self._target
        cdef uint64_t wanted = min(size + size // 8, b.length - b.length // 8)
        return size <= room_of(b) or grow(
            &self._attachment.m, b, units_for(b.key_length, b.head_length, wanted, b.tags), True
        )

    cdef int unpack_slice(self) except -1:
        cdef Map* m = &self._attachment.m
        cdef Block* b = self._source
        cdef uint64_t number = self._done // PIECE
        cdef uint64_t length = min(b.length - self._done, <uint64_t>PIECE)
        if self._target == NULL:
            self._target = copied(self._attachment, b, head_of(b), b.head_length, b.length, NULL, True)
            if self._target == NULL:
                self.drop()
                return 0
            self._target.codec = PROMOTED
        if not piece_to(body_of(b), stored_of(b), b.length, &self._cursor, number, body_of(self._target) + self._done):
            try:
                piece = unpack(body_of(b), stored_of(b), b.length, &self._cursor, number)
            except StoreError:  # its readers find out
                self.drop()
                return 0
            memcpy(body_of(self._target) + self._done, <const char*><bytes>piece, length)
        self._done += length
        if self._done == b.length:
            self.publish(b.length)
        return 0

    cdef void publish(self, uint64_t stored) noexcept:
        """The new form is whole: it takes the object's place, unless that has changed."""
        cdef Block* b = self._target
        if shard_publish(&self._attachment.m, b, stored, b.generation, 0, ALWAYS, NULL):
            unpin(&self._attachment.m, unit_of(&self._attachment.m, b))
            self._target = NULL
        self.drop()

    cdef void drop(self) noexcept:
        """Let go of both forms; a new one that is not published is of no use."""
        cdef Map* m = &self._attachment.m
        if self._target != NULL:
            self._target.state = DOOMED
            unpin(m, unit_of(m, self._target))
            self._target = NULL
        if self._source != NULL:
            unpin(m, unit_of(m, self._source))
            self._source = NULL
