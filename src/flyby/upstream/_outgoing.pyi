"""Types of `_outgoing.pyx`."""

import asyncio
from typing import final

WRITE_HIGH_WATER: int

@final
class Outgoing:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None: ...
