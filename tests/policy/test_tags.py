"""The tags of a response, by the grammar of their two fields; what passes the limits is not stored."""

from __future__ import annotations

import pytest

from flyby.policy import MAX_TAG, MAX_TAGS, CacheRules, Reason, is_tag, named_tags, response_tags
from flyby.wire import Fields
from tests.policy.heads import answer, decide, planned

KEY, LABEL = b"Surrogate-Key", b"Cache-Tag"


@pytest.mark.parametrize(
    ("lines", "tags"),
    [
        ([], ()),
        ([(KEY, b"")], ()),
        ([(KEY, b" \t ")], ()),
        ([(KEY, b"a")], (b"a",)),
        ([(KEY, b"a b\tc  d")], (b"a", b"b", b"c", b"d")),
        ([(KEY, b"a,b c")], (b"a,b", b"c")),
        ([(KEY, b"a"), (KEY, b"b")], (b"a", b"b")),
        ([(KEY, b"a b a")], (b"a", b"b")),
        ([(KEY, b"A a")], (b"A", b"a")),
        ([(KEY, b"caf\xc3\xa9 \xff")], (b"caf\xc3\xa9", b"\xff")),
        ([(KEY, b'"quoted tag" k=v;x')], (b'"quoted', b'tag"', b"k=v;x")),
        ([(LABEL, b"a,b , c")], (b"a", b"b", b"c")),
        ([(LABEL, b",,a,, ,b,")], (b"a", b"b")),
        ([(LABEL, b"a b,c")], (b"a", b"b", b"c")),
        ([(LABEL, b"+,-,.")], (b"+", b"-", b".")),
        ([(KEY, b"a b"), (LABEL, b"b,c")], (b"a", b"b", b"c")),
        ([(LABEL, b"z"), (KEY, b"a")], (b"a", b"z")),
        ([(KEY, b"t" * MAX_TAG)], (b"t" * MAX_TAG,)),
        ([(KEY, b"t" * (MAX_TAG + 1))], None),
        ([(LABEL, b"ok," + b"t" * (MAX_TAG + 1))], None),
        ([(KEY, b" ".join(b"%d" % n for n in range(MAX_TAGS)))], tuple(b"%d" % n for n in range(MAX_TAGS))),
        ([(KEY, b" ".join(b"%d" % n for n in range(MAX_TAGS))), (LABEL, b"one-more")], None),
    ],
)
def test_tags_of_a_response(lines: list[tuple[bytes, bytes]], tags: tuple[bytes, ...] | None) -> None:
    assert response_tags(Fields(lines)) == tags


@pytest.mark.parametrize(
    ("value", "tags"),
    [(b"", ()), (b"a", (b"a",)), (b" a  b a ", (b"a", b"b")), (b"a,b", (b"a,b",)), (b"x" * (MAX_TAG + 1), None)],
)
def test_tags_that_a_purge_names(value: bytes, tags: tuple[bytes, ...] | None) -> None:
    assert named_tags(value) == tags


@pytest.mark.parametrize(
    ("tag", "sound"),
    [
        (b"a", True),
        (b"a,b", True),
        (b"", False),
        (b"a b", False),
        (b"a\n", False),
        (b"\0a", False),
        (b"x" * 1025, False),
    ],
)
def test_what_is_one_tag(tag: bytes, sound: bool) -> None:
    assert is_tag(tag) is sound


@pytest.mark.parametrize("strip", [True, False])
def test_a_plan_has_the_tags_and_strips_their_fields_if_told_to(strip: bool) -> None:
    fields = [(b"Cache-Control", b"max-age=60"), (KEY, b"a"), (LABEL, b"b"), (b"X-Key", b"stays")]
    plan = planned(answer(*fields), rules=CacheRules.compile(strip_tags=strip))
    assert plan.tags == (b"a", b"b")
    assert (b"surrogate-key" in plan.head) is not strip
    assert (b"cache-tag" in plan.head) is not strip
    assert plan.head.get(b"x-key") == b"stays"


def test_a_response_that_not_all_of_its_tags_would_find_is_not_stored() -> None:
    tags = b" ".join(b"%d" % n for n in range(MAX_TAGS + 1))
    assert decide(answer((b"Cache-Control", b"max-age=60"), (KEY, tags))) is Reason.TAGS
