"""Requests through links: everything that a direct origin can do, and who is asked when something fails."""

from __future__ import annotations

import asyncio

from tests.certificates import trusting
from tests.e2e.stage import Message, Origin, go_on, play, reply
from tests.tunnel.stage import stage, until


@play
async def test_a_request_goes_to_the_dyno_and_the_link_is_used_again() -> None:
    async with stage() as scene:
        agent = scene.agent()
        await agent.join()
        for _ in range(3):
            response = await scene.ask("/a?b=1")
            assert (response.status, response.body) == (200, b"web.1")
        assert agent.origin.connections == 1
        assert [request.target for request in agent.origin.requests] == ["/a?b=1"] * 3
        assert agent.origin.requests[0].get("host") == "shop.test"
        [dyno] = scene.edge.statistics().backends["app"].donors
        assert (dyno.name, dyno.state, dyno.in_flight, dyno.idle, dyno.donated_total) == ("web.1", "ready", 0, 1, 1)


@play
async def test_a_response_through_the_tunnel_is_cached() -> None:
    async with stage() as scene:
        agent = scene.agent(reply(body=b"kept", Cache_Control="max-age=60"))
        await agent.join()
        for _ in range(3):
            assert (await scene.ask("/")).body == b"kept"
        assert len(agent.origin.requests) == 1


@play
async def test_the_origins_name_is_the_host_where_there_is_an_origin() -> None:
    async with stage(backend={"origins": ["http://127.0.0.1:1"]}) as scene:
        agent = scene.agent()
        await agent.join()
        await scene.ask("/")
        assert agent.origin.requests[0].get("host") == "127.0.0.1:1"


@play
async def test_content_and_trailers_pass_in_both_directions() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
        for _ in range(3):
            writer.write(b"%x\r\n%b\r\n" % (len(request.body), request.body))
        writer.write(b"0\r\nX-Sum: 7\r\n\r\n")

    async with stage() as scene:
        agent = scene.agent(script)
        await agent.join()
        client = await scene.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.send(b"5\r\nhello\r\n0\r\nX-Up: 1\r\n\r\n")
        response = await client.response()
        assert (response.body, response.get("trailer:X-Sum")) == (b"hello" * 3, "7")
        [request] = agent.origin.requests
        assert (request.body, request.get("trailer:X-Up")) == (b"hello", "1")
        assert (await scene.ask("/again", method="POST", body=b"x")).body == b"xxx"
        assert agent.origin.connections == 1


@play
async def test_a_client_that_waits_for_100_continue_is_told_to_go_on() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await go_on(origin, request, writer)
        await reply()(origin, request, writer)

    async with stage() as scene:
        agent = scene.agent(script)
        await agent.join()
        client = await scene.client()
        await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await client.send(b"ok")
        assert (await client.response()).status == 200
        assert agent.origin.requests[0].body == b"ok"


@play
async def test_a_websocket_takes_a_link_for_itself() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
        await writer.drain()
        await asyncio.Event().wait()

    async with stage() as scene:
        agent = scene.agent(script)
        await agent.join()
        client = await scene.client()
        await client.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert (await client.response()).status == 101
        assert await client.reader.readexactly(5) == b"hello"
        [dyno] = scene.edge.statistics().backends["app"].donors
        assert (dyno.in_flight, dyno.pipes, dyno.idle) == (1, 1, 0)
        agent.writers[-1].close()
        assert await client.closed()
        await client.close()
        await until(lambda: scene.tunnel.tick() or not scene.edge.statistics().backends["app"].donors[0].pipes)


@play
async def test_links_over_tls_carry_the_same() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        if request.get("upgrade"):
            writer.write(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
            await writer.drain()
            await asyncio.Event().wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(request.body), request.body))

    async with stage(secure=True) as scene:
        agent = scene.agent(script, tls=trusting())
        agent.address = scene.edge.addresses[1]
        control = await agent.join(links=2)
        content = bytes(range(256)) * 4096
        for _ in range(5):
            assert (await scene.ask("/", "POST", content)).body == content
        assert [dyno.donated_total for dyno in scene.edge.statistics().backends["app"].donors] == [2]
        assert agent.origin.connections <= 2
        client = await scene.client()
        await client.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert (await client.response()).status == 101
        assert await client.reader.readexactly(5) == b"hello"
        control.say("drain")
        await until(lambda: agent.links == 1)  # the pipe
        scene.state.revoke(scene.token.split("_")[1])
        scene.tunnel.refresh()
        assert await client.closed()
        assert await control.gone()


@play
async def test_a_slow_client_holds_the_dyno_back() -> None:
    sent = 0

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
        while sent < 64 << 20:
            writer.write(bytes(65_536))
            sent += 65_536
            await writer.drain()

    async with stage() as scene:
        agent = scene.agent(script)
        await agent.join()
        client = await scene.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        before = -1
        while sent != before:  # the sockets' buffers are full when nothing moves any more
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 48 << 20
        assert scene.edge.statistics().buffered < 1 << 20
        await client.close()
        await until(lambda: scene.edge.statistics().backends["app"].donors[0].in_flight == 0)


