"""File descriptors: how many there are, and how many of them clients may have.

A client costs one, and its request another one towards an origin or a dyno. What is taken by clients without a bound
leaves none for these, and then every request fails. So clients get three quarters, and the rest is for the work.
"""

from __future__ import annotations

import resource

from flyby.config import Config, Server

OWN = 64  # what a worker needs beside connections: listeners, log, state, the loop


def raise_limit() -> None:
    """The soft limit of 1024 that shells give is soon reached, the hard one is ours to use."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_connections(server: Server) -> int:
    """How many client connections a worker keeps open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return server.limits.connections or (soft * 3 // 4 if soft != resource.RLIM_INFINITY else 1 << 20)


def most_to_an_origin(config: Config) -> int | None:
    """How many connections a worker may open to one origin address: an even share of what its clients leave.

    None where the system sets no limit.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    addresses = sum(len(backend.origins) for backend in config.backends.values())
    return max(1, (soft - most_connections(config.server) - OWN) // max(1, addresses))
