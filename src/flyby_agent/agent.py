"""The agent as a whole: the app, the nodes, and its end.

    start   checks of the app begin, every endpoint is resolved, every address gets a Node
    ready   the app accepts: control connections say so, nodes dial links
    drain   SIGTERM: `drain` to every worker at once, requests that crossed it are refused (another dyno has them), what
            is in flight ends; over when every worker answered `drained` and nothing is in flight, or after
            `drain_s` seconds

On Heroku SIGTERM reaches every process of a dyno at once, so the app is stopping too while the agent drains, and
SIGKILL follows after 30 s: the agent is gone before 25.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine
from typing import Any, Callable

from flyby_agent import __version__, log, trust
from flyby_agent.app import App
from flyby_agent.endpoints import RESOLVE_S, Address, resolve
from flyby_agent.faults import reason
from flyby_agent.health import Health, Verdict
from flyby_agent.node import Node
from flyby_agent.settings import Settings

FAREWELL_S = 1.0  # for the last bytes of what was closed


class Agent:
    """Everything of one agent process but its command line."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings) -> None:
        self.loop = loop
        self.settings = settings
        self.token = settings.token
        self.pins = settings.pins
        self.capacity = settings.capacity
        self.dyno_id = os.urandom(16).hex()
        self.tls = None
        if any(endpoint.scheme == "https" for endpoint in settings.endpoints):
            self.tls = trust.context(settings.ca_file, settings.insecure)
        self.app = App(loop, settings.local, settings.local_path, settings.keep_s)
        self.health = Health(loop, self.app, settings.health_path, self._ready, Verdict(settings.rise, settings.fall))
        self.app.on_refused = self.health.check_soon
        self.app.on_idle = self.settled
        self.nodes: dict[Address, Node] = {}
        self.draining = False
        self._owners: dict[tuple[str, str], Node] = {}
        self._tasks: dict[Any, asyncio.Task[None]] = {}
        self._settled = asyncio.Event()
        self._started = time.monotonic()
        self._unresolved: dict[str, str] = {}

    def start(self) -> None:
        log.info(
            f"agent {__version__} for the app on {self.app.name}, edge {', '.join(map(str, self.settings.endpoints))}"
        )
        self._begin("health", self.health.run)
        self._begin("resolve", self._resolve)

    def _begin(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run it until the end; should it fail, which it never should, say so and begin again."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and not self.draining:
                log.error(f"{name}: {task.exception()!r}")
                self.loop.call_later(1.0, self._begin, name, work)

        if not self.draining:
            self._tasks[name] = self.loop.create_task(work())
            self._tasks[name].add_done_callback(ended)

    async def _resolve(self) -> None:
        """Nodes follow the addresses of the endpoints."""
        while True:
            for endpoint in self.settings.endpoints:
                try:
                    addresses = await resolve(self.loop, endpoint)
                except OSError as error:
                    what = "the proxy " if endpoint.proxy is not None else ""
                    text = f"{endpoint}: {what}{endpoint.dialled[0]} has no address: {reason(error)}"
                    if self._unresolved.get(str(endpoint)) != text:
                        log.warning(text)
                    self._unresolved[str(endpoint)] = text
                    continue  # what was known stays
                self._unresolved.pop(str(endpoint), None)
                for address, node in self.nodes.items():
                    if address.endpoint == endpoint:
                        node.listed = address in addresses
                        node.wake()
                for address in addresses:
                    if address not in self.nodes:
                        self._add(address)
            await asyncio.sleep(RESOLVE_S if not self._unresolved or self.nodes else 2.0)

    def _add(self, address: Address) -> None:
        node = self.nodes[address] = Node(self, address)
        task = self._tasks[address] = self.loop.create_task(node.run())
        task.add_done_callback(lambda task: self._gone(address, task))

    def _gone(self, address: Address, task: asyncio.Task[None]) -> None:
        self.nodes.pop(address, None)
        self._tasks.pop(address, None)
        if not task.cancelled() and task.exception() is not None:
            log.error(f"{address}: {task.exception()!r}")
            if not self.draining:
                self.loop.call_later(1.0, self._again, address)

    def _again(self, address: Address) -> None:
        if address not in self.nodes and not self.draining:
            self._add(address)

    def owns(self, node: Node, name: str, boot: str) -> bool:
        """Whether this address is the one by which the node of this name and boot is served."""
        if not name or not boot:
            return True
        owner = self._owners.get((name, boot))
        if owner is not None and owner is not node and (owner.name, owner.boot) == (name, boot) and owner.workers:
            return False
        for key in [key for key, each in self._owners.items() if each is node]:
            del self._owners[key]
        self._owners[name, boot] = node
        return True

    def registration(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "type": "register",
            "protocol": 1,
            "agent": __version__,
            "dyno": settings.dyno,
            "process": settings.process,
            "release": settings.release,
            "region": settings.region,
            "capacity": settings.capacity,
            "ready": self.app.ready,
        }

    def load(self) -> dict[str, Any]:
        app = self.app
        return {"in_flight": app.in_flight, "latency_ms": round(app.latency_s * 1000, 2), "ready": app.ready}

    def _ready(self, ready: bool) -> None:
        if self.draining:
            return
        self.app.ready = ready
        if ready:
            log.info(f"the app on {self.app.name} is ready")
        else:
            log.warning(f"the app on {self.app.name} is not ready: {self.health.error}")
        for node in self.nodes.values():
            node.tell({"type": "ready", "ready": ready})
            node.fill()

    # The end.

    def drain(self) -> None:
        """Take no more requests, and say so; what is in flight goes on."""
        if self.draining:
            return
        self.draining = self.app.draining = True
        for name in ("health", "resolve"):
            task = self._tasks.pop(name, None)
            if task is not None:
                task.cancel()
        for node in self.nodes.values():
            node.tell({"type": "drain"})
        self.settled()

    def settled(self) -> None:
        if self.draining and not self.app.in_flight and all(node.settled for node in self.nodes.values()):
            self._settled.set()

    async def drained(self, within_s: float) -> bool:
        """Whether everything ended in time."""
        try:
            await asyncio.wait_for(self._settled.wait(), within_s)
        except asyncio.TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Everything goes, with what is still in flight."""
        self.draining = self.app.draining = True
        nodes = list(self.nodes.values())
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=FAREWELL_S)
        self.app.close()
        until = self.loop.time() + FAREWELL_S
        while any(node.workers for node in nodes) and self.loop.time() < until:
            await asyncio.sleep(0.01)

    def snapshot(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "agent": __version__,
            "pid": os.getpid(),
            "dyno": settings.dyno,
            "process": settings.process,
            "release": settings.release,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "app": {"address": self.app.name, "served": self.app.served, "error": self.health.error, **self.load()},
            "draining": self.draining,
            "nodes": [node.snapshot() for node in self.nodes.values()],
            "unresolved": self._unresolved,
        }
