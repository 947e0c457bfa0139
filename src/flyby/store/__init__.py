"""The shared-memory object cache: bytes, digests and times, no HTTP rules.

`Store` is the cache, `Entry` what a lookup finds, `Fill` a fetch under way that one process writes and all may read,
`StoreView` a look from outside, `Partials` a space for a program's own bytes.
The layout of the memory, with the rules that keep it whole, stands in `_layout.pxd`; allocation in `_arena`, the index
and its repair in `_shard`, S3-FIFO in `_eviction`, locks and pins in `_guard`, the table of fetches in `_inflight`,
fetches that outgrow the store in `_window`, packing in `_packing`. Other packages' extensions cimport `_serve` alone.
"""

from __future__ import annotations

from typing import Final

from flyby.store._entry import Entry
from flyby.store._fill import Fill
from flyby.store._store import Store
from flyby.store._view import StoreView
from flyby.store.partials import Partials
from flyby.store.statistics import StoreStatistics

# A Fill's states, in the only order in which they follow one another.
EMPTY: Final = 0
HEAD: Final = 1
STREAMING: Final = 2
COMPLETE: Final = 3
FAILED: Final = 4

# Why a Fill FAILED, where the store itself is the reason; others are the owner's to define.
LOST: Final = 0
UNSTORABLE: Final = 1

__all__ = [
    "COMPLETE",
    "EMPTY",
    "FAILED",
    "HEAD",
    "LOST",
    "STREAMING",
    "UNSTORABLE",
    "Entry",
    "Fill",
    "Partials",
    "Store",
    "StoreStatistics",
    "StoreView",
]
