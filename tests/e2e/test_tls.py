"""Plays over TLS: real handshakes by Python's client and by curl, and everything a plain connection can do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from flyby import Config, Route
from flyby.config import Certificate, Redirect, Timeouts
from tests.certificates import authority, issue, trusting
from tests.e2e.stage import LIMIT, Client, Message, Origin, Script, Stage, play, reply, stage
from tests.edge import ServedEdge

NAMES = ("shop.test", "*.wild.test", "127.0.0.1")


class SecureStage:
    """A stage whose edge listens twice: in plain, and with TLS."""

    def __init__(self, scene: Stage, directory: Path) -> None:
        self.scene = scene
        self.directory = directory
        self.edge = scene.edge
        self.origin = scene.origin

    @property
    def port(self) -> int:
        return self.edge.addresses[1][1]

    async def connect(self, name: str | None = "shop.test", context: ssl.SSLContext | None = None) -> Client:
        context = context or trusting()
        if name is None:
            context.check_hostname = False
        streams = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname=name or "", limit=LIMIT
        )
        client = Client(*streams)
        self.scene.clients.append(client)
        return client

    async def ask(self, path: str = "/", name: str | None = "shop.test", host: str = "shop.test") -> Message:
        client = await self.connect(name)
        await client.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
        response = await client.response()
        await client.close()
        return response

    async def counted(self, reason: str) -> None:
        """Wait until a handshake has failed for this reason."""
        await self.until(lambda: self.edge.statistics().tls.failures.get(reason))

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for what happens at the other end: a client of TLS 1.3 is done before its server is."""
        for _ in range(200):
            if true():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(self.edge.statistics())


@contextlib.asynccontextmanager
async def secure_stage(
    script: Script, certificates: tuple[tuple[str, ...], ...] = (NAMES,), **options: Any
) -> AsyncIterator[SecureStage]:
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        pairs = [issue(directory, f"c{index}", *names) for index, names in enumerate(certificates)]
        tls = [Certificate(certificate=certificate, key=key) for certificate, key in pairs]
        server = {"listen": ["127.0.0.1:0", "https://127.0.0.1:0"], "tls": tls, **options.pop("server", {})}
        async with stage(script, server=server, **options) as scene:
            yield SecureStage(scene, directory)


def names_of(client: Client) -> set[str]:
    shown = client.writer.get_extra_info("peercert")
    return {value for _, value in shown["subjectAltName"]}


# ---- the handshake ---------------------------------------------------------------------------------------------------


