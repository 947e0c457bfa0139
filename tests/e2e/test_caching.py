"""Plays: what is answered from the store, and what reaches the origin."""

from __future__ import annotations

import asyncio

from flyby.config import Purge
from tests.e2e.stage import Message, Origin, play, reply, stage


@play
async def test_a_fresh_response_reaches_the_origin_once() -> None:
    async with stage(reply(Cache_Control="max-age=60", ETag='"a"')) as scene:
        first = await scene.ask("/a")
        second = await scene.ask("/a")
        assert (first.status, first.body) == (second.status, second.body) == (200, b"hello")
        assert len(scene.origin.requests) == 1
        assert first.get("cache-status") == "flyby; fwd=uri-miss; fwd-status=200; stored"
        assert second.get("cache-status").startswith("flyby; hit; ttl=")
        assert second.get("age") == "0"
        assert second.get("via") == "1.1 flyby"
        assert second.get("date") == first.get("date")


@play
async def test_the_query_is_part_of_the_key_byte_for_byte() -> None:
    async with stage(reply(Cache_Control="max-age=60")) as scene:
        for path in ("/?a=1&b=2", "/?b=2&a=1", "/?a=%31&b=2", "//?a=1", "/%2e/", "/./"):
            await scene.ask(path)
        assert [request.target for request in scene.origin.requests] == [
            "/?a=1&b=2", "/?b=2&a=1", "/?a=%31&b=2", "//?a=1", "/%2e/", "/./",
        ]  # fmt: skip


@play
async def test_hosts_that_are_the_same_share_one_response() -> None:
    async with stage(reply(Cache_Control="max-age=60")) as scene:
        for host in ("shop.test", "SHOP.test", "shop.test.", "shop.test:80"):
            assert (await scene.ask("/", Host=host)).status == 200
        assert len(scene.origin.requests) == 1


@play
async def test_head_is_answered_from_a_stored_get() -> None:
    async with stage(reply(Cache_Control="max-age=60", body=b"12345678")) as scene:
        await scene.ask("/")
        head = await scene.ask("/", method="HEAD")
        assert (head.status, head.get("content-length"), head.body) == (200, "8", b"")
        assert len(scene.origin.requests) == 1


@play
async def test_variants_lie_side_by_side() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        body = (request.get("accept-language") or "none").encode()
        await reply(body=body, Cache_Control="max-age=60", Vary="Accept-Language")(origin, request, writer)

    async with stage(script) as scene:
        for language in ("de", "en", "de", "en"):
            assert (await scene.ask("/", Accept_Language=language)).body == language.encode()
        assert len(scene.origin.requests) == 2
        assert (await scene.ask("/")).body == b"none"
        assert len(scene.origin.requests) == 3


@play
async def test_a_stale_response_is_validated_and_its_fields_renewed() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if request.get("if-none-match") == '"v1"':
            await reply(304, b"", ETag='"v1"', Cache_Control="max-age=60", X_Seen="twice")(origin, request, writer)
        else:
            await reply(ETag='"v1"', Cache_Control="max-age=0", X_Seen="once")(origin, request, writer)

    async with stage(script) as scene:
        await scene.ask("/")
        second = await scene.ask("/")
        third = await scene.ask("/")
        assert second.body == b"hello"
        assert second.get("x-seen") == "twice"
        assert (second.get("cache-status") or "").startswith("flyby; fwd=stale; fwd-status=304; ttl=")
        assert third.get("cache-status").startswith("flyby; hit")
        assert len(scene.origin.requests) == 2


@play
async def test_a_full_200_on_validation_replaces_what_is_stored() -> None:
    versions = iter((b"one", b"two", b"three"))

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        body = next(versions)
        await reply(body=body, ETag=f'"{body.decode()}"', Cache_Control="no-cache")(origin, request, writer)

    async with stage(script) as scene:
        assert [(await scene.ask("/")).body for _ in range(3)] == [b"one", b"two", b"three"]
        assert scene.origin.requests[2].get("if-none-match") == '"two"'


