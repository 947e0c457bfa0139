"""A Downstream takes heads and bytes of no HTTP version: one without a socket records what it is given.

Behind it is the road as it is, from the steps to the store; the origin is an upstream exchange without a socket, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flyby.clock import SystemClock
from flyby.config import Backend as Settings
from flyby.config import Cache, Config, Eject, Route
from flyby.log import AccessRecord
from flyby.metrics import Metrics
from flyby.proxy.decision.decide import decide
from flyby.proxy.decision.points import RouteSeams
from flyby.proxy.fetching.early import EarlyShare
from flyby.proxy.fetching.pressure import Pressure
from flyby.proxy.road._content import NO_CONTENT
from flyby.proxy.road._downstream import Downstream, Occupant
from flyby.proxy.road._exchange import Exchange
from flyby.proxy.road.client import Client
from flyby.proxy.road.context import Context, cache_rules
from flyby.proxy.routing.router import Router
from flyby.proxy.transform.plan import Chains
from flyby.server.cache import open_store
from flyby.upstream import Backend
from flyby.upstream._exchange import UpstreamExchange
from flyby.upstream._pool import Lease
from flyby.upstream.balance import Member
from flyby.upstream.dial import Origin
from flyby.wire import STANDARD_LIMITS, Fields, HeadReader, RequestHead, ResponseHead
from tests.transform.doubles import Workshop

PIECE = 65_536  # of stored content, as it goes through a chain


class Recorder(Downstream):
    """A client that records: ("begin", status, fields, length), ("data", bytes), ("end",), ("abort",)."""

    def __init__(self, slow: bool = False) -> None:
        self.slow = slow  # is behind after each part, until `catch_up`
        self.content = NO_CONTENT
        self.said: list[tuple[Any, ...]] = []
        self.occupant: Occupant | None = None
        self.wake: Callable[[], object] | None = None
        self.known_as("192.0.2.1")

    @property
    def client(self) -> Client:
        return Client("192.0.2.1", 1, b"http", 80)

    @property
    def bytes_sent(self) -> int:
        return sum(len(each[1]) for each in self.said if each[0] == "data")

    def answered_by(self, occupant: Occupant) -> None:
        self.occupant = occupant

    def on_writable(self, callback: Callable[[], object] | None) -> None:
        self.wake = callback

    def begin(self, status: int, reason: bytes, fields: Fields, length: int) -> None:
        self.begun = True
        self.said.append(("begin", status, {name.lower(): value for name, value in fields}, length))

    def begin_ready(self, head: bytes, length: int, status: int) -> None:
        assert head.endswith(b"\r\n")
        assert not head.endswith(b"\r\n\r\n")
        lines = (line.partition(b": ") for line in head.split(b"\r\n")[1:-1])
        self.begin(status, b"", Fields([(name, value) for name, _, value in lines]), length)

    def data(self, view: bytes | memoryview) -> None:
        self.said.append(("data", bytes(view)))
        self.paused = self.slow

    def catch_up(self) -> None:
        self.paused = False
        assert self.wake is not None
        self.wake()

    def end(self, trailers: Fields | None = None) -> None:
        self.said.append(("end",))
        self._over()

    def send_stored(self, head: bytes, length: int, views: Iterable[Any], status: int) -> None:
        self.begin_ready(head, length, status)
        for view in views:
            self.data(view)
        self.end()

    def abort(self) -> None:
        self.said.append(("abort",))
        self._over()

    def retract(self) -> bool:
        return False

    def _over(self) -> None:
        if self.occupant is not None:
            self.occupant.finished()

    @property
    def told(self) -> bytes:
        return b"".join(each[1] for each in self.said if each[0] == "data")


class Answering(UpstreamExchange):
    """An origin without a socket: the same response to every request."""

    def __init__(self, fields: dict[bytes, bytes], parts: tuple[bytes, ...]) -> None:
        self.head = ResponseHead(200, b"OK", 11, Fields(list(fields.items())))
        self.parts = parts
        self.asked: list[bytes] = []

    def at_rest(self) -> bool:
        return True

    def send(self, data: Any, more: bool = False) -> None:
        self.asked.append(data)

    def expect(self, method: bytes, receiver: Any, timeout: float | None = None) -> None:
        fields = self.head.fields.copy()
        receiver.head(ResponseHead(200, b"OK", 11, fields))

    def stream(self, sink: Any) -> None:
        for part in self.parts:
            sink.data(memoryview(part))
        sink.end(None)


class Home:
    """Where the leases of such an origin come from."""

    def __init__(self, connection: UpstreamExchange) -> None:
        self.connection = connection
        self.origin = Origin.parse("http://app")
        self.member = Member("app:80", Eject())
        self.clock = SystemClock()
        self.tags: tuple[bytes, ...] = ()
        self.leased = 0

    def lease(self) -> Lease:
        self.leased += 1
        return Lease(self, self.connection, True)

    def give_back(self, connection: UpstreamExchange) -> None:
        self.leased -= 1


class Scene:
    """A context with one route and one backend, whose connections are of no socket."""

    def __init__(self, origin: Answering, seams: RouteSeams | None) -> None:
        config = Config(
            cache=Cache(size="16MiB"),
            backends={"app": Settings(origins=["http://app"])},
            routes=[Route(backend="app")],
        )
        self.home = Home(origin)
        self.store = open_store(config.cache)
        self.records: list[AccessRecord] = []
        backend = Backend("app", config.backends["app"], clock=SystemClock(), limits=STANDARD_LIMITS)
        backend.lease_now = self.home.lease  # type: ignore[method-assign]
        router = Router(config, {})
        self.context = Context(
            config,
            router,
            {"app": backend},
            {id(route): cache_rules(config.cache, route.cache) for route in router.routes},
            self.store,
            SystemClock(),
            Metrics(),
            self.records.append,
            decide,
            EarlyShare({"app": backend}),
            Pressure(),
            seams={id(route): seams for route in router.routes if seams is not None},
        )

    def ask(self, *lines: bytes, method: bytes = b"GET", slow: bool = False) -> Recorder:
        client = Recorder(slow)
        exchange = Exchange(self.context, client, request(method, *lines))
        client.answered_by(exchange)
        exchange.start()
        return client


def request(method: bytes, *lines: bytes) -> RequestHead:
    reader = HeadReader(STANDARD_LIMITS, "request")
    reader.feed(b"\r\n".join((method + b" /a HTTP/1.1", b"Host: shop.test", *lines, b"", b"")))
    return reader.take_request(b"http")


@contextmanager
def scene(origin: Answering, seams: RouteSeams | None = None) -> Iterator[Scene]:
    async def made() -> Scene:
        return Scene(origin, seams)

    with asyncio.Runner() as runner:
        given = runner.run(made())
        try:
            yield given
        finally:
            assert given.home.leased == 0
            given.store.close()


STORED = {b"Cache-Control": b"max-age=60", b"Content-Length": b"10", b"Content-Type": b"text/plain"}
PASSED = STORED | {b"Cache-Control": b"no-store"}
UPPER = RouteSeams(chains=Chains(delivery=(Workshop().filter(),)))


@pytest.mark.parametrize("seams", [None, UPPER], ids=["as-it-is", "through-a-chain"])
@pytest.mark.parametrize(
    ("fields", "asked", "second"),
    [(STORED, 1, b"flyby; hit; ttl="), (PASSED, 2, None)],
    ids=["stored", "passed"],
)
def test_a_miss_and_what_follows(
    fields: dict[bytes, bytes], asked: int, second: bytes | None, seams: RouteSeams | None
) -> None:
    origin = Answering(fields, (b"first", b"again"))
    with scene(origin, seams) as given:
        for number in range(2):
            client = given.ask()
            [begin, *content, end] = client.said
            assert begin[:2] == ("begin", 200)
            assert begin[3] == 10
            assert not {b"connection", b"transfer-encoding", b"content-length"} & set(begin[2])
            assert {each[0] for each in content} == {"data"}
            assert end == ("end",)
            assert client.told == (b"firstagain" if seams is None else b"FIRSTAGAIN")
            if number and second is not None:
                assert begin[2][b"cache-status"].startswith(second)
        assert len(origin.asked) == asked
        assert [record.status for record in given.records] == [200, 200]


def test_a_refusal_and_a_condition() -> None:
    with scene(Answering(STORED | {b"ETag": b'"a"'}, (b"first", b"again"))) as given:
        given.ask()
        assert given.ask(b'If-None-Match: "a"').said[0][1] == 304
        assert given.ask(method=b"TRACE").said[0][1] == 405
        assert given.ask(b"Range: bytes=4-6").told == b"tag"
        assert [record.status for record in given.records] == [200, 304, 405, 206]


def large(pieces: int) -> Answering:
    return Answering(STORED | {b"Content-Length": b"%d" % (pieces * PIECE)}, (b"a" * PIECE,) * pieces)


def test_stored_content_goes_through_a_chain_at_the_clients_pace() -> None:
    shop = Workshop()
    with scene(large(4), RouteSeams(chains=Chains(delivery=(shop.filter(),)))) as given:
        given.ask()
        client = given.ask(slow=True)
        for count in range(1, 5):
            assert shop.made[-1].calls == ["head", *["data"] * count]
            assert client.told == b"A" * count * PIECE
            client.catch_up()
        assert client.said[-1] == ("end",)
        assert shop.made[-1].calls[-1] == "end"


def test_a_client_that_leaves_ends_its_chain() -> None:
    shop = Workshop()
    with scene(large(4), RouteSeams(chains=Chains(delivery=(shop.filter(),)))) as given:
        given.ask()
        client = given.ask(slow=True)
        assert client.occupant is not None
        client.occupant.client_lost()
        assert shop.made[-1].calls == ["head", "data", "fail"]
        assert [(record.status, record.reason) for record in given.records] == [(200, "uri-miss"), (200, "client-left")]