@play
async def test_a_client_that_leaves_costs_the_link_and_nothing_else() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()

    async with stage() as scene:
        agent = scene.agent(script)
        await agent.join()
        client = await scene.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.reader.readuntil(b"half")
        client.reset()
        await until(lambda: agent.links == 0)
        [dyno] = scene.edge.statistics().backends["app"].donors
        assert (dyno.in_flight, dyno.idle) == (0, 0)


# ---- who is asked ----------------------------------------------------------------------------------------------------


def refuse(reason: str = "dial") -> object:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 503 S\r\nFlyby-Refused: {reason}\r\nContent-Length: 0\r\n\r\n".encode())

    return script


@play
async def test_a_request_that_was_handed_back_goes_to_another_dyno_whatever_its_method() -> None:
    async with stage() as scene:
        bad, good = scene.agent(refuse(), name="web.1"), scene.agent(name="web.2")
        await bad.join()
        await good.join(links=4)
        for method, body in [("POST", b"once"), ("GET", b""), ("PATCH", b"x" * 60_000), ("DELETE", b"")] * 3:
            response = await scene.ask("/", method, body)
            assert (response.status, response.body) == (200, b"web.2")
        assert [len(request.body) for request in good.origin.requests] == [4, 0, 60_000, 0] * 3
        # It was left alone after the first refusal, and the link on which it refused is as good as before.
        one = next(dyno for dyno in scene.edge.statistics().backends["app"].donors if dyno.name == "web.1")
        assert len(bad.origin.requests) == one.refused_total <= 2
        assert one.idle == 1


@play
async def test_content_that_is_not_kept_whole_is_not_sent_again() -> None:
    async with stage() as scene:
        bad, good = scene.agent(refuse(), name="web.1"), scene.agent(name="web.2")
        control = await good.join(links=2, ready=False)
        await bad.join(links=2)
        assert (await scene.ask("/", "POST", bytes(65_537))).status == 503
        control.say("ready", ready=True)
        await until(lambda: "ready" in {dyno.state for dyno in scene.edge.statistics().backends["app"].donors})
        assert (await scene.ask("/", "POST", bytes(65_537))).status == 200
        assert [len(request.body) for request in good.origin.requests] == [65_537]


@play
async def test_chunks_and_trailers_are_sent_again_as_they_were() -> None:
    left = 1

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        left -= 1
        await (refuse() if left == 0 else reply())(origin, request, writer)  # type: ignore[operator]

    async with stage() as scene:
        agent = scene.agent(script)
        await agent.join(links=2)
        client = await scene.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.send(b"3\r\none\r\n3\r\ntwo\r\n0\r\nX-Up: 1\r\n\r\n")
        assert (await client.response()).status == 200
        assert [(each.body, each.get("trailer:X-Up")) for each in agent.origin.requests] == [(b"onetwo", "1")] * 2


@play
async def test_retries_end_with_their_budget() -> None:
    async with stage() as scene:
        agent = scene.agent(die)
        await agent.join(links=12)
        budget = scene.edge._context.backends["app"].retries  # type: ignore[union-attr]
        while budget.spend():
            pass
        assert (await scene.ask("/")).status == 502
        assert len(agent.origin.requests) == 1


@play
async def test_a_request_that_every_dyno_hands_back_is_answered_by_the_edge() -> None:
    async with stage(pool={"wait_s": 0.2}) as scene:
        for name in ("web.1", "web.2"):
            await scene.agent(refuse("not-ready"), name=name).join()
        response = await scene.ask("/")
        assert response.status == 503
        assert "destination_unavailable" in (response.get("proxy-status") or "")
        assert response.get("flyby-refused") is None


@play
async def test_a_request_is_asked_again_when_the_dyno_is_back() -> None:
    """A dyno that restarts its app behind the agent: nobody notices."""
    left = 1

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        if left:
            left -= 1
            await refuse()(origin, request, writer)  # type: ignore[operator]
        else:
            await reply()(origin, request, writer)

    async with stage() as scene:
        agent = scene.agent(script)
        await agent.join()
        assert (await scene.ask("/", "POST", b"x")).status == 200
        assert [request.body for request in agent.origin.requests] == [b"x", b"x"]


@play
async def test_an_answer_that_only_looks_like_a_refusal_by_an_origin_is_an_answer() -> None:
    from tests.e2e.stage import stage as direct

    async with direct(refuse()) as scene:  # type: ignore[arg-type]
        assert (await scene.ask("/")).status == 503
        assert len(scene.origin.requests) == 1


