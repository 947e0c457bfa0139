"""Types of `_plain.pyx`."""

from collections.abc import Iterable, Sequence

from flyby.wire.limits import WireLimits

def plain_names(not_passed: Iterable[bytes], noted: Sequence[bytes], never: Iterable[bytes]) -> dict[bytes, int]: ...
def plain_at(
    data: bytes,
    limits: WireLimits,
    noted: Sequence[bytes] = (),
    not_passed: Iterable[bytes] = (),
    asked_head: bool = False,
    plain: bool = False,
) -> (
    tuple[
        int,
        int,
        bytes,
        tuple[int, int],
        bool,
        list[tuple[bytes, bytes]],
        list[bool],
        dict[bytes, tuple[bytes, bool]],
    ]
    | None
): ...
