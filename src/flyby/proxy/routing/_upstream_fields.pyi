"""Types of `_upstream_fields.pyx`."""

from collections.abc import Container

from flyby.wire import Fields, RequestHead

CDN_ID: bytes
VIA: bytes
OURS: tuple[bytes, ...]
FATES: dict[bytes, int]
HOPS_SAID: tuple[bytes, ...]

def _forget() -> None: ...
def upstream_fields(
    request: RequestHead,
    given: Fields,
    address: str,
    port: bytes,
    identity: bytes,
    host: bytes,
    now_ms: int,
    left_out: Container[bytes] | None,
) -> Fields: ...
