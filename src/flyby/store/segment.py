"""The memory under the store: one mapping, allocated in full before anybody relies on it.

By default an anonymous memfd, sealed so that nobody can change its size: nothing is left behind, nobody else can
write to it. With a path, the file that `cache_file` keeps.

Every page is allocated here. A page that could only be had later would kill a worker with SIGBUS in the middle of a
request, so what does not fit is an error now, with what there is in its message. Memory (a memfd, a file on a tmpfs)
is checked against what the machine and the cgroup have left first: a cgroup answers an allocation beyond its limit
with a kill, not with an error.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from pathlib import Path

from flyby.errors import StoreError

MINIMUM = 1 << 20
MEMFD_NAME = "flyby-store"

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


def checked_size(size: int) -> int:
    """`size` in whole pages. Raises `StoreError` when that is no cache."""
    if size < MINIMUM:
        raise StoreError(f"a cache of {size} bytes is too small: it needs {MINIMUM} (1 MiB) at least")
    return size // mmap.PAGESIZE * mmap.PAGESIZE


def anonymous(size: int) -> mmap.mmap:
    """A shared mapping of `size` bytes, all zero, that ends with the last process that has it. Raises `StoreError`."""
    try:
        fd = os.memfd_create(MEMFD_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise StoreError(f"cannot make shared memory: {error.strerror}") from error
    try:
        allocate(fd, size, "shared memory")
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return mapped(fd, size)
    finally:
        os.close(fd)  # the mapping keeps a descriptor of its own


def allocate(fd: int, size: int, where: str) -> None:
    """Every page of the first `size` bytes. Raises `StoreError`."""
    found = os.fstat(fd)
    wanted = size - found.st_blocks * 512
    if wanted > 0 and _in_memory(found):
        room = memory_left()
        if room is not None and wanted > room:
            raise StoreError(
                f"the cache wants {size >> 20} MiB of memory, but only {room >> 20} MiB are left; "
                "make cache.size smaller"
            )
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        raise StoreError(
            f"cannot allocate {size >> 20} MiB in {where}: {error.strerror}; "
            "make cache.size smaller or give it more room"
        ) from error


def mapped(fd: int, size: int) -> mmap.mmap:
    """The shared mapping of a file whose pages are all there."""
    mapping = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    with contextlib.suppress(OSError):
        mapping.madvise(mmap.MADV_DONTDUMP)  # a core file is no place for what users were sent
    return mapping


def _in_memory(found: os.stat_result) -> bool:
    """Whether a file takes memory and not a disk. A memfd is on a tmpfs that is mounted nowhere."""
    device = f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
            front, _, back = line.partition(" - ")
            if front.split(" ")[2] == device:
                return back.split(" ")[0] in ("tmpfs", "ramfs", "devtmpfs")
    return found.st_nlink == 0


def memory_left() -> int | None:
    """What this process may still take: the kernel's estimate, or a cgroup's where that is lower; None if unknown."""
    rooms = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                rooms.append(int(line.split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        limit = int((_V1 / "memory.limit_in_bytes").read_text())
        used = int((_V1 / "memory.usage_in_bytes").read_text())
        rooms.append(limit - used + _inactive_file(_V1 / "memory.stat", "total_inactive_file"))
    with contextlib.suppress(OSError, StopIteration):
        own = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
        group = _V2 / own.lstrip("/")
        while group != group.parent and group.is_relative_to(_V2):
            with contextlib.suppress(OSError, ValueError):  # "max" is no number and no limit
                limit = int((group / "memory.max").read_text())
                used = int((group / "memory.current").read_text())
                rooms.append(limit - used + _inactive_file(group / "memory.stat", "inactive_file"))
            group = group.parent
    return min(rooms, default=None)


def _inactive_file(path: Path, name: str) -> int:
    """Bytes of file cache that a cgroup counts as used, and gives up as soon as somebody wants memory."""
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
