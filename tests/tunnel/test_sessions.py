"""Control connections: what is said, when the other side counts as gone, and how a dyno comes and goes."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from flyby.clock import ManualClock
from flyby.control import State
from flyby.errors import StateError
from flyby.tunnel.messages import (
    LINE_LIMIT,
    Drain,
    Malformed,
    Ping,
    Pong,
    Ready,
    Register,
    Release,
    decode,
    encode,
    printable,
)
from flyby.tunnel.session import HEARTBEAT_S, MOST_LINES, REGISTER_S, SILENCE_S
from flyby.tunnel.tunnel import OWED_S
from tests.e2e.stage import Message, Origin, play, reply
from tests.tunnel.stage import Control, Gone, Stage, stage, until

REGISTER = {"type": "register", "protocol": 1, "dyno": "web.1"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (REGISTER, Register(1, "web.1")),
        (
            {
                **REGISTER,
                "agent": "0.1.0",
                "process": "web",
                "release": {"id": "v12", "description": "Deploy ü", "branch": "main"},
                "region": "us",
                "capacity": 20,
                "ready": True,
                "colour": "blue",
            },
            Register(1, "web.1", "0.1.0", "web", Release("v12", "Deploy ü", "main"), "us", 20, True),
        ),
        ({"type": "ping", "n": 7}, Ping(7)),
        ({"type": "ping", "n": 7, "in_flight": 3, "latency_ms": 1.5, "ready": False}, Ping(7, 3, 1.5, False)),
        ({"type": "ping", "n": 7, "latency_ms": None, "ready": None}, Ping(7)),
        ({"type": "pong", "n": 7, "in_flight": 3, "latency_ms": 2}, Pong(7, 3, 2.0)),
        ({"type": "ready", "ready": False}, Ready(False)),
        ({"type": "drain"}, Drain()),
        ({"type": "drain", "deadline_s": 5}, Drain()),
        ({"type": "hello", "whatever": [1, {}]}, None),
    ],
)
def test_messages(line: dict[str, Any], message: object) -> None:
    decoded = decode(json.dumps(line).encode())
    assert decoded == message
    assert type(decoded) is type(message)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"ping",
        b"[]",
        b"{}",
        b'{"type": 1}',
        b'{"type": "ping"}',
        b'{"type": "ping", "n": "7"}',
        b'{"type": "ping", "n": 7, "in_flight": -1}',
        b'{"type": "ping", "n": 7, "latency_ms": NaN}',
        b'{"type": "ping", "n": 7} x',
        b'{"type": "ready"}',
        b'{"type": "ready", "ready": 1}',
        b'{"type": "register", "protocol": 1}',
        b'{"type": "register", "protocol": 1, "dyno": "%b"}' % (b"x" * 257),
        b'{"type": "register", "protocol": 1, "dyno": "web.1", "capacity": 0}',
        b'{"type": "register", "protocol": 1, "dyno": "web.1", "capacity": 1e9}',
        b'{"type": "register", "protocol": 1, "dyno": "web.1", "release": "v1"}',
        b'{"type": "register", "protocol": 1, "dyno": "web.1", "release": {"branch": "\xff"}}',
        b'{"type": "x", "a": ' + b"[" * 10_000,
    ],
)
def test_what_is_no_message(line: bytes) -> None:
    with pytest.raises(Malformed):
        decode(line)


@pytest.mark.parametrize(
    ("label", "shown"), [("web.1", "web.1"), ("", "unknown"), ("a\nb\x1b[1m\u2028", "a?b?[1m?"), ("straße", "straße")]
)
def test_what_a_dyno_calls_itself_in_a_log(label: str, shown: str) -> None:
    assert printable(label) == shown


def test_what_the_edge_says_is_one_line() -> None:
    assert encode("spare", links=6) == b'{"type":"spare","links":6}\n'
    assert encode("refused", reason="a\nb").count(b"\n") == 1


@play
async def test_a_dyno_registers() -> None:
    async with stage() as scene:
        agent = scene.agent()
        control = await agent.connect()
        control.say("register", protocol=1, dyno="web.1", release={"id": "v1"}, region="eu", capacity=5, ready=False)
        expected = {"node": "edge-1", "worker": 0, "workers": 1, "heartbeat_s": 10, "spare": 5}
        assert await control.hear() == {"type": "registered", **expected}
        [dyno] = scene.edge.statistics().backends["app"].donors
        shown = (dyno.id, dyno.release, dyno.region, dyno.state, dyno.capacity)
        assert shown == (agent.key, "v1", "eu", "not-ready", 5)
        dynos = f"<Dynos app [<Dyno web.1 ({agent.key[:8]}) not-ready leased=0 idle=0 pipes=0>] waiting=0>"
        assert repr(scene.tunnel) == f"<Tunnel sessions=1 [{dynos}]>"
        control.say("ready", ready=True)
        control.say("ping", n=1, in_flight=2, latency_ms=30)
        assert await control.hear() == {"type": "pong", "n": 1}
        [dyno] = scene.edge.statistics().backends["app"].donors
        assert (dyno.state, dyno.reported_in_flight, dyno.reported_latency_s) == ("ready", 2, 0.03)
        control.say("ping", n=2, ready=False)
        await control.hear()
        assert scene.edge.statistics().backends["app"].donors[0].state == "not-ready"


@pytest.mark.parametrize(
    ("register", "reason"),
    [
        ({"protocol": 2, "dyno": "web.1"}, "protocol 1 is spoken here"),
        ({"protocol": 1, "dyno": "web.2"}, "there are 1 dynos of app already"),
    ],
)
def test_a_registration_that_is_refused(register: dict[str, Any], reason: str) -> None:
    @play
    async def story() -> None:
        async with stage(tunnel={"max_dynos": 1}) as scene:
            if register["protocol"] == 1:
                await scene.agent().join()
            control = await scene.agent(name="web.2").connect()
            control.say("register", **register)
            assert await control.hear() == {"type": "refused", "reason": reason}
            assert await control.gone()

    story()


@pytest.mark.parametrize(
    "lines",
    [
        b"nonsense\n",
        b'{"type":"ping","n":1}\n',
        json.dumps(REGISTER).encode() + b"\n" + json.dumps(REGISTER).encode() + b"\n",
        b'{"type":"' + b"x" * LINE_LIMIT,
        b'{"type":"x"}\n' * (MOST_LINES + 1),
    ],
    ids=["no JSON", "not registered", "registered twice", "long line", "many lines"],
)
def test_a_session_that_breaks_the_rules_is_closed(lines: bytes) -> None:
    @play
    async def story() -> None:
        async with stage() as scene:
            control = await scene.agent().connect()
            control.write(lines)
            assert await control.gone()
            await until(lambda: scene.tunnel.statistics().sessions == 0)

    story()


@play
async def test_unknown_messages_are_passed_over_and_lines_may_come_in_pieces() -> None:
    async with stage() as scene:
        control = await scene.agent().connect()
        for octet in b'{"type":"hello"}\n' + json.dumps(REGISTER).encode() + b"\n":
            control.write(bytes([octet]))
            await asyncio.sleep(0)
        assert (await control.hear())["type"] == "registered"


@play
async def test_a_limit_on_the_links_of_a_dyno() -> None:
    async with stage(tunnel={"max_links": 2}) as scene:
        agent = scene.agent()
        await agent.join(links=2)
        head, _, _ = await agent.dial("link")
        assert head.status == 503


# ---- who is gone -----------------------------------------------------------------------------------------------------


async def hang(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@play
async def test_a_half_open_link_is_noticed_in_twenty_seconds() -> None:
    clock = ManualClock()
    async with stage(clock=clock) as scene:
        agent = scene.agent(hang)
        control = await agent.join(links=2)
        asked = asyncio.create_task(scene.ask("/", "POST"))
        await until(lambda: scene.edge.statistics().backends["app"].donors[0].in_flight == 1)
        clock.advance(HEARTBEAT_S)
        scene.tunnel.tick()
        assert await control.hear() == {"type": "ping", "n": 1}
        clock.advance(SILENCE_S - HEARTBEAT_S - 0.1)
        scene.tunnel.tick()
        assert len(scene.edge.statistics().backends["app"].donors) == 1
        clock.advance(0.2)
        scene.tunnel.tick()
        assert scene.edge.statistics().backends["app"].donors == ()
        assert (await asked).status == 502
        assert await control.gone()
        await until(lambda: agent.links == 0)


@play
async def test_an_agent_that_talks_but_does_not_answer_is_gone_too() -> None:
    clock = ManualClock()
    async with stage(clock=clock) as scene:
        control = await scene.agent().join()
        for second in range(30):
            clock.advance(1)
            control.say("ping", n=second)
            await control.hear_of("pong")
            scene.tunnel.tick()
            if not scene.tunnel.statistics().sessions:
                break
        assert second == HEARTBEAT_S + SILENCE_S - 1


@play
async def test_an_agent_that_answers_stays() -> None:
    clock = ManualClock()
    async with stage(clock=clock) as scene:
        control = await scene.agent().join()
        for _ in range(5):
            clock.advance(HEARTBEAT_S)
            scene.tunnel.tick()
            ping = await control.hear_of("ping")
            control.say("pong", n=ping["n"], in_flight=ping["n"])
            await until(
                lambda: scene.edge.statistics().backends["app"].donors[0].reported_in_flight == ping["n"]  # noqa: B023
            )
        assert (await scene.ask("/")).status == 200


@play
async def test_a_control_connection_that_does_not_register() -> None:
    clock = ManualClock()
    async with stage(clock=clock) as scene:
        control = await scene.agent().connect()
        await until(lambda: scene.tunnel.statistics().sessions == 1)
        clock.advance(REGISTER_S)
        scene.tunnel.tick()
        assert await control.gone()


@play
async def test_a_dyno_whose_control_connection_ends_finishes_what_it_does() -> None:
    go_on = asyncio.Event()

    async def slow(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        await reply(body=b"late", Cache_Control="no-store")(origin, request, writer)

    async with stage(pool={"wait_s": 0.1}) as scene:
        agent = scene.agent(slow)
        control = await agent.join(links=2)
        asked = asyncio.create_task(scene.ask("/"))
        await until(lambda: scene.edge.statistics().backends["app"].donors[0].in_flight == 1)
        control.writer.close()
        await until(lambda: not scene.edge.statistics().backends["app"].donors)
        assert (await scene.ask("/other")).status == 503
        go_on.set()
        assert (await asked).body == b"late"
        await until(lambda: agent.links == 0)


@play
async def test_the_newer_of_two_control_connections_stays() -> None:
    async with stage() as scene:
        agent = scene.agent()
        first = await agent.join(links=1)
        surplus = await agent.connect()  # one that is closed again before it registers changes nothing
        surplus.writer.close()
        assert (await scene.ask("/")).status == 200
        await agent.join(links=0)
        assert await first.hear() == {"type": "replaced"}
        assert await first.gone()
        assert len(scene.edge.statistics().backends["app"].donors) == 1
        assert (await scene.ask("/")).status == 200


# ---- goodbyes --------------------------------------------------------------------------------------------------------


@play
async def test_a_dyno_drains() -> None:
    go_on = asyncio.Event()

    async def slow(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        await reply(body=b"last", Cache_Control="no-store")(origin, request, writer)

    async with stage(pool={"wait_s": 0.1}) as scene:
        agent = scene.agent(slow)
        control = await agent.join(links=3)
        asked = asyncio.create_task(scene.ask("/", "POST"))
        await until(lambda: scene.edge.statistics().backends["app"].donors[0].in_flight == 1)
        control.say("drain")
        # The edge closes the idle links, so that nothing can be on its way on them.
        await until(lambda: agent.links == 1)
        head, _, _ = await agent.dial("link")
        assert head.status == 409
        assert (await scene.ask("/", "POST")).status == 503
        go_on.set()
        assert await control.hear() == {"type": "drained", "in_flight": 0}
        assert (await asked).body == b"last"


@play
async def test_an_idle_dyno_is_drained_at_once() -> None:
    async with stage() as scene:
        control = await scene.agent().join(links=3)
        control.say("drain")
        assert await control.hear() == {"type": "drained", "in_flight": 0}


@play
async def test_a_revoked_tokens_sessions_and_links_are_closed() -> None:
    async with stage() as scene:
        agent = scene.agent(hang)
        control = await agent.join(links=2)
        asked = asyncio.create_task(scene.ask("/", "POST"))
        await until(lambda: scene.edge.statistics().backends["app"].donors[0].in_flight == 1)
        _, other_token = scene.state.create_token("app")
        other = scene.agent(token=other_token, name="web.2")
        await other.join(links=1)
        with State.open(scene.state.path.parent) as elsewhere:  # as the command line does
            elsewhere.revoke(scene.token.split("_")[1])
        assert await control.hear() == {"type": "revoked"}
        assert await control.gone()
        assert (await asked).status == 502
        await until(lambda: agent.links == 0)
        head, _, _ = await agent.dial()
        assert head.status == 401
        assert (await scene.ask("/")).body == b"web.2"


@play
async def test_a_revocation_that_could_not_be_read_is_read_later() -> None:
    async with stage() as scene:
        control = await scene.agent().join(links=1)
        live, State.live_tokens = State.live_tokens, locked  # type: ignore[method-assign]
        try:
            scene.state.revoke(scene.token.split("_")[1])
            assert scene.edge._watch.look()  # nothing that happens later will call for it again
            scene.tunnel.refresh()
        finally:
            State.live_tokens = live  # type: ignore[method-assign]
        assert scene.tunnel.statistics().sessions == 1
        scene.tunnel.tick()
        assert await control.hear_of("revoked")
        assert await control.gone()


def locked(*given: Any, **named: Any) -> Any:
    raise StateError("flyby.db is locked by another program")


@play
async def test_a_release_that_could_not_be_recorded_is_recorded_later() -> None:
    clock = ManualClock()
    async with stage(clock=clock) as scene:
        record, State.record_release = State.record_release, locked  # type: ignore[method-assign]
        try:
            for name in ("web.1", "web.2"):
                await scene.agent(name=name).join(links=0, release={"id": name})
            clock.advance(OWED_S)
            scene.tunnel.tick()
            assert scene.state.releases("app") == []
        finally:
            State.record_release = record  # type: ignore[method-assign]
        scene.tunnel.tick()
        assert scene.state.releases("app") == []  # not so soon
        clock.advance(OWED_S)
        scene.tunnel.tick()
        releases = scene.state.releases("app")
        assert {release.id for release in releases} == {"web.1", "web.2"}
        assert all(release.first_ready_ms is not None for release in releases)


@play
async def test_a_state_that_is_locked_is_tried_once_for_all_dynos() -> None:
    clock = ManualClock()
    tries = 0
    said: list[str] = []

    def heard(record: logging.LogRecord) -> bool:
        said.append(record.getMessage())
        return True

    logger = logging.getLogger("flyby.tunnel")
    logger.addFilter(heard)

    def counted(*given: Any, **named: Any) -> Any:
        nonlocal tries
        tries += 1
        raise StateError("flyby.db is locked by another program")

    async with stage(clock=clock) as scene:
        record, State.record_release = State.record_release, counted  # type: ignore[method-assign]
        try:
            for name in ("web.1", "web.2", "web.3"):
                await scene.agent(name=name).join(links=0, release={"id": name})
            assert tries == 1
            clock.advance(OWED_S)
            scene.tunnel.tick()
            assert tries == 2
        finally:
            State.record_release = record  # type: ignore[method-assign]
            logger.removeFilter(heard)
        assert sum("not recorded yet" in line for line in said) == 1
        clock.advance(OWED_S)
        scene.tunnel.tick()
        assert {release.id for release in scene.state.releases("app")} == {"web.1", "web.2", "web.3"}


@play
async def test_the_edge_says_goodbye() -> None:
    go_on = asyncio.Event()

    async def slow(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        go_on.set()
        await asyncio.sleep(0.3)
        await reply(body=b"last", Cache_Control="no-store")(origin, request, writer)

    async with stage() as scene:
        agent = scene.agent(slow)
        control = await agent.join(links=2)
        asked = asyncio.create_task(scene.ask("/"))
        await go_on.wait()
        draining = asyncio.create_task(scene.edge.drain(5))
        assert await control.hear() == {"type": "drain", "deadline_s": 5}
        assert (await asked).body == b"last"
        await draining
        with pytest.raises(Gone):
            await control.hear()


@play
async def test_releases_are_recorded_once_and_ready_once() -> None:
    async with stage() as scene:
        control = await scene.agent().join(links=0, ready=False, release={"id": "v7", "branch": "main"})
        [release] = scene.state.releases("app")
        assert (release.id, release.branch, release.first_ready_ms) == ("v7", "main", None)
        control.say("ready", ready=True)
        await until(lambda: scene.state.releases("app")[0].first_ready_ms is not None)
        await scene.agent(name="web.2").join(links=0, release={"id": "v7"})
        await scene.agent(name="web.3").join(links=0, release={})
        assert [each.id for each in scene.state.releases("app")] == ["v7"]


def test_releases_without_end_take_no_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyby.tunnel.tunnel.MOST_NOTED", 3)

    @play
    async def story() -> None:
        async with stage() as scene:
            for number in range(9):
                await scene.agent().join(links=0, release={"id": f"v{number}"})
            assert len(scene.tunnel._noted) <= 4 >= len(scene.tunnel._ready)
            assert len(scene.state.releases("app")) == 9

    story()


@pytest.mark.parametrize(("setting", "outcome"), [("off", "hit"), ("soft", "fwd=stale"), ("hard", "fwd=uri-miss")])
def test_a_new_release_purges_what_others_have_made(setting: str, outcome: str) -> None:
    @play
    async def story() -> None:
        async with stage(backend={"purge_on_release": setting}) as scene:
            for release, path in [({"id": "v1"}, "/v1"), ({}, "/unknown")]:
                script = reply(body=b"made", Cache_Control="max-age=60", ETag='"1"')
                control = await scene.agent(script, name="web.1").join(release=release)
                await scene.ask(path)
                control.say("drain")
                await control.hear_of("drained")
            newer = scene.agent(reply(body=b"new", Cache_Control="max-age=60"), name="web.2")
            control = await newer.join(release={"id": "v2"}, ready=False)
            assert "hit" in ((await scene.ask("/v1")).get("cache-status") or "")
            control.say("ready", ready=True)
            await until(lambda: scene.edge.statistics().backends["app"].donors[0].state == "ready")
            seen = [(await scene.ask(path)).get("cache-status") or "" for path in ("/v1", "/unknown")]
            assert all(outcome in status for status in seen), seen
            # A second dyno of the release is no event.
            await scene.agent(name="web.3").join(release={"id": "v2"})
            assert "hit" in ((await scene.ask("/v1")).get("cache-status") or "")

    story()


def states(scene: Stage) -> list[str]:
    return [donor.state for donor in scene.edge.statistics().backends["app"].donors]


@pytest.mark.parametrize("overlap", [True, False])
def test_what_a_release_made_goes_with_its_last_dyno(overlap: bool) -> None:
    """The old dynos of a deploy go on making responses, and a release that is rolled back was never an old one."""

    @play
    async def story() -> None:
        async with stage(backend={"purge_on_release": "hard"}) as scene:

            async def come(release: str) -> Control:
                script = reply(body=release.encode(), Cache_Control="max-age=60")
                return await scene.agent(script, name=release).join(release={"id": release})

            async def go(control: Control) -> None:
                control.say("drain")
                await control.hear_of("drained")

            there = await come("v1")
            for release in ("v2", "v1", "v2"):
                if overlap:
                    before, there = there, await come(release)
                    there.say("ready", ready=False)
                    await until(lambda: "not-ready" in states(scene))
                    assert (await scene.ask(f"/{release}")).body != release.encode()
                    there.say("ready", ready=True)
                    await until(lambda: "not-ready" not in states(scene))
                    await go(before)
                else:
                    await scene.ask(f"/{release}")
                    await go(there)
                    there = await come(release)
                assert (await scene.ask(f"/{release}")).body == release.encode()

    story()


@play
async def test_a_dyno_that_is_lost_for_a_moment_takes_nothing_along() -> None:
    async with stage(backend={"purge_on_release": "hard"}) as scene:
        for _ in range(2):
            agent = scene.agent(reply(body=b"kept", Cache_Control="max-age=60"))
            control = await agent.join(release={"id": "v1"})
            assert (await scene.ask("/")).body == b"kept"
            control.say("drain")
            await control.hear_of("drained")
        assert len(agent.origin.requests) == 0


@play
async def test_spare_links_follow_the_load() -> None:
    async with stage() as scene:
        agent = scene.agent()
        control = await agent.join(links=20)

        async def slow(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.2)
            await reply(Cache_Control="no-store")(origin, request, writer)

        agent.origin.script = slow
        await asyncio.gather(*(scene.ask(f"/{number}") for number in range(20)))
        for dynos in scene.tunnel.dynos():
            dynos.settle()
        assert await control.hear_of("spare") == {"type": "spare", "links": 10}
        for _ in range(2):
            for dynos in scene.tunnel.dynos():
                dynos.settle()
        assert await control.hear_of("spare") == {"type": "spare", "links": 8}
        assert scene.edge.statistics().backends["app"].donors[0].idle == 16  # twice as many as are asked for
