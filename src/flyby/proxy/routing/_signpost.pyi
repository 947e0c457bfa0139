"""Types of `_signpost.pyx`."""

from collections.abc import Sequence
from typing import final

from flyby.policy import CacheRules
from flyby.proxy.routing.router import Sign

@final
class Signpost:
    def __new__(cls, signs: Sequence[tuple[Sign, CacheRules]], scheme: bytes) -> Signpost: ...
    @property
    def backends(self) -> list[str]: ...
    @property
    def rules(self) -> list[CacheRules]: ...
    def choice(self, host: bytes, path: bytes) -> int | None: ...
