"""The cache that a configuration asks for.

A cache with a path outlives its process, and with it the code and the rules that filled it. What is stored is kept
only by who would have stored it in the same way: the same format of keys, heads and flags, and the same profile.
"""

from __future__ import annotations

from flyby.config import Cache
from flyby.policy import STORED_FORMAT
from flyby.store import Store


def open_store(cache: Cache, workers: int = 1) -> Store:
    """Made anew, or kept. Raises `StoreError`."""
    return Store.create(
        cache.size_bytes,
        path=cache.path,
        max_object=cache.max_object_bytes,
        workers=workers,
        meaning=f"format {STORED_FORMAT}, profile {cache.profile}".encode(),
        compression=cache.compression,
    )
