"""What the fast lane writes and judges itself is what the long way does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyby.policy import Outcome, cache_status, evaluate
from flyby.proxy.stored import hit
from flyby.proxy.stored._condition import condition, since
from flyby.proxy.stored._reply import MOST_ROOM as MOST_ADDED
from flyby.proxy.stored._reply import added, partial, unmodified, value_of
from flyby.wire import REASONS, Fields, RequestHead, serialise_response

LINES = [
    b'ETag: "a"',
    b'etag: W/"a"',
    b'ETAG: "b"',
    b"ETag: a",
    b"ETag: ",
    b"X-ETag: \"a\"",
    b"Date: Thu, 01 Jan 2026 00:00:00 GMT",
    b"Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT",
    b"last-modified: Fri, 02 Jan 2015 00:00:00 GMT",
    b"Last-Modified: yesterday",
    b"Cache-Control: max-age=60",
    b"CDN-Cache-Control: max-age=60",
    b"Content-Location: /x",
    b"Expires: 0",
    b"Vary: X",
    b"Via: 1.1 a",
    b"Server: floor",
    b"Content-Type: text/plain",
    b"Date-: x",
]  # fmt: skip
TAGS = [
    b'"a"',
    b'W/"a"',
    b'"b"',
    b'""',
    b"a",
    b"*",
    b'"a", "b"',
    b'"a',
    b'a"',
    b'"a"b"',
    b"W/a",
    b'"\xe9"',
    b'"\x7f"',
    b'" "',
]
heads = st.lists(st.sampled_from(LINES), max_size=6).map(lambda lines: b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b""]))


def asked(name: bytes, value: bytes) -> RequestHead:
    fields = Fields([(b"Host", b"a"), (name, value)])
    return RequestHead(b"GET", b"/", 11, fields, scheme=b"http", host=b"a", path=b"/")


@given(heads)
def test_the_head_of_a_304(head: bytes) -> None:
    assert unmodified(head) == hit.head_304(hit.stored_fields(head))


@given(heads, st.sampled_from(TAGS))
def test_one_entity_tag(head: bytes, tag: bytes) -> None:
    verdict = condition(tag, head)
    if verdict is not None:
        expected = evaluate(asked(b"If-None-Match", tag), hit.stored_fields(head), 200)
        assert verdict == (expected or 200)


@given(heads, st.sampled_from([line.partition(b": ")[2] for line in LINES]))
def test_the_same_date(head: bytes, date: bytes) -> None:
    if since(date, head) and date.endswith(b"GMT"):
        assert evaluate(asked(b"If-Modified-Since", date), hit.stored_fields(head), 200) == 304


@pytest.mark.parametrize("tag", TAGS[:4])
def test_a_good_tag_is_judged(tag: bytes) -> None:
    assert condition(tag, b'HTTP/1.1 200 OK\r\nETag: "a"\r\n') in (200, 304)


@given(st.integers(0, 1 << 33), st.integers(0, 1 << 40), st.booleans(), st.integers(-1, 1 << 40))
def test_what_is_added(age_s: int, ttl_s: int, guessed: bool, length: int) -> None:
    status = cache_status(Outcome.HIT, ttl_s=ttl_s, detail="guessed" if guessed else None)
    framing = b"" if length < 0 else b"Content-Length: %d\r\n" % length
    assert added(age_s, ttl_s, guessed, length) == hit.age_fields(age_s, status) + framing + b"\r\n"


@given(heads, st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_the_head_of_a_206(head: bytes, first: int, last: int, total: int) -> None:
    fields = hit.stored_fields(head)
    fields.set(b"Content-Range", b"bytes %d-%d/%d" % (first, last, total))
    assert partial(head, first, last, total) == serialise_response(206, REASONS[206], fields)[:-2]


@given(heads, st.sampled_from([b"etag", b"date", b"last-modified", b"x"]))
def test_the_value_of_a_stored_line(head: bytes, name: bytes) -> None:
    lines = hit.stored_fields(head).get_all(name)
    assert value_of(head, name) == (lines[0] if lines else None, len(lines))


def test_room_for_the_longest_numbers() -> None:
    longest = (1 << 63) - 1
    assert len(partial(b"HTTP/1.1 200 OK\r\n", longest, longest, longest)) < MOST_ADDED
    text = partial(b"HTTP/1.1 200 OK\r\n", longest, longest, longest) + added(longest, longest, True, longest)
    assert len(text) + len(b"Connection: close\r\n") <= MOST_ADDED
