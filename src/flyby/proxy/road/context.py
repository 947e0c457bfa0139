"""What the exchanges of one worker share: the configuration's compiled form and the long-lived objects.

A reload makes a new Context; exchanges that are under way keep the one they began with.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from flyby.clock import Clock
from flyby.config import Cache, Config, RouteCache
from flyby.log import AccessRecord
from flyby.metrics import Metrics
from flyby.policy import CacheRules
from flyby.proxy.road._exchange import Exchange
from flyby.proxy.road.routes import RouteTable
from flyby.store import Store
from flyby.upstream import Backend
from flyby.wire import ResponseHead
from flyby.wire.forwarded import Trusted


class EarlyPlaces(Protocol):
    """How many requests of a backend may go ahead of their content: `fetching.early`."""

    def take(self, backend: str, /) -> bool: ...
    def give_back(self, backend: str, /) -> None: ...


class Watcher(Protocol):
    """What is told of fetches that hold a connection for little: `fetching.pressure`."""

    def watch(self, fetch: Any, /) -> None: ...
    def watch_reader(self, fetch: Any, /) -> None: ...
    def watch_sender(self, fetch: Any, /) -> None: ...


class Seams(Protocol):
    """Where a route has something of its own in the road: `decision.points`."""

    def at_request(self, exchange: Exchange, /) -> bool:
        """Before the lookup; True when the request has its answer."""

    def at_fetch(self, fetch: Any, /) -> bool:
        """Before the origin is asked; True when the request has its answer, and the fetch has ended."""

    def at_response(self, fetch: Any, head: ResponseHead, /) -> tuple[ResponseHead, Any]:
        """Before storing: the head as it goes on, and the sink for its content, or None. The fetch may have ended."""


@dataclass(frozen=True, slots=True)
class Local:
    """What is flyby's own on every host: the paths below `prefix`, and what answers each."""

    prefix: bytes = b"/.flyby/"
    answers: Mapping[bytes, Callable[[Exchange], None]] = field(default_factory=dict)


@dataclass(slots=True)
class Context:
    """Shared by all exchanges that begin under one configuration."""

    config: Config
    router: RouteTable
    backends: dict[str, Backend]
    rules: dict[int, CacheRules]
    store: Store | None
    clock: Clock
    metrics: Metrics
    log: Callable[[AccessRecord], None] | None
    decide: Callable[[Exchange], None]
    early: EarlyPlaces
    pressure: Watcher
    counted: Mapping[int, int] = field(default_factory=dict)  # the row of each route in `metrics`, by id as in `rules`
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    local: Local = field(default_factory=Local)
    purgers: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    seams: Mapping[int, Seams] = field(default_factory=dict)  # by the id of the route, for the routes that have some
    trusted: Trusted = field(default_factory=Trusted)
    refused_forms: set[str] = field(default_factory=set)  # backends of which the log has said so

    def spawn(self, story: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `story` in the background, held until it ends."""
        task = asyncio.get_running_loop().create_task(story)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


def cache_rules(cache: Cache, route: RouteCache, owner: bytes = b"") -> CacheRules:
    """The rules of one route: the profile's, less or more what the route says. `owner` is `CacheRules.owner`."""
    return CacheRules.compile(
        profile=cache.profile,
        targeted=cache.targeted,
        ttl_s=route.ttl_s,
        query_allow=route.query_allow,
        query_deny=route.query_deny,
        ignore_cookies=route.ignore_cookies,
        keep_cookies=route.keep_cookies,
        vary_allow=route.vary_allow,
        max_variants=cache.max_variants,
        strip_tags=cache.strip_tags,
        owner=owner,
        set_cookie=route.set_cookie,
        guess_s=cache.guess_s,
        hit_for_miss_s=cache.hit_for_miss_s,
    )
