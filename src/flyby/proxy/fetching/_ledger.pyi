"""Types of `_ledger.pyx`."""

from typing import final

from flyby.log import AccessLog

@final
class Ledger:
    def __init__(self, log: AccessLog | None, logged: bool, row: int) -> None: ...
