"""Types of `_selection.pyx`; only Cython calls it."""

from typing import final

@final
class Selection:
    def __new__(cls) -> Selection: ...
