# cython: language_level=3
"""What is known of one origin: whether it takes requests, and how long its answers take; and the choice among several.
See `balance` for the rules.

Every answer is told here and every request asks for a choice, so the one costs an exponential function and the other a
few compares.
"""

import random

from libc.math cimport INFINITY, exp
from libc.stdint cimport uint64_t

# The mean of the latency forgets two thirds of what it knew in this time. What was not confirmed for so long is not
# known any more: one slow answer, such as the first of a cold app, must not keep an origin from its share.
MEMORY_S = 1.0
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

    cpdef bint takes(self, double now):
        """Whether requests should go there."""
        return self.healthy and now >= self.ejected_until

    cpdef double cost(self, double now):
        """What one more request there costs.

        An origin that nothing is known of gets one request at a time; the first one costs nothing, so that an idle
        origin is asked anew after `MEMORY_S` of silence; one that fails then is soon ejected.
        """
        if now - self._heard >= MEMORY:
            return self.in_flight * UNKNOWN_S
        return (self.in_flight + 1) * self.latency_s * exp((self._heard - now) / MEMORY)

    cpdef succeeded(self, double latency_s, double now):
        """An answer came; `latency_s` from the request to its head."""
        cdef double share = exp((self._heard - now) / MEMORY) if now - self._heard < MEMORY else 0.0
        self.latency_s = self.latency_s * share + latency_s * (1.0 - share)
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


cdef uint64_t seed = 0  # of the draws; 0 before the first


cdef Py_ssize_t drawn(Py_ssize_t below) except -1:
    """A random number that is less than `below`: xorshift64*, which is quick, and nobody gains by foreseeing it."""
    global seed
    if not seed:
        seed = random.getrandbits(64) | 1
    seed ^= seed >> 12
    seed ^= seed << 25
    seed ^= seed >> 27
    return <Py_ssize_t>(((seed * 0x2545F4914F6CDD1DULL) >> 33) % <uint64_t>below)


cpdef Member choose(list members, double now, draw=None, exclude=()):
    """The origin for the next request; `draw(n)` is a random number below n; without it there is one.

    `exclude` holds addresses that have just failed this request; they are asked again when no other origin is known.
    """
    cdef Member member, one, other
    cdef list others, candidates
    cdef Py_ssize_t first, second, count
    if len(members) == 1:
        return <Member?>members[0]
    others = [member for member in members if member.address not in exclude] or members if exclude else members
    candidates = [member for member in others if member.takes(now)] or others
    count = len(candidates)
    if count == 1:
        return <Member?>candidates[0]
    first = drawn(count) if draw is None else draw(count)
    second = drawn(count - 1) if draw is None else draw(count - 1)
    if second >= first:
        second += 1
    one = candidates[first]
    other = candidates[second]
    return one if one.cost(now) <= other.cost(now) else other
