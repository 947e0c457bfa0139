"""A scripted edge, a scripted app and an agent between them; everything ends with its test."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from flyby_agent import trust
from tests.agent.dyno import AgentProcess, FakeApp, FakeProxy, Script, answer
from tests.agent.edge import FakeEdge, Side


def certificates(directory: Path) -> tuple[ssl.SSLContext, str, bytes]:
    """A server's context, the file of its authority, and its pin."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1", "edge.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
    return context, str(directory / "ca.pem"), trust.pin_of(der)


class Stage:
    """Builds what a test asks for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def edge(self, **settings: Any) -> FakeEdge:
        edge = FakeEdge(**settings)
        self._stack.callback(edge.stop)
        return edge

    def app(self, script: Script | None = None, port: int = 0) -> FakeApp:
        app = FakeApp(script or answer(), port)
        self._stack.callback(app.stop)
        return app

    def proxy(self, port: int, answer: bytes = FakeProxy.OPENED) -> FakeProxy:
        proxy = FakeProxy(port, answer)
        self._stack.callback(proxy.stop)
        return proxy

    def agent(
        self,
        edge: FakeEdge | str,
        app: FakeApp | int,
        *arguments: str,
        token: str = "fly_test_secret",
        **variables: str,
    ) -> AgentProcess:
        environment = {
            "FLY_TOKEN": token,
            "FLY_REMOTE_ENDPOINT": edge if isinstance(edge, str) else edge.url,
            "FLY_PORT": str(app if isinstance(app, int) else app.port),
            "FLY_LOG_LEVEL": "debug",
            **variables,
        }
        agent = AgentProcess(*arguments, environment=environment)
        self._stack.callback(agent.stop)
        return agent


@pytest.fixture
def stage() -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(stack)


class Line:
    """One running agent for all tests of a module: an idle link and a script of the app's for each."""

    def __init__(self, edge: FakeEdge, app: FakeApp, agent: AgentProcess) -> None:
        self.edge, self.app, self.agent = edge, app, agent

    def link(self, script: Script) -> Side:
        self.app.script = script
        self.app.requests.clear()
        self.edge.taken.clear()
        return self.edge.take()


@pytest.fixture(scope="module", params=["plain", "tls"])
def line(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    with ExitStack() as stack:
        stage = Stage(stack)
        app = stage.app()
        if request.param == "tls":
            context, authority, _ = certificates(tmp_path_factory.mktemp("tls"))
            edge = stage.edge(tls=context)
            agent = stage.agent(edge, app, "--ca-file", authority)
        else:
            edge = stage.edge()
            agent = stage.agent(edge, app)
        edge.wait_idle(2)
        yield Line(edge, app, agent)


LinkTo = Callable[[Script], Side]


@pytest.fixture
def link_to(line: Line) -> LinkTo:
    return line.link
