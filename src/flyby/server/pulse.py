"""The workers' pulse: a shared page in which each worker counts up, so that the supervisor sees which still run.

A worker adds one to its own word from its event loop, once a second. A loop that stands still (a stopped process, an
endless loop, a disk that does not answer) does not count, whatever its sockets look like from outside. The first beat
says that the worker listens and has taken its listeners: from then on it has served.

One writer and one reader for each word of 8 bytes, which the processor reads and writes whole: no lock is needed.
"""

from __future__ import annotations

import mmap

BEAT_S = 1.0  # between two beats
STRIDE = 64  # bytes of each worker: a line of the processor's cache, so that workers do not share one


class Pulse:
    """One word for each worker, in memory that is shared with the processes forked later."""

    __slots__ = ("_memory", "_words")

    def __init__(self, workers: int) -> None:
        self._memory = mmap.mmap(-1, max(workers, 1) * STRIDE)
        self._words = memoryview(self._memory).cast("Q")

    def beat(self, worker: int) -> None:
        """Count one up, in the worker."""
        self._words[worker * STRIDE // 8] += 1

    def beats(self, worker: int) -> int:
        """How often the worker has beaten in this life; 0 while it has not served yet."""
        return self._words[worker * STRIDE // 8]

    def clear(self, worker: int) -> None:
        """Begin anew for the next process in this place."""
        self._words[worker * STRIDE // 8] = 0
