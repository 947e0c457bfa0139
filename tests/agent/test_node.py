"""The agent and its edge nodes: registration, links in every worker, what is lost and how it comes back."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import threading
from pathlib import Path

import pytest
import trustme

from flyby_agent import trust
from flyby_agent.agent import Agent
from flyby_agent.endpoints import Address, Endpoint, resolve
from flyby_agent.settings import merged, settle
from tests.agent.conftest import Stage, certificates
from tests.agent.dyno import FakeApp, answer
from tests.agent.edge import until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_dyno_registers_with_what_it_is(stage: Stage) -> None:
    edge, app = stage.edge(), stage.app()
    stage.agent(
        edge,
        app,
        DYNO="web.7",
        FLY_RELEASE_ID="v12",
        FLY_RELEASE_DESC="Deploy 0123abc",
        FLY_RELEASE_BRANCH="main",
        FLY_REGION="us",
        FLY_CAPACITY="20",
    )
    edge.wait_idle(2)
    control = edge.control()
    register = control.messages[0]
    assert register.pop("ready") in (True, False)
    assert register.pop("agent") == control.fields["flyby-agent"]
    assert register == {
        "type": "register",
        "protocol": 1,
        "dyno": "web.7",
        "process": "web",
        "release": {"id": "v12", "description": "Deploy 0123abc", "branch": "main"},
        "region": "us",
        "capacity": 20,
    }
    assert control.fields["host"] == f"127.0.0.1:{edge.port}"
    dynos = {fields["flyby-dyno"] for _, fields in edge.asks}
    assert len(dynos) == 1
    assert len(dynos.pop()) == 32


def test_every_worker_gets_one_control_connection_and_its_links(stage: Stage) -> None:
    edge, app = stage.edge(workers=3), stage.app()
    # Chance is unkind: every worker but the first is reached late.
    landing = iter([0, 0, 0, 2, 2, 0, 1])
    edge.landing = lambda role: next(landing, len(edge.asks) % 3)
    stage.agent(edge, app)
    for worker in range(3):
        edge.wait_idle(2, worker)
    until(lambda: sorted(side.worker for side in edge.controls) == [0, 1, 2], "three control connections")
    assert all([m["type"] for m in side.messages].count("register") == 1 for side in edge.controls)


def test_links_are_dialled_before_they_run_out(stage: Stage) -> None:
    release = threading.Event()

    def slow(connection: socket.socket, request: bytes) -> None:
        release.wait(20)
        answer()(connection, request)

    edge, app = stage.edge(spare=3), stage.app(slow)
    stage.agent(edge, app)
    busy = []
    for _ in range(12):
        # There is always one: the fourth link was dialled while the first was taken.
        link = edge.take()
        link.send(GET)
        busy.append(link)
        edge.wait_idle(3)
    edge.control().tell({"type": "spare", "links": 6})
    edge.wait_idle(6)
    release.set()
    assert [link.response()[2] for link in busy] == [b"hello"] * 12


def test_links_stop_at_the_capacity(stage: Stage) -> None:
    edge, app = stage.edge(spare=8), stage.app()
    stage.agent(edge, app, FLY_CAPACITY="3")
    edge.wait_idle(3)
    edge.control().tell({"type": "spare", "links": 9})
    assert edge.take().ask(GET)[0] == 200
    assert len(edge.links()) == 3


def test_no_links_until_the_app_accepts_and_none_after_it_stopped(stage: Stage) -> None:
    edge = stage.edge()
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    agent = stage.agent(edge, port)
    control = edge.control()
    until(lambda: edge.said("ping"), "a ping")
    assert control.messages[0]["ready"] is False
    assert edge.links() == []
    app = FakeApp(answer(), port)
    edge.wait_idle(2)
    assert edge.said("ready") == [{"type": "ready", "ready": True}]
    link = edge.take()
    assert link.ask(GET)[0] == 200
    app.stop()
    status, fields, _ = link.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
    assert (status, fields["flyby-refused"]) in [(503, "dial"), (503, "not-ready")]
    until(lambda: edge.said("ready")[-1] == {"type": "ready", "ready": False}, "not ready")
    assert link.ask(GET)[1]["flyby-refused"] == "not-ready"
    # The session went on all the while, and so it does when the app comes back.
    app = stage.app(port=port)
    until(lambda: edge.said("ready")[-1] == {"type": "ready", "ready": True}, "ready again")
    assert link.ask(GET)[2] == b"hello"
    assert edge.control() is control
    agent.wait_for("is not ready")


def test_a_refused_request_with_content_leaves_the_link_in_step(stage: Stage) -> None:
    edge, app = stage.edge(), stage.app()
    stage.agent(edge, app)
    link = edge.take()
    app.stop()
    link.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    assert link.response()[1].get("flyby-refused") in ("dial", "not-ready")
    link.send(b"0\r\n\r\n")
    assert link.ask(GET)[1].get("flyby-refused") in ("dial", "not-ready")


def test_readiness_can_ask_for_a_path(stage: Stage) -> None:
    healthy = threading.Event()

    def script(connection: socket.socket, request: bytes) -> None:
        status = b"200 OK" if healthy.is_set() else b"500 Not Yet"
        connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status)

    edge, app = stage.edge(), stage.app(script)
    stage.agent(edge, app, FLY_HEALTH_PATH="/up?now")
    until(lambda: len(app.requests) > 3, "some checks")
    assert edge.links() == []
    assert app.requests[0].startswith(b"GET /up?now HTTP/1.1\r\nHost: localhost\r\n")
    healthy.set()
    edge.wait_idle(2)


def test_heartbeats_go_both_ways_and_carry_the_load(stage: Stage) -> None:
    edge, app = stage.edge(heartbeat_s=0.1), stage.app()
    stage.agent(edge, app)
    edge.wait_idle(1)
    control = edge.control()
    assert edge.take().ask(GET)[0] == 200
    control.tell({"type": "ping", "n": 77, "anything": [1]})
    pong = until(lambda: edge.said("pong"), "a pong")[0]
    assert pong["n"] == 77
    assert pong["ready"] is True
    assert pong["in_flight"] == 0
    assert pong["latency_ms"] > 0
    pings = until(lambda: found if len(found := edge.said("ping")) > 3 else None, "pings")
    assert [ping["n"] for ping in pings] == list(range(1, len(pings) + 1))


def test_an_edge_that_falls_silent_is_left_with_its_links_and_dialled_anew(stage: Stage) -> None:
    edge, app = stage.edge(heartbeat_s=0.2), stage.app()
    agent = stage.agent(edge, app)
    edge.wait_idle(2)
    silent, links = edge.control(), edge.links()
    edge.pongs = False
    until(lambda: silent.ended and all(link.ended for link in links), "the end of everything")
    edge.pongs = True
    edge.wait_idle(2)
    agent.wait_for("nothing heard for")


def test_messages_that_nobody_knows_are_passed_over(stage: Stage) -> None:
    edge, app = stage.edge(), stage.app()
    stage.agent(edge, app)
    control = edge.control()
    control.tell({"type": "sing", "song": "x"})
    control.tell({"type": "spare", "links": "many"})
    control.tell({"no": "type"})
    control.send(b'{"type":"ping",')
    control.send(b'"n":5}\n')
    until(lambda: edge.said("pong"), "a pong")


@pytest.mark.parametrize(
    "line", [b"\n", b"[1]\n", b"{\n", b"[" * 10_000 + b"\n", b'{"type":"' + b"x" * 17_000 + b'"}\n', b"x" * 17_000]
)
def test_what_is_no_message_ends_the_control_connection(stage: Stage, line: bytes) -> None:
    edge, app = stage.edge(), stage.app()
    stage.agent(edge, app)
    control = edge.control()
    control.send(line)
    until(lambda: control.ended, "its end")
    until(lambda: edge.controls and edge.control() is not control, "another")


def test_a_wrong_token_is_said_once_and_not_shown(stage: Stage) -> None:
    edge, app = stage.edge(), stage.app()
    agent = stage.agent(edge, app, token="fly_wrong_1234567")
    agent.wait_for("the edge does not know this FLY_TOKEN")
    assert [role for role, _ in edge.asks] == ["control"]
    assert "1234567" not in agent.said()
    assert "1234567" not in agent.run("status").stdout


def test_a_revoked_token_ends_every_connection_and_is_not_tried_again_at_once(stage: Stage) -> None:
    edge, app = stage.edge(workers=2), stage.app()
    agent = stage.agent(edge, app)
    edge.wait_idle(2, 0)
    edge.wait_idle(2, 1)
    asked = len(edge.asks)
    edge.control(1).tell({"type": "revoked"})
    until(lambda: not edge.sides or all(side.ended for side in edge.sides), "the end of everything")
    agent.wait_for("fly: error: ")
    assert "the token was revoked" in agent.said()
    assert len(edge.asks) == asked


def test_an_edge_that_refuses_a_dyno_says_why(stage: Stage) -> None:
    edge, app = stage.edge(), stage.app()
    edge.on_register = lambda side: {"type": "refused", "reason": "too many\ndynos"}  # type: ignore[method-assign]
    agent = stage.agent(edge, app)
    agent.wait_for("the edge refused to register this dyno: too many dynos")
    assert edge.links() == []


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\n\r\n",
            "takes no dyno at the moment (it answered 503)",
        ),
        (
            b"HTTP/1.1 404 Not Found\r\n\r\n",
            "its tunnel is off (it answered 404). Check FLY_REMOTE_ENDPOINT",
        ),
        (b"HTTP/1.1 426 Upgrade Required\r\n\r\n", "another version"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "does not speak flyby-tunnel/1"),
        (b"HTTP/1.1 101 X\r\nUpgrade: flyby-tunnel/1\r\nFlyby-Worker: 2/2\r\n\r\n", "does not speak flyby-tunnel/1"),
        (b"220 mail ESMTP\r\n\r\n", "not an HTTP/1.1 server"),
        (b"", "closed the connection without an answer"),
    ],
)
def test_answers_that_are_no_tunnel_are_told(stage: Stage, reply: bytes, said: str) -> None:
    edge, app = stage.edge(), stage.app()
    edge.answer = reply
    agent = stage.agent(edge, app)
    agent.wait_for(said)


def test_a_node_that_dies_is_found_again_and_the_other_is_not_disturbed(stage: Stage) -> None:
    one, two = stage.edge(name="one"), stage.edge(name="two")
    app = stage.app()
    agent = stage.agent(f"{one.url}, {two.url}", app)
    one.wait_idle(2)
    two.wait_idle(2)
    steady = two.control()
    one.stop()
    agent.wait_for("node one, worker 0: the connection was lost")
    assert two.take().ask(GET)[2] == b"hello"
    again = stage.edge(name="one", boot="b2", port=one.port)
    again.wait_idle(2)
    assert again.take().ask(GET)[2] == b"hello"
    assert two.control() is steady
    agent.wait_for("node one has restarted")


def test_a_worker_that_dies_is_found_again(stage: Stage) -> None:
    edge, app = stage.edge(workers=2), stage.app()
    stage.agent(edge, app)
    edge.wait_idle(2, 0)
    edge.wait_idle(2, 1)
    other, lost = edge.control(0), edge.control(1)
    for side in [lost, *edge.links(1)]:
        side.close()
    until(lambda: any(side is not lost and side.worker == 1 for side in edge.controls), "another control connection")
    edge.wait_idle(2, 1)
    assert edge.control(0) is other


def test_two_addresses_of_one_node_are_one_node(stage: Stage) -> None:
    """The same name and boot behind two ports: the second is given up before it registers."""
    one, two = stage.edge(name="same"), stage.edge(name="same")
    app = stage.app()
    stage.agent(f"{one.url} {two.url}", app)
    until(lambda: one.links() or two.links(), "links")
    until(lambda: one.asks and two.asks, "both to be dialled")
    first, second = (one, two) if one.links() else (two, one)
    first.wait_idle(2)
    until(lambda: second.sides == [], "the second to be left")
    assert second.links() == []


def test_a_name_with_two_addresses_is_two_nodes_and_is_looked_up_anew(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = stage.edge(name="one")
    two = stage.edge(name="two", host="127.0.0.2", port=one.port)
    app = stage.app()
    listed = ["127.0.0.1", "127.0.0.2"]

    async def resolve(loop: asyncio.AbstractEventLoop, endpoint: Endpoint) -> list[Address]:
        return [Address(endpoint, ip) for ip in listed]

    monkeypatch.setattr("flyby_agent.agent.resolve", resolve)
    monkeypatch.setattr("flyby_agent.agent.RESOLVE_S", 0.05)
    environment = {"FLY_TOKEN": one.token, "FLY_REMOTE_ENDPOINT": f"http://edge.localhost:{one.port}"}
    settings = settle(merged({"port": str(app.port)}, environment), environment)

    async def play() -> None:
        agent = Agent(asyncio.get_running_loop(), settings)
        agent.start()
        for edge in (one, two):
            await asyncio.to_thread(edge.wait_idle, 2)
            assert (await asyncio.to_thread(edge.take().ask, GET))[0] == 200
        assert sorted(address.ip for address in agent.nodes) == listed
        # An address that is listed no more is kept while it works, and forgotten when it does not.
        listed.remove("127.0.0.2")
        await asyncio.sleep(0.2)
        assert len(agent.nodes) == 2
        await asyncio.to_thread(two.stop)
        while len(agent.nodes) == 2:
            await asyncio.sleep(0.01)
        assert one.control().ended == ""
        await agent.close()

    asyncio.run(asyncio.wait_for(play(), 30))


def test_names_are_looked_up_and_a_failure_is_an_error() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        assert Address(here, "127.0.0.1") in await resolve(loop, here)
        with pytest.raises(socket.gaierror):
            await resolve(loop, Endpoint("https", "does-not-exist.invalid", 443))

    here = Endpoint("http", "127.0.0.1", 80)
    asyncio.run(asyncio.wait_for(play(), 30))


def test_an_edge_that_drains_keeps_what_is_in_flight_and_is_dialled_again(stage: Stage) -> None:
    go = threading.Event()

    def slow(connection: socket.socket, request: bytes) -> None:
        go.wait(20)
        answer()(connection, request)

    edge, app = stage.edge(), stage.app(slow)
    agent = stage.agent(edge, app)
    edge.wait_idle(2)
    link = edge.take()
    link.send(GET)
    control = edge.control()
    edge.answer = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\n\r\n"
    control.tell({"type": "drain", "deadline_s": 25})
    agent.wait_for("worker 0 is going down")
    until(lambda: any(role == "control" for role, _ in edge.asks[3:]), "another dial")
    go.set()
    assert link.response()[2] == b"hello"
    edge.boot, edge.answer = "b2", None
    until(lambda: any(side is not control for side in edge.controls), "the new life of the edge")
    edge.wait_idle(2)


def test_links_that_land_where_there_are_enough_are_kept_and_the_next_is_less_hurried(stage: Stage) -> None:
    """Closing one would cost the request that the edge may be sending on it; the edge closes what it does not need."""
    edge, app = stage.edge(workers=2), stage.app()
    controls = iter([0, 1])
    edge.landing = lambda role: next(controls, 0) if role == "control" else 0
    stage.agent(edge, app)
    links = edge.wait_idle(7, 0)
    assert [link.ended for link in links] == [""] * len(links)
    assert all(link.ask(GET)[0] == 200 for link in links)
    asked = len(edge.asks)
    edge.landing = lambda role: 1
    edge.wait_idle(2, 1)
    assert len(edge.asks) <= asked + 8


def test_a_link_that_cannot_be_used_is_retired_so_that_no_request_is_lost(stage: Stage) -> None:
    """It lands on a worker at its capacity: the refusal it says unasked is the answer to a request that crossed."""
    edge, app = stage.edge(workers=2), stage.app()
    controls = iter([0, 1])
    edge.landing = lambda role: next(controls, 0) if role == "control" else 0
    stage.agent(edge, app, FLY_CAPACITY="3")
    surplus = until(lambda: [link for link in edge.links(0) if link.received], "a link that is refused")[0]
    status, fields, _ = surplus.response()
    assert (status, fields["flyby-refused"], fields["connection"]) == (503, "draining", "close")
    assert not surplus.ended
    surplus.close()
    until(lambda: surplus.ended, "its end")


def test_tls_is_verified_and_pinned(stage: Stage, tmp_path: Path) -> None:
    context, authority, pin = certificates(tmp_path)
    edge, app = stage.edge(tls=context), stage.app(answer(b"x" * 1_000_000))
    pinned = "sha256/" + base64.b64encode(pin).decode()
    agent = stage.agent(edge, app, "--ca-file", authority, "--pin", pinned)
    link = edge.take()
    assert link.ask(GET)[2] == b"x" * 1_000_000
    assert agent.run("diagnose", "--ca-file", authority, "--pin", pinned).returncode == 0
    app.script = lambda connection, request: (connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nall"), connection.close())
    link.send(GET)
    assert link.read_to_end() == (b"HTTP/1.1 200 OK\r\n\r\nall", "eof")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "the edge's certificate is not trusted"),
        (("--pin", f"sha256/{base64.b64encode(bytes(32)).decode()}", "--ca-file", "ca.pem"), "which is not pinned"),
    ],
)
def test_an_edge_that_is_not_trusted_never_sees_the_token(
    stage: Stage, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    context, authority, _ = certificates(tmp_path)
    edge, app = stage.edge(tls=context), stage.app()
    arguments = tuple(authority if each == "ca.pem" else each for each in arguments)
    agent = stage.agent(edge, app, *arguments)
    agent.wait_for(said)
    diagnosed = agent.run("diagnose", *arguments)
    assert diagnosed.returncode == 1
    assert "FAIL  tls" in diagnosed.stdout
    assert edge.asks == []


def test_an_unverified_certificate_is_for_loopback(stage: Stage, tmp_path: Path) -> None:
    context, _, _ = certificates(tmp_path)
    edge, app = stage.edge(tls=context), stage.app()
    stage.agent(edge, app, "--insecure")
    assert edge.take().ask(GET)[0] == 200


def test_the_pin_is_that_of_the_public_key(tmp_path: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    issued = trustme.CA().issue_cert("x.example")
    pem = issued.cert_chain_pems[0].bytes()
    key = x509.load_pem_x509_certificate(pem).public_key()
    wanted = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    der = ssl.PEM_cert_to_DER_cert(pem.decode())
    assert trust.public_key(der) == wanted
    for end in range(0, len(der), 7):
        with pytest.raises(ValueError, match="cut off"):
            trust.public_key(der[:end])
