"""The cache's file: who may use it, and when what it holds is kept over a restart.

The second half of the first page is this module's; the store's own header has the first half:

    2048   magic 8 │ state 4 │ process 4 │ boot 36 │ meaning 32 │ digest 32 │ opened 8 │ closed 8
           state    OPEN ─▶ CLOSED ─▶ OPEN …
           process  of who opened it          boot     the kernel's boot_id at that time
           meaning  the caller's digest of what the stored bytes mean to it
           digest   SHA-256 of the header's words that never change      opened, closed: wall-clock milliseconds

One store at a time: the file is locked (flock) for as long as any process maps it, workers that outlive their
supervisor included. Nobody else's file is ever touched: no link is followed, and what is not this user's alone, or has
bytes in it and no magic of ours, is refused.

What it holds is kept when the same code, for the same purpose, can rely on it:

    CLOSED                 everything was written out before the state said so: kept, also after a reboot
    OPEN, this boot        all its processes were killed; memory is as they left it: recovered and kept
    OPEN, another boot     some pages reached the disk, others not: dropped
    no record yet          it was never finished: dropped

Dropped means unlinked and made anew, never shortened: who still maps the old file (`flyby stat`) must not be killed by
a page that went away.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import stat
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from flyby.errors import StoreError
from flyby.store import segment

RECORD_AT = 2048
RECORD = struct.Struct("=8sII36s32s32sQQ")
MAGIC = b"flycache"

OPEN = 1
CLOSED = 2

PATIENCE_S = 0.5  # for the lock: processes that were killed take a moment to be gone
ATTEMPTS = 10  # to open the file that has the name, while others drop it and make it anew


@dataclass(frozen=True, slots=True)
class Record:
    """What a cache file, or the memory of a running store, tells about its life."""

    state: int
    process: int
    boot: str
    meaning: bytes
    digest: bytes
    opened_ms: int
    closed_ms: int


def read_record(page: bytes) -> Record | None:
    """The record in a first page; None when there is none."""
    if len(page) < RECORD_AT + RECORD.size:
        return None
    magic, state, process, boot, meaning, digest, opened_ms, closed_ms = RECORD.unpack_from(page, RECORD_AT)
    if magic != MAGIC:
        return None
    return Record(state, process, boot.decode("latin-1"), meaning, digest, opened_ms, closed_ms)


def write_open(mapping: mmap.mmap, header: bytes, meaning: bytes) -> None:
    """The store in this mapping is ours and in use; on a disk, before anything in it changes."""
    now = time.time_ns() // 1_000_000
    record = (MAGIC, OPEN, os.getpid(), boot_id().encode(), digest_of(meaning), digest_of(header), now, 0)
    RECORD.pack_into(mapping, RECORD_AT, *record)
    mapping.flush(0, mmap.PAGESIZE)


def write_closed(mapping: mmap.mmap) -> None:
    """Nobody is going to change it any more: write everything out, then say so."""
    mapping.flush()
    found = read_record(mapping[: mmap.PAGESIZE])
    if found is not None and found.state == OPEN and found.process == os.getpid():
        now = time.time_ns() // 1_000_000
        boot = found.boot.encode("latin-1")
        record = (MAGIC, CLOSED, found.process, boot, found.meaning, found.digest, found.opened_ms, now)
        RECORD.pack_into(mapping, RECORD_AT, *record)
        mapping.flush(0, mmap.PAGESIZE)


def digest_of(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def boot_id() -> str:
    """What changes when the machine starts anew; where the kernel does not tell, it seems to do so every time."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:36]
    except OSError:
        return f"unknown {time.time_ns()}"


class CacheFile:
    """The locked file of that name; close it when it has been mapped."""

    __slots__ = ("_fd", "path", "size")

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        self.size = size
        for _ in range(ATTEMPTS):
            self._fd = _opened(path)
            try:
                self._check()
                if self._lock():
                    return
            except BaseException:
                os.close(self._fd)
                raise
            os.close(self._fd)
        raise StoreError(f"the cache file {path} is replaced again and again by others", os.EX_TEMPFAIL)

    def close(self) -> None:
        os.close(self._fd)

    def _check(self) -> None:
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"the cache file {self.path} is not a regular file", os.EX_CONFIG)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077 or found.st_nlink > 1:
            raise StoreError(
                f"the cache file {self.path} must belong to this user alone, with mode 0600 and one name", os.EX_CONFIG
            )

    def _lock(self) -> bool:
        """False when the name means another file by now."""
        until = time.monotonic() + PATIENCE_S
        while not _locked(self._fd):
            if time.monotonic() > until:
                found = read_record(os.pread(self._fd, mmap.PAGESIZE, 0))
                who = f" (process {found.process})" if found is not None and found.state == OPEN else ""
                raise StoreError(f"the cache file {self.path} is in use by another flyby{who}", os.EX_TEMPFAIL)
            time.sleep(PATIENCE_S / 50)
        try:
            named = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(self._fd))

    def doubt(self, meaning: bytes, fixed: int) -> str | None:
        """Why what the file holds cannot be kept; None when, as far as its record tells, it can; "" when it is empty.

        `fixed` is how many bytes of the header never change. Raises `StoreError` for a file that is not a cache's.
        """
        size = os.fstat(self._fd).st_size
        if not size:
            return ""
        page = os.pread(self._fd, mmap.PAGESIZE, 0)
        found = read_record(page)
        if found is None:
            if page.strip(b"\0"):
                raise StoreError(
                    f"{self.path} is no cache file of flyby: remove it, or let cache.path name another",
                    os.EX_CONFIG,
                )
            return "it was never finished"
        if found.state not in (OPEN, CLOSED):
            return "its record is damaged"
        if found.state == OPEN and found.boot != boot_id():
            return "the machine stopped without closing it"
        if found.digest != digest_of(page[:fixed]):
            return "its header is damaged"
        if size != self.size:
            return f"it has {size} bytes, and the cache is to have {self.size}"
        if found.meaning != digest_of(meaning):
            return "what it holds was stored under other rules"
        return None

    def same_boot(self) -> bool:
        """Whether the machine has run on since the store was last in use."""
        found = read_record(os.pread(self._fd, mmap.PAGESIZE, 0))
        return found is not None and found.boot == boot_id()

    def kept(self) -> mmap.mmap:
        """The mapping of what is there."""
        segment.allocate(self._fd, self.size, self.path)  # a copy may have holes
        return segment.mapped(self._fd, self.size)

    def renewed(self) -> mmap.mmap:
        """The mapping of a new file of zeros in the place of this one."""
        if os.fstat(self._fd).st_size:
            self._replace()
        try:
            segment.allocate(self._fd, self.size, self.path)
        except StoreError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
            raise
        return segment.mapped(self._fd, self.size)

    def _replace(self) -> None:
        try:
            os.unlink(self.path)
            fd = _opened(self.path, os.O_EXCL)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(f"cannot replace the cache file {self.path}: {error.strerror}", os.EX_TEMPFAIL) from error
        os.close(self._fd)
        self._fd = fd


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _opened(path: str, flags: int = 0) -> int:
    flags |= os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags, 0o600)
    except OSError as error:
        raise StoreError(
            f"cannot open the cache file {path}: {error.strerror} (a link is not followed)", os.EX_CONFIG
        ) from error
