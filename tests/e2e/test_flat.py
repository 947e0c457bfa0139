"""Plain requests that go to the origin from the read buffer (`fetching._flat`), beside the same on the general path.

An empty line before a request sends it along the general path: both must tell the origin and the client the same.
"""

from __future__ import annotations

import asyncio
import re

import pytest

from flyby.log import AccessRecord
from flyby.proxy.road._exchange import Exchange
from flyby.proxy.stored import renewal
from flyby.proxy.stored.renewal import Answered
from flyby.store import Entry, Store
from tests.e2e.stage import Client, Message, Origin, Stage, play, reply, stage

CHANGING = {"x-request-id", "x-request-start"}
VARYING = re.compile(rb"(\r\n(?:Date|Age): |ttl=)[^\r;]*")


def flat(scene: Stage) -> int:
    """How many requests were taken from the read buffer."""
    connections = scene.edge._connections
    assert connections is not None
    return connections.lane.passed


async def received(client: Client, request: bytes) -> bytes:
    """The bytes of one response with a Content-Length."""
    await client.send(request)
    head = await client.reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: ([0-9]+)", head)
    return head + await client.reader.readexactly(int(length[1]) if length else 0)


def levelled(response: bytes) -> bytes:
    """A response but for what changes with time."""
    return VARYING.sub(rb"\1", response)


def unordered(response: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Status, fields and content: a stored head that is brought up to date has its fields in another order."""
    head, _, content = levelled(response).partition(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    return status[:12], sorted(fields), content


async def whole(client: Client, request: bytes) -> bytes:
    """The bytes of one response with a Content-Length, but for what changes with time."""
    return levelled(await received(client, request))


def told(request: Message) -> list[tuple[str, str]]:
    """What the origin was told, but for what is new each time."""
    return sorted((name.lower(), value) for name, value in request.fields if name.lower() not in CHANGING)


@pytest.mark.parametrize(
    "fields",
    [
        {"Cache_Control": "max-age=60"},
        {"Cache_Control": "max-age=60", "ETag": '"1"', "Content_Type": "text/html"},
        {"Cache_Control": "no-store"},
        {"Cache_Control": "private", "Set_Cookie": ["a=1", "b=2"]},
        {"Cache_Control": "public, s-maxage=5", "Nel": "{}", "Report_To": "{}", "X_A": "b"},
        {},
        {"Cache_Control": "max-age=60", "Vary": "Accept"},
        {"Cache_Control": "max-age=60", "Cache_Tag": "a,b"},
        {"Cache_Control": "max-age=60", "Age": "5"},
        {"Expires": "Thu, 01 Jan 2099 00:00:00 GMT"},
    ],
    ids=lambda fields: " ".join(fields) or "nothing",
)
def test_a_miss_is_the_same_on_either_way(fields: dict[str, str | list[str]]) -> None:
    @play
    async def story() -> None:
        async with stage(reply(body=b"hello" * 100, **fields)) as scene:
            client = await scene.connect()
            await whole(client, b"GET /warm HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            before = flat(scene)
            seen = [
                await whole(client, start + b"GET /%d HTTP/1.1\r\nHost: shop.test\r\nAccept: */*\r\n\r\n" % number)
                for number, start in enumerate((b"", b"\r\n"))
            ]
            assert flat(scene) == before + 1
            assert seen[0] == seen[1]
            one, other = map(told, scene.origin.requests[-2:])
            assert one == other
            # What was stored is the same, too.
            again = [await whole(client, b"GET /%d HTTP/1.1\r\nHost: shop.test\r\n\r\n" % number) for number in (0, 1)]
            assert again[0] == again[1]

    story()


def validated(**more: str):  # type: ignore[no-untyped-def]
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        fields = {"Cache_Control": "no-cache", "ETag": '"1"'}
        if request.get("if-none-match") == '"1"':
            await reply(304, **fields, **more)(origin, request, writer)
        else:
            await reply(body=b"hello" * 100, X_Kept="yes", **fields)(origin, request, writer)

    return script


@pytest.mark.parametrize("more", [{}, {"X_New": "1"}, {"Nel": "{}"}], ids=["times alone", "a new field", "reporting"])
def test_a_validation_is_the_same_on_either_way(more: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []  # what the short cut leaves to the parsed fields
    renew = renewal.renew

    def noted(exchange: Exchange, store: Store, entry: Entry, answer: Answered) -> Entry | None:
        parsed.append(entry.key)
        return renew(exchange, store, entry, answer)

    monkeypatch.setattr(renewal, "renew", noted)

    @play
    async def story() -> None:
        records: list[AccessRecord] = []
        async with stage(validated(**more), access_log=records.append) as scene:
            client = await scene.connect()
            await whole(client, b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            before = flat(scene)
            seen = []
            for start in (b"", b"\r\n", b""):
                seen.append(await received(client, start + b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"))
            assert flat(scene) == before + 2
            assert unordered(seen[0]) == unordered(seen[1]) == unordered(seen[2])
            assert len(parsed) == (2 if "X_New" in more else 1)
            assert seen[0].endswith(b"hello" * 100)
            assert b"; fwd=stale; fwd-status=304" in seen[0]
            assert all(request.get("if-none-match") == '"1"' for request in scene.origin.requests[1:])
            store = scene.edge._store
            assert store is not None
            assert store.check() == []
            assert store.statistics().fills_open == 0
        assert [record.outcome for record in records] == ["miss"] + ["revalidated"] * 3
        assert [record.bytes_sent for record in records[1:]] == [len(response) for response in seen]

    story()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_content_is_sent_with_the_head_and_again_where_that_is_safe(method: str) -> None:
    @play
    async def story() -> None:
        dead: list[bool] = []

        async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
            if request.method == method and not dead:
                dead.append(True)
                writer.close()  # a kept connection that dies before it has answered
                return
            await reply(body=request.body or b"-", Cache_Control="no-store")(origin, request, writer)

        async with stage(script) as scene:
            client = await scene.connect()
            await whole(client, b"GET /warm HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            await client.send(f"{method} /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello")
            answer = await client.response()
            assert flat(scene) == 1
            again = method in ("PUT", "DELETE")
            assert (answer.status, answer.body) == ((200, b"hello") if again else (502, answer.body))
            assert [request.body for request in scene.origin.requests[1:]] == [b"hello"] * (1 + again)

    story()


@play
async def test_a_post_makes_what_is_stored_of_its_target_untrue() -> None:
    async with stage(reply(Cache_Control="max-age=60")) as scene:
        client = await scene.connect()
        get = b"GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"
        await whole(client, get)
        assert b"; hit" in await whole(client, get)
        await whole(client, b"POST /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1\r\n\r\nx")
        assert b"; hit" not in await whole(client, get)
        assert len(scene.origin.requests) == 3


@play
async def test_a_client_that_closes_is_answered_and_closed() -> None:
    async with stage(reply(Cache_Control="max-age=60")) as scene:
        for number in range(3):
            client = await scene.connect()
            await client.send(b"GET /a HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\nGET /b")
            answer = await client.response()
            assert (answer.status, answer.get("connection")) == (200, "close")
            assert await client.closed()
            assert flat(scene) == 0
            assert scene.edge._connections is not None
            assert scene.edge._connections.lane.hits == number
