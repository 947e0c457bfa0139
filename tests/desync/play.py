"""A payload, its victim, and the verdict.

pass           as expected
warn           conforming, but something went on that a careful proxy leaves behind
FAIL-desync    proxy and upstream disagree where messages end, or the victim got an answer that is not its own
FAIL-split     the tail of a bad message was taken for a request
FAIL-forward   a message that is not conforming, or a field that must go, went on
FAIL-lenient   it had to be refused
FAIL-strict    it had to pass
FAIL-victim    the victim got no answer
hang           the proxy did nothing for as long as we waited
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.desync.client import Response, exchange
from tests.desync.payloads import Payload
from tests.desync.upstream import VICTIM, Request, Upstream
from tests.edge import served

LANES = 3  # pairs of a flyby and an upstream that play at the same time

# Short times for what waits on purpose (a body that never comes), and no ejection: the upstream misbehaves all day.
CONFIG = """\
[server]
log = "off"
[server.timeouts]
head_s = 5
body_s = 1
[cache]
size = "16MiB"
[backends.upstream]
origins = ["http://127.0.0.1:{port}"]
host = "client"
[backends.upstream.eject]
failures = 1000000
[[routes]]
backend = "upstream"
"""


@dataclass
class Played:
    """What was seen of one payload."""

    payload: Payload
    responses: list[Response]
    closed: bool
    requests: list[Request]
    malformed: list[str]
    victim: str  # ok, dead, poisoned, or the status that it got

    @property
    def final(self) -> list[Response]:
        return [each for each in self.responses if each.final]

    @property
    def status(self) -> int | None:
        return self.final[0].status if self.final else None

    @property
    def notes(self) -> list[str]:
        notes = {note for request in self.requests for note in request.notes} | set(self.malformed)
        if self.rejected and self.payload.side == "request" and not self.closed:
            notes.add("refused, but the connection was left open")
        return sorted(notes)

    @property
    def rejected(self) -> bool:
        if self.payload.side == "response":
            cut = self.payload.abort_ok and self.final and not self.final[0].complete
            return self.status is None or self.status >= 502 or bool(cut)
        return not self.requests and (self.status is None or self.status >= 400)

    @property
    def passed_on(self) -> bool:
        """It went through, once, and the answer came back whole."""
        if self.status is None:
            return False
        if self.payload.name == "resp-early-413":
            return self.status == 413
        if self.payload.side == "response":
            return self.status < 500 and len(self.final) == 1 and self.final[0].complete
        # All of a control's requests are valid, so all of them must be answered.
        most = self.payload.max_upstream_requests
        least = most if self.payload.control else 1
        answers = len(self.final)
        if answers > 1 and self.closed and not self.payload.control and self.final[-1].status == 400:
            answers -= 1  # it refuses what came behind the request, and nothing is read after it
        return self.status < 400 and least <= len(self.requests) <= most and least <= answers <= most

    @property
    def smuggled(self) -> bool:
        seen = any(request.target.startswith(b"/smuggled") for request in self.requests)
        return seen and not self.payload.smuggled_is_legit

    @property
    def breaks_a_field_rule(self) -> bool:
        if not self.requests or self.rejected:
            return False
        up = [line for request in self.requests for line in request.lines]
        down = [line for response in self.responses[:1] for line in response.lines]
        return (
            any(line.startswith(self.payload.forbid_up) for line in up)
            or any(line.startswith(self.payload.forbid_down) for line in down)
            or not all(any(line.startswith(each) for line in up) for each in self.payload.require_up)
        )

    @property
    def verdict(self) -> str:
        payload = self.payload
        answered = len([each for each in self.final if each.status])
        unasked = len(self.requests) + len(self.malformed) > max(answered, 1) and not payload.incomplete
        if self.victim == "poisoned" or (self.smuggled and (unasked or self.malformed)):
            return "FAIL-desync"
        if self.malformed or self.breaks_a_field_rule:
            return "FAIL-forward"
        if self.smuggled:
            return "FAIL-split"
        silent = self.status is None and not self.closed
        if silent and not (payload.may_timeout and not self.requests):
            return "hang"
        if payload.expect == "reject" and not self.rejected:
            return "FAIL-lenient"
        if payload.expect == "forward-normalised" and not self.passed_on:
            return "FAIL-strict"
        if self.victim != "ok":
            return "FAIL-victim"
        neither = not (self.rejected or self.passed_on) and not (payload.may_timeout and self.status is None)
        carried = any(note.endswith("forwarded") for note in self.notes)
        return "warn" if neither or carried else "pass"

    def __str__(self) -> str:
        statuses = " ".join(str(each.status) for each in self.responses[:6]) or "-"
        seen = f"{statuses}{' closed' if self.closed else ''}, {len(self.requests)} upstream, victim {self.victim}"
        return f"{self.verdict:12} {self.payload.name:34} {seen}{''.join('; ' + note for note in self.notes)}"


def play(payload: Payload, proxy: tuple[str, int], upstream: Upstream, *, bytewise: bool) -> Played:
    """The payload, then its victim; the upstream's connections end with it."""
    response = payload.script is not None
    upstream.begin(payload.script, eof=payload.eof and response, bytewise=bytewise)
    try:
        responses, closed = exchange(
            proxy,
            payload.request,
            eof=payload.eof and not response,
            bytewise=bytewise,
            head=payload.method == b"HEAD",
            answers=lambda: len(upstream.requests),
        )
    except OSError:
        responses, closed = [], True
    requests = list(upstream.requests)
    victim = _victim(payload, proxy, [each.body for each in responses if each.final][1:])
    malformed = list(upstream.malformed)
    upstream.drop()
    return Played(payload, responses, closed, requests, malformed, victim)


