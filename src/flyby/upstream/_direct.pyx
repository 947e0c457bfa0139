# cython: language_level=3
# cython: boundscheck=False, wraparound=False
"""Plain exchanges on an upstream connection, without an object: the listener reads the response where it lies.

    ask ─▶ recognise ── 0: not plain, nothing has changed ─▶ `Connection`, which reads it for the receiver's `head`
              │ its length, and that of the content
              ├─ counted: part … part ─▶ ended    the first at once, with what lies behind the head, maybe nothing
              └─ chunked: begin, which lets the content flow (`stream`) to a sink

A `Listener` is a receiver too, and a sink: whatever does not end with `ended` ends with its `fail`. Everything else
(framing, what a connection is worth behind a message, the time limits) is as `Connection` has it.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcmp

from flyby.upstream._connection cimport Connection
from flyby.upstream._outgoing cimport BODY, HEAD, HELD, IDLE
from flyby.upstream._waiter cimport Waiter
from flyby.wire import BodyKind
from flyby.wire._body cimport BodyReader

cdef object CHUNKED = BodyKind.CHUNKED
cdef object LENGTH = BodyKind.LENGTH


cdef class Listener(Waiter):
    cdef Py_ssize_t recognise(self, const unsigned char *base, Py_ssize_t size, long long *content) except -1:
        """The length of the head if it is for this listener, and in `content` that of what follows, -1 for chunks."""
        return 0

    cdef int begin(self) except -1:
        """The chunked content waits behind the head."""
        return 0

    cdef int part(self, const unsigned char *base, Py_ssize_t size) except -1:
        """The next `size` bytes of the content, which are only there during the call."""
        return 0

    cdef int ended(self) except -1:
        """All of it was given; the connection is at rest, or closed."""
        return 0


cdef class DirectConnection(Connection):
    cdef int ask(
        self, const char *head, Py_ssize_t length, bytes method, Listener listener, double now, bint more=False
    ) except -1:
        """`send` and `expect` in one; `now` is the loop's time, or negative when the loop is to be asked."""
        if self._state != IDLE or not self._out.open():
            self.send(PyBytes_FromStringAndSize(head, length), more)
            self.expect(method, listener)
            return 0
        self._state = HEAD
        self._received = False
        self._open = more
        self.exchanges += 1
        self._receiver = self._listener = listener
        self._method = method
        self._interims = 0
        self._head_s = self._first_byte_s
        self._out.put(head, length)
        return self._await(now) if self._receiver is listener else 0

    def buffer_updated(self, Py_ssize_t nbytes):
        if self._counted and self._state == BODY:
            self._deadline.extend()
            self._feed_listener(self._input, nbytes)
        elif self._state != HEAD or self._received or self._listener is None or not self._feed_plain(nbytes):
            Connection.buffer_updated(self, nbytes)

    cdef bint _feed_plain(self, Py_ssize_t size) except -1:
        """Let the listener read the head; False when it is not for it, and nothing has changed."""
        cdef Listener listener = self._listener
        cdef long long content = 0
        cdef Py_ssize_t length = 0
        # A 408 on a kept connection may be no answer to this request.
        if self.exchanges == 1 or size < 12 or memcmp(self._input + 9, b"408", 3):
            length = listener.recognise(self._input, size, &content)
        if not length:
            self._listener = None
            return False
        self._received = True
        self._receiver = None
        self._deadline.lift()
        if content < 0:
            self._kind = CHUNKED
            self._state = HELD
            self._listener = None
            self._behind = self._buffer[length:size]
            try:
                listener.begin()
            finally:
                if self._behind is not None:
                    self._ahead = bytes(self._behind)
                    self._behind = None
            return True
        self._kind = LENGTH
        self._state = BODY
        self._counted = True
        self._sink = listener
        self._left = content
        self._feed_listener(self._input + length, size - length)
        if self._state == BODY and self._sink is listener and not self._paused:
            self._await()
        return True

    cdef int _feed_listener(self, const unsigned char *base, Py_ssize_t size) except -1:
        """Give it content that Content-Length counts."""
        cdef Listener listener = self._listener
        cdef Py_ssize_t part = <Py_ssize_t>min(self._left, <long long>size)
        self._left -= part
        listener.part(base, part)
        if self._sink is listener and self._state == BODY and self._left == 0:
            self._complete(part < size)
        return 0

    cdef int _tell_end(self, sink, BodyReader body) except -1:
        if not self._counted:
            return Connection._tell_end(self, sink, body)
        self._counted = False
        self._listener = None
        return (<Listener?>sink).ended()

    cdef int _shut(self, bint abort) except -1:
        # Whatever the ending: a listener that holds the lease would keep itself alive through it.
        self._listener = None
        return Connection._shut(self, abort)
