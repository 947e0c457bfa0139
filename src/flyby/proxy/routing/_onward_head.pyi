"""Types of `_onward_head.pyx`."""

from collections.abc import Container

from flyby.wire import WireLimits

def onward_head(
    data: bytes,
    limits: WireLimits,
    host: bytes | None,
    address: bytes,
    port: bytes,
    identity: bytes,
    now_ms: int,
    left_out: Container[bytes] = (),
) -> bytes | None: ...
