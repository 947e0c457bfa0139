"""The suite's own way of counting: every branch of its `determineTestResult`, and the bar."""

from __future__ import annotations

import pytest

from tests.conformance.verdicts import BARS, KNOWN_CONTRADICTIONS, Bar, Kind, Report, Result, Test, Verdict, verdict

TESTS = {
    test.id: test
    for test in (
        Test("required", Kind.REQUIRED),
        Test("optimal", Kind.OPTIMAL),
        Test("check", Kind.CHECK),
        Test("needs-check", Kind.REQUIRED, ("check",)),
        Test("needs-needs", Kind.OPTIMAL, ("required", "needs-check")),
        Test("browser", Kind.REQUIRED, browser_only=True),
        Test("surrogate", Kind.REQUIRED, extension=True),
    )
}
FAILED = ["Assertion", "Response 2 does not come from cache"]


@pytest.mark.parametrize(
    ("test", "results", "expected"),
    [
        ("required", {}, Verdict.UNTESTED),
        ("required", {"required": True}, Verdict.PASS),
        ("required", {"required": FAILED}, Verdict.FAIL),
        ("required", {"required": ["AbortError", "The user aborted a request."]}, Verdict.FAIL),
        ("required", {"required": ["Setup", "Response 1 status is 502, not 200"]}, Verdict.SETUP_FAIL),
        ("required", {"required": ["Setup", "retry"]}, Verdict.RETRY),
        ("optimal", {"optimal": True}, Verdict.PASS),
        ("optimal", {"optimal": FAILED}, Verdict.OPTIONAL_FAIL),
        ("check", {"check": True}, Verdict.YES),
        ("check", {"check": FAILED}, Verdict.NO),
        ("needs-check", {"needs-check": True, "check": True}, Verdict.PASS),
        ("needs-check", {"needs-check": True, "check": FAILED}, Verdict.DEPENDENCY_FAIL),
        ("needs-check", {"needs-check": ["Setup", "retry"], "check": FAILED}, Verdict.DEPENDENCY_FAIL),
        ("needs-check", {"needs-check": True}, Verdict.DEPENDENCY_FAIL),
        (
            "needs-needs",
            {"needs-needs": True, "required": True, "needs-check": True, "check": FAILED},
            Verdict.DEPENDENCY_FAIL,
        ),
    ],
)
def test_verdict(test: str, results: dict[str, Result], expected: Verdict) -> None:
    assert verdict(TESTS, test, results) is expected


def test_a_report_counts_what_a_proxy_is_asked() -> None:
    report = Report(
        TESTS, {"required": True, "needs-check": True, "check": FAILED, "optimal": FAILED, "surrogate": True}
    )
    assert report.counts(Kind.REQUIRED) == "1 of 2 (1 dependency fail)"
    assert report.counts(Kind.OPTIMAL) == "0 of 2 (1 optional fail, 1 untested)"
    assert report.counts(Kind.REQUIRED, extension=True) == "1 of 1"
    [line] = report.failing(Kind.REQUIRED)
    assert line.split() == ["dependency", "fail", "needs-check", "needs", "check;", "passed", "by", "itself"]


def test_below_the_bar() -> None:
    report = Report(TESTS, {"required": True, "optimal": FAILED})
    assert report.below(Bar(required=1, optimal=0)) == []
    assert report.below(Bar(required=2, optimal=1)) == [
        "1 required tests pass and 0 contradict the RFC, 2 are asked for",
        "0 optimal tests pass, 1 are asked for",
    ]


def test_the_bars_are_those_of_the_goal() -> None:
    assert BARS["rfc9111"] == Bar(157, 84)
    assert BARS["default"] == Bar(153, 0)


@pytest.mark.parametrize("name", KNOWN_CONTRADICTIONS)
def test_a_contradiction_is_named_with_its_section_and_is_no_pass(name: str) -> None:
    report = Report({name: Test(name, Kind.REQUIRED)}, {name: FAILED})
    assert report.passed(Kind.REQUIRED) == 0
    assert report.below(Bar(required=1, optimal=0)) == []
    [line] = report.failing(Kind.REQUIRED)
    assert line.rpartition(" [RFC 9111 ")[2][0] in "45"


def test_no_allowance_is_made_for_optimal_tests() -> None:
    name = "conditional-lm-fresh-no-lm"
    report = Report({name: Test(name, Kind.OPTIMAL)}, {name: FAILED})
    assert report.below(Bar(required=0, optimal=1)) == ["0 optimal tests pass, 1 are asked for"]