async def die(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
    writer.close()


@play
async def test_an_idempotent_request_without_an_answer_goes_to_another_dyno() -> None:
    async with stage() as scene:
        bad, good = scene.agent(die, name="web.1"), scene.agent(name="web.2")
        await bad.join(links=8)
        await good.join(links=8)
        for method, body in [("GET", b""), ("PUT", b"twice"), ("DELETE", b"")] * 4:
            assert (await scene.ask("/", method, body)).status == 200
        assert bad.origin.requests
        assert len(good.origin.requests) == 12


@play
async def test_a_post_without_an_answer_is_not_sent_twice() -> None:
    async with stage() as scene:
        agent = scene.agent(die)
        await agent.join(links=4)
        response = await scene.ask("/", "POST", b"once")
        assert response.status == 502
        assert "connection_terminated" in (response.get("proxy-status") or "")
        assert len(agent.origin.requests) == 1


@play
async def test_an_answer_that_breaks_off_is_not_asked_for_again() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
        writer.close()

    async with stage() as scene:
        agent = scene.agent(script)
        await agent.join(links=4)
        assert (await scene.ask("/")).status == 502
        assert len(agent.origin.requests) == 1


@play
async def test_a_dyno_that_keeps_failing_is_left_alone() -> None:
    async with stage() as scene:
        bad, good = scene.agent(reply(status=503), name="web.1"), scene.agent(name="web.2")
        await bad.join(links=4)
        await good.join(links=4)
        answers = [(await scene.ask("/")).status for _ in range(40)]
        assert answers.count(503) <= 6
        states = {dyno.name: dyno.state for dyno in scene.edge.statistics().backends["app"].donors}
        assert states == {"web.1": "ejected", "web.2": "ready"}


@play
async def test_another_dyno_is_more_capacity_at_once() -> None:
    async def slow(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        await reply(Cache_Control="no-store")(origin, request, writer)

    async with stage() as scene:
        first, second = scene.agent(slow, name="web.1"), scene.agent(slow, name="web.2")
        await first.join(links=2)
        await asyncio.gather(*(scene.ask("/") for _ in range(4)))
        await second.join(links=2)
        await asyncio.gather(*(scene.ask("/") for _ in range(12)))
        assert second.origin.requests


# ---- when there is none ----------------------------------------------------------------------------------------------


@play
async def test_a_request_waits_for_a_dyno_that_may_be_expected() -> None:
    async with stage(release="v1") as scene:
        waiting = asyncio.create_task(scene.ask("/"))
        await asyncio.sleep(0.05)
        await scene.agent().join()
        assert (await waiting).status == 200


@play
async def test_the_agent_is_asked_for_more_links_when_requests_wait() -> None:
    async def slow(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        await reply(Cache_Control="no-store")(origin, request, writer)

    async with stage() as scene:
        agent = scene.agent(slow)
        control = await agent.join(links=1)
        asked = [asyncio.create_task(scene.ask("/")) for _ in range(20)]
        spare = await control.hear_of("spare")
        assert 9 <= spare["links"] <= 27
        for _ in range(spare["links"]):
            await agent.donate()
        assert {response.status for response in await asyncio.gather(*asked)} == {200}


@play
async def test_the_backends_own_origins_are_asked_while_no_dyno_is_there() -> None:
    origin = Origin(reply(body=b"herokuapp", Cache_Control="no-store"))
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with stage(backend={"origins": [f"http://127.0.0.1:{port}"]}) as scene:
        assert (await scene.ask("/")).body == b"herokuapp"
        agent = scene.agent()
        control = await agent.join(ready=False)
        assert (await scene.ask("/")).body == b"herokuapp"
        control.say("ready", ready=True)
        await until(lambda: scene.edge.statistics().backends["app"].donors[0].state == "ready")
        assert (await scene.ask("/")).body == b"web.1"
        control.writer.close()
        await until(lambda: not scene.edge.statistics().backends["app"].donors)
        assert (await scene.ask("/")).body == b"herokuapp"
    server.close()


@play
async def test_nobody_waits_for_dynos_that_never_were() -> None:
    async with stage(pool={"wait_s": 60}) as scene:
        response = await scene.ask("/")
        assert response.status == 503
        assert response.get("proxy-status") == "flyby; error=destination_unavailable"


@play
async def test_no_dyno_in_time_is_a_503() -> None:
    async with stage(pool={"wait_s": 0.1}, release="v1") as scene:
        response = await scene.ask("/")
        assert response.status == 503
        assert "destination_unavailable" in (response.get("proxy-status") or "")
        assert response.get("proxy-status") == "flyby; error=destination_unavailable"


@play
async def test_no_link_in_time_is_a_503_of_another_kind() -> None:
    async def never(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with stage(pool={"wait_s": 0.1, "max_waiters": 1}) as scene:
        await scene.agent(never).join(links=1)
        busy = asyncio.create_task(scene.ask("/busy"))
        await until(lambda: scene.edge.statistics().backends["app"].donors[0].in_flight == 1)
        answers = await asyncio.gather(*(scene.ask(f"/{number}") for number in range(3)))
        assert {response.status for response in answers} == {503}
        assert all("connection_limit_reached" in (response.get("proxy-status") or "") for response in answers)
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)


@play
async def test_content_that_was_read_by_an_app_reaches_it_whole() -> None:
    """An echo of a megabyte through a link, twice on the same one."""

    async def echo(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(request.body), request.body))

    async with stage() as scene:
        agent = scene.agent(echo)
        await agent.join()
        content = bytes(range(256)) * 4096
        for _ in range(2):
            assert (await scene.ask("/", "POST", content)).body == content
        assert agent.origin.connections == 1
