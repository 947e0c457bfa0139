"""The memory under the store: one mapping, allocated in full before anybody relies on it.

By default an anonymous memfd, sealed so that nobody can change its size: nothing is left behind, nobody else can
attach. With a path, a file of mode 0600 that is opened without following a link and locked against a second flyby.

Every page is allocated here. A page that could only be had later would kill a worker with SIGBUS in the middle of a
request, so what does not fit is an error now, with what there is in its message.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import stat
from pathlib import Path

from flyby.errors import StoreError

MINIMUM = 1 << 20

_V1_LIMIT = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")
_V1_USAGE = Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")


def open_segment(size: int, path: str | None) -> mmap.mmap:
    """A shared mapping of `size` bytes, all zero. Raises `StoreError`."""
    if size < MINIMUM:
        raise StoreError(f"a cache of {size} bytes is too small: it needs {MINIMUM} (1 MiB) at least")
    if path is None:
        room = _memory_left()
        if room is not None and size > room:
            raise StoreError(
                f"the cache wants {size >> 20} MiB of memory, but only {room >> 20} MiB are left; "
                "make cache.size smaller"
            )
    fd = _memfd() if path is None else _file(path)
    try:
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            where = path if path is not None else "shared memory"
            raise StoreError(
                f"cannot allocate {size >> 20} MiB in {where}: {error.strerror}; "
                "make cache.size smaller or give it more room"
            ) from error
        if path is None:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        mapping = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        # The mapping keeps a descriptor of its own, and with it the file's lock.
        os.close(fd)
    with contextlib.suppress(OSError):
        mapping.madvise(mmap.MADV_DONTDUMP)  # a core file is no place for what users were sent
    return mapping


def _memfd() -> int:
    try:
        return os.memfd_create("flyby-store", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise StoreError(f"cannot make shared memory: {error.strerror}") from error


def _file(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise StoreError(f"cannot open the cache file {path}: {error.strerror} (a link is not followed)") from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"the cache file {path} is not a regular file")
        if found.st_uid != os.geteuid() or found.st_mode & 0o077 or found.st_nlink != 1:
            raise StoreError(f"the cache file {path} must belong to this user alone, with mode 0600 and one name")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(f"the cache file {path} is in use by another flyby") from error
        os.ftruncate(fd, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _memory_left() -> int | None:
    """What this process may still take: the kernel's estimate, or a cgroup's where that is lower; None if unknown."""
    rooms = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                rooms.append(int(line.split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        rooms.append(int(_V1_LIMIT.read_text()) - int(_V1_USAGE.read_text()))
    with contextlib.suppress(OSError, IndexError):
        own = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
        group = Path("/sys/fs/cgroup") / own.lstrip("/")
        while group != group.parent and group.is_relative_to("/sys/fs/cgroup"):
            with contextlib.suppress(OSError, ValueError):  # "max" is no number and no limit
                limit = int((group / "memory.max").read_text())
                rooms.append(limit - int((group / "memory.current").read_text()))
            group = group.parent
    return min(rooms, default=None)
