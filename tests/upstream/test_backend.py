"""A backend against real origins on loopback, under asyncio's loop and uvloop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from flyby.clock import SystemClock
from flyby.config import Backend as Settings
from flyby.config import Eject, Health, Pool
from flyby.errors import ConfigError, Retry, UpstreamError
from flyby.upstream import Backend, Lease, OriginStatistics
from tests.upstream.stage import GET, LOOPS, OK, Recorder, answering, backend, exchange, origin, read_request, run

Loop = Callable[[], asyncio.AbstractEventLoop]
both_loops = pytest.mark.parametrize("loop", LOOPS)


def only(made: Backend) -> OriginStatistics:
    (statistics,) = made.statistics().origins
    return statistics


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


@both_loops
def test_a_connection_is_kept_and_used_again(loop: Loop) -> None:
    async def play() -> None:
        async with origin(answering(OK)) as port, backend(f"http://127.0.0.1:{port}") as made:
            first = await made.lease()
            assert await exchange(first) == (200, b"hello")
            second = await made.lease()
            assert (first.reused, second.reused, second.connection is first.connection) == (False, True, True)
            assert (second.origin.authority, second.origin.address) == (
                b"127.0.0.1:%d" % port,
                f"127.0.0.1:{port}",
            )
            assert await exchange(second) == (200, b"hello")
            fresh = await made.lease(fresh=True)
            assert not fresh.reused
            fresh.discard()
            assert (only(made).idle, only(made).leased, only(made).in_flight, only(made).opened_total) == (1, 0, 0, 2)

    run(play(), loop)


@both_loops
def test_a_connection_that_the_origin_closed_is_not_handed_out(loop: Loop) -> None:
    async def play() -> None:
        async with origin(answering(OK, times=1)) as port, backend(f"http://127.0.0.1:{port}") as made:
            await exchange(await made.lease())
            await until(lambda: only(made).idle == 0)
            assert not (await made.lease()).reused

    run(play(), loop)


@both_loops
def test_a_late_second_answer_never_answers_the_next_request(loop: Loop) -> None:
    """The loop has not read it yet when the next request comes: the socket itself is asked."""

    async def play() -> None:
        more = asyncio.Event()
        sent = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(OK)
            await more.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned")
            await writer.drain()
            sent.set()
            await reader.read()

        async with origin(script) as port, backend(f"http://127.0.0.1:{port}") as made:
            first = await made.lease()
            await exchange(first)
            more.set()
            await sent.wait()
            second = await made.lease()
            assert second.connection is not first.connection
            assert first.connection.surplus
            second.discard()

    run(play(), loop)


@both_loops
def test_a_kept_connection_that_dies_in_silence_says_so_and_costs_the_origin_nothing(loop: Loop) -> None:
    async def play() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(OK)
            await read_request(reader)

        async with origin(script) as port, backend(f"http://127.0.0.1:{port}", eject=Eject(failures=1)) as made:
            await exchange(await made.lease())
            lease = await made.lease()
            with pytest.raises(UpstreamError) as caught:
                await exchange(lease)
            assert (caught.value.retry, caught.value.proxy_error) == (Retry.IF_REUSED, "connection_terminated")
            lease.observe(0.0, failed=True)
            lease.discard()
            assert (only(made).ejected, only(made).failures_total, only(made).leased) == (False, 0, 0)
            fresh = await made.lease(fresh=True)
            assert await exchange(fresh) == (200, b"hello")

    run(play(), loop)


@both_loops
def test_large_content_both_ways_with_a_slow_sink(loop: Loop) -> None:
    size = 2_000_000

    async def play() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            got = await reader.readexactly(size)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(got))
            writer.write(got)
            await writer.drain()
            await reader.read()

        async with origin(script) as port, backend(f"http://127.0.0.1:{port}") as made:
            lease = await made.lease()
            connection = lease.connection
            content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
            connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)

            async def send() -> None:
                for start in range(0, size, 50_000):
                    connection.send(content[start : start + 50_000])
                    await connection.drain()

            sending = asyncio.create_task(send())
            assert (await connection.read_head(b"POST")).status == 200
            await sending
            event_loop = asyncio.get_running_loop()

            def slow() -> None:
                connection.pause_reading()
                event_loop.call_soon(connection.resume_reading)

            sink = Recorder(on_data=slow)
            connection.stream(sink)
            await sink.ended.wait()
            assert (sink.content == content, sink.errors, connection.reusable) == (True, [], True)
            lease.release()
            assert only(made).idle == 1

    run(play(), loop)


@both_loops
def test_an_upgraded_connection_becomes_a_pipe(loop: Loop) -> None:
    async def play() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\nearly")
            writer.write((await reader.readexactly(4)).upper())

        class Pipe(asyncio.Protocol):
            def __init__(self) -> None:
                self.data = b""
                self.lost = asyncio.Event()

            def data_received(self, data: bytes) -> None:
                self.data += data

            def connection_lost(self, exc: Exception | None) -> None:
                self.lost.set()

        pool = Pool(max_connections=1)
        async with origin(script) as port, backend(f"http://127.0.0.1:{port}", pool=pool) as made:
            lease = await made.lease()
            lease.connection.send(GET)
            assert (await lease.connection.read_head(b"GET")).status == 101
            transport, ahead = lease.connection.detach()
            pipe = Pipe()
            transport.set_protocol(pipe)
            transport.resume_reading()
            # It takes no place from requests.
            other = await made.lease()
            other.discard()
            lease.discard()
            transport.write(b"ping")
            await pipe.lost.wait()
            assert ahead + pipe.data == b"earlyPING"
            assert (only(made).leased, only(made).in_flight) == (0, 0)

    run(play(), loop)


@both_loops
def test_limits_on_a_real_clock(loop: Loop) -> None:
    async def play() -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await read_request(reader)
            if request.startswith(b"GET /half"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
            await reader.read()

        settings = {"first_byte_s": 0.05, "between_bytes_s": 0.05}
        async with origin(script) as port, backend(f"http://127.0.0.1:{port}", **settings) as made:
            for target, token in ((b"/never", "http_response_timeout"), (b"/half", "connection_read_timeout")):
                lease = await made.lease()
                with pytest.raises(UpstreamError) as caught:
                    await exchange(lease, request=b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % target)
                assert (caught.value.status, caught.value.proxy_error) == (504, token)
                lease.discard()
            assert only(made).leased == 0

    run(play(), loop)


@both_loops
def test_requests_beyond_the_places_wait_their_turn(loop: Loop) -> None:
    async def play() -> None:
        pool = Pool(max_connections=2, max_waiters=20)
        async with origin(answering(OK)) as port, backend(f"http://127.0.0.1:{port}", pool=pool) as made:
            most = 0

            async def one() -> None:
                nonlocal most
                lease = await made.lease()
                most = max(most, only(made).leased + only(made).dialling + only(made).idle)
                assert await exchange(lease) == (200, b"hello")

            await asyncio.gather(*(one() for _ in range(20)))
            assert most == 2
            assert (only(made).opened_total, only(made).in_flight, only(made).waiting) == (2, 0, 0)

    run(play(), loop)


@both_loops
def test_the_queue_is_short_and_patient_only_for_a_while(loop: Loop) -> None:
    async def play() -> None:
        pool = Pool(max_connections=1, max_waiters=1, wait_s=0.05)
        async with origin(answering(OK)) as port, backend(f"http://127.0.0.1:{port}", pool=pool) as made:
            held = await made.lease()
            waiting = asyncio.create_task(made.lease())
            await asyncio.sleep(0)
            with pytest.raises(UpstreamError, match="too many requests") as caught:
                await made.lease()
            assert (caught.value.status, caught.value.proxy_error) == (503, "connection_limit_reached")
            with pytest.raises(UpstreamError, match="no connection came free") as caught:
                await waiting
            assert (caught.value.status, caught.value.proxy_error) == (503, "connection_limit_reached")
            assert (only(made).waiting, only(made).in_flight) == (0, 1)
            held.release()
            assert only(made).in_flight == 0

    run(play(), loop)


@both_loops
@pytest.mark.parametrize("way", ["release", "discard"])
def test_who_gives_up_waiting_passes_on_what_was_granted(loop: Loop, way: str) -> None:
    async def play() -> None:
        pool = Pool(max_connections=1)
        async with origin(answering(OK)) as port, backend(f"http://127.0.0.1:{port}", pool=pool) as made:
            held = await made.lease()
            first = asyncio.create_task(made.lease())
            second = asyncio.create_task(made.lease())
            await asyncio.sleep(0)
            # The grant and the cancellation in one round of the loop.
            getattr(held, way)()
            first.cancel()
            lease = await second
            assert first.cancelled()
            assert lease.reused is (way == "release")
            assert only(made).in_flight == 1
            lease.release()
            assert (only(made).in_flight, only(made).leased, only(made).idle) == (0, 0, 1)

    run(play(), loop)


@both_loops
def test_a_wait_for_a_fresh_connection_gets_the_place_of_a_kept_one(loop: Loop) -> None:
    async def play() -> None:
        pool = Pool(max_connections=1)
        async with origin(answering(OK)) as port, backend(f"http://127.0.0.1:{port}", pool=pool) as made:
            held = await made.lease()
            fresh = asyncio.create_task(made.lease(fresh=True))
            await asyncio.sleep(0)
            assert await exchange(held) == (200, b"hello")
            lease = await fresh
            assert not lease.reused
            assert await exchange(lease) == (200, b"hello")
            assert (only(made).opened_total, only(made).in_flight) == (2, 0)

    run(play(), loop)


@both_loops
def test_an_origin_that_is_down_is_passed_over_and_ejected(loop: Loop) -> None:
    async def play() -> None:
        async with origin(answering(OK)) as down:
            pass
        async with (
            origin(answering(OK)) as port,
            backend(
                f"http://127.0.0.1:{down}", f"http://127.0.0.1:{port}", eject=Eject(failures=2, backoff_s=60)
            ) as made,
        ):
            for _ in range(40):
                lease = await made.lease()
                assert lease.origin.port == port
                lease.observe(0.5, failed=False)
                await exchange(lease)
            first, second = made.statistics().origins
            assert (first.ejected, first.failures_total, first.in_flight) == (True, 2, 0)
            assert (second.ejected, second.failures_total, second.idle) == (False, 0, 1)

    run(play(), loop)


@both_loops
def test_when_every_origin_is_down_the_request_fails_and_they_are_still_asked(loop: Loop) -> None:
    async def play() -> None:
        async with origin(answering(OK)) as one, origin(answering(OK)) as two:
            pass
        urls = f"http://127.0.0.1:{one}", f"http://127.0.0.1:{two}"
        async with backend(*urls, eject=Eject(failures=1, backoff_s=60)) as made:
            for _ in range(3):
                with pytest.raises(UpstreamError) as caught:
                    await made.lease()
                assert (caught.value.proxy_error, caught.value.retry) == ("connection_refused", Retry.ALWAYS)
            assert [each.failures_total for each in made.statistics().origins] == [3, 3]
            with pytest.raises(UpstreamError):
                await made.lease(exclude=[f"127.0.0.1:{one}", f"127.0.0.1:{two}"])

    run(play(), loop)


@both_loops
def test_a_full_origin_is_passed_over(loop: Loop) -> None:
    async def play() -> None:
        async with (
            origin(answering(OK)) as one,
            origin(answering(OK)) as two,
            backend(f"http://127.0.0.1:{one}", f"http://127.0.0.1:{two}", pool=Pool(max_connections=3)) as made,
        ):
            leases: list[Lease] = [await made.lease() for _ in range(6)]
            assert [each.leased for each in made.statistics().origins] == [3, 3]
            for lease in leases:
                lease.discard()

    run(play(), loop)


@both_loops
def test_idle_connections_are_closed_in_time(loop: Loop) -> None:
    async def play() -> None:
        closed = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(OK)
            await reader.read()
            closed.set()

        async with origin(script) as port, backend(f"http://127.0.0.1:{port}", pool=Pool(idle_s=0.15)) as made:
            await exchange(await made.lease())
            assert only(made).idle == 1
            async with asyncio.timeout(2):
                await closed.wait()
            assert only(made).idle == 0

    run(play(), loop)


@both_loops
def test_health_checks_steer_the_requests(loop: Loop) -> None:
    async def play() -> None:
        health = Health(path="/up", interval_s=0.01, timeout_s=1, rise=1, fall=1)
        async with (
            origin(answering(b"HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n")) as ill,
            origin(answering(OK)) as well,
            backend(f"http://127.0.0.1:{ill}", f"http://127.0.0.1:{well}", health=health) as made,
        ):
            await until(lambda: not made.statistics().origins[0].healthy)
            for _ in range(10):
                lease = await made.lease()
                assert lease.origin.port == well
                lease.discard()

    run(play(), loop)


@both_loops
def test_a_closed_backend_still_serves_who_holds_it(loop: Loop) -> None:
    async def play() -> None:
        async with origin(answering(OK)) as port, backend(f"http://127.0.0.1:{port}") as made:
            lease = await made.lease()
            await made.close()
            assert await exchange(lease) == (200, b"hello")
            assert only(made).idle == 0
            assert await exchange(await made.lease()) == (200, b"hello")
            assert only(made).idle == 0

    run(play(), loop)


@pytest.mark.parametrize("origins", [[], ["app.example"], ["ftp://app.example"]])
def test_origins_that_are_none_are_a_configuration_error(origins: list[str]) -> None:
    with pytest.raises(ConfigError, match="backend app"):
        Backend("app", Settings(origins=origins), clock=SystemClock())
