"""Types of `_plain.pyx`."""

from collections.abc import Iterable

from flyby.wire.limits import WireLimits

def plain_names(not_passed: Iterable[bytes], noted: Iterable[bytes], never: Iterable[bytes]) -> dict[bytes, int]: ...
def plain_at(data: bytes, limits: WireLimits) -> tuple[int, int, bytes, int, list[tuple[bytes, bytes]]] | None: ...
