"""Types of `_scan.pyx`; Python code sees an opaque scanner."""

from typing import Self, final

from flyby.wire.limits import Side, WireLimits

@final
class FieldSection:
    def __new__(cls, limits: WireLimits, side: Side) -> Self: ...
