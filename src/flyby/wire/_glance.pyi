"""Types of `_glance.pyx`; only the tests call it from Python."""

from flyby.wire.limits import WireLimits

def glance_at(
    data: bytes, limits: WireLimits, scheme: bytes, plain: bool = False
) -> (
    tuple[
        int,
        bytes,
        bytes,
        bytes,
        list[tuple[bytes, bytes]],
        tuple[int, int],
        tuple[bool, bool],
        dict[bytes, bytes],
    ]
    | None
): ...
