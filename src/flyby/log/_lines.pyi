"""Types of `_lines.pyx`; what a hit calls is for Cython alone."""

from typing import Final, final

FLUSH_BYTES: Final[int]
MAX_WAITING: Final[int]

@final
class Lines:
    awaited: bool
    dropped: int
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def use(self, name: str) -> None: ...
    @property
    def due(self) -> bool: ...
    def wait(self) -> None: ...
    def whole(self, most: int) -> int: ...
    def drop(self, length: int) -> None: ...
    def add(self, line: bytes) -> None: ...
    def hit_line(
        self,
        time_ms: int,
        method: bytes,
        host: bytes,
        path: bytes,
        status: int,
        sent: int,
        duration_us: int,
        client: bytes,
        user_agent: bytes,
        referer: bytes,
        outcome: str = "",
        reason: str = "",
    ) -> None: ...

def console_words(outcome: str, reason: str) -> tuple[bytes, bytes]: ...
