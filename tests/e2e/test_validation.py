"""Validation (RFC 9111 4.3), and the marks of what cannot be shared, as clients and origin see them."""

from __future__ import annotations

import asyncio

import pytest

from flyby import Route
from flyby.clock import ManualClock
from flyby.config import RouteCache
from flyby.policy import format_http_date
from tests.e2e.stage import Message, Origin, Script, play, reply, stage

STALE = {"Cache_Control": "max-age=0, stale-if-error=60"}


def saying(*scripts: Script) -> Script:
    """One script a request, the last for all that follow."""
    left = list(scripts)

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(origin, request, writer)

    return script


def status_of(answer: Message) -> str:
    return answer.get("cache-status") or ""


# What is stored, what a 304 says, and whether it is about that (RFC 9111 4.3.4).
ANSWERS = [
    ({"ETag": '"a"'}, {"ETag": '"a"'}, True),
    ({"ETag": '"a"'}, {"ETag": '"b"'}, False),
    ({"ETag": '"a"'}, {"ETag": 'W/"a"'}, True),
    ({"ETag": 'W/"a"'}, {"ETag": 'W/"b"'}, False),
    ({"ETag": '"a"'}, {}, True),
    ({"Last_Modified": "Thu, 01 Jan 2015 00:00:00 GMT"}, {"Last_Modified": "Fri, 02 Jan 2015 00:00:00 GMT"}, False),
    ({"Last_Modified": "Thu, 01 Jan 2015 00:00:00 GMT"}, {"Last_Modified": "Thu, 01 Jan 2015 00:00:00 GMT"}, True),
    ({"Last_Modified": "Thu, 01 Jan 2015 00:00:00 GMT"}, {"ETag": '"new"'}, False),
]


@pytest.mark.parametrize("number", range(len(ANSWERS)))
def test_a_304_about_another_response_updates_nothing(number: int) -> None:
    stored, said, same = ANSWERS[number]

    @play
    async def story() -> None:
        script = saying(
            reply(body=b"one", **STALE, **stored), reply(304, X_New="1", **said), reply(body=b"two", **STALE)
        )
        async with stage(script) as scene:
            assert (await scene.ask("/")).body == b"one"
            second = await scene.ask("/")
            assert (second.body, second.get("x-new")) == ((b"one", "1") if same else (b"two", None))
            assert len(scene.origin.requests) == (2 if same else 3)
            if not same:
                whole = scene.origin.requests[2]
                assert (whole.get("if-none-match"), whole.get("if-modified-since")) == (None, None)
                assert "stored" in status_of(second)

    story()


@play
async def test_the_cookie_of_a_304_goes_to_the_client_that_validated() -> None:
    script = saying(reply(ETag='"a"', **STALE), reply(304, Set_Cookie=["s=1", "t=2"]), reply(304))
    async with stage(script) as scene:
        await scene.ask("/")
        first = await scene.ask("/")
        assert first.get_all("set-cookie") == ["s=1", "t=2"]
        assert (await scene.ask("/")).get_all("set-cookie") == []
        conditional = await scene.ask("/", If_None_Match='"a"')
        assert (conditional.status, conditional.get_all("set-cookie")) == (304, [])


@play
async def test_a_304_to_a_conditional_client_brings_its_cookie() -> None:
    script = saying(reply(ETag='"a"', **STALE), reply(304, Set_Cookie="s=1"))
    async with stage(script) as scene:
        await scene.ask("/")
        answer = await scene.ask("/", If_None_Match='"a"')
        assert (answer.status, answer.get_all("set-cookie")) == (304, ["s=1"])


@play
async def test_a_background_refresh_drops_the_cookie_of_its_304() -> None:
    kept = {"Cache_Control": "max-age=0, stale-while-revalidate=60", "ETag": '"a"'}
    script = saying(reply(**kept), reply(304, Set_Cookie="s=1", Cache_Control="max-age=60"))
    async with stage(script) as scene:
        await scene.ask("/")
        assert (await scene.ask("/")).get_all("set-cookie") == []
        while len(scene.origin.requests) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        after = await scene.ask("/")
        assert (after.get_all("set-cookie"), len(scene.origin.requests)) == ([], 2)


@play
async def test_a_route_that_stores_cookies_gives_them_to_all() -> None:
    script = saying(reply(ETag='"a"', **STALE), reply(304, Set_Cookie="s=1", Cache_Control="max-age=60"))
    async with stage(script, routes=[Route(backend="app", cache=RouteCache(set_cookie="store"))]) as scene:
        await scene.ask("/")
        assert (await scene.ask("/")).get_all("set-cookie") == ["s=1"]
        assert (await scene.ask("/")).get_all("set-cookie") == ["s=1"]
        assert len(scene.origin.requests) == 2


# The defaults of frameworks for a page of one visitor.
PERSONAL = [
    {"Cache_Control": "max-age=0, private, must-revalidate", "ETag": 'W/"r"'},  # Rails
    {"ETag": 'W/"e"', "Set_Cookie": "sid=1"},  # Express with a session
    {"ETag": 'W/"e"'},  # Express
    {"Cache_Control": "private, no-cache", "ETag": '"d"'},  # Django's ConditionalGetMiddleware
    {"Cache_Control": "no-cache, private", "Last_Modified": "Thu, 01 Jan 2015 00:00:00 GMT"},  # Laravel, Symfony
]


