"""What becomes of a response whose head has come: one pure decision, carried out by the fetch.

    FRESHEN    a 304 to our own validators: what is stored is still right
    AGAIN      a 304 that speaks of another response than the stored one: the whole is asked for
    STAND_IN   a failure, and something stale that may be sent in its place
    STORE      by the plan
    PASS       to the client alone, for the reason; without one, its kind could be stored

The first three need no policy (`before_policy`); the others follow from what it says (`by_policy`).
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from flyby.policy import Plan, Reason
from flyby.wire import RequestHead


class Action(enum.Enum):
    """What a fetch does with its response."""

    FRESHEN = "freshen"
    AGAIN = "again"
    STAND_IN = "stand-in"
    STORE = "store"
    PASS = "pass"


class Verdict(NamedTuple):
    """An action, with the plan of what is stored, or the reason why it is not."""

    action: Action
    plan: Plan | None = None
    reason: Reason | None = None


FRESHEN = Verdict(Action.FRESHEN)
AGAIN = Verdict(Action.AGAIN)
STAND_IN = Verdict(Action.STAND_IN)


def before_policy(status: int, validating: bool, speaks_of_it: bool, stale_may_stand_in: bool) -> Verdict | None:
    """The verdicts that no policy is asked for; None for all others.

    `validating` says that the request had validators of a stored response, `speaks_of_it` that a 304 is about that one
    (RFC 9111 4.3.4), `stale_may_stand_in` that it may be sent in place of a response with `status`.
    """
    if validating and status == 304:
        return FRESHEN if speaks_of_it else AGAIN
    if stale_may_stand_in:
        return STAND_IN
    return None


def by_policy(request: RequestHead, status: int, plan: Plan | Reason, too_large: bool) -> Verdict:
    """The verdict on a response that policy has judged; `too_large` says that it would outgrow the store again."""
    if isinstance(plan, Reason):
        return Verdict(Action.PASS, None, plan)
    if request.method == b"HEAD" or status == 304:
        return Verdict(Action.PASS)
    if too_large:
        return Verdict(Action.PASS, None, Reason.TOO_LARGE)
    return Verdict(Action.STORE, plan)
