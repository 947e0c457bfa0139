"""Which forms the options ask for."""

from __future__ import annotations

import pytest

from tests.conformance.__main__ import chosen, options
from tests.conformance.forms import Form


def test_the_hardest_form_is_what_is_run_by_itself() -> None:
    assert chosen(options([])) == [Form("rfc9111", 4, True, True), Form("default", 4, True, True)]


def test_all_forms() -> None:
    every = chosen(options(["--all"]))
    assert len({*every}) == len(every) == 2 * 3 * 2 * 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--workers", "2", "--workers", "1"], {(1, True, True), (2, True, True)}),
        (["--client", "plain"], {(4, False, True)}),
        (["--origin", "direct"], {(4, True, False)}),
        (
            ["--all", "--origin", "direct", "--workers", "1"],
            {(1, False, False), (1, True, False)},
        ),
    ],
)
def test_what_is_chosen(arguments: list[str], expected: set[tuple[int, bool, bool]]) -> None:
    forms = chosen(options(["--profile", "default", *arguments]))
    assert {(each.workers, each.secure, each.tunnel) for each in forms} == expected
    assert {each.profile for each in forms} == {"default"}
    assert len(forms) == len(expected)