@pytest.mark.parametrize("number", range(len(PERSONAL)))
def test_a_personal_page_is_validated_by_its_visitor(number: int) -> None:
    fields = PERSONAL[number]

    async def app(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        etag, modified = fields.get("ETag"), fields.get("Last_Modified")
        given = request.get("if-none-match"), request.get("if-modified-since")
        same = (etag is not None and given[0] == etag) or (
            etag is None and modified is not None and given[1] == modified
        )
        await reply(304 if same else 200, b"page", **fields)(origin, request, writer)

    @play
    async def story() -> None:
        condition = {}
        if "ETag" in fields:
            condition["If_None_Match"] = fields["ETag"]
        else:
            condition["If_Modified_Since"] = fields["Last_Modified"]
        async with stage(app) as scene:
            # On a key of which nothing is known the fetch is whole, and the condition evaluated on what came.
            first = await scene.ask("/", Cookie="sid=1", **condition)
            assert first.status == 304
            assert scene.origin.requests[0].get("if-none-match") is None
            marked = await scene.ask("/", Cookie="sid=1", **condition)
            assert marked.status == 304
            sent = scene.origin.requests[-1]
            assert condition.items() >= {"If_None_Match": sent.get("if-none-match")}.items() or (
                sent.get("if-modified-since") == condition.get("If_Modified_Since")
            )
            other = await scene.ask("/", Cookie="sid=2")
            assert (other.status, other.body) == (200, b"page")

    story()


@play
async def test_a_304_whose_like_may_be_stored_removes_the_mark() -> None:
    whole = reply(body=b"page", ETag='"b"', Cache_Control="max-age=60")
    script = saying(
        reply(ETag='"a"', Cache_Control="private"), reply(304, ETag='"a"', Cache_Control="max-age=60"), whole
    )
    async with stage(script) as scene:
        assert "private" in status_of(await scene.ask("/"))
        assert (await scene.ask("/", If_None_Match='"a"')).status == 304
        third = await scene.ask("/", If_None_Match='"b"')
        assert third.status == 304
        assert scene.origin.requests[2].get("if-none-match") is None
        assert "hit" in status_of(await scene.ask("/"))


@play
async def test_a_304_that_may_not_be_stored_renews_the_mark() -> None:
    script = saying(reply(ETag='"a"', Cache_Control="private"), reply(304, ETag='"a"', Cache_Control="private"))
    async with stage(script) as scene:
        await scene.ask("/")
        for _ in range(3):
            assert (await scene.ask("/", If_None_Match='"a"')).status == 304
        assert [each.get("if-none-match") for each in scene.origin.requests] == [None, '"a"', '"a"', '"a"']


@play
async def test_a_part_that_is_stored_under_a_mark_removes_it() -> None:
    part = {"ETag": '"a"', "Cache_Control": "max-age=60", "Content_Range": "bytes 0-1/10"}
    script = saying(reply(Cache_Control="private"), reply(206, b"01", **part), reply(body=b"0123456789"))
    async with stage(script) as scene:
        await scene.ask("/")
        assert (await scene.ask("/", Range="bytes=0-1")).status == 206
        again = await scene.ask("/", Range="bytes=0-1")
        assert (again.status, again.body, "hit" in status_of(again)) == (206, b"01", True)


@play
async def test_no_reason_is_given_that_is_not_true() -> None:
    old = "Thu, 01 Jan 2015 00:00:00 GMT"
    plays: list[tuple[Script, dict[str, str], list[str]]] = [
        (reply(Last_Modified=old), {}, ["uri-miss;fwd-status=200;stored;detail=guessed", "hit", "detail=guessed"]),
        (reply(Cache_Control="max-age=60"), {}, ["uri-miss;fwd-status=200;stored", "hit"]),
        (reply(302, Location="/x"), {"Cookie": "a=b"}, ["detail=no-freshness"]),
        (
            reply(206, b"01", Content_Range="bytes 0-1/10", ETag='W/"v"', Cache_Control="max-age=60"),
            {"Range": "bytes=0-1"},
            ["uri-miss", ""],
        ),
    ]
    for script, fields, words in plays:
        async with stage(script) as scene:
            first = status_of(await scene.ask("/", **fields)).replace(" ", "")
            second = status_of(await scene.ask("/", **fields)).replace(" ", "")
            assert words[0] in first
            for word in words[1:]:
                assert word in second
            if "guessed" not in words[0]:
                assert "guessed" not in first + second


@play
async def test_a_range_that_a_stored_part_does_not_hold_is_partial() -> None:
    async def app(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        first, last = map(int, (request.get("range") or "").partition("=")[2].split("-"))
        fields = {"Content_Range": f"bytes {first}-{last}/1000", "ETag": 'W/"v"', "Cache_Control": "max-age=60"}
        await reply(206, b"x" * (last - first + 1), **fields)(origin, request, writer)

    async with stage(app) as scene:
        await scene.ask("/", Range="bytes=0-99")
        assert "fwd=partial" in status_of(await scene.ask("/", Range="bytes=50-199"))


@play
async def test_a_wall_clock_that_steps_back_prolongs_nothing() -> None:
    clock = ManualClock()

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        date = format_http_date(clock.date_ms() // 1000).decode()
        await reply(body=b"page", Cache_Control="max-age=60", Date=date)(origin, request, writer)

    async with stage(script, clock=clock) as scene:
        await scene.ask("/")
        clock.set_back(3600)
        clock.advance(59)
        old = await scene.ask("/")
        assert ("hit" in status_of(old), old.get("age")) == (True, "59")
        clock.advance(2)
        new = await scene.ask("/")
        assert "fwd=stale" in status_of(new)
        assert len(scene.origin.requests) == 2
        # What comes after the step is as fresh as it says, and the dates of answers are those that the clock shows.
        again = await scene.ask("/")
        assert ("hit" in status_of(again), again.get("age")) == (True, "0")
        refused = await scene.ask("/", "TRACE")
        assert refused.get("date") == format_http_date(clock.date_ms() // 1000).decode()
