# cython: language_level=3
"""What a lease gives to whoever wants a response: one exchange at a time with an origin, however it is carried.

Five calls make an exchange, in this order; the last two pairs may come at any time:

    send                            the request: its head, with `more` when content follows, then the content's parts
    finish_request                  the request's last byte has been sent (not needed without `more`)
    expect                          where the heads go: to a `Receiver`, which gets one final head or one failure
    stream                          where the content goes: to a `Sink`, which gets one end or one failure
    pause_reading, resume_reading   the sink's pace
    abort                           give the exchange up; nothing more is told

A connection (`_connection.pyx`) carries them over a socket. Something without one, such as an app that runs in this
process, is a subclass that answers these calls and says when it is `at_rest`; pools and leases know no more of it.

It is at rest again when the response has ended **and** the request is finished, whichever comes last (RFC 9112 9.3:
a server that answers early either reads on or closes). In between it is `finishing`: whoever holds the lease may
release it then, provided that it goes on to send and calls `finish_request`; the pool gets the connection when that is
over, and not before.
"""

from asyncio import get_running_loop

from flyby.upstream.awaited import Awaited


cdef class UpstreamExchange:
    @property
    def reusable(self):
        """Whether the next request may go out on it."""
        return self.at_rest()

    @property
    def died_unanswered(self):
        """Whether it was lost as kept connections are: before the request, or before the first byte of an answer."""
        return False

    @property
    def write_paused(self):
        """Whether so much of the request waits to be sent that no more should be given; see `on_drained`."""
        return self.is_write_paused()

    cpdef bint at_rest(self):
        """Whether the next request may go out on it."""
        return False

    cpdef bint quiet(self):
        """Whether nothing has come that nobody asked for; asked before a request goes out on a kept one."""
        return True

    cpdef send(self, data, bint more=False):
        """Send a part of the request: bytes, or an iterable of them. `more`, said with the head, announces content."""

    cpdef finish_request(self):
        """The request is wholly sent. Nothing happens the second time, or where no content was announced."""

    cpdef expect(self, bytes method, receiver, timeout=None):
        """Hand the response's heads to `receiver`."""

    cpdef stream(self, sink):
        """Let the content flow to `sink`."""

    cpdef pause_reading(self):
        """Hold the content back."""

    cpdef resume_reading(self):
        """Let it flow again."""

    cpdef abort(self):
        """Give the exchange up, and drop what carries it."""

    cpdef close(self):
        """Close it in good order; nobody holds it."""

    def detach(self):
        """After a 101: the transport, no longer reading, and the bytes that came behind the head."""
        raise RuntimeError("detach() on an exchange without a transport")

    cpdef bint is_write_paused(self):
        return False

    cpdef on_drained(self, callback):
        """Call `callback` once, as soon as `write_paused` is false: at once when it is. It is also called when the
        connection is lost, but not after `abort`. A later call replaces an earlier one; None takes it back."""
        if callback is not None:
            callback()

    cpdef finished(self):
        """The request's rest was sent after the response's end, or never will be: a lease that waited for it ends."""
        told = self._on_finished
        self.finishing = False
        self._on_finished = None
        if told is not None:
            told()

    async def read_head(self, bytes method, on_interim=None, timeout=None):
        """`expect`, for who can wait: returns the final head, or raises `UpstreamError`."""
        receiver = Awaited(get_running_loop().create_future(), on_interim)
        self.expect(method, receiver, timeout)
        return await receiver.answer

    async def drain(self):
        """`on_drained`, for who can wait."""
        drained = get_running_loop().create_future()
        self.on_drained(lambda: drained.done() or drained.set_result(None))
        await drained
