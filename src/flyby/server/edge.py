"""`Edge`: the composition root. It makes the long-lived objects, joins them, and takes them down again.

It runs in whatever asyncio loop it is entered in: no signals, no fork, no logging set-up, no loop policy. A worker
process is a thin wrapper over it; a program that embeds flyby uses it as it is:

    async with Edge(Config(backends={"app": Backend(origins=["http://127.0.0.1:5000"])})) as edge:
        print(edge.addresses)
        await edge.serve_forever()
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from flyby.clock import Clock, SystemClock
from flyby.config import Config, Route
from flyby.config.rules import refuse_to_empty
from flyby.control import State
from flyby.errors import ConfigError, FlybyError, Problem, StoreError, WireError
from flyby.heroku import BUILDPACK_PATH, Download
from flyby.log import AccessLog, AccessRecord, Guarded
from flyby.metrics import Metrics, MetricsSnapshot, Pages, route_name
from flyby.proxy.decision.decide import decide
from flyby.proxy.fetching.early import EarlyShare
from flyby.proxy.fetching.pressure import Pressure
from flyby.proxy.http1.connection import Connection
from flyby.proxy.http1.connections import Connections
from flyby.proxy.lane._lane import Lane
from flyby.proxy.road._exchange import Exchange
from flyby.proxy.road.context import Context, Local, Seams, cache_rules
from flyby.proxy.routing.router import Router
from flyby.server.cache import open_store
from flyby.server.descriptors import most_connections, most_to_an_origin
from flyby.server.lane import use_lane
from flyby.server.listeners import BACKLOG, Listener, open_listeners
from flyby.server.proxied import ProxiedServer, serve_proxied
from flyby.server.tls import SHUTDOWN_S, Certificates, TLSStatistics
from flyby.server.watch import LOOK_S, Watch, joined, previews
from flyby.store import Partials, Store, StoreStatistics
from flyby.tunnel import TUNNEL_PATH, Tunnel, TunnelStatistics, printable
from flyby.upstream import RELEASE_LENGTH, Backend, BackendStatistics
from flyby.wire import RequestHead
from flyby.wire.forwarded import Trusted
from flyby_agent.archive import zipapp

logger = logging.getLogger("flyby.edge")


@dataclass(frozen=True, slots=True)
class EdgeStatistics:
    """A snapshot of one edge."""

    connections: int
    connections_total: int
    connections_turned_away: int  # for want of room, see `server.limits.connections`
    buffered: int
    requests: MetricsSnapshot
    store: StoreStatistics | None
    backends: dict[str, BackendStatistics]
    tunnel: TunnelStatistics | None
    tls: TLSStatistics


class Edge:
    """A caching reverse proxy in the running loop; see the module's text.

    `store`, `sockets` and `certificates` are what a supervisor made before it forked; without them the edge makes its
    own. `access_log` is called with an `AccessRecord` of each finished request; what it raises is logged and changes
    nothing. `state` is an open control state, which stays the caller's; without it, the one in `server.state` is
    watched, and used as soon as it is there. It counts in `metrics`, or in shared memory of its own.

    Raises `ConfigError` on a configuration that cannot be used, `StoreError` when there is no memory to count in, and
    from `start` `StoreError` when the cache cannot be made, `BindError` when an address cannot be bound. An edge has
    one life: started twice, or after its drain, it raises `FlybyError`.
    """

    def __init__(
        self,
        config: Config,
        *,
        store: Store | None = None,
        sockets: Sequence[socket.socket] | None = None,
        certificates: Certificates | None = None,
        state: State | None = None,
        clock: Clock | None = None,
        worker: int = 0,
        access_log: AccessLog | Callable[[AccessRecord], None] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._config = _sound(config, certificates=certificates is None)
        self._certificates = certificates if certificates is not None else Certificates(config.server.tls)
        self._store = store
        self._owns_store = store is None
        self._sockets: Sequence[socket.socket] | None = sockets
        self._clock = clock or SystemClock()
        self._worker = worker
        self._access_log: AccessLog | Guarded | None
        if access_log is None or isinstance(access_log, AccessLog):
            self._access_log = access_log
        else:
            self._access_log = Guarded(access_log)
        self._begun = False
        self._metrics = metrics if metrics is not None else Pages().of(0)
        directory = config.server.state
        self._watch = Watch(Path(directory) if directory is not None else None, state, self._clock)
        self._known: dict[str, str] = {}  # the ids of the state's backends, as last taken up
        self._looking: asyncio.TimerHandle | None = None
        self._taking: asyncio.Task[None] | None = None
        self._switching = asyncio.Lock()
        self._servers: list[asyncio.Server | ProxiedServer] = []
        self._context: Context | None = None
        self._connections: Connections | None = None
        self._buildpack = Download(zipapp)
        self._lane = Lane()
        self._packing = False  # `_pack` will be called
        self._pressure = Pressure()
        self.tunnel: Tunnel | None = None  # once it has started
        self.addresses: list[tuple[str, int]] = []

    def __repr__(self) -> str:
        return f"<Edge {self.addresses} {self._connections!r}>"

    @property
    def state(self) -> State | None:
        """The control state, or None while there is none."""
        return self._watch.state

    async def __aenter__(self) -> Edge:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain(self._config.server.timeouts.drain_s if error is None else 0)

    async def start(self) -> None:
        """Make what is needed and begin to listen. What was made is given back when it raises."""
        if self._begun:
            raise FlybyError("an edge is started once: make a new Edge")
        self._begun = True
        given = self._sockets
        try:
            await self._start()
        except BaseException:
            await self.drain(0)
            for sock in self._sockets or () if given is None else ():
                sock.close()
            raise

    async def _start(self) -> None:
        if self._store is None:
            self._store = open_store(self._config.cache)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._store.fileno(), self._store.dispatch)
        self._store.on_work(self._pack_soon)
        self._watch.look()
        self.tunnel = Tunnel(
            self._config.server.tunnel,
            state=lambda: self.state,
            clock=self._clock,
            node=self._config.server.tunnel.node or socket.gethostname(),
            worker=self._worker,
            workers=self._store.workers,
            released=self._released,
            retired=self._purge_releases,
        )
        self.tunnel.start()
        self._context, self._known = await self._make_context(self._config, {})
        self._tell_tunnel(self._context)
        server = self._config.server
        self._connections = Connections(
            server.limits,
            server.timeouts,
            self._clock,
            self._exchange,
            self._refused,
            most_connections(server),
            self._lane,
            self._metrics,
            Trusted.of(server.trusted_proxies),
        )
        self._use_lane(self._context)
        self._connections.start()
        if self._sockets is None:
            self._sockets = open_listeners(server.listen, 1).of_worker(0)
        for sock in self._sockets:
            secure = isinstance(sock, Listener) and sock.secure
            if isinstance(sock, Listener) and sock.proxy_protocol:
                context = self._certificates.context if secure else None
                self._servers.append(serve_proxied(sock, self._connections, context))
            else:
                self._servers.append(await self._serve(sock, secure))
            self.addresses.append(sock.getsockname()[:2])
        self._looking = loop.call_later(LOOK_S, self._look)

    def _pack_soon(self) -> None:
        """Objects have proved worth packing: a slice of the work is done in each turn of the loop."""
        if not self._packing:
            self._packing = True
            asyncio.get_running_loop().call_soon(self._pack)

    def _pack(self) -> None:
        self._packing = False
        if self._store is not None and self._store.pack_some():
            self._pack_soon()

    async def _serve(self, sock: socket.socket, secure: bool) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if not secure:
            return await loop.create_server(self._connection, sock=sock, backlog=BACKLOG)
        return await loop.create_server(
            self._secure_connection,
            sock=sock,
            backlog=BACKLOG,
            ssl=self._certificates.context,
            ssl_handshake_timeout=self._config.server.timeouts.handshake_s,
            ssl_shutdown_timeout=SHUTDOWN_S,
        )

    async def _make_context(self, config: Config, kept: dict[str, Backend]) -> tuple[Context, dict[str, str]]:
        """A context, and the ids of the state's backends that it was made of. Changes nothing that is in use."""
        backends: dict[str, Backend] = {}
        known = {record.name: record.id for record in self._watch.records}
        limits, bound = config.server.limits, most_to_an_origin(config)
        try:
            for name, settings in joined(config, self._watch.records).items():
                old = kept.get(name)
                # One that was removed and added anew is another one, however alike.
                if old is not None and old.settings == settings and known.get(name) == self._known.get(name):
                    backends[name] = old
                    continue
                backends[name] = Backend(name, settings, clock=self._clock, limits=limits, bound=bound)
                backends[name].on_pressure(self._pressure.relieve)
                await backends[name].start()
            return self._joined_context(config, backends, known), known
        except BaseException:
            await _close_others(backends, kept)
            raise

    def _joined_context(self, config: Config, backends: dict[str, Backend], known: dict[str, str]) -> Context:
        assert self.tunnel is not None
        router = Router(config, previews(config, self._watch.records))
        owners = {name: f"{name} {id_}".encode() for name, id_ in known.items() if name not in config.backends}
        rules = {
            id(route): cache_rules(config.cache, route.cache, owners.get(next(iter(route.shares), ""), b""))
            for route in router.routes
        }
        purgers = tuple(ipaddress.ip_network(text, strict=False) for text in config.server.purge.allow)
        access_log = self._access_log if config.server.log != "off" else None
        log = access_log.write if isinstance(access_log, AccessLog) else access_log
        return Context(
            config,
            router,
            backends,
            rules,
            self._store,
            self._clock,
            self._metrics,
            log,
            decide,
            EarlyShare(backends),
            self._pressure,
            local=Local(answers={TUNNEL_PATH: self.tunnel.answer, BUILDPACK_PATH: self._buildpack.answer}),
            purgers=purgers,
            seams={id(route): seams for route in router.routes if (seams := self._seams(route)) is not None},
            counted={id(route): self._metrics.route(route_name(route)) for route in router.routes},
            trusted=Trusted.of(config.server.trusted_proxies),
        )

    def _seams(self, route: Route) -> Seams | None:
        """What a route has of its own in the road; the configuration has no words for it, so none has anything."""
        return None

    def _tell_tunnel(self, context: Context) -> None:
        assert self.tunnel is not None
        self.tunnel.settings = context.config.server.tunnel
        self.tunnel.use(context.backends.values())

    def _released(self, backend: str, release: str) -> None:
        """The first dyno of a release is ready."""
        logger.info("%s: release %s takes requests", backend, printable(release))
        if self.state is not None:
            known = {record.id for record in self.state.releases(backend)}
            self._purge_releases(backend, known - {release[:RELEASE_LENGTH]} | {""})

    def _purge_releases(self, backend: str, releases: Collection[str]) -> None:
        """Purge what these releases have made, where the backend wants that."""
        context = self._context
        if context is None or context.store is None or backend not in context.backends:
            return
        served = context.backends[backend]
        tags = [tag for release in releases for tag in served.release_tags(release)]
        if not tags:
            return
        soft = served.settings.purge_on_release == "soft"
        try:
            purged = sum(context.store.purge_tags(tags, soft, self._clock.wall_ms()))
        except StoreError as error:
            logger.error("%s: what other releases have made is not purged: %s", backend, error)
            return
        logger.info("%s: purged %d responses of other releases (%s)", backend, purged, "soft" if soft else "hard")

    def _use_lane(self, context: Context) -> None:
        """Let the fast lane answer by this configuration."""
        use_lane(self._lane, context, self._access_log if context.config.server.log != "off" else None)

    def _connection(self) -> Connection:
        assert self._connections is not None
        return Connection(self._connections, b"http")

    def _secure_connection(self) -> Connection:
        assert self._connections is not None
        return Connection(self._connections, b"https")

    def _exchange(self, connection: Connection, request: RequestHead) -> Exchange:
        assert self._context is not None
        return Exchange(self._context, connection, request)

    def _refused(self, connection: Connection, error: WireError) -> None:
        self._metrics.refuse(error.reason)

    async def reload(self, config: Config) -> None:
        """Go over to `config` without dropping a connection: requests under way end as they began.

        Addresses, workers and the cache's size are fixed at the start; certificates are read again. Raises
        `ConfigError` when the new one cannot be used, also when it would leave no backend and no route. Whatever it
        raises, the old configuration stays as a whole. `FlybyError`: the edge is not running.
        """
        _sound(config, certificates=False)
        async with self._switching:
            if self._context is None:
                raise FlybyError("the edge is not running")
            refuse_to_empty(self._config, config)
            await self._switch(config, self._certificates)

    async def _switch(self, config: Config, certificates: Certificates | None = None) -> None:
        """Put a context of `config` and of what is known of the state in the place of the one in use, all or nothing.

        `certificates` are read again, if given.
        """
        old, connections = self._context, self._connections
        if old is None or connections is None:
            return  # drained meanwhile
        new, known = await self._make_context(config, old.backends)
        try:
            if self._context is not old:
                raise FlybyError("the edge was drained meanwhile")
            self._use_lane(new)
            if certificates is not None:
                certificates.use(config.server.tls)
        except BaseException:
            if self._context is old:
                self._use_lane(old)
            await _close_others(new.backends, old.backends)
            raise
        self._config, self._context, self._known = config, new, known
        connections.limits = config.server.limits
        connections.timeouts = config.server.timeouts
        connections.most = most_connections(config.server)
        connections.trusted = new.trusted
        self._tell_tunnel(new)
        new.spawn(_close_others(old.backends, new.backends))

    def _look(self) -> None:
        """Take up what has changed in the control state."""
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(LOOK_S, self._look)
        known = self._watch.records
        if not self._watch.look():
            return
        if self.tunnel is not None:
            self.tunnel.refresh()
        if self._watch.records != known:
            self._taking = loop.create_task(self._take_backends())

    async def _take_backends(self) -> None:
        async with self._switching:
            try:
                await self._switch(self._config)
            except Exception as error:
                logger.error("the backends of the control state are not usable, those before stay: %s", error)

    async def drain(self, timeout: float) -> None:
        """Stop listening, let responses finish for at most `timeout` seconds, close."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
        if self.tunnel is not None:
            self.tunnel.drain(timeout)
        if self._connections is not None:
            broken = await self._connections.drain(timeout)
            if broken:
                logger.warning("%d connections were broken off at the end of the drain", broken)
            self._connections = None
        if self.tunnel is not None:
            self.tunnel.close()
        if self._context is not None:
            for task in list(self._context.tasks):
                task.cancel()
            for backend in self._context.backends.values():
                await backend.close()
            self._context = None
        self._watch.close()
        if self._store is not None:
            asyncio.get_running_loop().remove_reader(self._store.fileno())
            self._store.on_work(None)
            if self._owns_store:
                self._store.close()
            self._store = None

    async def serve_forever(self) -> None:
        """Wait until the surrounding task is cancelled."""
        await asyncio.get_running_loop().create_future()

    @property
    def _open_store(self) -> Store:
        if self._store is None:
            raise StoreError("the edge is not running")
        return self._store

    def purge_all(self, soft: bool = False) -> int:
        """Empty the cache, or make all of it stale; returns how many objects that were. Raises `StoreError` when the
        edge is not running."""
        return self._open_store.clear(soft, self._clock.wall_ms())

    def purge_tag(self, tag: bytes | str, soft: bool = False) -> int:
        """Purge the responses that bear a tag; returns how many. Raises `StoreError` when the edge is not running."""
        named = tag.encode() if isinstance(tag, str) else tag
        return self._open_store.purge_tag(named, soft, self._clock.wall_ms())

    def partials(self, namespace: bytes | str) -> Partials:
        """A space in the cache for the program's own bytes. Raises `StoreError` when the edge is not running."""
        return Partials(self._open_store, namespace, clock=self._clock)

    def statistics(self) -> EdgeStatistics:
        """What this edge has done and holds."""
        connections = self._connections
        backends = self._context.backends if self._context is not None else {}
        return EdgeStatistics(
            connections=len(connections) if connections is not None else 0,
            connections_total=connections.total if connections is not None else 0,
            connections_turned_away=connections.turned_away if connections is not None else 0,
            buffered=connections.buffered if connections is not None else 0,
            requests=self._metrics.snapshot(),
            store=self._store.statistics() if self._store is not None else None,
            backends={name: backend.statistics() for name, backend in backends.items()},
            tunnel=self.tunnel.statistics() if self.tunnel is not None else None,
            tls=self._certificates.handshakes.snapshot(),
        )


def _sound(config: object, *, certificates: bool) -> Config:
    """The configuration; `ConfigError` says everything that is wrong with it."""
    if not isinstance(config, Config):
        hint = "make a Config, or read one with Config.load"
        raise ConfigError([Problem("", 0, 0, f"a Config is expected, got {type(config).__name__}", hint)])
    problems = config.problems(certificates=certificates)
    if problems:
        raise ConfigError(problems)
    return config


async def _close_others(backends: dict[str, Backend], kept: dict[str, Backend]) -> None:
    """Close the backends that are not among `kept`."""
    for name, backend in backends.items():
        if kept.get(name) is not backend:
            await backend.close()
