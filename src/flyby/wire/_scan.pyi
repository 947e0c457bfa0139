"""Types of `_scan.pyx`; Python code sees an opaque scanner."""

from typing import final

from flyby.wire.limits import Side, WireLimits

@final
class FieldSection:
    def __init__(self, limits: WireLimits, side: Side) -> None: ...
