# cython: language_level=3
"""A time limit that is moved far more often than it is reached.

Moving it writes a field. One timer of the loop looks at the field when it goes off, and sleeps on when the limit has
moved meanwhile; it is set anew only for a limit nearer than the timer. An exchange thus costs no timer, and a chunk
no more than a look at the clock.
"""

cimport cython
from libc.math cimport INFINITY


@cython.final
cdef class Deadline:
    """Calls `expired` once when the limit is reached; it may then be set again."""

    def __init__(self, loop, expired):
        self._loop = loop
        self._time = loop.time
        self._expired = expired
        self.at = INFINITY

    def __repr__(self):
        return f"<Deadline {'none' if self.at == INFINITY else self.at}>"

    cdef int within(self, double seconds, double latest=INFINITY) except -1:
        """Something must happen within `seconds`, and not after `latest` on the loop's clock."""
        return self.within_from(<double>self._time(), seconds, latest)

    cdef int within_from(self, double now, double seconds, double latest=INFINITY) except -1:
        """The same, for who knows the time."""
        self._seconds = seconds
        self.at = min(now + seconds, latest)
        if self._timer is not None:
            if self._timer_at <= self.at:
                return 0
            self._timer.cancel()
        self._set(self.at)
        return 0

    cdef int extend(self) except -1:
        """Something has happened: count anew. Does nothing while nothing is awaited."""
        if self.at != INFINITY:
            self.at = <double>self._time() + self._seconds
        return 0

    cdef void lift(self) noexcept:
        """Nothing is awaited now."""
        self.at = INFINITY

    cdef int stop(self) except -1:
        """Nothing will be awaited any more."""
        self.at = INFINITY
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return 0

    cdef int _set(self, double at) except -1:
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._on_timer)
        return 0

    def _on_timer(self):
        self._timer = None
        if self.at == INFINITY:
            return
        if <double>self._time() < self.at:
            self._set(self.at)
        else:
            self.at = INFINITY
            self._expired()
