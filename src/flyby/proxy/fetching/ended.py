"""Why a Fill was given up, as its followers in all workers read it."""

from __future__ import annotations

import enum


class Ended(enum.IntEnum):
    """The number is what crosses processes."""

    LOST = 0  # the owner vanished, or nobody wanted the response any more: elect another
    UNSTORABLE = 1  # the store has no room for it
    UNCACHEABLE = 2  # each follower needs a response of its own
    UPSTREAM = 3  # the origin failed
    REVALIDATED = 4  # the stored response is good again: look it up
    TIMEOUT = 5  # the origin did not answer in time
    OVERTAKEN = 6  # another fetch of the same key had its response first: join that
    STALLED = 7  # nothing was heard of it for `cache.collapse_wait_s`; said by a follower, never by an owner