@play
async def test_stale_while_revalidate_refreshes_once_behind_the_client() -> None:
    count = 0

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        fresh = "max-age=0, stale-while-revalidate=60" if count == 1 else "max-age=60"
        await asyncio.sleep(0.05 if count > 1 else 0)
        await reply(body=b"v%d" % count, Cache_Control=fresh)(origin, request, writer)

    async with stage(script) as scene:
        await scene.ask("/")
        answers = await asyncio.gather(*(scene.ask("/") for _ in range(20)))
        assert {answer.body for answer in answers} == {b"v1"}
        for _ in range(100):
            if (last := await scene.ask("/")).body == b"v2":
                break
            await asyncio.sleep(0.01)
        assert last.body == b"v2"
        assert len(scene.origin.requests) == 2


@play
async def test_stale_if_error_hides_a_failing_origin() -> None:
    statuses = iter((200, 503, 500))

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        status = next(statuses, None)
        if status is None:
            writer.close()
            return
        await reply(status, Cache_Control="max-age=0, stale-if-error=600")(origin, request, writer)

    async with stage(script) as scene:
        for _ in range(4):
            answer = await scene.ask("/")
            assert (answer.status, answer.body) == (200, b"hello")
        assert len(scene.origin.requests) >= 4


@play
async def test_must_revalidate_is_never_served_stale() -> None:
    statuses = iter((200, 503))

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        control = "max-age=0, must-revalidate, stale-if-error=600"
        await reply(next(statuses), Cache_Control=control)(origin, request, writer)

    async with stage(script) as scene:
        assert (await scene.ask("/")).status == 200
        assert (await scene.ask("/")).status == 503


@play
async def test_only_if_cached() -> None:
    async with stage(reply(Cache_Control="max-age=60")) as scene:
        assert (await scene.ask("/", Cache_Control="only-if-cached")).status == 504
        assert scene.origin.requests == []
        await scene.ask("/")
        assert (await scene.ask("/", Cache_Control="only-if-cached")).status == 200
        assert len(scene.origin.requests) == 1


@play
async def test_conditions_are_answered_from_the_store() -> None:
    modified = "Sun, 01 Nov 2026 10:00:00 GMT"
    async with stage(reply(Cache_Control="max-age=60", ETag='"v1"', Last_Modified=modified)) as scene:
        await scene.ask("/")
        table = [
            ({"If_None_Match": '"v1"'}, 304),
            ({"If_None_Match": 'W/"v1"'}, 304),
            ({"If_None_Match": '"x", "v1"'}, 304),
            ({"If_None_Match": "*"}, 304),
            ({"If_None_Match": '"x"'}, 200),
            ({"If_None_Match": '"x"', "If_Modified_Since": modified}, 200),
            ({"If_Modified_Since": modified}, 304),
            ({"If_Modified_Since": "Sun, 01 Nov 2026 09:00:00 GMT"}, 200),
            ({"If_Match": '"v1"'}, 200),
            ({"If_Match": '"x"'}, 412),
            ({"If_Unmodified_Since": "Sun, 01 Nov 2026 09:00:00 GMT"}, 412),
        ]
        for fields, status in table:
            answer = await scene.ask("/", **fields)
            assert answer.status == status, fields
            assert answer.get("etag") == '"v1"' or status == 412
        assert len(scene.origin.requests) == 1


@play
async def test_ranges_of_a_stored_response() -> None:
    async with stage(reply(body=b"0123456789", Cache_Control="max-age=60", ETag='"v1"')) as scene:
        await scene.ask("/")
        table = [
            ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
            ("bytes=7-", 206, b"789", "bytes 7-9/10"),
            ("bytes=-2", 206, b"89", "bytes 8-9/10"),
            ("bytes=20-", 416, b"", "bytes */10"),
            ("bytes=5-2", 200, b"0123456789", None),
            ("lines=1-2", 200, b"0123456789", None),
        ]
        for value, status, body, content_range in table:
            answer = await scene.ask("/", Range=value)
            assert (answer.status, answer.body, answer.get("content-range")) == (status, body, content_range), value
        assert (await scene.ask("/", Range="bytes=0-1", If_Range='"v1"')).status == 206
        assert (await scene.ask("/", Range="bytes=0-1", If_Range='"v2"')).status == 200
        parts = await scene.ask("/", Range="bytes=0-1,8-9")
        assert parts.status == 206
        assert b"Content-Range: bytes 8-9/10\r\n\r\n89\r\n" in parts.body
        assert len(scene.origin.requests) == 1


