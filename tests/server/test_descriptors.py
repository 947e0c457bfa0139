"""What clients and origins may have of the descriptors that there are."""

import resource

import pytest

from flyby.config import Backend, Config, Limits, Server
from flyby.server.descriptors import OWN, most_connections, most_to_an_origin


def config(origins: int, connections: int | None = None) -> Config:
    urls = [f"http://127.0.0.1:{5000 + number}" for number in range(origins)]
    limits = Limits() if connections is None else Limits(connections=connections)
    return Config(server=Server(limits=limits), backends={"app": Backend(origins=urls, tunnel=True)})


@pytest.mark.parametrize(
    ("soft", "origins", "connections", "clients", "each"),
    [
        (1024, 1, None, 768, 256 - OWN),
        (1024, 2, None, 768, (256 - OWN) // 2),
        (1024, 0, None, 768, 256 - OWN),
        (1024, 1, 100, 100, 924 - OWN),
        (1024, 1, 1020, 1020, 1),
        (resource.RLIM_INFINITY, 1, None, 1 << 20, None),
    ],
)
def test_clients_and_origins_share(
    monkeypatch: pytest.MonkeyPatch, soft: int, origins: int, connections: int | None, clients: int, each: int | None
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, soft))
    assert most_connections(config(origins, connections).server) == clients
    assert most_to_an_origin(config(origins, connections)) == each