def _victim(payload: Payload, proxy: tuple[str, int], further: list[bytes]) -> str:
    target = VICTIM + payload.name.encode()
    try:
        responses, _ = exchange(proxy, b"GET %s HTTP/1.1\r\nHost: edge.test\r\nConnection: close\r\n\r\n" % target)
    except OSError:
        responses = []
    final = [each for each in responses if each.final]
    if any(b"POISON" in body for body in [*further, *(each.body for each in final)]):
        return "poisoned"
    if not final:
        return "dead"
    if len(final) == 1 and final[0].status == 200 and final[0].body == b"seen:" + target:
        return "ok"
    return str(final[0].status) if final[0].status >= 400 or not final[0].status else "poisoned"


@dataclass
class Lane:
    proxy: tuple[str, int]
    upstream: Upstream


@contextmanager
def lanes(count: int = LANES) -> Iterator[list[Lane]]:
    """That many flybys, of one worker each, every one in front of an upstream of its own."""
    with ExitStack() as running:
        made = []
        for _ in range(count):
            upstream = Upstream()
            running.callback(upstream.close)
            edge = running.enter_context(served(config=CONFIG.format(port=upstream.port)))
            made.append(Lane(edge.address, upstream))
        yield made


def play_all(
    payloads: Iterable[Payload],
    over: list[Lane],
    *,
    bytewise: bool,
    tell: Callable[[Played], None] = lambda played: None,
) -> list[Played]:
    """Every payload, each lane taking the next; `tell` hears of each as it ends. In the order of the payloads."""
    todo = list(enumerate(payloads))[::-1]
    done: dict[int, Played] = {}

    def work(lane: Lane) -> None:
        while True:
            try:
                index, payload = todo.pop()
            except IndexError:
                return
            done[index] = play(payload, lane.proxy, lane.upstream, bytewise=bytewise)
            tell(done[index])

    with ThreadPoolExecutor(len(over)) as pool:
        for future in [pool.submit(work, lane) for lane in over]:
            future.result()
    return [done[index] for index in sorted(done)]
