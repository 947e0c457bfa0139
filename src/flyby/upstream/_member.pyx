# cython: language_level=3
"""What is known of one origin: whether it takes requests, and how long its answers take; see `balance`.

Every answer is told here, so it costs an exponential function and no object.
"""

from libc.math cimport INFINITY, exp

MEMORY_S = 10.0  # the latency's mean has forgotten two thirds of what it knew after this
cdef double MEMORY = MEMORY_S
cdef double UNKNOWN_S = 1.0  # what an origin that never answered is taken to need while it is busy
cdef int MOST_DOUBLINGS = 32  # of the pause; the limit has been passed long before


cdef class Member:
    def __init__(self, str address not None, settings):
        self.address = address
        self.healthy = True
        self.ejected_until = self._heard = -INFINITY
        self._settings = settings

    def __repr__(self):
        health = "healthy" if self.healthy else "unhealthy"
        return f"<Member {self.address} {health} in_flight={self.in_flight} failures={self.failures}>"

    def ejected(self, double now):
        """Whether it is left alone because it kept failing."""
        return now < self.ejected_until

    def takes(self, double now):
        """Whether requests should go there."""
        return self.healthy and now >= self.ejected_until

    cpdef double latency(self, double now):
        """Seconds that an answer takes there, as far as that is still known; 0 when nothing is."""
        return self._latency * exp((self._heard - now) / MEMORY)

    def cost(self, double now):
        """What one more request there costs."""
        cdef double latency = self.latency(now)
        if latency == 0.0:
            return self.in_flight * UNKNOWN_S
        return (self.in_flight + 1) * latency

    cpdef succeeded(self, double latency_s, double now):
        """An answer came; `latency_s` from the request to its head."""
        cdef double share = exp((self._heard - now) / MEMORY)
        self._latency = self._latency * share + latency_s * (1.0 - share)
        self._heard = now
        self.failures = 0
        if now >= self.ejected_until:
            self.ejections = 0

    cpdef failed(self, double now):
        """No answer, or one that says the origin is not there. A quick failure must not look like a quick origin."""
        cdef double pause
        self.failures += 1
        self.failures_total += 1
        if now < self.ejected_until:
            return
        if self.failures >= self._settings.failures or self.ejections:
            pause = <double>self._settings.backoff_s * <double>(1LL << min(self.ejections, MOST_DOUBLINGS))
            self.ejected_until = now + min(pause, <double>self._settings.max_backoff_s)
            self.ejections += 1
            self.failures = 0
