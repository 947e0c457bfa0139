"""The access log: what a line says, what it can never contain, and when it is written."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from flyby.log import FLUSH_BYTES, FORMATS, MAX_WAITING, AccessLog, AccessRecord, Guarded, escape, formatter
from flyby.log._lines import Lines

NAMES = [name for name in FORMATS if name != "off"]


def record(**changes: object) -> AccessRecord:
    made = AccessRecord(
        time_ms=1_800_000_000_123,
        method=b"GET",
        scheme=b"https",
        host=b"example.com",
        path=b"/a?b=c",
        version=11,
        status=200,
        bytes_sent=1234,
        duration_ms=1.25,
        client="192.0.2.1",
        request_id=b"0123-abc",
        outcome="hit",
        reason="fresh",
        backend="app",
        connect_ms=2.0,
        first_byte_ms=10.5,
        user_agent=b"curl/8",
        referer=b"https://example.com/",
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


class Timers:
    """A loop's call_later, moved by hand."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timers:
        self.due.append((delay, callback))
        return self

    def cancel(self) -> None:
        self.due.clear()

    def fire(self) -> None:
        due, self.due = self.due, []
        for _, callback in due:
            callback()


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("console", b"08:00:00 200 hit         GET  example.com/a?b=c  1.2 ms  1.2 kB  192.0.2.1 (fresh)\n"),
        (
            "combined",
            (
                b'192.0.2.1 - - [15/Jan/2027:08:00:00 +0000] "GET /a?b=c HTTP/1.1" 200 1234 "https://example.com/"'
                b' "curl/8"\n'
            ),
        ),
        (
            "logfmt",
            (
                b'time=2027-01-15T08:00:00.123Z method=GET scheme=https host=example.com path="/a?b=c" version=1.1'
                b" status=200 bytes=1234 duration_ms=1.25 client=192.0.2.1 request_id=0123-abc outcome=hit reason=fresh"
                b" backend=app user_agent=curl/8 referer=https://example.com/ connect_ms=2.0 first_byte_ms=10.5\n"
            ),
        ),
        (
            "heroku",
            (
                b'at=info method=GET path="/a?b=c" host=example.com request_id=0123-abc fwd="192.0.2.1" dyno=app'
                b" connect=2ms service=1ms status=200 bytes=1234 protocol=https cache=hit\n"
            ),
        ),
    ],
)
def test_a_line_says(name: str, line: bytes) -> None:
    assert formatter(name)(record()) == line


def test_json_is_json_with_every_field() -> None:
    found = json.loads(formatter("json")(record()))
    assert found == {
        "time": "2027-01-15T08:00:00.123Z", "method": "GET", "scheme": "https", "host": "example.com",
        "path": "/a?b=c", "version": "1.1", "status": 200, "bytes": 1234, "duration_ms": 1.25, "client": "192.0.2.1",
        "request_id": "0123-abc", "outcome": "hit", "reason": "fresh", "backend": "app", "connect_ms": 2.0,
        "first_byte_ms": 10.5, "user_agent": "curl/8", "referer": "https://example.com/",
    }  # fmt: skip


def test_what_did_not_happen_is_left_out() -> None:
    found = json.loads(formatter("json")(record(connect_ms=-1.0, first_byte_ms=-1.0, backend="", referer=b"")))
    assert not {"connect_ms", "first_byte_ms", "backend", "referer"} & set(found)
    assert b"connect= " in formatter("heroku")(record(connect_ms=-1.0))


def test_heroku_names_the_error_of_a_failure() -> None:
    line = formatter("heroku")(record(status=503, reason="connect-timeout"))
    assert line.startswith(b"at=error code=connect-timeout method=GET ")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", ["method", "host", "path", "request_id", "user_agent", "referer"])
@pytest.mark.parametrize("evil", [b"a\nb", b"a\r\nb", b"\x1b[2Jx", b"\x9b31m", b"\x00", b"\x7f", "é‮".encode(), b"\xff"])
def test_no_client_can_forge_a_line_or_drive_a_terminal(name: str, field: str, evil: bytes) -> None:
    line = formatter(name)(record(**{field: evil}))
    assert re.fullmatch(rb"[\x20-\x7e]+\n", line)


