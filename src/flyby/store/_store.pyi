"""The store as the rest of flyby sees it."""

from collections.abc import Callable, Iterable
from typing import Literal, final

from typing_extensions import Buffer

from flyby.clock import Clock
from flyby.store._entry import Entry
from flyby.store._fill import Fill
from flyby.store.statistics import StoreStatistics

@final
class Store:
    @property
    def size(self) -> int: ...
    @property
    def max_object(self) -> int: ...
    @property
    def workers(self) -> int: ...
    @classmethod
    def create(
        cls,
        size: int,
        *,
        path: str | None = None,
        max_object: int | None = None,
        workers: int = 1,
        meaning: bytes = b"",
        compression: Literal["high", "fast", "off"] = "high",
        clock: Clock | None = None,
    ) -> Store: ...
    def join(self, worker: int) -> None: ...
    def sweep(self, worker: int) -> None: ...
    def fileno(self) -> int: ...
    def dispatch(self) -> None: ...
    def close(self) -> None: ...
    def lookup(self, key: bytes, *, counted: bool = True) -> Entry | None: ...
    def put(
        self,
        key: bytes,
        head: bytes,
        body: Buffer,
        status: int,
        flags: int,
        born_ms: int,
        fresh_ms: int,
        swr_s: int,
        sie_s: int,
        *,
        compress: bool = True,
        tags: Iterable[bytes] = (),
        place: tuple[int, int] | None = None,
        since: int | None = None,
        unless_fresh_at: int | None = None,
    ) -> bool: ...
    def refresh(
        self,
        entry: Entry,
        head: bytes,
        flags: int,
        born_ms: int,
        fresh_ms: int,
        swr_s: int,
        sie_s: int,
        *,
        tags: Iterable[bytes] | None = None,
    ) -> bool: ...
    def renew(
        self,
        entry: Entry,
        born_ms: int,
        fresh_ms: int,
        swr_s: int,
        sie_s: int,
        *,
        date: bytes | None = None,
        at: int = 0,
    ) -> bool: ...
    def delete(self, key: bytes, generation: int | None = None) -> bool: ...
    def expire(self, key: bytes, now_ms: int | None = None) -> bool: ...
    def retime(self, key: bytes, now_ms: int, fresh_ms: int) -> bool: ...
    @property
    def has_work(self) -> bool: ...
    def on_work(self, callback: Callable[[], object] | None) -> None: ...
    def pack_some(self) -> bool: ...
    def mark(self) -> int: ...
    def purge_tag(self, tag: bytes, soft: bool = False, now_ms: int | None = None) -> int: ...
    def purge_tags(self, tags: Iterable[bytes], soft: bool = False, now_ms: int | None = None) -> list[int]: ...
    def purge_prefix(
        self, prefix: bytes, place: tuple[int, int], soft: bool = False, now_ms: int | None = None, after: bytes = b""
    ) -> int: ...
    def clear(self, soft: bool = False, now_ms: int | None = None) -> int: ...
    def claim(self, key: bytes, since: int | None = None) -> Fill | None: ...
    def statistics(self) -> StoreStatistics: ...
    def check(self) -> list[str]: ...
