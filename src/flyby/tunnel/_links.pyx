# cython: language_level=3
"""Which dyno's link takes the next request; every request to a tunnelled backend passes here.

Of two dynos drawn at random, the cheaper is taken (power of two choices). A dyno costs (requests in flight + 1) times
the mean time of its responses, and that mean is short-sighted: it has forgotten two thirds after `MEMORY_S`, so that an
answer which comes after a second of silence replaces it. It fades as quickly while the dyno has nothing to do. It does
not fade while a request is under way there: a slow dyno would look fast while its slow answer is awaited, and be given
more. Each dyno is asked once in `PROBE_S` all the same, so that one slow answer (a cold start) is forgotten after a
second or two, also where a stream is open:

    nothing in flight            mean, faded
    something in flight          (in flight + 1) x mean; before the first answer, in flight x UNKNOWN_S
    not asked for PROBE_S        0: it is taken when it is drawn, unless the last such request is not answered yet
    not answered for LOST_S      0 again: the request was given up, and its dyno must not be out for ever

Who is drawn from: dynos that take requests (ready, staying, rested, below their capacity); of these the ones that are
not ejected, if there are any (`Member`); of these the ones that have not just failed this request; of these the ones
with an idle link. Links are used last in, first out, so that those at the bottom show how many are too many.
"""

import os

cimport cython
from libc.math cimport INFINITY, exp

from flyby.clock import SystemClock
from flyby.upstream._pool cimport moment

cdef double MEMORY_S = 0.2
cdef double PROBE_S = 1.0
cdef double LOST_S = 5.0
cdef double UNKNOWN_S = 1.0  # what a dyno that never answered is taken to need while it is busy


@cython.final
cdef class DynoMember(Member):
    """A `Member` with the short memory of the module's text; ejection is the base's."""

    def __init__(self, str address not None, settings):
        Member.__init__(self, address, settings)
        self._heard_at = self._asked_at = -INFINITY

    cdef double price(self, double now) noexcept:
        """What one more request there costs."""
        cdef double unasked = now - self._asked_at
        if unasked >= LOST_S or (unasked >= PROBE_S and (self._heard_at >= self._asked_at or self.in_flight == 0)):
            return 0.0
        if self.mean_s == 0.0:
            return self.in_flight * UNKNOWN_S
        if self.in_flight == 0:
            return self.mean_s * exp((self._heard_at - now) / MEMORY_S)
        return (self.in_flight + 1) * self.mean_s

    cpdef succeeded(self, double latency_s, double now):
        """A response's head came, `latency_s` after its request."""
        cdef double share = exp((self._heard_at - now) / MEMORY_S)
        self.mean_s = self.mean_s * share + latency_s * (1.0 - share)
        self._heard_at = now
        Member.succeeded(self, latency_s, now)


