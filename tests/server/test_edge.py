"""The life of an `Edge`, and its reloads: what cannot be used raises at once, and changes nothing."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from flyby import Backend, BindError, Cache, Config, ConfigError, Edge, FlybyError, Route, Server
from flyby.config import Certificate, HeaderRules, Limits, Tunnel
from flyby.proxy.road.context import Context
from tests.certificates import issue

APP = Backend(origins=["http://127.0.0.1:9"])
CONFIG = Config(server=Server(listen=["127.0.0.1:0"]), cache=Cache(size="2MiB"), backends={"app": APP})


def run(play: Callable[[Edge], Awaitable[None]], config: Config = CONFIG) -> None:
    async def main() -> None:
        async with Edge(config) as edge:
            await play(edge)

    asyncio.run(main())


def test_an_edge_is_started_once() -> None:
    async def play(edge: Edge) -> None:
        before = list(edge.addresses)
        with pytest.raises(FlybyError, match="started once"):
            await edge.start()
        assert edge.addresses == before

    run(play)


def test_after_its_drain_an_edge_is_of_no_use() -> None:
    async def play(edge: Edge) -> None:
        await edge.drain(0)
        with pytest.raises(FlybyError, match="started once"):
            await edge.start()
        with pytest.raises(FlybyError, match="not running"):
            await edge.reload(CONFIG)

    run(play)


def test_a_reload_before_the_start_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(FlybyError, match="not running"):
            await Edge(CONFIG).reload(CONFIG)

    asyncio.run(main())


@pytest.mark.parametrize("config", [{}, None, "flyby.toml", Server()])
def test_what_is_no_configuration_is_refused(config: object) -> None:
    with pytest.raises(ConfigError, match="a Config is expected"):
        Edge(config)  # type: ignore[arg-type]

    async def play(edge: Edge) -> None:
        with pytest.raises(ConfigError, match="a Config is expected"):
            await edge.reload(config)  # type: ignore[arg-type]

    run(play)


@pytest.mark.filterwarnings("error")
def test_a_start_that_fails_gives_back_what_it_has_made() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            config = replace(CONFIG, server=Server(listen=[f"127.0.0.1:{taken.getsockname()[1]}"]))
            edge = Edge(config)
            with pytest.raises(BindError):
                await edge.start()
            assert edge.statistics().store is None
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    gc.collect()


def in_use(edge: Edge) -> tuple[object, ...]:
    """All that a reload would change."""
    context, connections = edge._context, edge._connections
    assert context is not None
    assert connections is not None
    assert edge.tunnel is not None
    certificates = edge._certificates
    return (
        edge._config,
        context,
        dict(context.backends),
        connections.limits,
        connections.timeouts,
        edge.tunnel.settings,
        certificates.named(None) if edge._config.server.tls else None,
    )


def changed(**tables: object) -> Config:
    """A configuration that differs in everything."""
    server = replace(CONFIG.server, limits=Limits(fields=7), tunnel=Tunnel(max_dynos=3))
    backends = {"app": replace(APP, connect_s=1), "more": APP}
    return replace(CONFIG, **{"server": server, "backends": backends, "routes": [Route(backend="more")], **tables})


@pytest.mark.parametrize(
    "config",
    [
        changed(routes=[Route(backend="other")]),
        changed(routes=[Route(backend="more", response_headers=HeaderRules(set={"Host": "x"}))]),
        changed(cache=Cache(size="1 KiB")),
        replace(CONFIG, backends={}),
    ],
)
def test_a_configuration_that_is_not_usable_changes_nothing(config: Config) -> None:
    async def play(edge: Edge) -> None:
        before = in_use(edge)
        with pytest.raises(ConfigError):
            await edge.reload(config)
        assert in_use(edge) == before

    run(play)


@pytest.mark.parametrize("where", ["a backend", "the router", "the lane", "a certificate"])
def test_a_reload_that_fails_anywhere_changes_nothing(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = issue(tmp_path, "a", "a.example")
    secure = Server(listen=["https://127.0.0.1:0"], tls=[Certificate(certificate=certificate, key=key)])
    closed: list[str] = []

    async def play(edge: Edge) -> None:
        before = in_use(edge)
        tls = secure.tls
        if where == "a certificate":
            other, _ = issue(tmp_path, "b", "b.example")
            tls = [Certificate(certificate=other, key=key)]  # which is another's
        else:
            fail(where, monkeypatch)
        server = replace(secure, limits=Limits(fields=7), tunnel=Tunnel(max_dynos=3), tls=tls)
        monkeypatch.setattr("flyby.server.edge.Backend.close", noted(closed))
        with pytest.raises(ConfigError if where == "a certificate" else OSError):
            await edge.reload(changed(server=server))
        assert in_use(edge) == before
        assert set(closed) <= {"app", "more"}
        assert ("more" in closed) == (where != "a backend")
        monkeypatch.undo()

    run(play, replace(CONFIG, server=secure))


def fail(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError("out of descriptors")

    names = {"a backend": "flyby.server.edge.Backend.start", "the router": "flyby.server.edge.Router.__init__"}
    if where in names:
        monkeypatch.setattr(names[where], fails)
        return
    use_lane = Edge._use_lane

    def once(edge: Edge, context: Context) -> None:
        if context is not edge._context:
            fails()
        use_lane(edge, context)

    monkeypatch.setattr(Edge, "_use_lane", once)


def noted(closed: list[str]) -> Callable[[object], Awaitable[None]]:
    async def close(backend: object) -> None:
        closed.append(backend.name)  # type: ignore[attr-defined]

    return close


def test_a_reload_of_an_edge_that_never_had_a_backend_may_leave_it_so() -> None:
    async def play(edge: Edge) -> None:
        await edge.reload(replace(CONFIG, backends={}, cache=Cache(size="2MiB", max_variants=3)))

    run(play, replace(CONFIG, backends={}))
