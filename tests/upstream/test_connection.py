"""The protocol on a fake transport: every response whole, byte by byte and with surplus; every ending once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from flyby.errors import Retry, UpstreamError
from flyby.wire import ResponseHead
from tests.upstream.stage import GET, LOOPS, OK, FakeTransport, JumpingLoop, Recorder, Wire, backend, origin, run

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n"

# method, response, content, reusable afterwards
COMPLETE = [
    pytest.param(b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", True, id="length"),
    pytest.param(b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", True, id="empty"),
    pytest.param(b"GET", CHUNKED, b"hello world", True, id="chunked"),
    pytest.param(b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"", True, id="204"),
    pytest.param(b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", True, id="304"),
    pytest.param(b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"", True, id="head"),
    pytest.param(
        b"GET",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!",
        b"!",
        True,
        id="interim",
    ),
    pytest.param(
        b"GET", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", b"ok", False, id="close"
    ),
    pytest.param(b"GET", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False, id="http-1.0"),
]


@pytest.mark.parametrize(("method", "response", "content", "reusable"), COMPLETE)
@pytest.mark.parametrize("size", [1, 7, 65_536])
def test_a_response_is_read_the_same_however_it_arrives(
    method: bytes, response: bytes, content: bytes, reusable: bool, size: int
) -> None:
    async def play() -> None:
        wire = Wire()
        task = await wire.ask(method)
        wire.feed(response, size)
        head = await task
        sink = Recorder()
        wire.connection.stream(sink)
        assert b"HTTP/1.%d %d " % (head.version - 10, head.status) in response
        assert head.status != 103
        assert (sink.content, len(sink.ends), sink.errors) == (content, 1, [])
        assert wire.connection.reusable is reusable
        assert wire.transport.is_closing() is not reusable
        assert wire.transport.reading or wire.transport.is_closing()

    run(play())


@pytest.mark.parametrize(("method", "response", "content", "reusable"), COMPLETE)
@pytest.mark.parametrize("streaming", [False, True])
def test_surplus_bytes_cost_the_connection_and_nothing_else(
    method: bytes, response: bytes, content: bytes, reusable: bool, streaming: bool
) -> None:
    async def play() -> None:
        wire = Wire()
        task = await wire.ask(method)
        cut = len(response) - 1 if streaming and content else len(response)
        if not streaming:
            wire.feed(response + b"H")
            await task
        sink = Recorder()
        if streaming:
            wire.feed(response[:cut])
            await task
            wire.connection.stream(sink)
            wire.feed(response[cut:] + b"H")
        else:
            wire.connection.stream(sink)
        assert (sink.content, len(sink.ends), sink.errors) == (content, 1, [])
        assert not wire.connection.reusable
        assert wire.connection.surplus
        assert wire.transport.is_closing()

    run(play())


def test_trailers_reach_the_sink() -> None:
    async def play() -> None:
        wire = Wire()
        task = await wire.ask()
        wire.feed(CHUNKED)
        await task
        sink = Recorder()
        wire.connection.stream(sink)
        assert sink.ends[0] is not None
        assert list(sink.ends[0]) == [(b"X-Sum", b"1")]

    run(play())


def test_content_until_the_end_of_the_stream_is_whole_only_at_an_orderly_end() -> None:
    async def play() -> None:
        for end, endings in ((Wire.eof, (1, 0)), (Wire.reset, (0, 1))):
            for late in (False, True):
                wire = Wire()
                task = await wire.ask()
                wire.feed(b"HTTP/1.1 200 OK\r\n\r\nabc")
                await task
                sink = Recorder()
                if late:
                    # The stream has ended before anybody asked for the content.
                    end(wire)
                    wire.connection.stream(sink)
                else:
                    wire.connection.stream(sink)
                    assert sink.endings == 0
                    end(wire)
                assert (sink.content, (len(sink.ends), len(sink.errors))) == (b"abc", endings)
                assert not wire.connection.reusable

    run(play())


@pytest.mark.parametrize(
    "response",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", CHUNKED[:-2], CHUNKED[:60]],
    ids=["length", "last-chunk", "chunk"],
)
@pytest.mark.parametrize("end", [Wire.eof, Wire.reset])
@pytest.mark.parametrize("late", [False, True])
def test_truncated_content_fails_once(response: bytes, end: object, late: bool) -> None:
    async def play() -> None:
        wire = Wire()
        task = await wire.ask()
        wire.feed(response)
        await task
        sink = Recorder()
        if late:
            end(wire)  # type: ignore[operator]
            wire.connection.stream(sink)
        else:
            wire.connection.stream(sink)
            end(wire)  # type: ignore[operator]
        assert sink.endings == 1
        error = sink.errors[0]
        assert (error.status, error.proxy_error, error.retry) == (502, "http_response_incomplete", Retry.NEVER)

    run(play())


HEAD_FAULTS = [
    pytest.param(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "http_protocol_error", id="bare-lf"),
    pytest.param(b"SSH-2.0-OpenSSH\r\n", "http_protocol_error", id="no-http"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "http_protocol_error", id="cl"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "http_protocol_error", id="both"
    ),
    pytest.param(
        b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 201 + b"\r\n", "http_response_header_section_size", id="fields"
    ),
    pytest.param(b"HTTP/1.1 103 E\r\n\r\n" * 17, "http_protocol_error", id="interims"),
]


@pytest.mark.parametrize(("response", "token"), HEAD_FAULTS)
def test_a_head_that_is_none_is_a_502(response: bytes, token: str) -> None:
    async def play() -> None:
        wire = Wire()
        task = await wire.ask()
        wire.feed(response)
        with pytest.raises(UpstreamError) as caught:
            await task
        assert (caught.value.status, caught.value.proxy_error, caught.value.retry) == (502, token, Retry.NEVER)
        assert wire.transport.aborted

    run(play())


def test_malformed_chunks_fail_after_what_was_good() -> None:
    async def play() -> None:
        wire = Wire()
        task = await wire.ask()
        wire.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await task
        sink = Recorder()
        wire.connection.stream(sink)
        wire.feed(b"zz\r\n")
        assert (sink.content, sink.endings, sink.errors[0].proxy_error) == (b"hello", 1, "http_protocol_error")
        assert wire.transport.aborted

    run(play())


def test_sixteen_interim_heads_are_passed_on_and_a_101_is_final() -> None:
    async def play() -> None:
        wire = Wire()
        seen: list[int] = []

        def on_interim(head: ResponseHead) -> None:
            seen.append(head.status)

        task = await wire.ask(on_interim=on_interim)
        wire.feed(b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 103 Early Hints\r\n\r\n" * 15)
        assert not task.done()
        wire.feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x81\x00")
        head = await task
        assert (seen, head.status) == ([100] + [103] * 15, 101)
        transport, ahead = wire.connection.detach()
        assert (transport, ahead) == (wire.transport, b"\x81\x00")
        assert not wire.transport.reading
        assert not wire.transport.is_closing()
        assert not wire.connection.reusable

    run(play())


def test_a_101_that_nobody_switches_to_is_never_reused() -> None:
    async def play() -> None:
        wire = Wire()
        task = await wire.ask()
        wire.feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
        await task
        sink = Recorder()
        wire.connection.stream(sink)
        assert (len(sink.ends), wire.connection.reusable) == (1, False)

    run(play())


@pytest.mark.parametrize(
    ("earlier", "received", "token", "retry"),
    [
        (0, b"", "connection_terminated", Retry.NEVER),
        (1, b"", "connection_terminated", Retry.IF_REUSED),
        (1, b"H", "http_response_incomplete", Retry.NEVER),
        (1, b"HTTP/1.1 100 Continue\r\n\r\n", "http_response_incomplete", Retry.NEVER),
    ],
)
@pytest.mark.parametrize("end", [Wire.eof, Wire.reset])
@pytest.mark.parametrize("before", [False, True], ids=["while-reading", "before-reading"])
def test_a_request_may_be_repeated_only_when_a_kept_connection_died_in_silence(
    earlier: int, received: bytes, token: str, retry: Retry, end: object, before: bool
) -> None:
    async def play() -> None:
        wire = Wire()
        for _ in range(earlier):
            task = await wire.ask()
            wire.feed(b"HTTP/1.1 204 No Content\r\n\r\n")
            await task
            wire.connection.stream(Recorder())
        if before:
            wire.connection.send(GET)
            wire.feed(received)
            end(wire)  # type: ignore[operator]
            task = asyncio.get_running_loop().create_task(wire.connection.read_head(b"GET"))
        else:
            task = await wire.ask()
            wire.feed(received)
            end(wire)  # type: ignore[operator]
        with pytest.raises(UpstreamError) as caught:
            await task
        assert (caught.value.status, caught.value.proxy_error, caught.value.retry) == (502, token, retry)

    run(play())


def test_what_was_never_sent_may_always_be_repeated() -> None:
    async def play() -> None:
        wire = Wire()
        wire.eof()
        wire.connection.send(GET)
        with pytest.raises(UpstreamError) as caught:
            await wire.connection.read_head(b"GET")
        assert caught.value.retry is Retry.ALWAYS
        assert wire.transport.written == []

    run(play())


def test_an_answer_that_came_whole_before_the_close_is_delivered() -> None:
    async def play() -> None:
        wire = Wire()
        wire.connection.send(GET)
        wire.feed(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        wire.eof()
        head = await wire.connection.read_head(b"POST")
        sink = Recorder()
        wire.connection.stream(sink)
        assert (head.status, sink.content, len(sink.ends)) == (413, b"big", 1)
        assert not wire.connection.reusable

    run(play())


@pytest.mark.parametrize("end", [Wire.eof, Wire.reset, lambda wire: wire.feed(b"HTTP/1.1 408 x\r\n\r\n")])
def test_an_idle_connection_that_stirs_is_gone(end: object) -> None:
    async def play() -> None:
        wire = Wire()
        told: list[object] = []
        wire.connection.on_closed = told.append
        assert wire.connection.reusable
        end(wire)  # type: ignore[operator]
        assert not wire.connection.reusable
        assert told == [wire.connection]

    run(play())


def test_a_sink_holds_the_flow_and_the_silence_is_not_the_origins() -> None:
    async def play() -> None:
        wire = Wire(between_bytes_s=5.0)
        task = await wire.ask()
        wire.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        await task
        sink = Recorder(on_data=wire.connection.pause_reading)
        wire.connection.stream(sink)
        wire.feed(b"hello")
        assert not wire.transport.reading
        await asyncio.sleep(100)
        assert sink.errors == []
        wire.connection.resume_reading()
        wire.connection.resume_reading()
        assert wire.transport.reading
        # It ends while paused: an idle connection reads again.
        wire.feed(b"world")
        assert (sink.content, len(sink.ends), wire.connection.reusable) == (b"helloworld", 1, True)
        assert wire.transport.reading

    run(play(), JumpingLoop)


def test_bytes_that_nobody_asked_for_yet_are_bounded() -> None:
    async def play() -> None:
        wire = Wire()
        task = await wire.ask()
        size = 300_000
        wire.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        await task
        sent = 0
        while wire.transport.reading:
            wire.feed(b"x" * 16_384)
            sent += 16_384
        assert sent == 65_536
        sink = Recorder()
        wire.connection.stream(sink)
        assert wire.transport.reading
        wire.feed(b"x" * (size - sent))
        assert (len(sink.content), len(sink.ends), wire.connection.reusable) == (size, 1, True)

    run(play())


def test_a_sink_that_breaks_off_hears_nothing_more() -> None:
    async def play() -> None:
        for start in (b"", b"3\r\nabc\r\n3\r\ndef\r\n"):
            wire = Wire()
            task = await wire.ask()
            wire.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + start)
            await task
            sink = Recorder(on_data=wire.connection.abort)
            wire.connection.stream(sink)
            if not start:
                wire.feed(b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
            wire.reset()
            assert (sink.content, sink.endings, wire.transport.aborted) == (b"abc", 0, True)

    run(play())


def test_abort_wakes_the_reader() -> None:
    async def play() -> None:
        wire = Wire()
        task = await wire.ask()
        wire.connection.abort()
        with pytest.raises(UpstreamError, match="given up"):
            await task
        sink = Recorder()
        wire.connection.stream(sink)
        assert len(sink.errors) == 1

    run(play())


# seconds allowed: 30 from the request to the head's end, begun anew by each interim head, in all at most four times
@pytest.mark.parametrize(
    ("pauses", "received", "after", "token"),
    [
        pytest.param([], [], 30, "http_response_timeout", id="no-byte"),
        pytest.param([20], [b"HTTP/1.1 "], 30, "http_response_timeout", id="half-a-head"),
        pytest.param([10] * 2, [b"HTTP/1.1 20", b"0 OK\r\nX:"], 30, "http_response_timeout", id="a-head-that-drips"),
        pytest.param([20], [INTERIM], 50, "http_response_timeout", id="after-an-interim"),
        pytest.param([20, 20], [INTERIM, b"HTTP/1.1 "], 50, "http_response_timeout", id="half-a-head-after-an-interim"),
        pytest.param([29] * 4, [INTERIM] * 4, 120, "http_response_timeout", id="nothing-but-interims"),
    ],
)
def test_a_head_has_its_time(pauses: list[float], received: list[bytes], after: float, token: str) -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        wire = Wire()
        start = loop.time()
        task = await wire.ask()
        for pause, part in zip(pauses, received, strict=True):
            await asyncio.sleep(pause)
            wire.feed(part)
        with pytest.raises(UpstreamError) as caught:
            await task
        assert (caught.value.status, caught.value.proxy_error) == (504, token)
        assert loop.time() - start == pytest.approx(after, abs=0.01)
        assert wire.transport.aborted

    run(play(), JumpingLoop)


def test_a_head_that_came_in_part_before_it_was_asked_for_has_its_time() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        wire = Wire()
        wire.connection.send(GET)
        wire.feed(b"HTTP/1.1 200")
        start = loop.time()
        with pytest.raises(UpstreamError, match="did not answer"):
            await wire.connection.read_head(b"GET")
        assert loop.time() - start == pytest.approx(30, abs=0.01)

    run(play(), JumpingLoop)


def test_a_long_upload_leaves_interim_heads_their_time() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        wire = Wire()
        start = loop.time()
        task = await wire.ask(b"POST")
        wire.feed(INTERIM)
        for _ in range(20):
            await asyncio.sleep(20)
            wire.connection.send(b"abc")
        await asyncio.sleep(20)
        wire.feed(INTERIM)
        with pytest.raises(UpstreamError, match="did not answer"):
            await task
        assert loop.time() - start == pytest.approx(450, abs=0.01)

    run(play(), JumpingLoop)


def test_the_first_byte_is_awaited_from_the_last_byte_sent() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        wire = Wire()
        start = loop.time()
        task = await wire.ask(b"POST")
        for _ in range(10):
            await asyncio.sleep(20)
            wire.connection.send([b"3\r\n", bytearray(b"abc"), memoryview(b"\r\n")])
        with pytest.raises(UpstreamError, match="did not answer"):
            await task
        assert loop.time() - start == pytest.approx(230, abs=0.01)
        assert wire.transport.written[-1] == b"3\r\nabc\r\n"

    run(play(), JumpingLoop)


def test_a_limit_of_the_callers_own() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        wire = Wire()
        start = loop.time()
        with pytest.raises(UpstreamError, match="did not answer"):
            await (await wire.ask(timeout=2.0))
        assert loop.time() - start == pytest.approx(2, abs=0.01)

    run(play(), JumpingLoop)


def test_content_has_its_time_between_bytes() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        wire = Wire()
        task = await wire.ask()
        wire.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        await task
        sink = Recorder()
        wire.connection.stream(sink)
        start = loop.time()
        for _ in range(4):
            await asyncio.sleep(50)
            wire.feed(b"x")
        await sink.ended.wait()
        assert loop.time() - start == pytest.approx(255, abs=0.01)
        assert (sink.content, sink.errors[0].status, sink.errors[0].proxy_error) == (
            b"xxxx",
            504,
            "connection_read_timeout",
        )

    run(play(), JumpingLoop)


def test_a_nearer_limit_than_the_timers_is_kept() -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        wire = Wire()
        task = await wire.ask()
        wire.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")
        await task
        wire.connection.stream(Recorder())
        await asyncio.sleep(40)  # the timer now stands at the end of the 55 s
        wire.feed(b"x")
        start = loop.time()
        with pytest.raises(UpstreamError, match="did not answer"):
            await (await wire.ask(timeout=1.0))
        assert loop.time() - start == pytest.approx(1, abs=0.01)

    run(play(), JumpingLoop)


def test_an_idle_connection_has_no_limit() -> None:
    async def play() -> None:
        wire = Wire()
        task = await wire.ask()
        wire.feed(b"HTTP/1.1 204 No Content\r\n\r\n")
        await task
        wire.connection.stream(Recorder())
        await asyncio.sleep(1000)
        assert wire.connection.reusable

    run(play(), JumpingLoop)


def test_drain_waits_for_the_transport_and_fails_with_it() -> None:
    async def play() -> None:
        wire = Wire()
        assert wire.transport.high == 65_536
        wire.connection.send(GET)
        await wire.connection.drain()
        wire.connection.pause_writing()
        task = asyncio.get_running_loop().create_task(wire.connection.drain())
        await asyncio.sleep(0)
        assert not task.done()
        wire.connection.resume_writing()
        await task
        wire.connection.pause_writing()
        task = asyncio.get_running_loop().create_task(wire.connection.drain())
        await asyncio.sleep(0)
        wire.reset()
        with pytest.raises(UpstreamError) as caught:
            await task
        assert caught.value.proxy_error == "connection_terminated"

    run(play())


def test_all_connections_of_a_loop_read_into_one_buffer() -> None:
    async def play() -> memoryview:
        assert Wire().connection.get_buffer(-1) is Wire().connection.get_buffer(1 << 20)
        return Wire().connection.get_buffer(-1)

    first, second = run(play()), run(play())
    assert first is not second
    assert len(first) == 65_536


def test_what_is_out_of_turn_is_refused() -> None:
    async def play() -> None:
        wire = Wire()
        with pytest.raises(RuntimeError, match="idle"):
            wire.connection.stream(Recorder())
        with pytest.raises(RuntimeError, match="idle"):
            await wire.connection.read_head(b"GET")
        with pytest.raises(RuntimeError, match="idle"):
            wire.connection.detach()
        assert repr(wire.connection) == "<UpstreamConnection idle exchanges=0 reusable=True>"
        assert isinstance(wire.transport, FakeTransport)

    run(play())


class Story:
    """A receiver that writes down what it is told, and lets `then` decide within `head`."""

    def __init__(self, then: Callable[[ResponseHead], None]) -> None:
        self.told: list[object] = []
        self._then = then

    def interim(self, head: ResponseHead) -> None:
        self.told.append(head.status)

    def head(self, head: ResponseHead) -> None:
        self.told.append(head.status)
        self._then(head)

    def fail(self, error: UpstreamError) -> None:
        self.told.append(error.proxy_error)


def test_a_receiver_may_let_the_content_flow_at_once_and_it_is_not_copied() -> None:
    async def play() -> None:
        wire = Wire()
        memory = wire.connection.get_buffer(-1).obj
        seen: list[object] = []

        class Looking(Recorder):
            def data(self, view: memoryview) -> None:
                seen.append(view.obj)
                super().data(view)

        sink = Looking()
        story = Story(lambda head: wire.connection.stream(sink))
        wire.connection.send(GET)
        wire.connection.expect(b"GET", story)
        wire.feed(b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        assert (story.told, sink.content, sink.endings, wire.connection.reusable) == ([103, 200], b"hello", 1, True)
        assert seen == [memory]

    run(play())


@pytest.mark.parametrize("later", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_a_receiver_that_gives_up_hears_nothing_more(later: bytes) -> None:
    async def play() -> None:
        for at_head in (False, True):
            wire = Wire()
            story = Story(lambda head, wire=wire: wire.connection.abort())  # type: ignore[misc]
            wire.connection.send(GET)
            wire.connection.expect(b"GET", story)
            if at_head:
                wire.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            else:
                wire.connection.abort()
            wire.feed(later)
            wire.reset()
            assert (story.told, wire.transport.aborted) == ([200] if at_head else [], True)

    run(play())


@pytest.mark.parametrize("end", [Wire.eof, Wire.reset])
def test_a_receiver_is_told_once_that_there_will_be_no_head(end: Callable[[Wire], None]) -> None:
    async def play() -> None:
        for before in (False, True):
            wire = Wire()
            story = Story(lambda head: None)
            wire.connection.send(GET)
            if before:
                end(wire)
            wire.connection.expect(b"GET", story)
            if not before:
                end(wire)
            assert story.told == ["connection_terminated"]

    run(play())


@pytest.mark.parametrize("loop", LOOPS)
def test_what_the_socket_does_not_take_follows_in_order(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    parts = [bytes([number]) * 700_001 for number in range(8)]
    received = bytearray()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        while len(received) < sum(map(len, parts)):
            received.extend(await reader.read(1 << 16))
        writer.write(OK)

    async def play() -> None:
        async with origin(slow) as port, backend(f"http://127.0.0.1:{port}") as made:
            lease = await made.lease()
            for part in parts:
                lease.connection.send(part)
            await lease.connection.drain()
            head = await lease.connection.read_head(b"POST")
            assert (head.status, bytes(received)) == (200, b"".join(parts))
            lease.discard()

    run(play(), loop)
