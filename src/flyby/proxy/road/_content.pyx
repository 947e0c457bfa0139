# cython: language_level=3
"""A request's content between the connection that receives it and the fetch that sends it on.

The connection puts and stops reading at its limit; the fetch takes, which lets the connection read again. Neither knows
the other: each leaves a callback.
"""

cimport cython


@cython.final
cdef class Content:
    """The parts that have come and were not taken yet. `whole` content has nothing more to come."""

    def __init__(self, bint finished=False):
        self._parts = []
        self.finished = finished

    def __repr__(self):
        state = "failed" if self.error is not None else "whole" if self.finished else "arriving"
        return f"<Content {state}, {self.received} bytes received, {self.size} waiting>"

    cdef int put(self, bytes part) except -1:
        """Add bytes that have come."""
        self._parts.append(part)
        self.size += len(part)
        self.received += len(part)
        return self._changed()

    cpdef finish(self, trailers):
        """All of it has come, with these trailer fields or None."""
        self.finished = True
        self.trailers = trailers
        self._changed()

    cpdef fail(self, error):
        """The rest will not come; does nothing to content that is whole or has failed before."""
        if not self.finished and self.error is None:
            self.error = error
            self._changed()

    cpdef bytes take(self):
        """Everything that waits, as one; b"" when nothing does."""
        cdef bytes taken
        if not self._parts:
            return b""
        taken = <bytes>self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self.size = 0
        if self.on_taken is not None:
            self.on_taken()
        return taken

    cdef int _changed(self) except -1:
        if self.on_change is not None:
            self.on_change()
        return 0


NO_CONTENT = Content(finished=True)  # of every request that has none
