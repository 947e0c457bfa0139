"""Types of `_condition.pyx`; from Python only the tests call it."""

from typing import final

@final
class Conditions:
    def __new__(cls) -> Conditions: ...

def condition(value: bytes, head: bytes) -> int | None: ...
def since(value: bytes, head: bytes) -> bool: ...
