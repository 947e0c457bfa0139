"""The store's C face; from Python only the tests call it."""

from typing_extensions import Buffer

from flyby.store._fill import Fill
from flyby.store._store import Store

def found_by(
    store: Store, key: bytes, counted: bool = True
) -> tuple[tuple[bytes, int, int, int, int, int, int, int], Buffer | None] | None: ...
def followed_by(
    store: Store, key: bytes, own: bool = False
) -> tuple[Fill, tuple[bool, int, int, int, bool], bool] | None: ...
