# cython: language_level=3
"""One process's handle on a fetch under way: the one place where the client's side and the upstream's meet.

    EMPTY ──open()──▶ HEAD ──write()──▶ STREAMING ──commit()──▶ COMPLETE
      │                  ├──outgrow()──▶ window ──finish()───────┘
      └──────────────────┴───────────────────┴──────abort()────▶ FAILED

The owner writes; everybody who claimed the same name reads, in this process and in others, while it grows. Only
`commit` makes the object visible to lookups. When the length is known the body has its place from the start; when it
is not, the block doubles, where it lies if the neighbour is free, else by moving. Pieces that readers hold pin the
block that they were cut from, so a move never pulls one away; the next piece comes from the new place.

A body that outgrows the store is not stored: `outgrow` makes the fill a *window* (`_window`), in which its readers go
on at the pace of the slowest. Every reader counts: the owner hears when the last one of a worker has left (`readers`).

Callbacks are called for every step: at once in the owner's process, from `Store.dispatch` in others.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flyby.store._attachment cimport Attachment
from flyby.store._entry cimport copied, lay_out, piece_of
from flyby.store._eviction cimport allocate, grow
from flyby.store._guard cimport pin, unpin
from flyby.store._hash cimport Digest
from flyby.store._inflight cimport fill_outdated
from flyby.store._layout cimport (
    DOOMED, FILL_COMPLETE, FILL_EMPTY, FILL_FAILED, FILL_HEAD, FILL_STREAMING, KEPT, LONGEST_HEAD, LONGEST_KEY,
    REASON_LOST, REASON_UNSTORABLE, Block, block_of, body_of, born_of, fence, fresh_of, head_of, key_of, load32, load64,
    room_of, set_times, sie_of, slot_at, step, store32, store64, swr_of, unit_of, worker_at,
)
from flyby.store._shard cimport ALWAYS, shard_publish, units_for
from flyby.store._tags cimport Labels
from flyby.store._window cimport (
    reader_enter, reader_leave, reader_pass, readers_of, window_begin, window_cut, window_put, window_read,
)

cdef enum:
    FIRST_ROOM = 16384  # for a body of unknown length


cdef Fill fill_of(Attachment attachment, uint32_t number, bint owner, uint64_t since):
    cdef Fill fill = Fill.__new__(Fill)
    fill._attachment = attachment
    fill._serial = attachment.serial
    fill._number = number
    fill._slot = slot_at(&attachment.m, number)
    fill._use = fill._slot.serial
    fill.owner = owner
    fill._since = since
    fill._callbacks = []
    attachment.enter(number)
    if not owner:
        reader_enter(attachment, number, &fill._reader)
    return fill


@cython.final
cdef class Fill:
    def __init__(self):
        raise TypeError("fills come from Store.claim")

    def __del__(self):
        self.release()

    def __repr__(self):
        names = ("EMPTY", "HEAD", "STREAMING", "COMPLETE", "FAILED")
        role = "released" if self._released else "owner" if self.owner else "reader"
        return f"<Fill {names[self.state]} {role}, {self.available} of {self.length} bytes>"

    cdef bint ours(self) noexcept:
        """Whether the slot is still the one that was claimed: not after a fork, a close or a sweep of this worker."""
        return not self._released and self._serial == self._attachment.serial and self._slot.serial == self._use

    # ---- what readers see --------------------------------------------------------------------------------------------

    @property
    def state(self):
        return load32(&self._slot.state) if self.ours() else <uint32_t>FILL_FAILED

    @property
    def reason(self):
        """Why it FAILED: 0 when the owner was lost, 1 when the store had no room, else what the owner told `abort`."""
        return self._slot.reason if self.ours() else <uint32_t>REASON_LOST

    @property
    def available(self):
        """How many bytes of the body can be read now."""
        return load64(&self._slot.available) if self.ours() else 0

    @property
    def length(self):
        """Of the body; -1 while it is not known."""
        return self._slot.length if self.ours() else -1

    @property
    def outdated(self):
        """Whether it was purged between its beginning and the claim of this handle, as far as can be told by now.

        A purge after the claim may count too, when there was another one before it.
        """
        cdef Block* b
        cdef bint found
        if not self.ours() or self._since == self._slot.epoch:
            return False
        b = self.hold()
        found = fill_outdated(&self._attachment.m, self._slot, b)
        if b != NULL:
            unpin(&self._attachment.m, unit_of(&self._attachment.m, b))
        return found

    @property
    def readers(self):
        """How many read it, in all processes; the owner is not counted."""
        return readers_of(&self._attachment.m, self._number) if self.ours() else 0

    @property
    def window(self):
        """Whether it has outgrown the store, and is read in a window."""
        return self.ours() and self._slot.ring != 0

    @property
    def has_head(self):
        """Whether the response's head has come, however the fetch has ended."""
        return self.ours() and load64(&self._slot.object) != 0

    @property
    def key(self):
        self.learn()
        return self._key

    @property
    def head(self):
        self.learn()
        return self._head

    @property
    def status(self):
        self.learn()
        return self._status

    @property
    def flags(self):
        self.learn()
        return self._flags

    @property
    def born_ms(self):
        self.learn()
        return self._born_ms

    @property
    def fresh_ms(self):
        self.learn()
        return self._fresh_ms

    @property
    def swr_s(self):
        self.learn()
        return self._swr_s

    @property
    def sie_s(self):
        self.learn()
        return self._sie_s

    cdef Block* hold(self) noexcept:
        """The block that is being filled, pinned; NULL when there is none, or no room for a pin."""
        cdef uint64_t unit
        while True:
            unit = load64(&self._slot.object)
            if not unit or not pin(&self._attachment.m, unit):
                return NULL
            if load64(&self._slot.object) == unit:
                return block_of(&self._attachment.m, unit)
            unpin(&self._attachment.m, unit)

    cdef int learn(self) except -1:
        cdef Block* b
        if self._known:
            return 0
        b = self.hold() if self.ours() and load32(&self._slot.state) != FILL_EMPTY else NULL
        if b == NULL:
            raise ValueError("the fill has no head yet")
        self._key = PyBytes_FromStringAndSize(key_of(b), b.key_length)
        self._head = PyBytes_FromStringAndSize(head_of(b), b.head_length)
        self._status = b.status
        self._flags = b.flags
        self._born_ms = born_of(b)
        self._fresh_ms = fresh_of(b)
        self._swr_s = swr_of(b)
        self._sie_s = sie_of(b)
        self._known = True
        unpin(&self._attachment.m, unit_of(&self._attachment.m, b))
        return 0

    def read(self, Py_ssize_t offset, Py_ssize_t limit):
        """At most `limit` bytes of what has come, from `offset` on; what lies before that, this reader has done with.

        The view is of the block, which stays while it lives; in a window's ring, of a copy.
        """
        cdef Py_ssize_t available, length, base
        cdef uint64_t unit
        cdef Block* b
        if offset < 0 or limit < 0:
            raise ValueError("offset and limit count forward")
        available = load64(&self._slot.available) if self.ours() else 0
        length = min(limit, available - offset)
        if self.ours() and offset <= available:
            reader_pass(self._attachment, self._number, &self._reader, offset)
        if length <= 0:
            return memoryview(b"")
        if load64(&self._slot.ring):  # read after `available`: what was there before it is in the object's block
            base = self._slot.base
            if offset >= base:
                return memoryview(window_read(&self._attachment.m, self._slot, offset, limit))
            length = min(length, base - offset)
        b = self.hold()
        if b != NULL:
            return PyMemoryView_FromObject(piece_of(self._attachment, b, body_of(b) + offset, length))
        # No room for a pin: a copy, taken again if the block moved meanwhile.
        while True:
            unit = load64(&self._slot.object)
            if not unit:
                return memoryview(b"")
            copy = PyBytes_FromStringAndSize(body_of(block_of(&self._attachment.m, unit)) + offset, length)
            fence()
            if load64(&self._slot.object) == unit:
                return memoryview(copy)

    def passed(self, Py_ssize_t offset):
        """This reader has done with what lies before `offset`: a window has room for more. `read` says so too."""
        if self.ours() and 0 <= offset <= <Py_ssize_t>self._slot.available:
            reader_pass(self._attachment, self._number, &self._reader, offset)

    def lost(self, Py_ssize_t offset):
        """Whether the byte at `offset` cannot be read any more, because its reader held the window back too long."""
        return self.ours() and self._slot.ring != 0 and <uint64_t>max(offset, 0) < load64(&self._slot.floor)

    def subscribe(self, callback):
        """Call `callback` whenever the fill has moved."""
        if self.ours():
            self._attachment.watch(self._number, callback)
            self._callbacks.append(callback)

    def unsubscribe(self, callback):
        if callback in self._callbacks:
            self._callbacks.remove(callback)
            if self._serial == self._attachment.serial:
                self._attachment.unwatch(self._number, callback)

    def follow(self):
        """Another handle on the same fetch, for a reader in this process."""
        if not self.ours():
            raise ValueError("the fill has been released")
        return fill_of(self._attachment, self._number, False, self._since)

    def release(self):
        """This handle is done. An owner's that has not committed is an abort."""
        if self._released or self._attachment is None:
            return
        for callback in tuple(self._callbacks):
            self.unsubscribe(callback)
        if self._serial == self._attachment.serial:
            reader_leave(self._attachment, self._number, &self._reader, self.ours())
        if self.ours():
            if self.owner and load32(&self._slot.state) < FILL_COMPLETE:
                self.end(FILL_FAILED, REASON_LOST)
            self._attachment.leave(self._number)
        self._released = True

    # ---- what the owner does -----------------------------------------------------------------------------------------

    cdef int demand(self, str act) except -1:
        if not self.owner:
            raise ValueError(f"only the owner {act}")
        return 0

    cdef void end(self, uint32_t state, uint32_t reason) noexcept:
        if state == FILL_COMPLETE:
            worker_at(&self._attachment.m, self._attachment.m.worker).committed += 1
        else:
            self._slot.reason = reason
            worker_at(&self._attachment.m, self._attachment.m.worker).failed += 1
        store32(&self._slot.state, state)
        step(&self._attachment.m)
        self._attachment.moved(self._slot)

    def open(
        self, bytes key, bytes head, int status, uint32_t flags, int64_t born_ms, int64_t fresh_ms, uint32_t swr_s,
        uint32_t sie_s, int64_t length=-1, *, bint compress=True, tags=(), place=None
    ):
        """Tell the head, and under which key the object is to be stored. False, and FAILED, when it does not fit.

        For `tags` and `place` see `Store.put`. With `compress` the object may be packed once it is stored.
        """
        cdef Block* b = NULL
        cdef Digest digest
        cdef Labels labels
        cdef uint64_t room
        self.demand("opens a fill")
        if not self.ours() or load32(&self._slot.state) != FILL_EMPTY:
            return False
        room = <uint64_t>length if length >= 0 else min(<uint64_t>FIRST_ROOM, self._attachment.m.header.max_object)
        labels.count = 0
        self._attachment.label(&labels, key, tags, place)
        digest = self._attachment.digest(key, len(key))
        if len(key) <= LONGEST_KEY and len(head) <= LONGEST_HEAD and room <= self._attachment.m.header.max_object:
            b = allocate(&self._attachment.m, digest.low, units_for(len(key), len(head), room, labels.count), True)
        if b == NULL:
            worker_at(&self._attachment.m, self._attachment.m.worker).refused += 1
            self.end(FILL_FAILED, REASON_UNSTORABLE)
            return False
        lay_out(&self._attachment.m, b, digest.low, key, head, status, flags, &labels)
        set_times(b, born_ms, fresh_ms, swr_s, sie_s)
        self._key, self._head, self._status, self._flags = key, head, status, flags
        self._born_ms, self._fresh_ms, self._swr_s, self._sie_s = born_ms, fresh_ms, swr_s, sie_s
        self._known = True
        if not compress:
            b.codec = KEPT
        self._slot.length = length
        b.held = 1
        step(&self._attachment.m)
        store64(&self._slot.object, unit_of(&self._attachment.m, b))
        step(&self._attachment.m)
        unpin(&self._attachment.m, unit_of(&self._attachment.m, b))
        store32(&self._slot.state, FILL_HEAD)
        step(&self._attachment.m)
        self._attachment.moved(self._slot)
        return True

    def write(self, data):
        """Append to the body. False, and no byte is taken, when that does not fit: to `outgrow`, or to abort."""
        cdef const unsigned char[::1] view
        cdef uint64_t length, available
        cdef Block* b
        self.demand("writes to a fill")
        if not self.ours() or self._overfull or self._slot.ring:
            return False
        if not FILL_HEAD <= load32(&self._slot.state) <= FILL_STREAMING:
            return False
        length = len(data)
        if not length:
            return True
        view = data
        available = self._slot.available
        if self._slot.length >= 0:
            self._overfull = available + length > <uint64_t>self._slot.length
        else:
            self._overfull = not self.make_room(available + length)
        if self._overfull:
            return False
        b = block_of(&self._attachment.m, self._slot.object)
        memcpy(body_of(b) + available, &view[0], length)
        step(&self._attachment.m)
        store64(&self._slot.available, available + length)
        step(&self._attachment.m)
        if load32(&self._slot.state) == FILL_HEAD:
            store32(&self._slot.state, FILL_STREAMING)
        self._attachment.moved(self._slot)
        return True

    cdef bint make_room(self, uint64_t needed) noexcept:
        """Room for twice as much, or for `needed` at least: free room before others', here before elsewhere."""
        cdef Block* b = block_of(&self._attachment.m, self._slot.object)
        cdef Block* other
        cdef uint64_t wanted
        if needed <= room_of(b):
            return True
        if needed > self._attachment.m.header.max_object:
            return False
        wanted = max(needed, min(2 * room_of(b), self._attachment.m.header.max_object))
        if grow(&self._attachment.m, b, units_for(b.key_length, b.head_length, wanted, b.tags), False):
            return True
        other = copied(self._attachment, b, head_of(b), b.head_length, wanted, NULL, False)
        if other == NULL and grow(&self._attachment.m, b, units_for(b.key_length, b.head_length, wanted, b.tags), True):
            return True
        if other == NULL:
            other = copied(self._attachment, b, head_of(b), b.head_length, wanted, NULL, True)
        if other == NULL:
            return grow(&self._attachment.m, b, units_for(b.key_length, b.head_length, needed, b.tags), True)
        memcpy(body_of(other), body_of(b), self._slot.available)
        other.held = 1
        step(&self._attachment.m)
        store64(&self._slot.object, unit_of(&self._attachment.m, other))
        step(&self._attachment.m)
        unpin(&self._attachment.m, unit_of(&self._attachment.m, other))
        # The reaper frees the old block once no piece of it is out.
        b.held = 0
        step(&self._attachment.m)
        b.state = DOOMED
        return True

    def outgrow(self):
        """Make the fill a window: it is not stored, nobody joins it, and its readers go on with `write_some`.

        For an owner whose `write` was refused. False, with nothing changed, when there is no room for a window either.
        """
        self.demand("makes a fill a window")
        if not self.ours() or not FILL_HEAD <= load32(&self._slot.state) <= FILL_STREAMING:
            return False
        if self._slot.ring or self._slot.length >= 0 or not window_begin(self._attachment, self._number):
            return False
        worker_at(&self._attachment.m, self._attachment.m.worker).refused += 1
        self._overfull = False
        self._attachment.moved(self._slot)
        return True

    def write_some(self, data):
        """Append to a window what there is room for past its slowest reader; returns how many bytes that are.

        When those are not all, the owner's callbacks are called, by `Store.dispatch`, as soon as there is room.
        """
        cdef const unsigned char[::1] view
        cdef uint64_t done
        self.demand("writes to a fill")
        if not self.ours() or not self._slot.ring or load32(&self._slot.state) > FILL_STREAMING or not len(data):
            return 0
        view = data
        done = window_put(&self._attachment.m, self._slot, self._number, &view[0], len(data))
        if done:
            if load32(&self._slot.state) == FILL_HEAD:
                store32(&self._slot.state, FILL_STREAMING)
            self._attachment.moved(self._slot)
        return done

    def cut_off(self):
        """Make room in a window at the cost of those who have not read all that came: they are `lost`."""
        self.demand("cuts readers off")
        if self.ours() and self._slot.ring:
            window_cut(&self._attachment.m, self._slot)
            self._attachment.moved(self._slot)

    def finish(self):
        """The body of a window is whole: readers come to its end, and nothing is stored. False when it is no window."""
        self.demand("finishes a fill")
        if not self.ours() or not self._slot.ring or load32(&self._slot.state) > FILL_STREAMING:
            return False
        self._slot.length = self._slot.available
        step(&self._attachment.m)
        store32(&self._slot.state, FILL_COMPLETE)
        step(&self._attachment.m)
        self._attachment.moved(self._slot)
        return True

    def commit(self):
        """The body is whole: readers come to its end, and lookups find it. False when it is not stored after all."""
        cdef Block* b
        cdef bint stored
        self.demand("commits a fill")
        if not self.ours() or self._slot.ring or not FILL_HEAD <= load32(&self._slot.state) <= FILL_STREAMING:
            return False
        if self._overfull or (self._slot.length >= 0 and self._slot.available != <uint64_t>self._slot.length):
            self.end(FILL_FAILED, REASON_UNSTORABLE if self._overfull else REASON_LOST)
            return False
        b = block_of(&self._attachment.m, self._slot.object)
        b.length = self._slot.available
        self._slot.length = b.length
        step(&self._attachment.m)
        stored = shard_publish(&self._attachment.m, b, b.length, 0, self._slot.epoch, ALWAYS, self._slot)
        if stored:
            worker_at(&self._attachment.m, self._attachment.m.worker).inserts += 1
            worker_at(&self._attachment.m, self._attachment.m.worker).insert_bytes += self._slot.available
        self.end(FILL_COMPLETE, 0)
        self._attachment.tell_work()
        return stored

    def touch(self):
        """Call the subscribers though nothing is to be read: the owner has a sign that the origin is at work."""
        if self.ours() and self.owner:
            self._attachment.moved(self._slot)

    def abort(self, uint32_t reason=REASON_LOST):
        """The fetch has failed, or is not for sharing; readers see FAILED and the reason. The first ending stands."""
        self.demand("aborts a fill")
        if self.ours() and load32(&self._slot.state) < FILL_COMPLETE:
            self.end(FILL_FAILED, reason)
