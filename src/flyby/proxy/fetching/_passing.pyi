"""Types of `_passing.pyx`."""

from flyby.policy import Outcome, Reason
from flyby.proxy.fetching._answer import Answer
from flyby.proxy.fetching._relay import Relay
from flyby.proxy.decision.exchange import Exchange

def status_field(
    outcome: Outcome, why: Reason, fwd_status: int, stored: bool = False, detail: str | None = None
) -> bytes: ...
def send(exchange: Exchange | Relay, answer: Answer, status: bytes) -> None: ...
