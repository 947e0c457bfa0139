"""`Tunnel`: the edge's end of all tunnels of one worker; made, started and ended by the `Edge`.

It answers the handshakes, owns the sessions, and carries their news to the dynos. What it is told from outside: which
backends there are (`use`), that the control state has changed (`refresh`: a revoked token's sessions and links are
closed, whatever they carry), that the edge goes down (`drain`, then `close`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from flyby.clock import Clock
from flyby.control import State
from flyby.errors import StateError
from flyby.policy import Outcome, format_http_date
from flyby.proxy.road._downstream import Downstream
from flyby.proxy.road._exchange import Exchange
from flyby.tunnel import handshake
from flyby.tunnel.attempts import Attempts
from flyby.tunnel.dyno import Dyno
from flyby.tunnel.dynos import Dynos
from flyby.tunnel.handshake import Hello, Refusal
from flyby.tunnel.messages import PROTOCOL, Ping, Register, printable
from flyby.tunnel.report import Report
from flyby.tunnel.session import HEARTBEAT_S, Session
from flyby.upstream import Backend
from flyby.wire import REASONS

# Made before the workers are forked, so that all of them say the same; another one when flyby starts again.
BOOT = secrets.token_hex(8)
TICK_S = 1.0
MOST_NOTED = 1000  # releases of which the state is not asked again
MOST_PAST = 100  # releases of a backend that are remembered when they have left
OWED_S = 1.0  # between two tries to tell the state what it did not take: each may stand still for `watch.WAIT_S`

logger = logging.getLogger("flyby.tunnel")


class TunnelSettings(Protocol):
    """`config.Tunnel`."""

    @property
    def node(self) -> str | None: ...
    @property
    def plain(self) -> bool: ...
    @property
    def max_dynos(self) -> int: ...
    @property
    def max_links(self) -> int: ...


@dataclass(frozen=True, slots=True)
class TunnelStatistics:
    """A snapshot of one worker; the dynos stand with their backends."""

    sessions: int
    dynos: int
    links: int
    sessions_total: int
    links_total: int
    refusals: Mapping[int, int]  # handshakes that ended without a 101, by status


class Tunnel:
    """See the module's text. `released(backend, release)` is called for the first dyno of a release that is ready,
    `retired(backend, releases)` for releases of which no dyno is left here while another release takes requests."""

    def __init__(
        self,
        settings: TunnelSettings,
        *,
        state: Callable[[], State | None],
        clock: Clock,
        node: str,
        worker: int,
        workers: int,
        released: Callable[[str, str], None],
        retired: Callable[[str, Collection[str]], None],
    ) -> None:
        self.settings = settings
        self._state = state
        self._clock = clock
        self._node = node
        self._worker = worker
        self._workers = workers
        self._released = released
        self._retired = retired
        self._attempts = Attempts()
        self._dynos: dict[str, Dynos] = {}
        self._sessions: list[Session] = []
        self._noted: set[tuple[str, str]] = set()  # releases that are in the state
        self._ready: set[tuple[str, str]] = set()  # releases of which a dyno was ready
        self._past: dict[str, set[str]] = {}  # for each backend, the releases that have left and are not retired
        self._owed: list[Session] = []  # whose releases are still to be told to the state
        self._owed_at = 0.0  # when that is tried again
        self._unsure = False  # whether a token may have been revoked that is still in use
        self._draining = False
        self._ticker: asyncio.TimerHandle | None = None
        about = {"node": node, "worker": worker, "workers": workers, "boot": BOOT}
        self._report = Report(f"{BOOT}-{worker}", about, state, self.dynos, clock)
        self._settled = clock.monotonic()
        self._sessions_total = 0
        self._links_total = 0
        self._refusals: Counter[int] = Counter()

    def __repr__(self) -> str:
        return f"<Tunnel sessions={len(self._sessions)} {[dynos for dynos in self._dynos.values() if len(dynos)]}>"

    # ---- the edge's side ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch the clock; call in the running loop."""
        self._ticker = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self.tick()
        self.start()

    def tick(self) -> None:
        """Heartbeats, silences, and how many spare links are wanted."""
        now = self._clock.monotonic()
        for session in list(self._sessions):
            session.tick(now)
            if session.dyno is not None:
                session.dyno.forget_closed_pipes()
                if session.dyno.leaving:
                    self._tell_drained(session)
        settle = now - self._settled >= HEARTBEAT_S
        if settle:
            self._settled = now
        for dynos in self._dynos.values():
            dynos.serve()
            if settle:
                dynos.settle()
        if self._unsure:
            self.refresh()
        if self._owed and now >= self._owed_at:
            self._note_owed()
        self._report.tick(now)

    def dynos(self) -> list[Dynos]:
        """The dynos of every backend."""
        return list(self._dynos.values())

    def use(self, backends: Iterable[Backend]) -> None:
        """These are the backends now."""
        wanted = {backend.name: backend for backend in backends if backend.settings.tunnel}
        for name, backend in wanted.items():
            dynos = self._dynos.get(name)
            if dynos is None:
                dynos = self._dynos[name] = Dynos(
                    backend, self._clock, self._expects(name), self._report.elsewhere, self._ask, self._left
                )
            dynos.attach(backend)
        for name in self._dynos.keys() - wanted.keys():
            del self._dynos[name]
            self._past.pop(name, None)
            self._end([session for session in self._sessions if session.dynos.backend.name == name], "no such backend")

    def _expects(self, backend: str) -> bool:
        """Whether dynos of `backend` were here before this process was."""
        state = self._state()
        try:
            return state is not None and state.backend(backend) is not None and bool(state.releases(backend))
        except StateError as error:
            logger.error("%s; no dynos of %s are expected", error, backend)
            return False

    def refresh(self) -> None:
        """The control state has changed: close what came in by tokens that are not live any more."""
        state = self._state()
        if state is None or not self._sessions:
            return
        try:
            live = state.live_tokens()
        except StateError as error:
            if not self._unsure:
                logger.error("%s; it is not known which tokens are revoked, and asked again", error)
            self._unsure = True
            return
        self._unsure = False
        self._end([session for session in self._sessions if session.token not in live], "its token was revoked")

    @staticmethod
    def _end(sessions: list[Session], reason: str) -> None:
        for session in sessions:
            dyno = session.dyno
            session.send("revoked")
            session.end(reason)
            if dyno is not None:
                dyno.abort()

    def drain(self, seconds: float) -> None:
        """The edge goes down in `seconds`: tell the agents; links that are here can still be used."""
        self._draining = True
        for session in list(self._sessions):
            session.send("drain", deadline_s=seconds)

    def close(self) -> None:
        """End everything."""
        self._draining = True
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        for session in list(self._sessions):
            dyno = session.dyno
            session.end("the edge goes down")
            if dyno is not None:
                dyno.abort()
        self._report.close()

    def statistics(self) -> TunnelStatistics:
        """A snapshot."""
        dynos = [dyno for each in self._dynos.values() for dyno in each]
        return TunnelStatistics(
            sessions=len(self._sessions),
            dynos=len(dynos),
            links=sum(len(dyno.links) + len(dyno.pipes) for dyno in dynos),
            sessions_total=self._sessions_total,
            links_total=self._links_total,
            refusals=MappingProxyType(dict(self._refusals)),
        )

    # ---- handshakes --------------------------------------------------------------------------------------------------

    def answer(self, exchange: Exchange) -> None:
        """Answer `GET /.flyby/tunnel`."""
        connection = exchange.downstream
        try:
            hello = handshake.read(exchange.request, connection.client.address, self.settings.plain)
            self._admit(exchange, connection, hello)
        except Refusal as refusal:
            self._refusals[refusal.status] += 1
            exchange.reply(refusal.status, refusal.detail, refusal.fields)

    def _admit(self, exchange: Exchange, connection: Downstream, hello: Hello) -> None:
        if self._draining:
            raise Refusal(503, "this edge goes down", (b"Retry-After", b"1"))
        token, backend = self._authenticate(hello, connection.client.address)
        exchange.backend_name = backend
        dynos = self._dynos.get(backend)
        if dynos is None:
            raise Refusal(503, "this backend is not served here yet", (b"Retry-After", b"1"))
        if hello.control:
            if sum(session.dynos is dynos for session in self._sessions) >= 2 * self.settings.max_dynos:
                raise Refusal(503, "this backend has as many dynos as are allowed", (b"Retry-After", b"30"))
            transport, ahead = self._switch(exchange, connection)
            address, clock = connection.client.address, self._clock
            session = Session(self, transport, dynos, hello.key, token, hello.digest, address, clock)
            self._sessions.append(session)
            self._sessions_total += 1
            transport.set_protocol(session)
            if ahead:
                session.data_received(ahead)
            return
        dyno = dynos.get(hello.key)
        if dyno is None or not any(s.dyno is dyno and s.token == token and not s.closed for s in self._sessions):
            raise Refusal(409, "this dyno has no control connection here")
        if len(dyno.links) >= min(self.settings.max_links, dyno.register.capacity + 2 * dyno.spare):
            raise Refusal(503, "this dyno has as many links as are allowed", (b"Retry-After", b"5"))
        transport, ahead = self._switch(exchange, connection)
        if ahead:
            # Nobody has asked it for anything.
            transport.abort()
            return
        self._links_total += 1
        dynos.add_link(dyno, transport)

    def _authenticate(self, hello: Hello, address: str) -> tuple[str, str]:
        """The ids of the token and of its backend."""
        now = self._clock.monotonic()
        wait_s = self._attempts.wait_s(address, now)
        if wait_s and not any(session.digest == hello.digest for session in self._sessions):
            raise handshake.wrong_token(wait_s)
        state = self._state()
        if state is None:
            raise Refusal(503, "this edge knows no backends that dynos may dial in for", (b"Retry-After", b"5"))
        try:
            record = state.authenticate(hello.token)
        except StateError as error:
            logger.error("%s; an agent is sent away", error)
            raise Refusal(503, "the control state cannot be read", (b"Retry-After", b"1")) from error
        if record is None:
            self._attempts.failed(address, now)
            logger.warning("a wrong token from %s", address or "a local socket")
            raise handshake.wrong_token(0)
        return record.id, record.backend

    def _switch(self, exchange: Exchange, connection: Downstream) -> tuple[asyncio.Transport, bytes]:
        exchange.note(Outcome.LOCAL, None, 101)
        now = self._clock.wall_ms() // 1000
        fields = handshake.switched(self._worker, self._workers, self._node, BOOT, format_http_date(now))
        transport, ahead = connection.detach(101, REASONS[101], fields)
        handshake.watch(transport)
        return transport, ahead

    # ---- news from the sessions --------------------------------------------------------------------------------------

    def register(self, session: Session, message: Register) -> None:
        """A session's first message."""
        dynos = session.dynos
        known = dynos.get(session.key)
        reason = ""
        if message.protocol != PROTOCOL:
            reason = f"protocol {PROTOCOL} is spoken here"
        elif known is None and len(dynos) >= self.settings.max_dynos:
            reason = f"there are {len(dynos)} dynos of {dynos.backend.name} already"
        if reason:
            session.send("refused", reason=reason)
            session.end(reason)
            return
        for older in [other for other in self._sessions if known is not None and other.dyno is known]:
            older.dyno = None
            older.send("replaced")
            older.end("another control connection of its dyno took its place")
        session.dyno = dyno = dynos.join(session.key, message)
        self._report.changed()
        session.send(
            "registered",
            node=self._node,
            worker=self._worker,
            workers=self._workers,
            heartbeat_s=round(HEARTBEAT_S),
            spare=dyno.spare,
        )
        logger.info(
            "%s: dyno %s of release %s is here from %s: agent %s, region %s, capacity %d, %s",
            dynos.backend.name,
            dyno.name,
            printable(message.release.id),
            session.address,
            printable(message.agent),
            printable(message.region),
            message.capacity,
            "ready" if message.ready else "not ready",
        )
        self._note_release(session, dyno)
        if self._draining:
            session.send("drain", deadline_s=0)

    def told(self, session: Session, report: Ping) -> None:
        """A ping or a pong."""
        dyno = session.dyno
        if dyno is not None:
            dyno.reported = report
            if report.ready is not None:
                self.ready(session, report.ready)

    def ready(self, session: Session, ready: bool) -> None:
        """The app takes requests, or takes none."""
        dyno = session.dyno
        if dyno is None or dyno.leaving or dyno.ready == ready:
            return
        session.dynos.set_ready(dyno, ready)
        self._report.changed()
        logger.info("%s: dyno %s is %s", session.dynos.backend.name, dyno.name, "ready" if ready else "not ready")
        self._note_release(session, dyno)

    def leave(self, session: Session) -> None:
        """The dyno drains."""
        dyno = session.dyno
        if dyno is not None and not dyno.leaving:
            logger.info("%s: dyno %s drains, %d in flight", session.dynos.backend.name, dyno.name, dyno.in_flight)
            self._remove(session.dynos, dyno)
            self._tell_drained(session)

    def _left(self, dyno: Dyno) -> None:
        """A dyno that takes no more requests has ended one."""
        for session in self._sessions:
            if session.dyno is dyno:
                self._tell_drained(session)

    def _tell_drained(self, session: Session) -> None:
        if session.dyno is not None and not session.dyno.in_flight and not session.drained:
            session.drained = True
            session.send("drained", in_flight=0)

    def ended(self, session: Session, reason: str, lost: bool) -> None:
        """A session is over, and its dyno with it."""
        self._sessions.remove(session)
        name = session.dynos.backend.name
        dyno = session.dyno
        if dyno is None:
            logger.info("%s: control connection from %s closed: %s", name, session.address, reason)
            return
        log = logger.info if dyno.leaving else logger.warning
        log("%s: dyno %s has gone, %d in flight: %s", name, dyno.name, dyno.in_flight, reason)
        if not dyno.leaving:
            self._remove(session.dynos, dyno)
        if lost:
            dyno.abort()

    def _remove(self, dynos: Dynos, dyno: Dyno) -> None:
        dynos.remove(dyno)
        self._report.changed()
        past = self._past.setdefault(dynos.backend.name, set())
        if dyno.register.release.id and len(past) < MOST_PAST:
            past.add(dyno.register.release.id)
        self._retire(dynos)

    def _ask(self, dyno: Dyno) -> None:
        for session in self._sessions:
            if session.dyno is dyno:
                session.send("spare", links=dyno.spare)

    # ---- releases ----------------------------------------------------------------------------------------------------

    def _retire(self, dynos: Dynos) -> None:
        """Tell of the releases that have left, once another one takes requests: what the last dynos of an old release
        made while the new one came up, and what a release made that was rolled back."""
        past = self._past.get(dynos.backend.name)
        if past:
            past.difference_update(dyno.register.release.id for dyno in dynos)
            if past and any(dyno.ready and dyno.register.release.id for dyno in dynos):
                self._retired(dynos.backend.name, sorted(past))
                past.clear()

    def _note_release(self, session: Session, dyno: Dyno, again: bool = False) -> None:
        """Tell the control state of a release when it is first seen, and when its first dyno is ready."""
        self._retire(session.dynos)
        backend, release = session.dynos.backend.name, dyno.register.release
        state = self._state()
        pair = (backend, release.id)
        if not release.id or state is None:
            return
        for seen in (self._noted, self._ready):
            if len(seen) > MOST_NOTED:
                seen.clear()  # the state knows them all
        if pair in self._noted and (pair in self._ready or not dyno.ready):
            return
        if self._owed:
            # It did not take the last one: all wait for the next try, and the loop stands still for one only.
            if session not in self._owed:
                self._owed.append(session)
            return
        try:
            if pair not in self._noted:
                if state.record_release(backend, release.id, description=release.description, branch=release.branch):
                    logger.info("%s: release %s is new", backend, printable(release.id))
                self._noted.add(pair)
            if dyno.ready and pair not in self._ready:
                if state.release_ready(backend, release.id):
                    self._released(backend, release.id)
                self._ready.add(pair)
        except StateError as error:
            level = logging.DEBUG if again else logging.ERROR
            logger.log(level, "%s; release %s of %s is not recorded yet", error, printable(release.id), backend)
            self._owed.append(session)
            self._owed_at = self._clock.monotonic() + OWED_S

    def _note_owed(self) -> None:
        """Try again what the state did not take; a failure ends the round, since each try may wait."""
        owed, self._owed = self._owed, []
        while owed and not self._owed:
            session = owed.pop()
            if session.dyno is not None and not session.closed:
                self._note_release(session, session.dyno, again=True)
        self._owed += owed
