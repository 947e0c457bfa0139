"""The program that is counted: hits on one connection, as the event loop would bring them.

    python -m tests.instructions.hits CASE COUNT

There is no event loop and no network: the transport is one end of a socket pair, the other end is read between two
hits. The access log is on, in its default format, and goes nowhere. Only what happens inside
`Connection.buffer_updated` is counted, so nothing of this file is. A hit that the fast lane did not answer, or an
answer that is not the expected one, ends the program with an error.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import NoReturn

from flyby.clock import SystemClock
from flyby.config import Backend, Cache, Config, Limits, Timeouts
from flyby.log import AccessLog
from flyby.metrics import Metrics
from flyby.policy import EntryFlag
from flyby.proxy.http1.connection import Connection
from flyby.proxy.http1.connections import Connections
from flyby.proxy.lane._lane import Lane
from flyby.proxy.road.context import cache_rules
from flyby.proxy.routing.router import Router
from flyby.proxy.stored import variants
from flyby.store import Store
from flyby.wire import Fields

HOST = b"www.example.com"
PATH = b"/hit/1024"
BODY = bytes(range(256)) * 4
HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: floor\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b'Cache-Control: public, max-age=86400\r\nETag: "1"\r\nVia: 1.1 flyby\r\n'
)
BROWSER = (
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Referer: http://www.example.com/articles/2024/a-page-with-a-long-name\r\nDNT: 1\r\n"
    b"Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\n"
    b"Cookie: _session=0123456789abcdef0123456789abcdef0123456789abcdef; theme=dark\r\n"
)
REQUESTS = {
    "plain": b"",
    "browser": BROWSER,
    "unmodified": b'If-None-Match: "1"\r\n',
    "variant": b"Accept-Encoding: gzip, deflate, br, zstd\r\n",
}


class Never:
    """A timer that does not go off."""

    def cancel(self) -> None:
        """Nothing is to be cancelled."""


NEVER = Never()


class Transport:
    """What a connection and its outbox ask of a transport."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def get_extra_info(self, name: str) -> object:
        return self.sock if name == "socket" else None

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        """Nothing is ever buffered here."""


def no_exchange(connection: object, request: object) -> NoReturn:
    raise AssertionError("a hit was not answered by the fast lane")


def fill(store: Store, vary: bool) -> None:
    """Store the response, for ten hours."""
    key = b"http %b %b\0app" % (HOST, PATH)
    now_ms = SystemClock().wall_ms()
    if vary:
        fields = Fields([(b"Accept-Encoding", b"gzip, deflate, br, zstd")])
        found = variants.key_for_storing(store, key, (b"accept-encoding",), fields, Fields(), 64)
        assert found is not None
        key = found
    assert store.put(key, HEAD, BODY, 200, int(EntryFlag.PUBLIC), now_ms, now_ms + 36_000_000, 0, 0)


def main(case: str, count: int) -> None:
    """Serve `count` hits of that case."""
    store = Store.create(16 << 20)
    fill(store, case == "variant")
    router = Router(Config(backends={"app": Backend(origins=["http://127.0.0.1:1"])}))
    signs = [(sign, cache_rules(Cache(), route.cache)) for sign, route in router.signs()]
    lane = Lane()
    ours, theirs = socket.socketpair()
    with ours, theirs, open(os.devnull, "wb") as nowhere:
        access_log = AccessLog("console", lambda delay, callback: NEVER, nowhere.fileno())
        lane.use(store, signs, [None] * len(signs), None, b"/.flyby/", Limits(), SystemClock(), 60.0, access_log)
        connections = Connections(Limits(), Timeouts(), SystemClock(), no_exchange, no_exchange, 1, lane, Metrics())
        connection = Connection(connections, b"http")
        connection.connection_made(Transport(ours))  # type: ignore[arg-type]
        request = b"GET %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (PATH, HOST, REQUESTS[case])
        connection.get_buffer(-1)[: len(request)] = request
        expected = b"HTTP/1.1 304" if case == "unmodified" else b"HTTP/1.1 200"
        for _ in range(count):
            connection.buffer_updated(len(request))
            assert theirs.recv(65536).startswith(expected)
            store.pack_some()  # as the edge does between requests: what is hot lies unpacked
    assert lane.hits == count


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
