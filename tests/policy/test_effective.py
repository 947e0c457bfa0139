"""No field that `Connection` names reaches the origin or a rule, but for those that it cannot take away."""

from __future__ import annotations

import pytest

from flyby.policy import UNKEYED, effective_request, evaluate, variant_key
from flyby.policy.facts import REQUEST_FACTS
from flyby.proxy.routing._upstream_fields import FATES, upstream_fields
from flyby.wire import Fields, RequestHead
from flyby.wire.hop_by_hop import HOP_BY_HOP, PROTECTED
from tests.policy.heads import get

USUAL = [
    b"accept", b"accept-encoding", b"accept-language", b"if-match", b"if-modified-since", b"if-none-match", b"if-range",
    b"if-unmodified-since", b"origin", b"pragma", b"priority", b"referer", b"sec-fetch-site", b"user-agent",
    b"x-device",
]  # fmt: skip
NAMES = sorted({*FATES, *PROTECTED, *UNKEYED, *REQUEST_FACTS, *USUAL})


def onward(fields: Fields) -> Fields:
    """The onward head of a request with these effective fields, as far as it is the client's."""
    head = RequestHead(b"GET", b"/", 11, fields, scheme=b"http", host=b"a", path=b"/")
    return upstream_fields(head, fields, "192.0.2.1", b"80", b"id", b"origin", 0, None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", [b"%b", b"close, %b", b"x , %b,", b"%b, %b"])
def test_a_field_named_by_connection(name: bytes, form: bytes) -> None:
    value = b"the-client-s"
    connection = form % ((name,) * form.count(b"%b"))
    lines = [(b"Host", b"a"), (name.title(), value)] if name != b"host" else [(b"Host", value)]
    fields = Fields([*lines, (b"Connection", connection.upper())])
    effective = effective_request(get(*fields)).fields
    plain = effective_request(get(*lines)).fields
    if name in PROTECTED and name not in HOP_BY_HOP:
        # As if it had not been named.
        assert list(effective) == list(plain)
        assert value in (effective.get(name) or b"")
    else:
        assert name not in effective
    for rule in (variant_key((name,), effective), variant_key((b"x", name), effective)):
        absent = [line for line in lines if line[0].lower() != name]
        without = effective_request(get(*absent)).fields
        same = rule in (variant_key((name,), without), variant_key((b"x", name), without))
        assert same is (name not in effective)
    if name not in effective:
        assert value not in (onward(effective).get(name) or b"")
    assert list(onward(effective)) == list(onward(fields))


def test_what_names_nothing_changes_nothing() -> None:
    lines = [(b"Host", b"a"), (b"Accept", b"b"), (b"Cookie", b"c")]
    for connection in (b"close", b"keep-alive", b"", b",,", b"close, keep-alive"):
        assert list(effective_request(get(*lines, (b"Connection", connection))).fields) == lines


def test_conditions_and_ranges_can_be_taken_away() -> None:
    lines = [(b"If-None-Match", b'"x"'), (b"Range", b"bytes=0-1")]
    stored = Fields([(b"ETag", b'"x"')])
    assert evaluate(effective_request(get(*lines)), stored, 200) == 304
    request = effective_request(get(*lines, (b"Connection", b"if-none-match"), (b"Connection", b"Range")))
    assert evaluate(request, stored, 200) is None
    assert b"range" not in request.fields


def test_names_with_an_underscore_are_absent() -> None:
    fields = effective_request(get((b"X_Forwarded_Host", b"evil"), (b"Accept_Encoding", b"br"), (b"A", b"b"))).fields
    assert list(fields) == [(b"A", b"b")]


def test_the_rest_of_a_request_is_as_it_was() -> None:
    request = get((b"A", b"b"), path=b"/x?y", method=b"PUT")
    effective = effective_request(request)
    for part in ("method", "scheme", "host", "path"):
        assert getattr(effective, part) == getattr(request, part)
