"""Types of `_range.pyx`."""

from typing import Final

MAX_PARTS: Final[int]

def specs(value: bytes) -> list[tuple[int | None, int]] | None: ...
def within(value: bytes, length: int) -> list[tuple[int, int]] | None: ...
