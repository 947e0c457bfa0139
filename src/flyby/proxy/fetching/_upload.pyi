"""Types of `_upload.pyx`."""

from flyby.proxy.fetching._asking import Asking
from flyby.proxy.road._exchange import Exchange

class Upload:
    def __init__(self, fetch: Asking, exchange: Exchange) -> None: ...
    @property
    def all_sent(self) -> bool: ...
    def drained(self) -> None: ...
