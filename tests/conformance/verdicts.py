"""What each result of the suite counts as, and what is enough.

The client writes `true` or `[error, message]` for each test. What that counts as is decided here as the suite's own
`determineTestResult` (lib/display.mjs) decides it: a test counts for nothing when one that it depends on has not passed
or when its set-up failed; a required test passes or fails; an optimal one passes or does not; a check only informs.

Surrogate-Control is an extension that the suite runs but does not list among its tests of HTTP: it is counted by itself
and has no bar.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

_AGE = (
    "RFC 9111 5.1: of a list of Ages the first counts, and one that is no number is ignored, so the response is fresh; "
    "the test asks for stale (the suite's later editions ask for fresh)"
)
_DISCONNECT = (
    "RFC 9111 4.2.4, 5.2.2: the cache that may not serve stale generates an error; the test takes only a response with "
    "the origin's own request count, when the origin has closed without one (the suite's later editions take the error)"
)
_OTHER_TAG = (
    "RFC 9111 4.3.4: a 304 with a strong entity tag that no stored response has updates none, so the whole is fetched; "
    "the test takes the second request to the origin for a repetition, and asks for the stored one with the new tag"
)

# Tests that ask for what RFC 9111 does not allow, or against what it says should be. They are left failing; a required
# one does not count against the bar, as long as it is named here with its section.
KNOWN_CONTRADICTIONS = {
    "age-parse-nonnumeric": _AGE,
    "age-parse-negative": _AGE,
    "age-parse-float": _AGE,
    "age-parse-prefix-twoline": _AGE,
    "age-parse-dup-0": _AGE,
    "age-parse-dup-0-twoline": _AGE,
    "age-parse-dup-old": _AGE,
    "age-parse-parameter": _AGE,
    "age-parse-numeric-parameter": _AGE,
    "stale-close-must-revalidate": _DISCONNECT,
    "stale-close-proxy-revalidate": _DISCONNECT,
    "stale-close-no-cache": _DISCONNECT,
    "stale-close-s-maxage=2": _DISCONNECT,
    "304-etag-update-response-ETag": _OTHER_TAG,
    "conditional-lm-fresh-no-lm": (
        "RFC 9111 4.3.2: without a Last-Modified, If-Modified-Since is compared with the stored Date, which is 3000 s "
        "later than what the test sends, so the answer is 200; it asks for 304 (http-tests/cache-tests#204)"
    ),
}

REQUIRED_TESTS = 157
OPTIMAL_TESTS = 86


@dataclass(frozen=True)
class Bar:
    required: int
    optimal: int


BARS = {
    "rfc9111": Bar(required=REQUIRED_TESTS, optimal=84),
    "default": Bar(required=153, optimal=0),
}


class Kind(StrEnum):
    REQUIRED = "required"
    OPTIMAL = "optimal"
    CHECK = "check"


class Verdict(StrEnum):
    UNTESTED = "untested"
    PASS = "pass"
    FAIL = "fail"
    OPTIONAL_FAIL = "optional fail"
    YES = "yes"
    NO = "no"
    SETUP_FAIL = "setup fail"
    DEPENDENCY_FAIL = "dependency fail"
    RETRY = "retry"


GOOD = (Verdict.PASS, Verdict.YES)

Result = bool | list[str]


@dataclass(frozen=True)
class Test:
    __test__ = False  # not one of pytest's

    id: str
    kind: Kind
    depends_on: tuple[str, ...] = ()
    browser_only: bool = False  # a proxy is not asked
    extension: bool = False


def verdict(tests: Mapping[str, Test], test_id: str, results: Mapping[str, Result]) -> Verdict:
    """`determineTestResult`: what a test's result counts as."""
    test = tests[test_id]
    result = results.get(test_id)
    if result is None:
        return Verdict.UNTESTED
    if any(verdict(tests, dependency, results) not in GOOD for dependency in test.depends_on):
        return Verdict.DEPENDENCY_FAIL
    if isinstance(result, list) and result[0] == "Setup":
        return Verdict.RETRY if result[1] == "retry" else Verdict.SETUP_FAIL
    passed = result is True
    if test.kind is Kind.REQUIRED:
        return Verdict.PASS if passed else Verdict.FAIL
    if test.kind is Kind.OPTIMAL:
        return Verdict.PASS if passed else Verdict.OPTIONAL_FAIL
    return Verdict.YES if passed else Verdict.NO


@dataclass
class Report:
    """One run of the suite."""

    tests: Mapping[str, Test]
    results: Mapping[str, Result]

    def verdicts(self, kind: Kind, *, extension: bool = False) -> dict[str, Verdict]:
        return {
            test.id: verdict(self.tests, test.id, self.results)
            for test in self.tests.values()
            if test.kind is kind and test.extension is extension and not test.browser_only
        }

    def passed(self, kind: Kind, *, extension: bool = False) -> int:
        return sum(each in GOOD for each in self.verdicts(kind, extension=extension).values())

    def counts(self, kind: Kind, *, extension: bool = False) -> str:
        """As in "150 of 157 (4 fail, 3 dependency fail)"."""
        verdicts = self.verdicts(kind, extension=extension)
        others = Counter(each for each in verdicts.values() if each not in GOOD)
        told = ", ".join(f"{number} {each}" for each, number in others.most_common())
        return f"{self.passed(kind, extension=extension)} of {len(verdicts)}" + (f" ({told})" if told else "")

    def failing(self, kind: Kind, *, extension: bool = False) -> list[str]:
        """A line for each test of this kind that did not pass: what it counts as, and what the suite says of it."""
        lines = []
        for test_id, each in self.verdicts(kind, extension=extension).items():
            if each in GOOD:
                continue
            result = self.results.get(test_id)
            said = f"{result[0]}: {result[1]}" if isinstance(result, list) else "passed by itself" if result else ""
            if each is Verdict.DEPENDENCY_FAIL:
                said = f"needs {', '.join(self.tests[test_id].depends_on)}; {said}"
            if test_id in KNOWN_CONTRADICTIONS:
                said += f" [{KNOWN_CONTRADICTIONS[test_id].partition(':')[0]}]"
            lines.append(f"{each.value:16} {test_id:52} {said}")
        return lines

    def contradicting(self, kind: Kind) -> int:
        """How many did not pass that are named as contradicting the RFC."""
        return sum(
            each not in GOOD and test_id in KNOWN_CONTRADICTIONS for test_id, each in self.verdicts(kind).items()
        )

    def below(self, bar: Bar) -> list[str]:
        """What is missing to the bar, a sentence for each kind. Only required contradictions are made allowance for."""
        short = []
        allowance = self.contradicting(Kind.REQUIRED)
        if self.passed(Kind.REQUIRED) + allowance < bar.required:
            passed = f"{self.passed(Kind.REQUIRED)} required tests pass and {allowance} contradict the RFC"
            short.append(f"{passed}, {bar.required} are asked for")
        if self.passed(Kind.OPTIMAL) < bar.optimal:
            short.append(f"{self.passed(Kind.OPTIMAL)} optimal tests pass, {bar.optimal} are asked for")
        return short
