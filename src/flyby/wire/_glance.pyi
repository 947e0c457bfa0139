"""Types of `_glance.pyx`; only the tests call it from Python."""

from flyby.wire.limits import WireLimits

def glance_at(
    data: bytes, limits: WireLimits, scheme: bytes
) -> tuple[int, bytes, bytes, bytes, list[tuple[bytes, bytes]]] | None: ...