@play
async def test_unsafe_methods_invalidate_and_safe_ones_do_not() -> None:
    async with stage(reply(Cache_Control="max-age=60")) as scene:
        await scene.ask("/")
        await scene.ask("/", method="OPTIONS")
        assert (await scene.ask("/")).get("cache-status").startswith("flyby; hit")
        await scene.ask("/", method="POST", body=b"x=1")
        assert "hit" not in (await scene.ask("/")).get("cache-status").split(";")[1]


@play
async def test_hop_by_hop_fields_are_not_stored() -> None:
    fields = {
        "Connection": "X-Secret, keep-alive",
        "X_Secret": "1",
        "Keep_Alive": "timeout=5",
        "NEL": "{}",
        "Report_To": "{}",
    }
    async with stage(reply(Cache_Control="max-age=60", **fields)) as scene:
        for _ in range(2):
            answer = await scene.ask("/")
            for name in ("x-secret", "keep-alive"):
                assert answer.get(name) is None
        assert answer.get("nel") is None
        assert answer.get("report-to") is None
        assert len(scene.origin.requests) == 1


@play
async def test_purge_needs_permission_and_counts() -> None:
    purge = Purge(secret="open-sesame")
    async with stage(reply(Cache_Control="max-age=60", Vary="Accept-Language"), purge=purge) as scene:
        for language in ("de", "en"):
            await scene.ask("/", Accept_Language=language)
        assert (await scene.ask("/", method="PURGE")).status == 403
        assert (await scene.ask("/", method="PURGE", Authorization="Bearer wrong")).status == 403
        answer = await scene.ask("/", method="PURGE", Authorization="Bearer open-sesame")
        assert (answer.status, answer.body) == (200, b'{"purged": 2}\n')
        await scene.ask("/", Accept_Language="de")
        assert len(scene.origin.requests) == 3
        everything = await scene.ask("/", method="PURGE", Flyby_Purge_Secret="open-sesame", Flyby_Purge="all")
        assert everything.status == 200
        await scene.ask("/", Accept_Language="de")
        assert len(scene.origin.requests) == 4


@play
async def test_a_stored_part_answers_the_ranges_within_it() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if request.get("range") == "bytes=2-7":
            fields = {"Content_Range": "bytes 2-7/10", "Cache_Control": "max-age=60", "ETag": '"v1"'}
            await reply(206, b"234567", **fields)(origin, request, writer)
        else:
            await reply(200, b"0123456789", Cache_Control="max-age=60", ETag='"v1"')(origin, request, writer)

    async with stage(script) as scene:
        first = await scene.ask("/", Range="bytes=2-7")
        assert (first.status, first.body) == (206, b"234567")
        second = await scene.ask("/", Range="bytes=4-5")
        assert (second.status, second.body, second.get("content-range")) == (206, b"45", "bytes 4-5/10")
        assert len(scene.origin.requests) == 1
        assert (await scene.ask("/")).body == b"0123456789"
        assert len(scene.origin.requests) == 2


@play
async def test_a_variant_in_the_language_that_is_liked_best_serves() -> None:
    fields = {"Cache_Control": "max-age=60", "Vary": "Accept-Language", "Content_Language": "de"}
    async with stage(reply(**fields)) as scene:
        await scene.ask("/", Accept_Language="en, de")
        for language in ("fr;q=0.5, de;q=1.0", "de"):
            assert (await scene.ask("/", Accept_Language=language)).status == 200
        assert len(scene.origin.requests) == 1
        await scene.ask("/", Accept_Language="fr, de;q=0.5")
        assert len(scene.origin.requests) == 2


@play
async def test_max_stale_bare_and_exceeded() -> None:
    fields = {"Cache_Control": "max-age=10", "Age": "40"}
    async with stage(reply(**fields), profile="rfc9111") as scene:
        await scene.ask("/")
        table = [("max-stale", 1), ("max-stale=60", 1), ("max-stale=5", 2)]
        for control, requests in table:
            assert (await scene.ask("/", Cache_Control=control)).status == 200
            assert len(scene.origin.requests) == requests, control