@play
async def test_the_certificate_is_chosen_by_the_name() -> None:
    certificates = (("first.test",), ("shop.test", "*.wild.test"), ("deep.wild.test", "shop.test"))
    async with secure_stage(reply(), certificates) as scene:
        lax = trusting()
        lax.check_hostname = False
        for name, expected in (
            ("first.test", {"first.test"}),
            ("shop.test", {"shop.test", "*.wild.test"}),  # of two with the name, the first
            ("SHOP.Test", {"shop.test", "*.wild.test"}),
            ("a.wild.test", {"shop.test", "*.wild.test"}),
            ("deep.wild.test", {"deep.wild.test", "shop.test"}),  # exact before wildcard
            ("a.b.wild.test", {"first.test"}),
            ("unknown.test", {"first.test"}),
            (None, {"first.test"}),
        ):
            client = await scene.connect(name, lax)
            assert names_of(client) == expected, name
        await scene.until(lambda: scene.edge.statistics().tls.handshakes == 8)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_that_are_spoken(version: ssl.TLSVersion) -> None:
    @play
    async def story() -> None:
        async with secure_stage(reply()) as scene:
            context = trusting()
            context.minimum_version = context.maximum_version = version
            client = await scene.connect(context=context)
            engine = client.writer.get_extra_info("ssl_object")
            assert engine.version() == ("TLSv1.2" if version is ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
            assert engine.selected_alpn_protocol() == "http/1.1"
            assert engine.compression() is None
            cipher = engine.cipher()[0]
            assert cipher.startswith(("TLS_", "ECDHE-"))
            await client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            assert (await client.response()).body == b"hello"

    story()


@play
async def test_old_versions_and_weak_ciphers_are_refused() -> None:
    async with secure_stage(reply()) as scene:
        old = trusting()
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.options &= ~(ssl.OP_NO_TLSv1_1 | ssl.OP_NO_TLSv1)
        with pytest.warns(DeprecationWarning, match="deprecated"):
            old.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="deprecated"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await scene.connect(context=old)
        await scene.counted("unsupported-protocol")
        for weak in ("AES128-SHA", "ECDHE-RSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "DHE-RSA-AES128-GCM-SHA256"):
            context = trusting()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(weak)
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await scene.connect(context=context)
        await scene.counted("no-shared-cipher")
        assert (await scene.ask()).status == 200


@play
async def test_a_client_is_told_what_it_lacks() -> None:
    async with secure_stage(reply()) as scene:

        def refused(context: ssl.SSLContext) -> str:
            with (
                socket.create_connection(("127.0.0.1", scene.port), 5) as plain,
                pytest.raises(ssl.SSLError) as error,
            ):
                context.wrap_socket(plain, server_hostname="shop.test")
            return str(error.value.reason)

        old = trusting()
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.options &= ~ssl.OP_NO_TLSv1_1
        with pytest.warns(DeprecationWarning, match="deprecated"):
            old.minimum_version = ssl.TLSVersion.TLSv1_1
        with pytest.warns(DeprecationWarning, match="deprecated"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        weak = trusting()
        weak.maximum_version = ssl.TLSVersion.TLSv1_2
        weak.set_ciphers("AES128-SHA")
        assert await asyncio.to_thread(refused, old) == "TLSV1_ALERT_PROTOCOL_VERSION"
        assert await asyncio.to_thread(refused, weak) == "SSLV3_ALERT_HANDSHAKE_FAILURE"
        failures = scene.edge.statistics().tls.failures
        assert failures == {"unsupported-protocol": 1, "no-shared-cipher": 1}


@play
async def test_a_session_is_resumed() -> None:
    async with secure_stage(reply()) as scene:
        context = trusting()
        context.maximum_version = ssl.TLSVersion.TLSv1_2

        def visit(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
            with (
                socket.create_connection(("127.0.0.1", scene.port), 5) as plain,
                context.wrap_socket(plain, server_hostname="shop.test", session=session) as secure,
            ):
                secure.sendall(b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
                while secure.recv(4096):
                    pass
                return secure.session, secure.session_reused

        session, _ = await asyncio.to_thread(visit, None)
        assert await asyncio.to_thread(visit, session) == (session, True)
        assert scene.edge.statistics().tls.resumed == 1


@play
async def test_plain_http_on_the_secure_port_is_closed() -> None:
    async with secure_stage(reply()) as scene:
        plain = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"
        for nonsense in (plain, b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 9000):
            reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
            writer.write(nonsense)
            left = await asyncio.wait_for(reader.read(), 5)
            assert not left or left[0] == 21  # an alert at most
            writer.close()
        await scene.counted("http-request")
        assert (await scene.ask()).status == 200
        assert scene.origin.requests[0].get("x-forwarded-proto") == "https"


@play
async def test_a_handshake_that_does_not_go_on_is_ended() -> None:
    async with secure_stage(reply(), timeouts=Timeouts(handshake_s=0.3, drain_s=0.1)) as scene:
        silent = await asyncio.open_connection("127.0.0.1", scene.port)
        begun = await asyncio.open_connection("127.0.0.1", scene.port)
        begun[1].write(b"\x16\x03\x01\x02\x00\x01")
        gone = await asyncio.open_connection("127.0.0.1", scene.port)
        gone[1].write(b"\x16\x03\x01\x02\x00\x01")
        gone[1].close()
        for reader, writer in (silent, begun):
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
        await scene.counted("unfinished")
        assert scene.edge.statistics().connections == 0
        assert (await scene.ask()).status == 200


# ---- what it means for requests --------------------------------------------------------------------------------------


@play
async def test_the_origin_and_the_key_see_https() -> None:
    async with secure_stage(reply(Cache_Control="max-age=60")) as scene:
        answers = [await scene.scene.ask(), await scene.ask(), await scene.scene.ask(), await scene.ask()]
        assert ["hit" in (answer.get("cache-status") or "") for answer in answers] == [False, False, True, True]
        plain, secure = scene.origin.requests
        assert (plain.get("x-forwarded-proto"), secure.get("x-forwarded-proto")) == ("http", "https")
        assert secure.get("x-forwarded-port") == str(scene.port)


@play
async def test_a_route_can_send_plain_requests_to_https() -> None:
    routes = [
        Route(scheme="http", path="/*rest", redirect=Redirect(to="https://shop.test/*rest", status=308)),
        Route(backend="app"),
    ]
    async with secure_stage(reply(), routes=routes) as scene:
        moved = await scene.scene.ask("/a?b")
        assert (moved.status, moved.get("location")) == (308, "https://shop.test/a?b")
        assert (await scene.ask("/a?b")).status == 200


@play
async def test_a_host_that_the_certificate_does_not_cover_is_misdirected() -> None:
    async with secure_stage(reply(Cache_Control="max-age=60"), (("shop.test",), ("blog.test",))) as scene:
        for name, host, status in (
            ("shop.test", "shop.test", 200),
            ("shop.test", "SHOP.test:443", 200),
            ("blog.test", "blog.test", 200),
            ("shop.test", "blog.test", 421),  # though it is stored
            ("blog.test", "shop.test", 421),
            ("shop.test", "other.test", 421),
            (None, "shop.test", 200),
            (None, "blog.test", 421),
        ):
            for _ in range(2):
                assert (await scene.ask(name=name, host=host)).status == status, (name, host)
        client = await scene.connect()
        for host, status in (("shop.test", 200), ("blog.test", 421), ("shop.test", 200)):  # the connection stays
            await client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
            assert (await client.response()).status == status
        await client.send("GET / HTTP/1.1\r\nHost: blog.test\r\n\r\nGET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        assert [(await client.response()).status for _ in range(2)] == [421, 200]


@play
async def test_an_absolute_target_must_have_this_scheme() -> None:
    async with secure_stage(reply()) as scene:
        client = await scene.connect()
        await client.send("GET https://shop.test/x HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        assert (await client.response()).status == 200
        await client.send("GET http://shop.test/x HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        assert (await client.response()).status == 400


# ---- everything else, under TLS --------------------------------------------------------------------------------------


@play
async def test_keep_alive_and_pipelining() -> None:
    async with secure_stage(reply(Cache_Control="max-age=60")) as scene:
        client = await scene.connect()
        for _ in range(3):
            await client.send("GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            assert (await client.response()).body == b"hello"
        await client.send("".join(f"GET /{n % 3} HTTP/1.1\r\nHost: shop.test\r\n\r\n" for n in range(50)))
        assert [(await client.response()).status for _ in range(50)] == [200] * 50
        await client.send("GET /a HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
        assert (await client.response()).get("connection") == "close"
        assert await client.closed()
        assert scene.edge.statistics().tls.handshakes == 1


@play
async def test_a_big_response_arrives_whole_stored_or_streamed() -> None:
    body = bytes(range(256)) * 4096  # 1 MiB
    async with secure_stage(reply(body=body, Cache_Control="max-age=60")) as scene:
        for _ in range(3):
            assert (await scene.ask("/big")).body == body
        assert len(scene.origin.requests) == 1


@play
async def test_a_slow_reader_gets_everything_and_holds_little() -> None:
    body = b"x" * (8 << 20)
    async with secure_stage(reply(body=body)) as scene:
        client = await scene.connect()
        await client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        await asyncio.sleep(0.3)
        assert scene.edge.statistics().buffered < 1 << 20
        assert (await client.response()).body == body


@play
async def test_content_goes_up_as_it_comes() -> None:
    async with secure_stage(reply()) as scene:
        client = await scene.connect()
        body = b"y" * 300_000
        await client.send(b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert (await client.response()).status == 200
        assert scene.origin.requests[0].body == body


@play
async def test_a_fault_is_answered_and_then_closed() -> None:
    async with secure_stage(reply()) as scene:
        client = await scene.connect()
        await client.send("GET / HTTP/1.1\r\nHost: shop.test\r\nBad Name: x\r\n\r\n" + "z" * 50_000)
        assert (await client.response()).status == 400
        assert await client.closed()


@play
async def test_a_client_that_breaks_off_costs_nothing_more() -> None:
    release = asyncio.Event()

    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        await release.wait()

    async with secure_stage(script) as scene:
        aborting, leaving = await scene.connect(), await scene.connect()
        for client in (aborting, leaving):
            await client.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            await client.reader.readuntil(b"xxx")
        aborting.writer.transport.abort()  # type: ignore[attr-defined]
        leaving.writer.close()
        await scene.until(lambda: scene.edge.statistics().connections == 0)
        release.set()


@play
async def test_a_response_that_breaks_off_is_seen_to() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 100)
        await writer.drain()
        writer.close()

    async with secure_stage(script) as scene:
        answer = await scene.ask()
        assert (answer.complete, len(answer.body)) == (False, 100)


@play
async def test_an_upgraded_connection_is_a_pipe() -> None:
    async def script(origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nready")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.write(b"done")
        await writer.drain()
        writer.close()

    async with secure_stage(script) as scene:
        client = await scene.connect()
        await client.send("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert (await client.response()).status == 101
        assert await client.reader.readexactly(9) == b"readydone"
        assert await client.closed()


def test_it_is_the_same_under_the_loop_of_asyncio_itself() -> None:
    async def story() -> None:
        async with secure_stage(reply(Cache_Control="max-age=60")) as scene:
            client = await scene.connect()
            await client.send("".join(f"GET /{n % 3} HTTP/1.1\r\nHost: shop.test\r\n\r\n" for n in range(20)))
            assert [(await client.response()).body for _ in range(20)] == [b"hello"] * 20
            assert (await scene.ask(host="other.test")).status == 421
            assert scene.edge.statistics().tls.handshakes == 2

    with asyncio.Runner() as runner:
        runner.run(asyncio.wait_for(story(), 30))


# ---- reload ----------------------------------------------------------------------------------------------------------


async def _serial(scene: SecureStage) -> object:
    client = await scene.connect()
    serial = client.writer.get_extra_info("peercert")["serialNumber"]
    await client.close()
    return serial


@play
async def test_a_renewed_certificate_is_taken_up_without_dropping_anybody() -> None:
    async with secure_stage(reply()) as scene:
        before = await _serial(scene)
        kept = await scene.connect()
        config: Config = scene.edge._config
        issue(scene.directory, "c0", *NAMES, "new.test")
        assert await _serial(scene) == before
        await scene.edge.reload(config)
        assert await _serial(scene) != before
        for _ in range(2):
            await kept.send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            assert (await kept.response()).status == 200
        await kept.send("GET / HTTP/1.1\r\nHost: new.test\r\n\r\n")
        assert (await kept.response()).status == 421  # its certificate is still the old one
        assert (await scene.ask(name="new.test", host="new.test")).status == 200


@play
async def test_a_faulty_renewal_changes_nothing() -> None:
    async with secure_stage(reply()) as scene:
        before = await _serial(scene)
        (scene.directory / "c0.pem").write_text("broken")
        with pytest.raises(Exception, match=r"server\.tls\[0\]\.certificate: .* holds no certificate"):
            await scene.edge.reload(scene.edge._config)
        assert await _serial(scene) == before
        assert (await scene.ask()).status == 200


# ---- as it is installed ----------------------------------------------------------------------------------------------

Serve = Callable[..., ServedEdge]


def _files(directory: Path) -> tuple[str, str, str]:
    ca = directory / "ca.pem"
    authority().cert_pem.write_to_path(str(ca))
    return (*issue(directory, "edge", "localhost", "127.0.0.1"), str(ca))


def _curl(edge: ServedEdge, ca: str, *options: str) -> tuple[int, str]:
    curl = shutil.which("curl")
    assert curl is not None
    url = edge.url.replace("http:", "https:") + "/"
    done = subprocess.run([curl, "-sS", "--cacert", ca, *options, url], capture_output=True, text=True, timeout=20)
    return done.returncode, done.stdout + done.stderr


def test_curl_and_a_reload_by_signal(serve_edge: Serve, tmp_path: Path) -> None:
    certificate, key, ca = _files(tmp_path)
    edge = serve_edge("--demo", "--tls-cert", certificate, "--tls-key", key, secure=True, workers=2)
    code, said = _curl(edge, ca, "-v", "--http2")
    assert code == 0, said
    assert "ALPN" in said
    assert "HTTP/1.1 200" in said
    assert _curl(edge, ca, "--tls-max", "1.1")[0] == 35
    assert _curl(edge, ca, "--tls-max", "1.2")[0] == 0
    assert _curl(edge, ca, "-H", "Host: other.test", "-o", "/dev/null", "-w", "%{http_code}") == (0, "421")

    def serials() -> set[str]:
        found = set()
        for _ in range(30):  # each connection reaches a worker by chance
            context = trusting()
            context.check_hostname = False
            with socket.create_connection(edge.address, 5) as plain, context.wrap_socket(plain) as secure:
                found.add(str((secure.getpeercert() or {})["serialNumber"]))
        return found

    [before] = serials()
    issue(tmp_path, "edge", "localhost", "127.0.0.1")
    edge.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while before in (found := serials()):
        assert time.monotonic() < deadline
    assert len(found) == 1
    Path(key).write_text("broken")
    edge.send_signal(signal.SIGHUP)
    while "flyby keeps the old one" not in edge.said():
        assert time.monotonic() < deadline + 10
        time.sleep(0.02)
    assert serials() == found


def test_a_session_is_good_for_every_worker(serve_edge: Serve, tmp_path: Path) -> None:
    certificate, key, _ = _files(tmp_path)
    edge = serve_edge("--demo", "--tls-cert", certificate, "--tls-key", key, secure=True, workers=3)
    context = trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    session: ssl.SSLSession | None = None
    reused = []
    for _ in range(20):  # each connection reaches a worker by chance
        with (
            socket.create_connection(edge.address, 5) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as secure,
        ):
            reused.append(secure.session_reused)
            session = secure.session
    assert reused == [False] + [True] * 19


def test_a_drain_ends_idle_and_busy_secure_connections(serve_edge: Serve, tmp_path: Path) -> None:
    certificate, key, _ = _files(tmp_path)
    edge = serve_edge("--demo", "--tls-cert", certificate, "--tls-key", key, secure=True)
    with socket.create_connection(edge.address, 5) as one, socket.create_connection(edge.address, 5) as other:
        idle = trusting().wrap_socket(one, server_hostname="localhost")
        busy = trusting().wrap_socket(other, server_hostname="localhost")
        busy.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert busy.recv(12) == b"HTTP/1.1 200"
        edge.send_signal(signal.SIGTERM)
        assert idle.recv(100) == b""
        whole = b""
        while piece := busy.recv(65_536):
            whole += piece
        assert whole.endswith(b"0\r\n\r\n")
        idle.close()
        busy.close()
    assert edge.stop() == 0


def test_a_certificate_that_cannot_be_used_ends_the_start(serve_edge: Serve, tmp_path: Path) -> None:
    certificate, key = issue(tmp_path, "edge", "localhost", days=(-9, -1))
    with pytest.raises(Exception, match=r"ended with 2:\n.*has expired"):
        serve_edge("--demo", "--tls-cert", certificate, "--tls-key", key, secure=True)


def test_check_reads_the_certificates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from flyby.cli import main

    certificate, key = issue(tmp_path, "edge", "localhost", days=(-9, 3.5))
    file = tmp_path / "flyby.toml"
    file.write_text(
        f'[server]\nlisten = ["https://127.0.0.1:0"]\n[[server.tls]]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    )
    with pytest.raises(SystemExit) as ended:
        main(["check", "-c", str(file)])
    assert ended.value.code == 0
    assert (
        capsys.readouterr().out.splitlines()[1] == f'{file}:3:1: warning: "{certificate}" expires in 3 days (renew it)'
    )
    with pytest.raises(SystemExit):
        main(["check", "-c", str(file), "--json"])
    [remark] = json.loads(capsys.readouterr().out)["remarks"]
    assert remark["message"] == f'"{certificate}" expires in 3 days (renew it)'
