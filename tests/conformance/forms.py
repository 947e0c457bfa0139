"""The forms in which flyby is put between the suite's client and its origin, and flyby started in one of them.

The hardest form is what a busy site has: several workers that share one cache, TLS, and an origin that is reached
through an agent. What holds there and not in a plainer form, or the other way round, is a fault of the road between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from flyby.control import State
from tests.agent.dyno import AgentProcess
from tests.certificates import authority, issue
from tests.edge import served

WORKERS = (1, 2, 4)

CONFIG = """\
[backends.app]
tunnel = true

[[routes]]
backend = "app"
"""


@dataclass(frozen=True)
class Form:
    """One way to stand between."""

    profile: str
    workers: int
    secure: bool  # TLS to the client
    tunnel: bool  # to the origin through an agent, over TLS as well where the clients have it

    def __str__(self) -> str:
        workers = f"{self.workers} worker{'s' * (self.workers > 1)}"
        return ", ".join(
            [
                f"profile {self.profile}",
                workers,
                "TLS" if self.secure else "plain",
                "through the tunnel" if self.tunnel else "direct",
            ]
        )


def forms(
    profiles: Sequence[str], workers: Sequence[int], secure: Sequence[bool], tunnel: Sequence[bool]
) -> list[Form]:
    """Every form of these, the hardest last."""
    return [Form(*each) for each in product(profiles, sorted(workers), sorted(secure), sorted(tunnel))]


@dataclass(frozen=True)
class Proxy:
    """Where the suite's client finds flyby, and a file of what it must trust."""

    url: str
    authority: str | None


@contextmanager
def standing(form: Form, origin: int) -> Iterator[Proxy]:
    """flyby in this form, in front of what listens on port `origin` here."""
    with TemporaryDirectory(prefix="flyby-conformance-") as name:
        directory = Path(name)
        options = ["--profile", form.profile, "--log", "off"]
        trusted = directory / "authority.pem"
        if form.secure:
            certificate, key = issue(directory, "edge", "127.0.0.1")
            options += ["--tls-cert", certificate, "--tls-key", key]
            authority().cert_pem.write_to_path(str(trusted))
        scheme = "https" if form.secure else "http"
        if not form.tunnel:
            options += ["--origin", f"http://127.0.0.1:{origin}"]
            with served(*options, workers=form.workers, secure=form.secure) as edge:
                yield Proxy(f"{scheme}://127.0.0.1:{edge.port}", str(trusted) if form.secure else None)
            return
        with State.open(directory / "state") as state:
            _, token = state.add_backend("app")
        options += ["--state", str(directory / "state")]
        with served(*options, config=CONFIG, workers=form.workers, secure=form.secure) as edge:
            url = f"{scheme}://127.0.0.1:{edge.port}"
            with _agent(url, token, origin, form.workers, str(trusted) if form.secure else ""):
                yield Proxy(url, str(trusted) if form.secure else None)


@contextmanager
def _agent(edge: str, token: str, origin: int, workers: int, trusted: str) -> Iterator[None]:
    """An agent that every worker of the edge knows."""
    environment = {"FLY_TOKEN": token, "FLY_REMOTE_ENDPOINT": edge, "FLY_PORT": str(origin), "FLY_CA_FILE": trusted}
    agent = AgentProcess(environment=environment)
    try:
        for worker in range(workers):
            agent.wait_for(f"worker {worker} of {workers}")
        yield
    finally:
        agent.stop()
