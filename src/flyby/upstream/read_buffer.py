"""One read buffer for all upstream connections of a loop: what is in it is used up, or copied, before the next read."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

SIZE = 65_536

_buffers: WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = WeakKeyDictionary()


def read_buffer(loop: asyncio.AbstractEventLoop) -> memoryview:
    """The buffer of `loop`."""
    buffer = _buffers.get(loop)
    if buffer is None:
        buffer = _buffers[loop] = memoryview(bytearray(SIZE))
    return buffer