@pytest.mark.parametrize("name", ["combined", "logfmt", "heroku"])
def test_no_client_can_end_a_quoted_value(name: str) -> None:
    line = formatter(name)(record(path=b'/" status=500 x="\\', user_agent=b'" 1 "'))
    assert b"/\\x22 status=500 x=\\x22\\x5C" in line


def test_clean_bytes_are_not_copied() -> None:
    clean = b"/plain/path"
    assert escape(clean) is clean


def test_bytes_that_are_no_utf8_survive_in_json() -> None:
    assert json.loads(formatter("json")(record(path=b"/\xff")))["path"] == "/\\xff"


def test_lines_wait_for_the_second() -> None:
    timers = Timers()
    with pipe() as (read, write):
        os.set_blocking(read, False)
        log = AccessLog("combined", timers.call_later, write)
        log.write(record())
        log.write(record())
        with pytest.raises(BlockingIOError):
            os.read(read, 1)
        assert [delay for delay, _ in timers.due] == [1.0]
        timers.fire()
        assert os.read(read, 4096).count(b"\n") == 2
        assert timers.due == []  # an idle server wakes up for nothing
        log.close()


def test_many_lines_do_not_wait() -> None:
    timers = Timers()
    with pipe() as (read, write):
        log = AccessLog("combined", timers.call_later, write)
        length = len(formatter("combined")(record()))
        for _ in range(FLUSH_BYTES // length + 1):
            log.write(record())
        assert len(os.read(read, 1 << 20)) > FLUSH_BYTES - length
        log.close()


def test_close_writes_the_rest_and_leaves_the_descriptor_to_its_owner() -> None:
    timers = Timers()
    with pipe() as (read, write):
        log = AccessLog("json", timers.call_later, write)
        log.write(record())
        log.close()
        assert os.read(read, 4096).endswith(b"\n")
        assert timers.due == []
        os.write(write, b"still open")


def test_a_slow_reader_costs_lines_not_time(caplog: pytest.LogCaptureFixture) -> None:
    timers = Timers()
    with pipe() as (read, write):
        log = AccessLog("combined", timers.call_later, write)
        big = record(path=b"/" + b"x" * 8000)
        for _ in range(2 * MAX_WAITING // 8000):
            log.write(big)  # blocks for ever if the pipe is not non-blocking
        assert log.dropped > 0
        got = bytearray()
        while timers.due:
            got += os.read(read, 1 << 20)
            timers.fire()
        assert log.dropped == 0
        assert "lines dropped" in caplog.text
        os.close(write)
        log.close()
        while piece := os.read(read, 1 << 20):
            got += piece
        os.dup2(read, write)  # for the pipe's own clean-up
    assert {len(line) for line in got.splitlines()} == {len(formatter("combined")(big)) - 1}


def test_the_inherited_pipe_stays_blocking_for_the_shell() -> None:
    with pipe() as (_, write):
        AccessLog("combined", Timers().call_later, write).close()
        assert os.get_blocking(write)


def test_pieces_for_a_pipe_are_whole_lines() -> None:
    """Two workers write to one pipe at once: no line of one is inside a line of the other."""
    with pipe() as (read, write):
        lines = {b"1": b"", b"2": b""}
        got = bytearray()
        done = threading.Event()

        def drain() -> None:
            while not done.is_set() or got.count(b"\n") < 400:
                got.extend(os.read(read, 100))

        reader = threading.Thread(target=drain)
        reader.start()
        writers = [AccessLog("combined", Timers().call_later, write) for _ in lines]
        for _ in range(200):
            for number, log in enumerate(writers):
                log.write(record(path=b"/%d" % number * 150))
        done.set()
        for log in writers:
            while len(log.lines):
                log.flush()
        reader.join()
        for log in writers:
            log.close()
    assert {line.count(b"/0") in (0, 150) for line in got.splitlines()} == {True}
    assert got.count(b"\n") == 400


def test_a_socket_as_standard_output() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        log = AccessLog("logfmt", Timers().call_later, theirs.fileno())
        log.write(record())
        log.flush()
        assert ours.recv(4096).startswith(b"time=")
        log.close()


def test_a_reader_that_has_gone_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    read, write = os.pipe()
    os.close(read)
    log = AccessLog("logfmt", Timers().call_later, write)
    log.write(record())
    log.flush()
    assert "Broken pipe" in caplog.text
    log.flush()
    assert caplog.text.count("Broken pipe") == 1
    log.close()
    os.close(write)


def test_off_makes_nothing_and_can_be_switched_on() -> None:
    timers = Timers()
    with pipe() as (read, write):
        log = AccessLog("off", timers.call_later, write)
        log.write(record())
        assert timers.due == []
        log.use("json")
        log.write(record())
        log.close()
        assert json.loads(os.read(read, 4096))["status"] == 200


@pytest.mark.parametrize("name", ["console", "combined"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"method": b"HEAD", "status": 304, "bytes_sent": 0, "duration_ms": 0.0},
        {"path": b'/?q="\\\xff', "host": b"x", "user_agent": b'\x1b[2J"\\', "referer": b""},
        {"client": "", "user_agent": b""},
        {"duration_ms": 1234.567, "bytes_sent": 999},
        *({"bytes_sent": size} for size in (1000, 1049, 1050, 99_949, 999_949, 999_950, 1_000_000, 1_049_999, 1 << 40)),
        *({"duration_ms": us / 1000} for us in (49, 51, 149, 151, 9_949, 9_999)),
    ],
)
def test_a_hits_line_is_the_formatters(name: str, changes: dict[str, object]) -> None:
    """The line that a hit makes without Python is byte for byte the one that the formatter makes."""
    told = record(outcome="hit", reason="", **changes)
    lines = Lines()
    lines.use(name)
    for _ in range(2):
        lines.hit_line(
            told.time_ms,
            told.method,
            told.host,
            told.path,
            told.status,
            told.bytes_sent,
            round(told.duration_ms * 1000),
            told.client.encode(),
            told.user_agent,
            told.referer,
        )
    assert bytes(lines) == formatter(name)(told) * 2


def test_lines_keep_what_is_not_written() -> None:
    lines = Lines()
    for number in range(3000):
        lines.add(b"%d\n" % number)
        if number % 3 == 0:
            lines.drop(2)
    written = b"".join(b"%d\n" % number for number in range(3000))
    assert bytes(lines) == written[2000:]
    assert lines.whole(10) == bytes(lines)[:10].rfind(b"\n") + 1
    assert lines.whole(1) == bytes(lines).find(b"\n") + 1
    with memoryview(lines), pytest.raises(BufferError):
        lines.add(b"x")


def test_a_buffer_that_is_full_counts_what_it_drops() -> None:
    lines = Lines()
    lines.use("console")
    while not lines.dropped:
        lines.hit_line(0, b"GET", b"h", b"/" * 8000, 200, 1, 1, b"", b"", b"")
    assert len(lines) <= MAX_WAITING


def test_a_guarded_callback_is_given_each_record() -> None:
    seen: list[AccessRecord] = []
    guarded = Guarded(seen.append)
    guarded(record())
    assert seen == [record()]


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyError(1), asyncio.CancelledError(), StopIteration()])
def test_what_a_callback_raises_is_logged_now_and_then(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: AccessRecord) -> None:
        raise error

    times = iter((100.0, 101.0, 109.9, 110.0))
    guarded = Guarded(fails, lambda: next(times))
    for _ in range(4):
        guarded(record())
    first, second = caplog.records
    assert first.getMessage() == "the access_log callback failed"
    assert first.exc_info is not None
    assert first.exc_info[1] is error
    assert second.getMessage() == "the access_log callback failed (2 more since the last line)"


@pytest.mark.filterwarnings("error")
def test_an_async_callback_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def log(_: AccessRecord) -> None:
        raise AssertionError("nobody awaits it")

    Guarded(log)(record())
    assert "the access_log callback is async" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_what_ends_the_program_is_let_through(error: BaseException) -> None:
    def ends(_: AccessRecord) -> None:
        raise error

    with pytest.raises(type(error)):
        Guarded(ends)(record())
