"""What the log says of an app that does not accept, and where an app is looked for."""

from __future__ import annotations

import asyncio
import errno
import ssl

import pytest

from flyby_agent import faults, health, log
from flyby_agent.app import App
from flyby_agent.health import Health, Verdict
from tests.agent.conftest import Stage
from tests.agent.dyno import FakeApp, answer


class Checks:
    """A loop's clock that each check of the app moves on by `step_s`, and an app that accepts when it is told to."""

    def __init__(self, step_s: float, accepts: list[bool]) -> None:
        self.now = 100.0
        self.step_s = step_s
        self.accepts = accepts
        self.name = "127.0.0.1:5000"
        self.answered_at = 0.0

    def time(self) -> float:
        return self.now

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not self.accepts:
            raise asyncio.CancelledError
        self.now += self.step_s
        if not self.accepts.pop(0):
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 5000)")
        return asyncio.StreamReader(), Unwritten()  # type: ignore[return-value]


class Unwritten:
    def __init__(self) -> None:
        self.transport = self

    def abort(self) -> None:
        pass


def warnings(monkeypatch: pytest.MonkeyPatch, step_s: float, accepts: list[bool]) -> list[str]:
    """What is logged while the app is checked so often, each check `step_s` after the last."""
    said: list[str] = []
    monkeypatch.setattr(log, "warning", said.append)
    monkeypatch.setattr(health, "SOON_S", 0)

    async def run() -> None:
        checks = Checks(step_s, accepts)
        watched = Health(checks, checks, "", lambda ready: None, Verdict(), every_s=0)  # type: ignore[arg-type]
        with pytest.raises(asyncio.CancelledError):
            await watched.run()

    asyncio.run(run())
    return said


def test_an_app_that_never_accepts_is_named_after_ten_seconds_and_each_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    said = warnings(monkeypatch, 1, [False] * 135)
    assert [line.split(" for ")[1].split(",")[0] for line in said] == ["10 s", "70 s", "130 s"]
    assert said[0] == (
        "the app on 127.0.0.1:5000 has not been ready for 10 s, so this dyno gets no requests: Connection refused. "
        "Does it run, and does it listen there? FLY_PORT and FLY_LOCAL_ENDPOINT name another place"
    )


@pytest.mark.parametrize(
    ("accepts", "said_at"),
    [
        ([False] * 9, []),
        ([False] * 9 + [True] * 200, []),
        ([True] * 200, []),
        ([True] * 5 + [False] * 200, ["10 s", "70 s", "130 s", "190 s"]),  # counted from when it last was ready
        ([False] * 20 + [True] * 2 + [False] * 20, ["10 s", "10 s"]),
        ([False, True] * 10, ["11 s"]),  # once in a while is not ready
    ],
)
def test_how_often_an_app_is_named(monkeypatch: pytest.MonkeyPatch, accepts: list[bool], said_at: list[str]) -> None:
    reminders = [line for line in warnings(monkeypatch, 1, accepts) if "has not been ready" in line]
    assert [line.split(" for ")[1].split(",")[0] for line in reminders] == said_at


def test_an_app_on_the_other_loopback_address_is_found(stage: Stage) -> None:
    edge, app = stage.edge(), FakeApp(answer(b"on six"), host="::1")
    try:
        agent = stage.agent(edge, app.port)
        edge.wait_idle(2)
        assert edge.take().ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")[2] == b"on six"
        agent.wait_for(f"the app on [::1]:{app.port} is ready")
    finally:
        app.stop()


@pytest.mark.parametrize(
    ("accepting", "address", "tried"),
    [
        ({"127.0.0.1", "::1"}, "127.0.0.1", ["127.0.0.1"]),
        ({"::1"}, "127.0.0.1", ["127.0.0.1", "::1", "::1"]),
        (set(), "127.0.0.1", ["127.0.0.1", "::1", "127.0.0.1", "::1"]),
        (set(), "10.0.0.1", ["10.0.0.1", "10.0.0.1"]),
        ({"::1"}, "localhost", ["localhost", "localhost"]),
    ],
)
def test_in_which_order_addresses_are_dialled(accepting: set[str], address: str, tried: list[str]) -> None:
    dialled: list[str] = []

    class Loop:
        async def create_connection(self, protocol: object, host: str, port: int) -> tuple[None, None]:
            dialled.append(host)
            if host not in accepting:
                raise ConnectionRefusedError(errno.ECONNREFUSED, host)
            return None, None

    async def twice() -> list[str]:
        app = App(Loop(), (address, 5000))  # type: ignore[arg-type]
        failures = []
        for _ in range(2 if len(tried) > 1 else 1):
            try:
                await app.dial()
            except OSError as error:
                failures.append(str(error.strerror))
        return failures

    assert set(asyncio.run(twice())) <= {address}  # the error is that of the address which was asked for
    assert dialled == tried


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (OSError(errno.ENETUNREACH, "Multiple exceptions: ..."), "Network is unreachable"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "Connection reset by peer"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "No such file or directory"),
        (OSError("no answer within 10 s"), "no answer within 10 s"),
        (ssl.SSLEOFError(8, "(EOF) (_ssl.c:992)"), "closed the connection during the TLS handshake"),
        (ssl.SSLError(1, "[SSL: BAD_SIGNATURE] bad signature (_ssl.c:1)"), "TLS failed"),
        (TimeoutError(), "TimeoutError"),
        (OSError(errno.EPIPE, "x\ny"), "Broken pipe"),
    ],
)
def test_errors_are_told_in_words(error: BaseException, words: str) -> None:
    told = faults.reason(error)
    assert words in told
    assert "_ssl.c" not in told
    assert "\n" not in told
