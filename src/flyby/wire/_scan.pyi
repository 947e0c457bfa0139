"""Types of `_scan.pyx`; Python code sees an opaque scanner and the check of the opposite direction."""

from typing import Self, final

from flyby.wire._fields import Fields
from flyby.wire.limits import Side, WireLimits

@final
class FieldSection:
    def __new__(cls, limits: WireLimits, side: Side) -> Self: ...

def unwritable(fields: Fields) -> bytes | None: ...
