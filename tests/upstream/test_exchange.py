"""An exchange without a socket, leased from a pool like any other: an app in this process that answers the calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from flyby.clock import ManualClock
from flyby.config import Eject
from flyby.config import Pool as Settings
from flyby.upstream import Member, Origin, UpstreamExchange
from flyby.upstream.pool import DIAL, Lease, Pool
from flyby.upstream.sink import Receiver, Sink
from flyby.wire import STANDARD_LIMITS, HeadReader, ResponseHead
from tests.upstream.stage import Recorder, run


def head_of(text: bytes) -> ResponseHead:
    reader = HeadReader(STANDARD_LIMITS, "response")
    reader.feed(text)
    return reader.take_response()


class Shouter(UpstreamExchange):
    """Answers on the head, with what the request's content says, in capitals; `go_on` is its turn of the loop."""

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.receiver: Receiver | None = None
        self.sink: Sink | None = None
        self.open = self.paused = self.broken = False
        self.idle = True
        self.head = b""

    def at_rest(self) -> bool:
        return self.idle and not self.broken

    def send(self, data: bytes | bytearray | memoryview | Iterable[Any], more: bool = False) -> None:
        assert isinstance(data, bytes)
        if self.idle:
            self.idle, self.open, self.head = False, more, data
        else:
            self.waiting.append(data)
        self.go_on()

    def finish_request(self) -> None:
        self.open = False
        self.go_on()

    def expect(self, method: bytes, receiver: Receiver, timeout: float | None = None) -> None:
        receiver.head(head_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))

    def stream(self, sink: Sink) -> None:
        self.sink = sink
        self.go_on()

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        self.go_on()

    def abort(self) -> None:
        self.broken = True
        self.sink = None

    def go_on(self) -> None:
        while self.sink is not None and self.waiting and not self.paused:
            self.sink.data(memoryview(self.waiting.pop(0).upper()))
        if self.sink is not None and not self.waiting and not self.open:
            sink, self.sink, self.idle = self.sink, None, True
            sink.end(None)


class Bench:
    def __init__(self) -> None:
        origin, member = Origin.parse("http://app"), Member("app:80", Eject())
        self.pool = Pool(origin, Settings(), member, ManualClock(monotonic=5.0))
        assert self.pool.checkout() is DIAL
        member.in_flight += 1
        self.app = Shouter()
        self.app.born = 5.0
        self.lease = self.pool.dialled(self.app)


def test_an_app_serves_exchanges_through_leases() -> None:
    async def play() -> None:
        bench = Bench()
        lease = bench.lease
        for number in (1, 2):
            lease.connection.send(b"POST / HTTP/1.1\r\n\r\n", more=True)
            head = await lease.connection.read_head(b"POST")
            sink = Recorder()
            lease.connection.stream(sink)
            lease.connection.send(b"hello ")
            assert (head.status, sink.content, sink.ends) == (200, b"HELLO ", [])
            lease.connection.pause_reading()
            lease.connection.send(b"world")
            assert sink.content == b"HELLO "
            lease.connection.resume_reading()
            assert not lease.connection.write_paused
            await lease.connection.drain()
            lease.connection.finish_request()
            assert (sink.content, sink.ends) == (b"HELLO WORLD", [None])
            lease.release()
            assert (bench.pool.leased, bench.pool.idle) == (0, 1)
            if number == 1:
                again = bench.pool.take()
                assert again is not None
                assert (again.reused, again.connection) == (True, bench.app)
                bench.pool.member.in_flight += 1
                lease = again

    run(play())


@pytest.mark.parametrize("way", [Lease.discard, Lease.release])
def test_an_app_that_is_given_up_is_not_used_again(way: Any) -> None:
    bench = Bench()
    bench.lease.connection.send(b"GET / HTTP/1.1\r\n\r\n", more=True)
    sink = Recorder()
    bench.lease.connection.stream(sink)
    way(bench.lease)
    assert (bench.pool.leased, bench.pool.idle, sink.endings) == (0, 0, 0)
    bench.lease.observe(0.0, failed=True)
    assert bench.pool.member.failures == 1


def test_it_has_no_transport_to_switch() -> None:
    with pytest.raises(RuntimeError, match="without a transport"):
        Bench().app.detach()
