"""The request's side of a connection: when it is wholly sent, what is late meanwhile, and what a failed write hides."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import struct
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from flyby.clock import ManualClock
from flyby.config import Eject
from flyby.config import Pool as Settings
from flyby.errors import Retry, UpstreamError
from flyby.upstream import Member, Origin, UpstreamConnection
from flyby.upstream.pool import DIAL, Pool
from flyby.wire import STANDARD_LIMITS
from tests.certificates import authority, issue
from tests.upstream.stage import (
    GET,
    LOOPS,
    OK,
    FakeTransport,
    JumpingLoop,
    Recorder,
    Wire,
    backend,
    origin,
    read_request,
    run,
)

POST = b"POST / HTTP/1.1\r\nHost: origin\r\nContent-Length: 9\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

Loop = Callable[[], asyncio.AbstractEventLoop]
both_loops = pytest.mark.parametrize("loop", LOOPS)


async def post(wire: Wire) -> asyncio.Task[Any]:
    """Send a head with content to follow, and begin to read the response's."""
    wire.connection.send(POST, more=True)
    task = asyncio.get_running_loop().create_task(wire.connection.read_head(b"POST"))
    await asyncio.sleep(0)
    return task


def state(wire: Wire) -> str:
    return repr(wire.connection).split()[1]


# ---- at rest when both sides are complete ------------------------------------------------------------------------


@pytest.mark.parametrize("more", ["before-the-head", "after-the-head", "after-the-end"])
def test_the_connection_is_at_rest_when_request_and_response_are_complete(more: str) -> None:
    async def play() -> None:
        wire = Wire()
        connection = wire.connection
        task = await post(wire)
        if more == "before-the-head":
            connection.send(b"content!!")
            connection.finish_request()
        wire.feed(OK)
        await task
        if more == "after-the-head":
            connection.send(b"content!!")
            connection.finish_request()
        sink = Recorder()
        connection.stream(sink)
        assert (sink.content, len(sink.ends), sink.errors) == (b"hello", 1, [])
        if more == "after-the-end":
            assert (state(wire), connection.reusable, connection.finishing) == ("tail", False, True)
            connection.send(b"content!!")
            assert not connection.reusable
            connection.finish_request()
        connection.finish_request()
        assert (state(wire), connection.reusable, connection.finishing) == ("idle", True, False)
        assert b"".join(wire.transport.written) == POST + b"content!!"
        assert not wire.transport.is_closing()
        # And again.
        wire.feed(b"")
        again = await wire.ask()
        wire.feed(EMPTY)
        assert (await again).status == 200

    run(play())


def test_the_rest_that_the_transport_holds_is_waited_for() -> None:
    async def play() -> None:
        wire = Wire()
        task = await post(wire)
        wire.connection.send(b"content!!")
        wire.connection.finish_request()
        wire.transport.hold(9)
        wire.feed(EMPTY)
        await task
        wire.connection.stream(Recorder())
        assert (state(wire), wire.connection.reusable, wire.transport.high) == ("tail", False, 0)
        wire.transport.hold(5)
        assert state(wire) == "tail"
        wire.transport.hold(0)
        assert (state(wire), wire.connection.reusable, wire.transport.high) == ("idle", True, 65_536)

    run(play())


def test_content_that_nobody_announced_ends_reuse() -> None:
    """Where it ends is not known."""

    async def play() -> None:
        wire = Wire()
        task = await wire.ask(b"POST")
        wire.feed(EMPTY)
        await task
        wire.connection.send(b"more")
        wire.connection.stream(Recorder())
        assert not wire.connection.reusable

    run(play())


@pytest.mark.parametrize("end", [Wire.eof, Wire.reset, lambda wire: wire.feed(b"H")], ids=["eof", "reset", "surplus"])
def test_an_origin_that_stirs_before_the_request_is_sent_loses_the_connection(end: Callable[[Wire], None]) -> None:
    async def play() -> None:
        wire = Wire()
        task = await post(wire)
        wire.feed(EMPTY)
        await task
        wire.connection.stream(Recorder())
        end(wire)
        wire.connection.send(b"content!!")
        wire.connection.finish_request()
        assert (state(wire), wire.connection.reusable, wire.connection.finishing) == ("closed", False, False)
        assert b"content!!" not in wire.transport.written

    run(play())


