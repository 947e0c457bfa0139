"""Listening sockets: one a worker, all or nothing, and errors that say what to do."""

from __future__ import annotations

import errno
import socket

import pytest

from flyby.config import Backend, Config, Server
from flyby.server import listeners
from flyby.server.banner import banner, url
from flyby.server.listeners import BindError, open_listeners


def test_every_worker_has_a_socket_on_the_same_port() -> None:
    opened = open_listeners(["127.0.0.1:0"], 3)
    ports = {opened.of_worker(index)[0].getsockname()[1] for index in range(3)}
    assert opened.addresses == [("127.0.0.1", ports.pop())]
    assert not ports
    assert len({opened.of_worker(index)[0].fileno() for index in range(3)}) == 3
    opened.close()


def test_every_address_is_those_of_both_families_at_one_port() -> None:
    opened = open_listeners([":0"], 2)
    (_, port), *others = opened.addresses
    assert sorted(opened.addresses) == [("0.0.0.0", port), ("::", port)] or not socket.has_ipv6
    for host, _ in (("127.0.0.1", 0), *((("::1", 0),) if others else ())):
        socket.create_connection((host, port), 5).close()
    opened.close()


@pytest.mark.parametrize(
    ("text", "secure", "proxy_protocol"),
    [
        ("127.0.0.1:0", False, False),
        ("https://127.0.0.1:0", True, False),
        ("proxy+http://127.0.0.1:0", False, True),
        ("proxy+https://127.0.0.1:0", True, True),
    ],
)
def test_a_listener_knows_what_is_spoken_there(text: str, secure: bool, proxy_protocol: bool) -> None:
    opened = open_listeners([text], 2)
    for index in range(2):
        [listener] = opened.of_worker(index)
        assert (listener.secure, listener.proxy_protocol) == (secure, proxy_protocol)
    opened.close()


def test_a_worker_keeps_only_its_own() -> None:
    opened = open_listeners(["127.0.0.1:0", "127.0.0.1:0"], 2)
    mine = opened.keep_only(1)
    assert [each.fileno() >= 0 for each in mine] == [True, True]
    assert [each.fileno() for each in opened.of_worker(0)] == [-1, -1]
    opened.close()


def test_a_taken_address_is_refused_even_when_the_taker_shares() -> None:
    first = open_listeners(["127.0.0.1:0"], 2)
    port = first.addresses[0][1]
    for workers in (1, 2):
        with pytest.raises(BindError, match=rf"127\.0\.0\.1:{port}: the address is in use") as caught:
            open_listeners([f"127.0.0.1:{port}"], workers)
        assert caught.value.exit_code == 75
    first.close()
    open_listeners([f"127.0.0.1:{port}"], 2).close()


def test_what_was_opened_is_closed_when_a_later_address_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        with pytest.raises(BindError):
            open_listeners([f"127.0.0.1:{port}", f"127.0.0.1:{taken.getsockname()[1]}"], 2)
        open_listeners([f"127.0.0.1:{port}"], 1).close()


@pytest.mark.parametrize(
    ("port", "number", "code", "says"),
    [
        (80, errno.EACCES, 77, "permission denied; ports below 1024 need the capability CAP_NET_BIND_SERVICE"),
        (8080, errno.EACCES, 77, "permission denied"),
        (8080, errno.ENOBUFS, 71, "No buffer space"),
    ],
)
def test_why_it_cannot_bind(monkeypatch: pytest.MonkeyPatch, port: int, number: int, code: int, says: str) -> None:
    def fail(*_: object, **__: object) -> socket.socket:
        raise OSError(number, errno.errorcode[number] if number != errno.ENOBUFS else "No buffer space")

    monkeypatch.setattr(listeners, "_bound", fail)
    with pytest.raises(BindError) as caught:
        open_listeners([f"127.0.0.1:{port}"], 2)
    assert caught.value.exit_code == code
    assert f"127.0.0.1:{port}: {says}" in str(caught.value)
    assert ("1024" in str(caught.value)) == (port < 1024)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(BindError, match=r"192\.0\.2\.1:8080") as caught:
        open_listeners(["192.0.2.1:8080"], 1)
    assert caught.value.exit_code == 71


def test_a_name_listens_on_all_its_addresses_on_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    def two(*_: object, **__: object) -> list[object]:
        stream = socket.SOCK_STREAM
        return [
            (socket.AF_INET, stream, 6, "", ("127.0.0.1", 0)),
            (socket.AF_INET, stream, 6, "", ("192.0.2.1", 0)),  # not on this machine: passed over
            (socket.AF_INET, stream, 6, "", ("127.0.0.2", 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    opened = open_listeners(["both.test:0"], 2)
    assert [host for host, _ in opened.addresses] == ["127.0.0.1", "127.0.0.2"]
    assert len({port for _, port in opened.addresses}) == 1
    opened.close()


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(BindError, match=r"nowhere\.test:1: Name or service") as caught:
        open_listeners(["nowhere.test:1"], 1)
    assert caught.value.exit_code == 78


@pytest.mark.parametrize(
    ("listens", "typed"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://0.0.0.0:80", "http://127.0.0.1:80"),
        ("https://0.0.0.0:443", "https://127.0.0.1:443"),
        ("http://[::]:8080", "http://[::1]:8080"),
        ("http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080"),
    ],
)
def test_what_to_type(listens: str, typed: str) -> None:
    assert url(listens) == typed


def test_the_banner_shows_the_tour_with_the_demo_app_only() -> None:
    text = banner(Config(), ["http://127.0.0.1:8080"], 1, demo=True)
    assert text.startswith("flyby listens on http://127.0.0.1:8080\n")
    assert "1 worker, cache 256MiB" in text
    assert "URL" not in text.replace("--origin URL", "")
    for shown in ("a miss, then a hit", "revalidated", "stale", "collapsed", "private"):
        assert f"  # {shown}" in text
    assert "curl -s http://127.0.0.1:8080/demo/counter" in text
    own = Config(server=Server(workers=2), backends={"shop": Backend(origins=["https://shop.example"])})
    text = banner(own, ["http://127.0.0.1:8080"], 2, demo=False)
    assert "shop: https://shop.example" in text
    assert "2 workers" in text
    assert "curl" not in text
