"""`flyby-agent diagnose`: everything on the way from this dyno to the edge and to the app, one line each.

    ok    dns          edge.example: 192.0.2.7, 192.0.2.8
    FAIL  tls          192.0.2.8: certificate has expired. Renew the edge's certificate, or check this machine's clock.

It tries what the agent does, step by step and blocking, as a dyno of its own (a fresh id, `ready: false`), so a running
agent is not disturbed and the edge sends it nothing. Exits 1 when anything failed. A later step is only tried when the
earlier one passed; the app is not looked for in a one-off dyno, which runs none.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import os
import socket
import ssl
import time
from typing import Any

from flyby_agent import __version__, forward, log, trust
from flyby_agent.app import LOOPBACK, LOOPBACK_6, endpoint_name
from flyby_agent.endpoints import Address, Endpoint, look_up_now, loopback
from flyby_agent.faults import reason
from flyby_agent.settings import NEVER, Settings
from flyby_agent.upgrade import CONTROL, MOST_ANSWER, Refused, parse_answer, request

STEP_S = 5.0
MOST_SKEW_S = 60.0
PINGS = 3


class Report:
    """The lines, as they come."""

    def __init__(self) -> None:
        self.failed = 0

    def ok(self, step: str, text: str) -> None:
        print(f"ok    {step:<12} {log.flat(text)}", flush=True)

    def skip(self, step: str, text: str) -> None:
        print(f"--    {step:<12} {log.flat(text)}", flush=True)

    def fail(self, step: str, text: str, remedy: str) -> None:
        self.failed += 1
        print(f"FAIL  {step:<12} {log.flat(text)}. {remedy}".rstrip(), flush=True)


def command(settings: Settings) -> int:
    report = Report()
    report.ok("agent", f"{__version__}, dyno {settings.dyno}, process type {settings.process}")
    tls = None
    if any(endpoint.scheme == "https" for endpoint in settings.endpoints):
        try:
            tls = trust.context(settings.ca_file, settings.insecure)
        except (OSError, ValueError) as error:
            report.fail("authorities", str(error), "FLY_CA_FILE must name a PEM file of certificates.")
            return 1
    for endpoint in settings.endpoints:
        for address in _resolved(report, endpoint):
            _node(report, settings, address, tls)
    if settings.process in NEVER:
        report.skip("app", f"not looked for: a dyno of type {settings.process} runs no app")
    else:
        _app(report, settings)
    return 1 if report.failed else 0


def _resolved(report: Report, endpoint: Endpoint) -> list[Address]:
    try:
        addresses = look_up_now(endpoint)
    except OSError as error:
        where = "HTTPS_PROXY" if endpoint.proxy else "FLY_REMOTE_ENDPOINT"
        report.fail("dns", f"{endpoint.dialled[0]}: {reason(error)}", f"Check the name in {where}.")
        return []
    what = "the proxy " if endpoint.proxy else ""
    report.ok("dns", f"{what}{endpoint.dialled[0]}: {', '.join(address.ip for address in addresses)}")
    return addresses


def _node(report: Report, settings: Settings, address: Address, tls: ssl.SSLContext | None) -> None:
    endpoint = address.endpoint
    port = endpoint.dialled[1]
    began = time.monotonic()
    try:
        connection = socket.create_connection((address.ip, port), STEP_S)
    except OSError as error:
        remedy = "Is the edge up? A network that lets nothing out directly needs HTTPS_PROXY."
        if endpoint.proxy is not None:
            remedy = "Is the proxy of HTTPS_PROXY up?"
        report.fail("tcp", f"{address.ip} port {port}: {reason(error)}", remedy)
        return
    with connection:
        report.ok("tcp", f"{address.ip} port {port} in {_ms(began)}")
        if endpoint.proxy is not None and not _proxied(report, address, connection, endpoint.proxy):
            return
        if endpoint.scheme == "https":
            assert tls is not None
            if settings.insecure and not loopback(address.ip):
                report.fail("tls", f"{address.ip} is not on loopback", "Leave --insecure out.")
                return
            secured = _secured(report, settings, address, tls, connection)
            if secured is None:
                return
            with secured:
                _tunnel(report, settings, address, secured)
        elif loopback(address.ip):
            report.ok("tls", "none: http:// on loopback")
            _tunnel(report, settings, address, connection)
        else:
            report.fail("tls", f"{address.ip} is not on loopback", "Use https://.")


def _proxied(report: Report, address: Address, connection: socket.socket, proxy: forward.Proxy) -> bool:
    """Whether the proxy has opened a tunnel to the edge."""
    endpoint = address.endpoint
    began = time.monotonic()
    received = b""
    try:
        connection.sendall(forward.request(proxy, endpoint.host, endpoint.port))
        while not forward.check(proxy, received):
            data = connection.recv(4096)
            if not data:
                raise forward.ProxyRefused(f"the proxy {proxy} closed the connection without an answer")
            received += data
    except OSError as error:
        report.fail("proxy", reason(error), "HTTPS_PROXY names the proxy, and NO_PROXY what is dialled without it.")
        return False
    report.ok("proxy", f"{proxy} opened a tunnel to {endpoint.host} port {endpoint.port} in {_ms(began)}")
    return True


def _secured(
    report: Report, settings: Settings, address: Address, tls: ssl.SSLContext, connection: socket.socket
) -> ssl.SSLSocket | None:
    began = time.monotonic()
    try:
        secured = tls.wrap_socket(connection, server_hostname=address.endpoint.host)
        trust.check_pin(secured.getpeercert(True), settings.pins)
    except trust.PinMismatch as error:
        report.fail(
            "tls", f"{address.ip}: {error.args[0]}", "Set FLY_PIN to the new pin if the edge's key was changed."
        )
        return None
    except (OSError, ValueError) as error:
        said = reason(error)
        remedy = "Check the name in FLY_REMOTE_ENDPOINT, the edge's certificate and this machine's clock."
        report.fail("tls", f"{address.ip}: {said}", remedy)
        return None
    pinned = ", pinned" if settings.pins else ""
    verified = "NOT verified (--insecure)" if settings.insecure else "verified"
    report.ok("tls", f"{secured.version()}, certificate {verified}{pinned}, in {_ms(began)}")
    return secured


def _tunnel(report: Report, settings: Settings, address: Address, connection: socket.socket) -> None:
    connection.settimeout(STEP_S)
    began = time.monotonic()
    try:
        connection.sendall(request(address, settings.token, CONTROL, os.urandom(16).hex()))
        head, rest = _head(connection)
    except OSError as error:
        report.fail("token", f"no answer: {reason(error)}", "Is what listens there flyby, and does it speak TLS?")
        return
    _clock(report, head)
    try:
        answer = parse_answer(head)
    except Refused as error:
        report.fail("token", str(error), error.remedy)
        return
    report.ok(
        "token", f"known to {answer.node or 'the edge'}, worker {answer.worker} of {answer.workers}, in {_ms(began)}"
    )
    _round_trip(report, settings, connection, rest)


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(4096)
        if not data or len(head) > MOST_ANSWER:
            raise OSError("the connection ended")
        head += data
    end = head.index(b"\r\n\r\n") + 4
    return head[:end], head[end:]


def _clock(report: Report, head: bytes) -> None:
    for line in head.split(b"\r\n"):
        if line[:5].lower() == b"date:":
            try:
                there = email.utils.parsedate_to_datetime(line[5:].decode("latin-1").strip()).timestamp()
            except (TypeError, ValueError):
                break
            skew = time.time() - there
            if abs(skew) > MOST_SKEW_S:
                remedy = "Certificates are checked by the clock: set one of the two right."
                report.fail("clock", f"this clock is {skew:+.0f} s from the edge's", remedy)
            else:
                report.ok("clock", f"{skew:+.1f} s from the edge's")
            return
    report.ok("clock", f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} (the edge did not say its own)")


def _round_trip(report: Report, settings: Settings, connection: socket.socket, rest: bytes) -> None:
    register = {
        "type": "register",
        "protocol": 1,
        "agent": __version__,
        "dyno": settings.dyno,
        "process": settings.process,
    }
    register.update({"release": settings.release, "region": settings.region, "capacity": 1, "ready": False})
    times = []
    try:
        _say(connection, register)
        said, rest = _until(connection, rest, ("registered", "refused"))
        if said["type"] == "refused":
            report.fail("round trip", f"refused: {said.get('reason')}", "The edge says why.")
            return
        for number in range(PINGS):
            began = time.monotonic()
            _say(connection, {"type": "ping", "n": number, "in_flight": 0, "latency_ms": 0, "ready": False})
            _, rest = _until(connection, rest, ("pong",))
            times.append((time.monotonic() - began) * 1000)
    except (OSError, ValueError) as error:
        report.fail("round trip", f"no pong: {reason(error)}", "The edge accepted the connection and then fell silent.")
        return
    report.ok("round trip", f"{min(times):.1f} ms at best of {PINGS}")


def _say(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _until(connection: socket.socket, rest: bytes, wanted: tuple[str, ...]) -> tuple[dict[str, Any], bytes]:
    """The next message of one of these types; pings are answered on the way."""
    deadline = time.monotonic() + STEP_S
    while time.monotonic() < deadline:
        line, found, after = rest.partition(b"\n")
        if found:
            rest = after
            message = json.loads(line)
            if not isinstance(message, dict):
                raise ValueError("the edge sent something that is no message")
            if message.get("type") in wanted:
                return message, rest
            if message.get("type") == "ping":
                _say(
                    connection, {"type": "pong", "n": message.get("n"), "in_flight": 0, "latency_ms": 0, "ready": False}
                )
            continue
        data = connection.recv(4096)
        if not data:
            raise OSError("the connection ended")
        rest += data
    raise OSError(f"nothing within {STEP_S:.0f} s")


def _app(report: Report, settings: Settings) -> None:
    began = time.monotonic()
    name = f"unix:{settings.local_path}" if settings.local is None else endpoint_name(settings.local)
    remedy = "Is the app running, and does it listen on PORT? FLY_PORT or FLY_LOCAL_ENDPOINT say another place."
    try:
        if settings.local is None:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(STEP_S)
            connection.connect(settings.local_path)
        else:
            connection, name = _app_dialled(settings.local)
    except OSError as error:
        report.fail("app", f"{name}: {reason(error)}", remedy)
        return
    path = settings.health_path or "/"
    with connection:
        connection.settimeout(STEP_S)
        try:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("ascii"))
            head, _ = _head(connection)
        except OSError as error:
            report.fail("app", f"{name} accepts, but: {reason(error)}", "Does it speak HTTP/1.1?")
            return
    line = head.partition(b"\r\n")[0].decode("latin-1")
    if settings.health_path and line[9:10] not in ("2", "3"):
        report.fail(
            "app", f"{name}: GET {path} was answered {line}", "FLY_HEALTH_PATH must be answered with 200 to 399."
        )
    else:
        report.ok("app", f"{name}: GET {path} was answered {line} in {_ms(began)}")


def _app_dialled(local: tuple[str, int]) -> tuple[socket.socket, str]:
    """A connection to the app, and where it was found: on ::1 after 127.0.0.1, as the agent tries it."""
    try:
        return socket.create_connection(local, STEP_S), endpoint_name(local)
    except OSError:
        other = (LOOPBACK_6, local[1])
        if local[0] != LOOPBACK:
            raise
        with contextlib.suppress(OSError):
            return socket.create_connection(other, STEP_S), endpoint_name(other)
        raise


def _ms(began: float) -> str:
    return f"{(time.monotonic() - began) * 1000:.1f} ms"
