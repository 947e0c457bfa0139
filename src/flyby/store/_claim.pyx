# cython: language_level=3
"""How a process comes by a handle on a fetch: by a name, under which there is one fetch at a time.

    fill_claimed   joins the fetch of that name, or begins it as its owner
    fill_joined    joins it, for who must not own it

Which slot that is, and whether a purge stands between, is `_inflight`'s to say; what the handle then does, `_fill`'s.
"""

from libc.stdint cimport int64_t

from flyby.store._fill cimport fill_of
from flyby.store._inflight cimport fills_claim, fills_join
from flyby.store._layout cimport Worker, load64, worker_at


cdef Fill fill_claimed(Attachment attachment, const char* key, uint32_t length, Digest digest, uint64_t since):
    """`Store.claim`."""
    cdef Worker* counts = worker_at(&attachment.m, attachment.m.worker)
    cdef bint owner = False
    cdef int64_t number
    attachment.settle()
    number = fills_claim(&attachment.m, key, length, digest, since, &owner)
    if number < 0:
        return None
    counts.fills += owner
    counts.collapsed += not owner
    return fill_of(attachment, <uint32_t>number, owner, since)


cdef Fill fill_joined(Attachment attachment, const char* key, uint32_t length, Digest digest):
    """A reader's handle on the fetch of that name, if one is under way: `Store.claim` for who must not own it."""
    cdef uint64_t began = load64(&attachment.m.header.epoch)
    cdef int64_t number
    attachment.settle()
    number = fills_join(&attachment.m, key, length, digest)
    return None if number < 0 else fill_of(attachment, <uint32_t>number, False, began)
