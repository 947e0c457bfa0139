"""What has been tried for one request, and what may be tried still.

    what failed                                          may be sent again
    a dial; the connection closed before the request     any request: nothing was passed on
    the agent in a dyno refused it (`Flyby-Refused`)     any request: nothing was passed on; another dyno is asked
    no byte of a response on a kept or donated           an idempotent one (RFC 9110 9.2.2, RFC 9112 9.3.1); a kept
    connection                                           connection's, on a fresh one; a dyno's, at another dyno
    anything else, or content that is not kept whole     none

All but refusals spend from the backend's retry budget. The answer of an agent that refuses is never shown.
"""

from __future__ import annotations

from flyby.errors import Retry, UpstreamError
from flyby.upstream import Backend, Lease
from flyby.wire import ResponseHead

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
FAILURES = frozenset((502, 503, 504))  # what stands in front of an origin says when that is not there
ATTEMPTS = 3
REFUSALS = 8  # agents that may hand one request back


class Attempts:
    """The tries of one request."""

    __slots__ = ("_backend", "_left", "_method", "_refusals", "fresh", "tried")

    def __init__(self, backend: Backend, method: bytes) -> None:
        self._backend = backend
        self._method = method
        self._left = ATTEMPTS
        self._refusals = REFUSALS
        self.tried: list[str] = []  # addresses that are to be avoided
        self.fresh = False  # a kept connection will not do

    def spend(self, error: UpstreamError, lease: Lease, repeatable: bool) -> bool:
        """Count a try that ended with `error`; True, and a retry spent, when the request may be sent again.

        `repeatable` says whether its content is still there from its first byte on.
        """
        self._left -= 1
        if not self._left or not repeatable:
            return False
        if error.retry is Retry.ALWAYS:
            self.tried.append(lease.origin.address)
        elif error.retry is Retry.NEVER or self._method not in IDEMPOTENT or self.fresh:
            return False
        elif lease.donated:
            self.tried.append(lease.origin.address)
        else:
            self.fresh = True
        return self._backend.retries.spend()

    def spend_refusal(self, lease: Lease, repeatable: bool) -> bool:
        """Count an agent that has handed the request back; True when another may be asked."""
        self._refusals -= 1
        self.tried.append(lease.origin.address)
        return repeatable and self._refusals > 0


def is_refusal(head: ResponseHead) -> bool:
    """Whether this is an agent's word that it could not pass the request on."""
    return head.status == 503 and b"flyby-refused" in head.fields


def nobody() -> UpstreamError:
    """Every agent that was asked has handed the request back."""
    return UpstreamError(503, "refused", "destination_unavailable", "no dyno takes requests at the moment")