def test_a_response_that_closes_ends_the_upload() -> None:
    async def play() -> None:
        wire = Wire()
        task = await post(wire)
        wire.feed(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await task
        sink = Recorder()
        wire.connection.stream(sink)
        assert (len(sink.ends), wire.transport.is_closing()) == (1, True)
        wire.connection.send(b"content!!")
        wire.connection.finish_request()
        assert wire.transport.written == [POST]

    run(play())


# ---- the lease ---------------------------------------------------------------------------------------------------


class Bench:
    """One connection on a fake transport, leased from a pool."""

    def __init__(self) -> None:
        clock = ManualClock(monotonic=1000.0)
        self.pool = Pool(Origin.parse("http://origin"), Settings(), Member("origin:80", Eject()), clock)
        assert self.pool.checkout() is DIAL
        self.pool.member.in_flight += 1
        self.wire = Wire()
        self.wire.connection.born = 1000.0
        self.lease = self.pool.dialled(self.wire.connection)

    async def answered_early(self) -> None:
        task = await post(self.wire)
        self.wire.feed(EMPTY)
        await task
        self.wire.connection.stream(Recorder())

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.pool.leased, self.pool.idle, self.pool.member.in_flight


def test_a_lease_lasts_until_the_request_is_sent() -> None:
    async def play() -> None:
        bench = Bench()
        await bench.answered_early()
        bench.lease.release()
        bench.lease.release()
        assert (bench.lease.held, bench.counts) == (True, (1, 0, 1))
        bench.wire.connection.send(b"content!!")
        bench.wire.connection.finish_request()
        assert (bench.lease.held, bench.counts) == (False, (0, 1, 0))

    run(play())


@pytest.mark.parametrize("way", ["eof", "reset", "discard", "abort"])
@pytest.mark.parametrize("released", [False, True])
def test_a_lease_ends_once_when_the_rest_is_never_sent(way: str, released: bool) -> None:
    async def play() -> None:
        bench = Bench()
        await bench.answered_early()
        if released:
            bench.lease.release()
        match way:
            case "discard":
                bench.lease.discard()
            case "abort":
                bench.wire.connection.abort()
            case _:
                getattr(bench.wire, way)()
        bench.lease.release()
        assert (bench.lease.held, bench.counts) == (False, (0, 0, 0))

    run(play())


# ---- against real origins ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("secure", [False, True])
def test_an_app_that_answers_on_the_head_and_reads_on_costs_one_connection(
    loop: Loop, secure: bool, tmp_path: Path
) -> None:
    """The rest is still in the transport when the response has ended and the lease is released."""
    size = 20_000_000
    opened: list[int] = []
    read_on = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(1)
        while True:
            await read_request(reader)
            writer.write(OK)
            await writer.drain()
            await read_on.wait()
            await reader.readexactly(size)

    certificate, key = issue(tmp_path, "app", "app.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    authority().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = {"tls_name": "app.example", "ca_file": str(tmp_path / "ca.pem")} if secure else {}

    async def play() -> None:
        async with (
            origin(script, server if secure else None) as port,
            backend(f"http{'s' * secure}://127.0.0.1:{port}", **tls) as made,
        ):
            for _ in range(3):
                read_on.clear()
                lease = await made.lease()
                connection = lease.connection
                connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size, more=True)
                connection.send(bytes(size))
                # Under TLS some bytes are in a transport below, which does not show what it holds.
                assert secure or connection.write_paused
                assert (await connection.read_head(b"POST")).status == 200
                sink = Recorder()
                connection.stream(sink)
                await sink.ended.wait()
                lease.release()
                connection.finish_request()
                assert secure or (lease.held and connection.finishing)
                read_on.set()
                async with asyncio.timeout(10):
                    while lease.held:
                        await asyncio.sleep(0.001)
                (statistics,) = made.statistics().origins
                assert (statistics.idle, statistics.leased, statistics.in_flight, len(opened)) == (1, 0, 0, 1)

    run(play(), loop)


# ---- what is late ------------------------------------------------------------------------------------------------


def test_the_first_byte_is_awaited_from_the_end_of_the_request() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        wire = Wire()
        start = loop.time()
        task = await post(wire)
        await asyncio.sleep(100)
        wire.connection.send(b"con")
        await asyncio.sleep(100)
        wire.connection.send(b"tent!!")
        await asyncio.sleep(100)
        wire.connection.finish_request()
        with pytest.raises(UpstreamError, match="did not answer") as caught:
            await task
        assert caught.value.proxy_error == "http_response_timeout"
        assert loop.time() - start == pytest.approx(330, abs=0.01)

    run(play(), JumpingLoop)


@pytest.mark.parametrize("before", [True, False], ids=["before-the-head", "within-the-content"])
def test_an_origin_that_takes_no_content_is_late(before: bool) -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        wire = Wire(first_byte_s=30, between_bytes_s=55)
        task = await post(wire)
        sink = Recorder()
        if not before:
            wire.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
            await task
            wire.connection.stream(sink)
        await asyncio.sleep(100)
        wire.transport.hold(100_000)
        start = loop.time()
        await asyncio.sleep(20)
        wire.transport.hold(10)  # it goes on
        await asyncio.sleep(100)
        assert sink.errors == []
        wire.transport.hold(100_000)
        start = loop.time()
        if before:
            with pytest.raises(UpstreamError) as caught:
                await task
            error = caught.value
        else:
            await sink.ended.wait()
            (error,) = sink.errors
        assert (error.status, error.proxy_error) == (504, "connection_write_timeout")
        assert loop.time() - start == pytest.approx(30 if before else 55, abs=0.01)

    run(play(), JumpingLoop)


def test_a_response_may_wait_for_the_requests_content() -> None:
    """An app that echoes: its silence is the client's, until the request has ended."""

    async def play() -> None:
        loop = asyncio.get_running_loop()
        wire = Wire()
        task = await post(wire)
        wire.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhe")
        await task
        sink = Recorder()
        wire.connection.stream(sink)
        await asyncio.sleep(500)
        wire.feed(b"llo")
        await asyncio.sleep(500)
        wire.connection.finish_request()
        start = loop.time()
        await sink.ended.wait()
        assert (sink.content, sink.errors[0].proxy_error) == (b"hello", "connection_read_timeout")
        assert loop.time() - start == pytest.approx(55, abs=0.01)

    run(play(), JumpingLoop)


def test_a_rest_that_the_origin_does_not_take_ends_the_connection() -> None:
    async def play() -> None:
        bench = Bench()
        await bench.answered_early()
        bench.lease.release()
        await asyncio.sleep(1000)
        assert bench.lease.held
        bench.wire.transport.hold(100_000)
        await asyncio.sleep(54)
        assert bench.lease.held
        await asyncio.sleep(2)
        assert (bench.lease.held, bench.wire.transport.aborted, bench.counts) == (False, True, (0, 0, 0))

    run(play(), JumpingLoop)


def test_an_idle_connection_after_an_early_answer_has_no_limit() -> None:
    async def play() -> None:
        bench = Bench()
        await bench.answered_early()
        bench.wire.transport.hold(9)
        bench.wire.connection.finish_request()
        bench.wire.transport.hold(0)
        await asyncio.sleep(10_000)
        assert bench.wire.connection.reusable

    run(play(), JumpingLoop)


# ---- pace --------------------------------------------------------------------------------------------------------


def test_who_sends_is_called_when_the_transport_has_drained() -> None:
    async def play() -> None:
        wire = Wire()
        connection = wire.connection
        told: list[str] = []
        await post(wire)
        assert not connection.write_paused
        connection.on_drained(lambda: told.append("at once"))
        wire.transport.hold(100_000)
        assert connection.write_paused
        connection.on_drained(lambda: told.append("replaced"))
        connection.on_drained(lambda: told.append("drained"))
        wire.transport.hold(60_000)
        assert told == ["at once"]
        wire.transport.hold(0)
        assert told == ["at once", "drained"]
        wire.transport.hold(100_000)
        wire.transport.hold(0)
        assert told == ["at once", "drained"]
        wire.transport.hold(100_000)
        connection.on_drained(lambda: told.append("taken back"))
        connection.on_drained(None)
        wire.transport.hold(0)
        assert told == ["at once", "drained"]

    run(play())


@pytest.mark.parametrize(("end", "told"), [(Wire.reset, 1), (Wire.eof, 1), (lambda wire: wire.connection.abort(), 0)])
def test_who_waits_to_send_learns_that_the_connection_is_lost(end: Callable[[Wire], None], told: int) -> None:
    async def play() -> None:
        wire = Wire()
        task = await post(wire)
        calls: list[bool] = []
        wire.transport.hold(100_000)
        wire.connection.on_drained(lambda: calls.append(wire.connection.write_paused))
        end(wire)
        assert calls == [False] * told
        wire.connection.on_drained(lambda: calls.append(wire.connection.write_paused))
        assert calls == [False] * (told + 1)
        with pytest.raises(UpstreamError):
            await task

    run(play())


# ---- a 408 that is no answer -------------------------------------------------------------------------------------

LATE = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("size", [1, 65_536])
@pytest.mark.parametrize("response", [LATE, LATE.replace(b"Connection: close\r\n", b"")], ids=["close", "keep"])
def test_a_408_on_a_kept_connection_counts_as_its_loss(response: bytes, size: int) -> None:
    """RFC 9110 15.5.9: the client MAY repeat an outstanding request."""

    async def play() -> None:
        wire = Wire()
        first = await wire.ask()
        wire.feed(EMPTY)
        await first
        wire.connection.stream(Recorder())
        task = await wire.ask()
        wire.feed(response, size)
        with pytest.raises(UpstreamError) as caught:
            await task
        assert (caught.value.proxy_error, caught.value.retry) == ("connection_terminated", Retry.IF_REUSED)
        assert (wire.connection.died_unanswered, wire.transport.aborted) == (True, True)

    run(play())


@pytest.mark.parametrize("why", ["new", "content", "interim", "donated"])
def test_a_408_that_answers_the_request_is_its_answer(why: str) -> None:
    async def play() -> None:
        wire = Wire()
        if why != "new":
            first = await wire.ask()
            wire.feed(EMPTY)
            await first
            wire.connection.stream(Recorder())
        wire.connection.donated = why == "donated"
        task = await post(wire) if why == "content" else await wire.ask()
        if why == "interim":
            wire.feed(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        wire.feed(LATE)
        assert (await task).status == 408

    run(play())


# ---- what was received counts before a write that failed ---------------------------------------------------------


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def meeting(loop: asyncio.AbstractEventLoop) -> tuple[UpstreamConnection, socket.socket, asyncio.Transport]:
    """A connection over loopback TCP, and the other end as a plain socket."""
    listener = socket.create_server(("127.0.0.1", 0))
    here = socket.create_connection(listener.getsockname())
    here.setblocking(False)
    there, _ = listener.accept()
    listener.close()
    connection = UpstreamConnection(loop, STANDARD_LIMITS, 30, 55)
    transport, _ = await loop.create_connection(lambda: connection, sock=here)
    return connection, there, transport


EARLY = b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nbig!"
UNTIL_CLOSE = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\n\r\nbig!"


@both_loops
@pytest.mark.parametrize("way", ["send", "transport", "transport-first"])
@pytest.mark.parametrize("asked", [False, True], ids=["before-expect", "after-expect"])
@pytest.mark.parametrize("answer", [EARLY, EARLY + b"surplus"])
def test_an_early_answer_is_read_before_the_failed_write_is_believed(
    answer: bytes, asked: bool, way: str, loop: Loop
) -> None:
    """R6: the origin answers an upload and closes with the content unread, so that its kernel resets the connection."""

    async def play() -> None:
        connection, there, transport = await meeting(asyncio.get_running_loop())
        connection.send(POST, more=True)
        if way != "send":
            connection.send(b"x" * 16_000_000)
        if way == "transport-first":
            # The transport meets the fault before it has read anything.
            transport.pause_reading()
        reading = asyncio.create_task(connection.read_head(b"POST")) if asked else None
        if asked:
            await asyncio.sleep(0)
        # All within this turn of the loop: the next write meets the reset, and nothing was read before it.
        there.sendall(answer)
        there.recv(10)
        there.close()
        for _ in range(3):
            connection.send(b"x" * 100)
        head = await (reading or connection.read_head(b"POST"))
        sink = Recorder()
        connection.stream(sink)
        await sink.ended.wait()
        assert (head.status, sink.content, len(sink.ends)) == (413, b"big!", 1)
        assert not connection.reusable

    run(play(), loop)


@both_loops
@pytest.mark.parametrize("queued", [False, True], ids=["send", "transport"])
def test_after_a_reset_content_until_the_close_is_not_whole(queued: bool, loop: Loop) -> None:
    async def play() -> None:
        connection, there, _ = await meeting(asyncio.get_running_loop())
        connection.send(POST, more=True)
        if queued:
            connection.send(b"x" * 16_000_000)
        there.sendall(UNTIL_CLOSE)
        there.recv(10)
        reset(there)
        for _ in range(3):
            connection.send(b"x" * 100)
        assert (await connection.read_head(b"POST")).status == 413
        sink = Recorder()
        connection.stream(sink)
        await sink.ended.wait()
        assert (sink.content, [error.proxy_error for error in sink.errors]) == (b"big!", ["http_response_incomplete"])

    run(play(), loop)


@both_loops
@pytest.mark.parametrize("queued", [False, True], ids=["send", "transport"])
def test_without_an_answer_the_loss_is_told(queued: bool, loop: Loop) -> None:
    async def play() -> None:
        connection, there, _ = await meeting(asyncio.get_running_loop())
        connection.send(POST, more=True)
        if queued:
            connection.send(b"x" * 16_000_000)
        reset(there)
        for _ in range(3):
            connection.send(b"x" * 100)
        with pytest.raises(UpstreamError) as caught:
            await connection.read_head(b"POST")
        assert (caught.value.proxy_error, caught.value.retry) == ("connection_terminated", Retry.NEVER)

    run(play(), loop)


@both_loops
def test_what_a_paused_sink_is_given_after_a_failed_write_is_bounded(loop: Loop) -> None:
    async def play() -> None:
        connection, there, transport = await meeting(asyncio.get_running_loop())
        connection.send(POST, more=True)
        connection.send(b"x" * 16_000_000)
        there.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        await connection.read_head(b"POST")
        sink = Recorder(on_data=connection.pause_reading)
        connection.stream(sink)
        there.sendall(b"y" * 300_000)
        there.recv(10)
        there.close()
        await sink.ended.wait()
        assert sink.errors
        assert len(sink.content) <= 2 * 65_536
        assert transport.is_closing()

    run(play(), loop)


def test_a_fake_transport_has_nothing_left_to_read() -> None:
    async def play() -> None:
        wire = Wire()
        task = await wire.ask()
        wire.connection.connection_lost(BrokenPipeError())
        with pytest.raises(UpstreamError):
            await task
        assert isinstance(wire.transport, FakeTransport)

    run(play())


# ---- nothing is left ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["complete", "abort", "reset", "fail"])
def test_a_finished_exchange_holds_nobody(end: str) -> None:
    class Holder(Recorder):
        def interim(self, head: object) -> None:
            raise AssertionError

        def head(self, head: object) -> None:
            self.connection.stream(self)

        connection: UpstreamConnection

    async def play() -> None:
        wire = Wire()
        holder = Holder()
        holder.connection = wire.connection
        wire.connection.send(GET)
        wire.connection.expect(b"GET", cast(Any, holder))
        wire.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        match end:
            case "complete":
                wire.feed(b"llo")
            case "abort":
                wire.connection.abort()
            case "reset":
                wire.reset()
            case "fail":
                wire.eof()
        gone = weakref.ref(holder)
        gc.disable()
        try:
            del holder
            assert gone() is None
        finally:
            gc.enable()

    run(play())
