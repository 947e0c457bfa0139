"""A Template depends on Facts alone, Facts on the fields that are named, times on theirs; `storable` is the sum."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyby.policy import (
    REQUEST_FACTS,
    RESPONSE_FACTS,
    RESPONSE_VALUES,
    TIME_FIELDS,
    CacheRules,
    Plan,
    Reason,
    facts_of,
    plan_template,
    stamps_of,
    storable,
    template_for,
    times,
)
from flyby.wire import Fields
from tests.policy.heads import DEFAULT, LETTER, NOW_MS, Request, Response, at

RULES = [DEFAULT, LETTER, CacheRules.compile(ttl_s=9, set_cookie="strip"), CacheRules(strip_tags=False, targeted=())]
TARGETED = (b"cdn-cache-control", b"surrogate-control")
OTHER = [
    b"x-a",
    b"server",
    b"link",
    b"content-type",
    b"content-encoding",
    b"content-language",
    b"via",
    b"x-forwarded-for",
]
VALUES = st.sampled_from(
    [
        *(
            b"",
            b"x",
            b"5",
            b"0",
            b'"x"',
            b"a, b",
            b"max-age=60",
            b"no-store",
            b"no-cache",
            b"private",
            b"public, s-maxage=9",
        ),
        *(b'no-cache="x-a"', b"max-age=0, stale-if-error=9", b"bytes 0-4/10", b"/a/b?c=d", b"*", b"cookie"),
        *(at(0), at(-9000), at(90), b"tomorrow"),
    ]
)
REQUEST_NAMES = st.sampled_from([*REQUEST_FACTS, *OTHER, b"accept", b"if-none-match"])
RESPONSE_NAMES = st.sampled_from([*RESPONSE_FACTS, *RESPONSE_VALUES, *TARGETED, *TIME_FIELDS, *OTHER])
STATUSES = st.sampled_from([101, 200, 200, 200, 204, 206, 301, 302, 304, 404, 429, 500, 503])


def fields_of(names: st.SearchStrategy[bytes]) -> st.SearchStrategy[Fields]:
    return st.lists(st.tuples(names, VALUES), max_size=6).map(Fields)


requests = st.builds(
    Request,
    fields=fields_of(REQUEST_NAMES),
    method=st.sampled_from([b"GET", b"GET", b"HEAD", b"POST"]),
    path=st.sampled_from([b"/a/b?c=d", b"/a/../b"]),
)
responses = st.builds(Response, status=STATUSES, fields=fields_of(RESPONSE_NAMES))


def merged(fields: Fields, other: Fields, own: tuple[bytes, ...]) -> Fields:
    """The lines of `fields` that `own` names, with all lines of `other` that it does not."""
    kept = [line for line in fields if line[0] in own]
    return Fields([line for line in other if line[0] not in own] + kept)


@given(requests, responses, fields_of(REQUEST_NAMES), fields_of(RESPONSE_NAMES), st.sampled_from(RULES))
def test_no_other_field_changes_a_template(
    request: Request, response: Response, asked: Fields, said: Fields, rules: CacheRules
) -> None:
    facts = facts_of(request, response, rules)
    if response.status < 400:
        # Of an error every field of the request counts.
        request = Request(merged(request.fields, asked, REQUEST_FACTS), request.method, path=request.path)
    names = (*RESPONSE_FACTS, *RESPONSE_VALUES, *rules.targeted)
    other = Response(response.status, merged(response.fields, said, names))
    assert facts_of(request, other, rules) == facts
    assert plan_template(facts_of(request, other, rules), rules) == plan_template(facts, rules)


@given(responses, fields_of(RESPONSE_NAMES), st.sampled_from(RULES))
def test_no_other_field_changes_the_times(response: Response, said: Fields, rules: CacheRules) -> None:
    template = plan_template(facts_of(Request(), response, rules), rules)
    if not isinstance(template, Reason):
        other = merged(response.fields, said, TIME_FIELDS)
        known = times(template, stamps_of(response.fields), NOW_MS, NOW_MS + 5)
        assert times(template, stamps_of(other), NOW_MS, NOW_MS + 5) == known


@given(requests, responses, st.sampled_from(RULES))
def test_a_template_serves_every_response_of_its_facts(request: Request, response: Response, rules: CacheRules) -> None:
    whole = storable(request, response, request_ms=NOW_MS, response_ms=NOW_MS + 5, rules=rules)
    remembered = {facts_of(request, response, rules): plan_template(facts_of(request, response, rules), rules)}
    template = remembered[facts_of(request, response, rules)]
    if isinstance(template, Reason):
        assert whole is template
        return
    known = times(template, stamps_of(response.fields), NOW_MS, NOW_MS + 5)
    if isinstance(known, Reason):
        assert whole is known
        return
    assert isinstance(whole, Plan)
    assert (whole.times, whole.flags) == known
    assert whole.vary == template.vary
    assert whole.withheld <= template.withheld
    gone = template.dropped | template.withheld
    assert all(name.lower() not in gone for name, _ in whole.head)


@given(requests, responses, st.sampled_from(RULES))
def test_what_is_remembered_is_what_would_be_decided(request: Request, response: Response, rules: CacheRules) -> None:
    facts = facts_of(request, response, rules)
    for _ in range(2):
        assert template_for(facts, rules) == plan_template(facts, rules)


def test_long_values_are_not_remembered() -> None:
    for length, same in ((100, True), (2000, False)):
        response = Response(200, Fields([(b"Cache-Control", b"max-age=60, x=" + b"y" * length)]))
        facts = facts_of(Request(), response, LETTER)
        assert (template_for(facts, LETTER) is template_for(facts, LETTER)) is same


@pytest.mark.parametrize("name", [*REQUEST_FACTS])
def test_every_fact_of_a_request_is_one(name: bytes) -> None:
    value = b"no-store" if name == b"cache-control" else b"5"
    plain = facts_of(Request(), Response(200, Fields()), LETTER)
    assert facts_of(Request(Fields([(name, value)])), Response(200, Fields()), LETTER) != plain


@pytest.mark.parametrize("name", [*RESPONSE_FACTS, *RESPONSE_VALUES, *TARGETED])
def test_every_fact_of_a_response_is_one(name: bytes) -> None:
    value = {b"content-range": b"bytes 0-4/10", b"content-length": b"7"}.get(name, b"/a/b?c=d")
    for request, status, lines in (
        (Request(), 200, []),
        (Request(Fields([(b"range", b"bytes=0-")])), 200, []),
        (Request(), 206, [(b"content-range", b"bytes 0-4/10")] if name == b"content-length" else []),
        (Request(method=b"POST"), 301, []),
    ):
        plain = facts_of(request, Response(status, Fields(lines)), LETTER)
        if facts_of(request, Response(status, Fields([*lines, (name, value)])), LETTER) != plain:
            return
    pytest.fail(f"{name!r} changes nothing")
