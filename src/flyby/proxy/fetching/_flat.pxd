# cython: language_level=3
"""The map of a fetch whose request and response are never more than bytes and offsets."""

from libc.stdint cimport int64_t

from flyby.proxy.fetching._fetch cimport Fetch
from flyby.proxy.fetching._ledger cimport Ledger
from flyby.proxy.fetching._verdict cimport Verdict, Verdicts, Words
from flyby.proxy.road._downstream cimport Downstream, Onward, Sight
from flyby.store._attachment cimport Attachment
from flyby.store._store cimport Store
from flyby.upstream._waiter cimport LeaseSource
from flyby.wire._plain cimport Plain


cdef class Forwarder(Onward):
    cdef readonly object context
    cdef object _match             # a router.Match; its path is nobody's
    cdef object _rules             # CacheRules
    cdef LeaseSource _backend
    cdef object _retries           # its RetryBudget
    cdef str _host                 # what the origin is told: `origin`, `client` or a name
    cdef bytes _given_host         # the name
    cdef Store _store
    cdef Attachment _held_store    # its C face
    cdef Ledger _ledger            # where its requests are recorded
    cdef Verdicts _verdicts        # None: the route changes what is stored or sent, so that heads are parsed
    cdef bint _guard_paths
    cdef long long _mark_ms        # how long a mark lasts
    cdef int _server_port          # that `_port` tells, as the client's side has it
    cdef bytes _port
    cdef dict _known_conditions    # a stored head -> the lines that ask whether it is still right

    cdef bytes _conditions_of(self, bytes head)
    cdef bytes _port_of(self, Downstream client, const Sight *sight)
    cdef FlatFetch _fetch_for(self, const Sight *sight)


cdef class FlatFetch(Fetch):
    cdef Forwarder _forwarder
    cdef int _errand               # an Errand
    cdef int _asking               # an Asking
    cdef bint _judged              # its path is no reason not to store: verdicts hold for it
    cdef bint _renews              # the mark under its key is to be renewed
    cdef bytes _sent               # the request's content, for a second try; None without
    cdef bytes _renewed            # the stored head, with the new Date, of what was validated
    cdef int64_t _age_s            # its age
    cdef Words _words              # None until a plain response came
    cdef Py_ssize_t _held          # bytes of the head that wait in HEAD_OUT for the first of the content

    cdef Py_ssize_t _validate(self, const unsigned char *base, Py_ssize_t size, long long *content) except -1
    cdef bint _accept(self, Verdict verdict, const unsigned char *base, const Plain *seen, long long now_ms) except -1
    cdef bint _open(self, Verdict verdict, const unsigned char *base, const Plain *seen, long long now_ms) except -1
    cdef int _untrue(self) except -1
    cdef int _hand_over(self, const unsigned char *base, Py_ssize_t size) except -1
