"""`python -m tests.conformance`: the suite against flyby; exits with 1 below a bar, with 2 when there was no run.

Without options both profiles are run in the hardest form (`forms.py`), with `--all` every form there is. Other options
choose forms: what is not chosen is as in the hardest. `--proxy URL --origin-port N` runs the suite against another
proxy, which must have its origin at port N here, and holds it to no bar but what `--required` and `--optimal` say.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.conformance.forms import WORKERS, Form, forms, standing
from tests.conformance.suite import Suite, SuiteError, default_directory, installed
from tests.conformance.verdicts import BARS, KNOWN_CONTRADICTIONS, Bar, Kind, Report, Test
from tests.edge import NotServing


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description="Runs the HTTP cache test suite.")
    add = parser.add_argument
    add("--profile", action="append", choices=tuple(BARS), help="repeat for more  [default: every profile]")
    add("--workers", action="append", type=int, metavar="N", help="repeat for more  [default: 4]")
    add("--client", action="append", choices=("plain", "tls"), help="repeat for more  [default: tls]")
    add("--origin", action="append", choices=("direct", "tunnel"), help="repeat for more  [default: tunnel]")
    add("--all", action="store_true", help="every form that is not excluded by another option")
    add("--required", type=int, metavar="N", help="the bar: how many required tests must pass")
    add("--optimal", type=int, metavar="N", help="the bar: how many optimal tests must pass")
    add("--suite-dir", type=Path, metavar="DIR", help="the suite's directory  [default: installed from npm]")
    add("--only", default="", metavar="ID", help="run one test and tell what is said in it")
    add("--json", type=Path, metavar="FILE", help="write the suite's results there, by run")
    add("--proxy", metavar="URL", help="run against this proxy instead of flyby")
    add("--origin-port", type=int, default=0, metavar="N", help="where that proxy has its origin")
    return parser.parse_args(arguments)


def tell(title: str, report: Report, seconds: float) -> None:
    print(f"== {title}: {seconds:.0f} s")
    for kind in Kind:
        contradicting = report.contradicting(kind)
        told = f"; {contradicting} of these contradict the RFC" if contradicting else ""
        print(f"   {kind:10} {report.counts(kind)}{told}")
    print(f"   Surrogate-Control (no bar): {', '.join(report.counts(kind, extension=True) for kind in Kind)}")
    for kind in (Kind.REQUIRED, Kind.OPTIMAL, Kind.CHECK):
        for extension in (False, True):
            for line in report.failing(kind, extension=extension):
                print(f"   {kind:8} {line}")
    sys.stdout.flush()


def bar(given: argparse.Namespace, usual: Bar) -> Bar:
    return Bar(
        required=usual.required if given.required is None else given.required,
        optimal=usual.optimal if given.optimal is None else given.optimal,
    )


def chosen(given: argparse.Namespace) -> list[Form]:
    """The forms that the options ask for."""
    profiles = given.profile or tuple(BARS)
    workers = given.workers or (WORKERS if given.all else WORKERS[-1:])
    client = given.client or (("plain", "tls") if given.all else ("tls",))
    origin = given.origin or (("direct", "tunnel") if given.all else ("tunnel",))
    return forms(profiles, workers, [each == "tls" for each in client], [each == "tunnel" for each in origin])


def run_flyby(suite: Suite, tests: dict[str, Test], form: Form, only: str) -> Report:
    with suite.origin() as port, standing(form, port) as proxy:
        return Report(tests, suite.run(proxy.url, only, proxy.authority))


def main() -> int:
    given = options()
    short: list[str] = []
    every: dict[str, object] = {}
    try:
        suite = installed(default_directory()) if given.suite_dir is None else Suite(given.suite_dir)
        tests = suite.tests()
        for form in [None] if given.proxy is not None else chosen(given):
            began = time.monotonic()
            if form is not None:
                title = str(form)
                report = run_flyby(suite, tests, form, given.only)
                asked = bar(given, BARS[form.profile])
            else:
                title = given.proxy
                with ExitStack() as running:
                    running.enter_context(suite.origin(given.origin_port))
                    report = Report(tests, suite.run(given.proxy, given.only))
                asked = bar(given, Bar(required=0, optimal=0))
            if given.only:
                continue
            tell(title, report, time.monotonic() - began)
            every[title] = report.results
            short += [f"{title}: {each}" for each in report.below(asked)]
    except (SuiteError, NotServing) as error:
        print(error, file=sys.stderr)
        return 2
    if given.json is not None:
        given.json.write_text(json.dumps(every, indent=1))
    if every and KNOWN_CONTRADICTIONS:
        print("Left failing because they contradict RFC 9111:")
        for test_id, why in KNOWN_CONTRADICTIONS.items():
            print(f"   {test_id:30} {why}")
    print("\n".join(["Below the bar:", *short]) if short else "Every run is at its bar or above.")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
