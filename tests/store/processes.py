"""Worker processes for the store's plays: forked, joined, and ended in every way there is."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import traceback
from collections.abc import Callable
from typing import NoReturn

from flyby.store import Store


class Worker:
    """A forked process that plays `story(store, worker)` as one worker of the store."""

    def __init__(self, store: Store, number: int, story: Callable[[Store, Worker], object]) -> None:
        self.number = number
        self.store = store
        self._news, self._tell = os.pipe()
        self._order, self._hear = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._play(story)

    def _play(self, story: Callable[[Store, Worker], object]) -> NoReturn:
        code = 1
        try:
            self.store.join(self.number)
            story(self.store, self)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    # ---- in the worker ----

    def say(self, word: bytes = b".") -> None:
        """One byte to the parent."""
        os.write(self._tell, word)

    def wait(self) -> bytes:
        """One byte from the parent."""
        return os.read(self._order, 1)

    # ---- in the parent ----

    def heard(self) -> bytes:
        """One byte from the worker; none when it has not spoken for 20 seconds."""
        ready, _, _ = select.select([self._news], [], [], 20)
        return os.read(self._news, 1) if ready else b""

    def tell(self, word: bytes = b".") -> None:
        os.write(self._hear, word)

    def kill(self) -> None:
        """End it as nobody expects, and sweep up after it."""
        os.kill(self.pid, signal.SIGKILL)
        self._reap()
        self.store.sweep(self.number)

    def join(self) -> int:
        """Wait for its end; its exit code."""
        return self._reap()

    def _reap(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        for fd in (self._news, self._tell, self._order, self._hear):
            with contextlib.suppress(OSError):
                os.close(fd)
        return os.waitstatus_to_exitcode(status)


def pack(store: Store, *keys: bytes) -> None:
    """Hit these objects, and do all the packing that is to be done, a slice at a time."""
    for key in keys:
        store.lookup(key)
    while store.pack_some():
        assert store.has_work
    assert not store.has_work


def until(store: Store, done: Callable[[], bool], seconds: float = 20) -> bool:
    """Wait on the store's bell, as an event loop would, until `done()`."""
    while not done():
        ready, _, _ = select.select([store.fileno()], [], [], seconds)
        if not ready:
            return False
        store.dispatch()
    return True
