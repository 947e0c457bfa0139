# cython: language_level=3
"""Which dyno's link takes the next request; every request to a tunnelled backend passes here.

Of two dynos drawn at random, the cheaper is taken (power of two choices); what a dyno costs is `upstream.Member`'s to
say, as for an origin.

Who is drawn from: dynos that take requests (ready, staying, rested, below their capacity); of these the ones that are
not ejected, if there are any (`Member`); of these the ones that have not just failed this request; of these the ones
with an idle link. Links are used last in, first out, so that those at the bottom show how many are too many.
"""

import os

from flyby.clock import SystemClock
from flyby.upstream._exchange cimport UpstreamExchange
from flyby.upstream._member cimport Member
from flyby.upstream._pool cimport Lease, moment

cdef class Links:
    """The idle links of one dyno, how many are leased, and whether it takes requests. The home of its links' leases.

    `dropped(link)` is the subclass's: a link is not used again and must be closed.
    """

    def __init__(self, str key not None, settings, clock, Choice choice not None, bint ready, long long capacity):
        self.key = key
        self.member = Member(key, settings)
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
        cdef UpstreamExchange link
        while self.idle:
            link = self.idle.pop()
            if link.at_rest() and link.quiet():
                self.leased += 1
                self.member.in_flight += 1
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
    """The dynos of one backend, in `dynos`. `freed(links)` is the subclass's: a link came free while requests wait, or
    an exchange of a dyno that is leaving ended. `seed` makes the draws repeatable."""

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
        price, least = one.member.cost(now), other.member.cost(now)
        if price == least:
            return one if one.leased <= other.leased else other
        return one if price < least else other