@play
async def test_a_head_with_a_changed_validator_makes_the_stored_response_stale() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        etag = '"old"' if len(origin.requests) == 1 else '"new"'
        await reply(ETag=etag, Cache_Control="max-age=60")(origin, request, writer)

    async with stage(script, profile="rfc9111") as scene:
        await scene.ask("/")
        await scene.ask("/", method="HEAD", Cache_Control="no-cache")
        answer = await scene.ask("/")
        assert answer.get("etag") == '"new"'
        assert len(scene.origin.requests) == 3


@play
async def test_a_head_with_the_same_validators_renews_the_stored_response() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        age = "max-age=0" if request.method == "GET" else "max-age=60"
        await reply(ETag='"same"', Cache_Control=age, X_Method=request.method)(origin, request, writer)

    async with stage(script) as scene:
        await scene.ask("/")
        await scene.ask("/", method="HEAD")
        answer = await scene.ask("/")
        assert (answer.body, answer.get("x-method")) == (b"hello", "HEAD")
        assert (answer.get("cache-status") or "").startswith("flyby; hit")
        assert len(scene.origin.requests) == 2


@play
async def test_a_refresh_that_fails_leaves_what_is_stored_to_the_rest_of_its_window() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if len(origin.requests) == 1:
            await reply(Cache_Control="max-age=0, stale-while-revalidate=60")(origin, request, writer)
        else:
            await reply(503, b"down")(origin, request, writer)

    async with stage(script) as scene:
        await scene.ask("/")
        for refreshes in range(1, 4):
            answer = await scene.ask("/")
            assert (answer.status, answer.body) == (200, b"hello")
            while len(scene.origin.requests) <= refreshes:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)


@play
async def test_a_failed_validation_does_not_cost_the_stored_response() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if len(origin.requests) == 2:
            await reply(503, b"down")(origin, request, writer)
        elif request.get("if-none-match") == '"v1"':
            await reply(304, b"", ETag='"v1"')(origin, request, writer)
        else:
            await reply(ETag='"v1"', Cache_Control="max-age=0, must-revalidate")(origin, request, writer)

    async with stage(script) as scene:
        assert [(await scene.ask("/")).status for _ in range(3)] == [200, 503, 200]
        assert scene.origin.requests[2].get("if-none-match") == '"v1"'


@play
async def test_a_post_that_says_where_its_response_is_serves_later_gets() -> None:
    async with stage(reply(Cache_Control="max-age=60", Content_Location="/p"), profile="rfc9111") as scene:
        await scene.ask("/p", method="POST", body=b"1")
        assert "; hit" in ((await scene.ask("/p")).get("cache-status") or "")
        # A second one makes the stored response untrue, and leaves its own.
        await scene.ask("/p", method="POST", body=b"2")
        assert "; hit" in ((await scene.ask("/p")).get("cache-status") or "")
        assert len(scene.origin.requests) == 2


@play
async def test_what_is_asked_for_again_is_packed_but_not_what_is_packed_already() -> None:
    text = b"<p>the same again, " * 500
    kinds = {"/text": {"Content_Type": "text/html"}, "/image": {"Content_Type": "image/png"}}
    kinds["/encoded"] = {"Content_Type": "text/html", "Content_Encoding": "gzip"}

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await reply(body=text, Cache_Control="max-age=60", **kinds[request.target])(origin, request, writer)

    async with stage(script) as scene:

        def compressed() -> int:
            found = scene.edge.statistics().store
            assert found is not None
            return found.compressed

        # The last one is packed between requests; the others, which came before it, would have been by then.
        for target in ("/image", "/encoded", "/text"):
            for _ in range(2):
                assert compressed() == 0
                assert (await scene.ask(target, Accept_Encoding="gzip")).body == text
        async with asyncio.timeout(5):
            while not compressed():
                await asyncio.sleep(0)
        assert (await scene.ask("/text", Accept_Encoding="gzip")).body == text
        assert compressed() == 1
        assert len(scene.origin.requests) == 3
