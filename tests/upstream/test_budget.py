"""The retry budget: a crowd may be retried once, a failing origin not for ever."""

from __future__ import annotations

from flyby.upstream.budget import EARNED, PURSE, RetryBudget


def test_a_full_purse_and_then_a_fifth_of_the_requests() -> None:
    budget = RetryBudget()
    assert sum(budget.spend() for _ in range(1000)) == PURSE
    assert not budget.spend()
    retried = 0
    for _ in range(1000):
        budget.earn()
        retried += budget.spend()
    assert abs(retried - 1000 * EARNED) <= 1


def test_the_purse_has_an_end() -> None:
    budget = RetryBudget()
    for _ in range(10_000):
        budget.earn()
    assert sum(budget.spend() for _ in range(1000)) <= PURSE + 1
    assert repr(RetryBudget()) == "<RetryBudget 256>"
