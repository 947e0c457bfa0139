"""The pages of all workers in one shared mapping: made before the workers are forked, found by whoever wants to look.

    header (one page) │ worker 0 │ worker 1 │ …
    magic 8 │ version 4 │ workers 4 │ bytes of a page 4 │ from one page to the next 4

The memory is a memfd, sealed so that its size never changes. A process that has it can be looked at by its user (and by
root) through /proc/PID/fd, as `flyby stat` finds a store: nothing is written down, asked for or cleaned up. Who looks
copies what it reads and maps nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import stat
import struct
from pathlib import Path
from types import TracebackType

from flyby.errors import StoreError
from flyby.metrics._page import SIZE, STRIDE, Metrics, snapshot_of
from flyby.metrics.snapshot import MetricsSnapshot

MEMFD_NAME = "flyby-metrics"
MAGIC = b"flycount"
VERSION = 1
HEADER = struct.Struct("=8sIIII")
FIRST = 4096  # where the first worker's page lies
MOST_WORKERS = 1024  # that are believed of a header


class Pages:
    """The pages of `workers` workers, all zero. Raises `StoreError` when there is no memory for them."""

    __slots__ = ("_memory", "workers")

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        size = FIRST + workers * STRIDE
        try:
            fd = os.memfd_create(MEMFD_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                os.posix_fallocate(fd, 0, size)
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
                self._memory = mmap.mmap(fd, size)  # keeps a descriptor of its own
            finally:
                os.close(fd)
        except OSError as error:
            raise StoreError(f"cannot make shared memory for the counters: {error.strerror}") from error
        HEADER.pack_into(self._memory, 0, MAGIC, VERSION, workers, SIZE, STRIDE)

    def of(self, worker: int) -> Metrics:
        """The counters of a worker, for its process to go on with; they keep the mapping alive."""
        at = FIRST + worker * STRIDE
        return Metrics(memoryview(self._memory)[at : at + STRIDE])


class PagesView:
    """A look at the pages that a process has, from outside; there may be none, or, of several edges, several mappings.

    Closed by `close`, or at the end of its `with`.
    """

    __slots__ = ("_found",)

    def __init__(self, process: int, proc: Path = Path("/proc")) -> None:
        self._found: list[tuple[int, int]] = []  # a descriptor, and how many workers have a page there
        seen: set[int] = set()
        with contextlib.suppress(OSError):  # not ours, or it has ended
            for descriptor in (proc / str(process) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor).startswith(f"/memfd:{MEMFD_NAME}"):
                        self._add(descriptor, seen)

    def _add(self, descriptor: Path, seen: set[int]) -> None:
        fd = os.open(descriptor, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        workers = 0
        try:
            found = os.fstat(fd)
            if found.st_ino not in seen and stat.S_ISREG(found.st_mode):
                seen.add(found.st_ino)
                workers = _workers(os.pread(fd, HEADER.size, 0))
        finally:
            if not workers:
                os.close(fd)
        if workers:
            self._found.append((fd, workers))

    def __enter__(self) -> PagesView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptors back."""
        for fd, _ in self._found:
            os.close(fd)
        self._found.clear()

    def snapshots(self) -> list[MetricsSnapshot]:
        """The counts of each worker, as of now; empty when there is no page."""
        return [
            snapshot_of(page)
            for fd, workers in self._found
            for worker in range(workers)
            if len(page := os.pread(fd, STRIDE, FIRST + worker * STRIDE)) == STRIDE
        ]


def _workers(header: bytes) -> int:
    """How many pages lie behind this header; 0 when they are not laid out as this version reads them."""
    if len(header) < HEADER.size:
        return 0
    magic, version, workers, size, stride = HEADER.unpack(header)
    if (magic, version, size, stride) != (MAGIC, VERSION, SIZE, STRIDE) or workers > MOST_WORKERS:
        return 0
    return int(workers)
