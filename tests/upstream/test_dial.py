"""Opening connections: real sockets and certificates of our own, under asyncio's loop and uvloop's."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from flyby.clock import SystemClock
from flyby.errors import ConfigError, Retry, UpstreamError
from flyby.upstream.connection import UpstreamConnection
from flyby.upstream.dial import Dialler, Origin, connect_first, dial_failure
from flyby.upstream.resolver import Address, Resolver
from flyby.upstream.tls import client_context
from flyby.wire import STANDARD_LIMITS
from tests.upstream.stage import GET, LOOPS, OK, Recorder, Script, answering, origin, run

Loop = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server that is app.example."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("app.example").configure_cert(context)
    return context


def resolver(*addresses: Address) -> Resolver:
    async def lookup(host: str, port: int) -> Sequence[Address]:
        return [Address(socket.AF_INET, ("127.0.0.1", port))] if not addresses else list(addresses)

    return Resolver(SystemClock(), lookup)


async def dial(
    url: str, tls: ssl.SSLContext | None = None, *, tls_name: str | None = None, connect_s: float = 5.0
) -> UpstreamConnection:
    make = partial(UpstreamConnection, asyncio.get_running_loop(), STANDARD_LIMITS, 5.0, 5.0)
    return await Dialler(resolver(), connect_s, tls, tls_name).dial(Origin.parse(url), make)


async def get(connection: UpstreamConnection) -> bytes:
    connection.send(GET)
    await connection.read_head(b"GET")
    sink = Recorder()
    connection.stream(sink)
    await sink.ended.wait()
    if sink.errors:
        raise sink.errors[0]
    return sink.content


async def settle(connection: UpstreamConnection) -> None:
    connection.close()
    # close_notify there and back takes a few rounds.
    await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "host_field", "address"),
    [
        ("http://app.example", "http", "app.example", 80, b"app.example", "app.example:80"),
        ("https://APP.example./", "https", "app.example", 443, b"app.example", "app.example:443"),
        ("http://app.example:8080", "http", "app.example", 8080, b"app.example:8080", "app.example:8080"),
        ("https://app.example:443", "https", "app.example", 443, b"app.example", "app.example:443"),
        ("http://[::1]:80", "http", "::1", 80, b"[::1]", "[::1]:80"),
        ("http://bücher.example", "http", "xn--bcher-kva.example", 80, b"xn--bcher-kva.example", None),
    ],
)
def test_origins_are_read(url: str, scheme: str, host: str, port: int, host_field: bytes, address: str | None) -> None:
    read = Origin.parse(url)
    assert (read.scheme, read.host, read.port, read.authority) == (scheme, host, port, host_field)
    assert address is None or read.address == address


@pytest.mark.parametrize("url", ["", "app.example", "ftp://app.example", "http://", "http://app.example:port"])
def test_what_is_no_origin_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Origin.parse(url)


@pytest.mark.parametrize("loop", LOOPS)
def test_plain_and_tls(loop: Loop, server_tls: ssl.SSLContext, ca_file: str) -> None:
    async def play() -> None:
        async with origin(answering(OK)) as port:
            connection = await dial(f"http://127.0.0.1:{port}")
            assert [await get(connection), await get(connection)] == [b"hello", b"hello"]
            assert connection.reusable
            assert connection.quiet()
            await settle(connection)
        context = client_context(ca_file, verify=True)
        async with origin(answering(OK), server_tls) as port:
            connection = await dial(f"https://app.example:{port}", context)
            assert [await get(connection), await get(connection)] == [b"hello", b"hello"]
            assert connection.reusable
            assert connection.quiet()
            await settle(connection)

    run(play(), loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("tickets", [True, False])
def test_a_session_is_resumed_for_the_same_name_only(
    loop: Loop, version: ssl.TLSVersion, tickets: bool, authority: trustme.CA, ca_file: str
) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("app.example", "other.example").configure_cert(server)
    server.maximum_version = version
    if not tickets:
        server.options |= ssl.OP_NO_TICKET
        server.num_tickets = 0
    resumed: list[bool] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        resumed.append(writer.get_extra_info("ssl_object").session_reused)
        await answering(OK)(reader, writer)

    async def play() -> None:
        async with origin(script, server) as port:
            context, another = client_context(ca_file, verify=True), client_context(ca_file, verify=True)

            async def visit(name: str, context: ssl.SSLContext, end: Callable[[UpstreamConnection], None]) -> None:
                connection = await dial(f"https://127.0.0.1:{port}", context, tls_name=name)
                assert await get(connection) == b"hello"
                end(connection)

            # However the connection ended that the ticket came on; a server that remembers sessions itself may forget.
            for end in (
                UpstreamConnection.close,
                UpstreamConnection.abort if tickets else UpstreamConnection.close,
            ) * 2:
                await visit("app.example", context, end)
            await visit("app.example", another, UpstreamConnection.close)
            await visit("other.example", context, UpstreamConnection.close)
            await visit("app.example", context, UpstreamConnection.close)
            for _ in range(3):
                # A handshake that failed leaves no session that would pass for a check.
                with pytest.raises(UpstreamError, match="certificate"):
                    await visit("third.example", context, UpstreamConnection.close)

    run(play(), loop)
    # Without tickets TLS 1.3 has nothing to resume, TLS 1.2 what the server remembers.
    can = tickets or version is ssl.TLSVersion.TLSv1_2
    assert resumed[:7] == [False, can, can, can, False, False, can]


@pytest.mark.parametrize("loop", LOOPS)
def test_certificates_are_verified_for_the_name(loop: Loop, server_tls: ssl.SSLContext, ca_file: str) -> None:
    async def play() -> None:
        trusting = client_context(ca_file, verify=True)
        public = client_context(None, verify=True)
        asleep = client_context(None, verify=False)
        async with origin(answering(OK), server_tls) as port:
            for context, host, name, good in (
                (trusting, "other.example", None, False),
                (trusting, "app.example", "other.example", False),
                (public, "app.example", None, False),
                (trusting, "127.0.0.1", None, False),
                (trusting, "127.0.0.1", "app.example", True),
                (trusting, "other.example", "app.example", True),
                (asleep, "other.example", None, True),
            ):
                if good:
                    connection = await dial(f"https://{host}:{port}", context, tls_name=name)
                    assert await get(connection) == b"hello"
                    await settle(connection)
                else:
                    with pytest.raises(UpstreamError, match="certificate") as caught:
                        await dial(f"https://{host}:{port}", context, tls_name=name)
                    error = caught.value
                    assert (error.status, error.proxy_error) == (502, "tls_certificate_error")
                    assert error.retry is Retry.ALWAYS

    run(play(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_name_is_sent_as_sni(loop: Loop, authority: trustme.CA, ca_file: str) -> None:
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("app.example").configure_cert(context)
    context.sni_callback = lambda connection, name, context: names.append(name)

    async def play() -> None:
        client = client_context(ca_file, verify=True)
        async with origin(answering(OK), context) as port:
            await settle(await dial(f"https://app.example:{port}", client))
            await settle(await dial(f"https://elsewhere:{port}", client, tls_name="app.example"))

    run(play(), loop)
    assert names == ["app.example", "app.example"]


@pytest.mark.parametrize("loop", LOOPS)
def test_tls_content_ends_only_with_close_notify(loop: Loop, server_tls: ssl.SSLContext, ca_file: str) -> None:
    """RFC 9112 9.8: content that ends with the connection is complete only when TLS was closed in good order."""

    async def orderly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhello")

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await orderly(reader, writer)
        await writer.drain()
        # The TCP stream ends, TLS does not.
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as plain:
            plain.shutdown(socket.SHUT_WR)
        await reader.read()

    async def play() -> None:
        context = client_context(ca_file, verify=True)
        async with origin(orderly, server_tls) as port:
            assert await get(await dial(f"https://app.example:{port}", context)) == b"hello"
        async with origin(cut, server_tls) as port:
            connection = await dial(f"https://app.example:{port}", context)
            with pytest.raises(UpstreamError) as caught:
                await get(connection)
            assert caught.value.proxy_error == "http_response_incomplete"
            await asyncio.sleep(0.05)

    run(play(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_large_content_over_tls_with_a_slow_sink(loop: Loop, server_tls: ssl.SSLContext, ca_file: str) -> None:
    size = 1_500_000
    content = bytes(range(250)) * (size // 250)

    async def play() -> None:
        for framing in (b"Content-Length: %d\r\n" % size, b""):
            script = answering(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + content, times=1)
            async with origin(script, server_tls) as port:
                connection = await dial(f"https://app.example:{port}", client_context(ca_file, verify=True))
                connection.send(GET)
                await connection.read_head(b"GET")

                def slow() -> None:
                    connection.pause_reading()  # noqa: B023
                    asyncio.get_running_loop().call_soon(connection.resume_reading)  # noqa: B023

                sink = Recorder(on_data=slow)
                connection.stream(sink)
                await sink.ended.wait()
                assert (sink.content == content, sink.errors) == (True, [])
                await settle(connection)

    run(play(), loop)


async def _mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP\r\n")
    await reader.read()


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    await asyncio.sleep(30)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("script", "status", "tokens"),
    [
        pytest.param(_mail, 502, {"tls_protocol_error"}, id="not-tls"),
        pytest.param(_hang_up, 502, {"connection_terminated", "tls_protocol_error"}, id="hang-up"),
        pytest.param(_silent, 504, {"connection_timeout"}, id="silent"),
    ],
)
def test_a_handshake_that_fails(loop: Loop, script: Script, status: int, tokens: set[str]) -> None:
    async def play() -> None:
        async with origin(script) as port:
            with pytest.raises(UpstreamError) as caught:
                await dial(f"https://app.example:{port}", client_context(None, verify=False), connect_s=0.3)
            assert (caught.value.status, caught.value.retry) == (status, Retry.ALWAYS)
            assert caught.value.proxy_error in tokens
            await asyncio.sleep(0.05)

    run(play(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_refused_connection(loop: Loop) -> None:
    async def play() -> None:
        async with origin(_silent) as port:
            pass
        with pytest.raises(UpstreamError, match=f"127.0.0.1:{port} refused") as caught:
            await dial(f"http://127.0.0.1:{port}")
        assert (caught.value.status, caught.value.proxy_error) == (502, "connection_refused")

    run(play(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_name_that_does_not_resolve_in_time(loop: Loop) -> None:
    async def lookup(host: str, port: int) -> Sequence[Address]:
        await asyncio.sleep(30)
        return []

    async def play() -> None:
        dialler = Dialler(Resolver(SystemClock(), lookup), 0.05)
        with pytest.raises(UpstreamError) as caught:
            await dialler.dial(Origin.parse("http://app.example"), lambda: pytest.fail("no connection is due"))
        assert (caught.value.status, caught.value.proxy_error) == (504, "dns_timeout")

    run(play(), loop)


@pytest.fixture
def deaf() -> Any:
    """An address that takes no connection and refuses none: a listener whose backlog is full."""
    with socket.socket() as listener, socket.socket() as one, socket.socket() as two:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield Address(socket.AF_INET, listener.getsockname())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_that_is_not_taken_in_time(loop: Loop, deaf: Address) -> None:
    async def play() -> None:
        make = partial(UpstreamConnection, asyncio.get_running_loop(), STANDARD_LIMITS, 5.0, 5.0)
        with pytest.raises(UpstreamError, match="took too long") as caught:
            await Dialler(resolver(deaf), 0.2).dial(Origin.parse("http://app.example"), make)
        assert (caught.value.status, caught.value.proxy_error) == (504, "connection_timeout")

    run(play(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_deaf_address_does_not_hold_up_the_next(loop: Loop, deaf: Address) -> None:
    async def play() -> None:
        async with origin(_silent) as port:
            good = Address(socket.AF_INET, ("127.0.0.1", port))
            with await connect_first([deaf, good], delay_s=0.02) as sock:
                assert sock.getpeername() == good.sockaddr

    run(play(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_refusal_moves_on_at_once_and_the_last_word_is_the_best(loop: Loop) -> None:
    async def play() -> None:
        async with origin(_silent) as port:
            pass
        refusing = Address(socket.AF_INET, ("127.0.0.1", port))
        async with origin(_silent) as port:
            good = Address(socket.AF_INET, ("127.0.0.1", port))
            with await connect_first([refusing, refusing, good], delay_s=30) as sock:
                assert sock.getpeername() == good.sockaddr
        unroutable = Address(socket.AF_INET, ("255.255.255.255", 80))
        with pytest.raises(ConnectionRefusedError):
            await connect_first([unroutable, refusing], delay_s=30)
        with pytest.raises(OSError, match=r".+") as caught:
            await connect_first([unroutable, unroutable], delay_s=30)
        assert dial_failure(caught.value, Origin.parse("http://a")).proxy_error == "destination_ip_unroutable"

    run(play(), loop)


@pytest.mark.parametrize(
    ("error", "status", "token"),
    [
        (OSError(errno.ENETUNREACH, "Network is unreachable"), 502, "destination_ip_unroutable"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), 502, "destination_ip_unroutable"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), 502, "connection_terminated"),
        (OSError(errno.ETIMEDOUT, "timed out"), 504, "connection_timeout"),
        (OSError(errno.EMFILE, "Too many open files"), 503, "proxy_internal_error"),
        (OSError(errno.EIO, "Input/output error"), 502, "destination_unavailable"),
        (ssl.SSLError(1, "[SSL: TLSV1_ALERT_PROTOCOL_VERSION] alert"), 502, "tls_alert_received"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong"), 502, "tls_protocol_error"),
    ],
)
def test_every_failure_has_its_word(error: OSError, status: int, token: str) -> None:
    failure = dial_failure(error, Origin.parse("http://app.example"))
    assert (failure.status, failure.proxy_error, failure.retry) == (status, token, Retry.ALWAYS)


def test_a_ca_file_that_cannot_be_used_is_a_configuration_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    for path in (bad, tmp_path / "none.pem"):
        with pytest.raises(ConfigError, match="cannot read certificates"):
            client_context(str(path), verify=True)