cdef class Links:
    """The idle links of one dyno, how many are leased, and whether it takes requests. The home of its links' leases.

    `dropped(link)` is the subclass's: a link is not used again and must be closed.
    """

    def __init__(self, str key not None, settings, clock, Choice choice not None, bint ready, long long capacity):
        self.key = key
        self.member = DynoMember(key, settings)
        self.clock = clock
        self._systems = type(clock) is SystemClock
        self.idle = []
        self.ready = ready
        self.capacity = capacity
        self._choice = choice

    cdef double _now(self) except -1:
        return moment(self.clock, self._systems)

    def takes(self, double now):
        """Whether a request may be sent there, if a link is idle."""
        return self._takes(now)

    cdef bint _takes(self, double now) noexcept:
        return self.ready and not self.leaving and now >= self.resting_until and self.leased < self.capacity

    def take(self):
        """A lease of an idle link, if one is good; those that are not are dropped."""
        return self._take(self._now())

    cdef Lease _take(self, double now):
        while self.idle:
            link = self.idle.pop()
            if link.reusable and link.quiet():
                self.leased += 1
                self.member.in_flight += 1
                self.member._asked_at = now
                self._most_leased = max(self._most_leased, self.leased)
                self._least_idle = min(self._least_idle, <long long>len(self.idle))
                return Lease(self, link, False)
            self.dropped(link)
        return None

    def put(self, link):
        """A new link is idle."""
        self.idle.append(link)
        self._ended()

    def give_back(self, connection):
        """End the lease that holds `connection`."""
        connection.generation += 1
        self.leased -= 1
        self.member.in_flight -= 1
        if not self.leaving and connection.reusable:
            self.idle.append(connection)
        else:
            self.dropped(connection)
        self._ended()

    cdef int _ended(self) except -1:
        if self._choice.waiting or self.leaving:
            self._choice.freed(self)
        return 0

    def leave(self):
        """Take no more requests: idle links are dropped at once, the others when their exchanges are over."""
        self.leaving = True
        idle, self.idle = self.idle, []
        for link in idle:
            self.dropped(link)

    def window(self):
        """(most links leased, fewest idle) since the last call."""
        seen = (self._most_leased, self._least_idle)
        self._most_leased, self._least_idle = self.leased, len(self.idle)
        return seen

    def surplus(self, Py_ssize_t count):
        """Drop so many idle links, those that were used longest ago."""
        for link in self.idle[:count]:
            self.dropped(link)
        del self.idle[:count]


cdef class Choice:
    """The dynos of one backend, in `dynos`. `freed(links)` is the subclass's: a link came free while requests wait, or an
    exchange of a dyno that is leaving ended. `seed` makes the draws repeatable."""

    def __init__(self, clock, seed=None):
        self.dynos = []
        self._clock = clock
        self._systems = type(clock) is SystemClock
        self._seed = (int.from_bytes(os.urandom(8), "little") if seed is None else seed) | 1

    cdef Py_ssize_t _draw(self, Py_ssize_t below) noexcept:
        # xorshift64*: who is drawn need not be unforeseeable, only even.
        self._seed ^= self._seed >> 12
        self._seed ^= self._seed << 25
        self._seed ^= self._seed >> 27
        return <Py_ssize_t>(((self._seed * 2685821657736338717ULL) >> 33) % <unsigned long long>below)

    def taking(self):
        """The dynos that take requests; without those that are ejected, unless all are."""
        return self._taking(moment(self._clock, self._systems))

    cdef list _taking(self, double now):
        cdef Links links
        cdef list found = []
        cdef bint ejected = False
        for links in self.dynos:
            if links._takes(now):
                found.append(links)
                ejected = ejected or now < links.member.ejected_until
        if not ejected or len(found) == 1:
            return found
        # Waiting for a good dyno's link beats an idle one of a dyno that fails.
        return [links for links in found if now >= links.member.ejected_until] or found

    cpdef Lease checkout(self, exclude=()):
        """A lease of a link, if one lies ready."""
        cdef Links links
        cdef Lease lease
        cdef double now = moment(self._clock, self._systems)
        cdef list dynos = self._taking(now)
        if exclude and len(dynos) > 1:
            dynos = [links for links in dynos if links.key not in exclude] or dynos
        while True:
            links = self._choose(dynos, now)
            if links is None:
                return None
            lease = links._take(now)
            if lease is not None:
                return lease

    cdef Links _choose(self, list dynos, double now):
        """One of those that have an idle link, or None."""
        cdef Links links, one, other
        cdef Py_ssize_t first, second
        cdef double price, least
        cdef list free = [links for links in dynos if links.idle]
        if len(free) < 2:
            return <Links>free[0] if free else None
        first = self._draw(len(free))
        second = self._draw(len(free) - 1)
        if second >= first:
            second += 1
        one, other = free[first], free[second]
        price, least = one.member.price(now), other.member.price(now)
        if price == least:
            return one if one.leased <= other.leased else other
        return one if price < least else other
