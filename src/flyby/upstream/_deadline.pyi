"""Types of `_deadline.pyx`."""

import asyncio
from collections.abc import Callable
from typing import final

@final
class Deadline:
    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None: ...
    def _on_timer(self) -> None: ...
