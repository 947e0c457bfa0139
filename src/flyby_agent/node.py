"""One edge node at one address: a control connection to each of its workers, and idle links in each.

The workers of an edge share nothing, and which of them a dial reaches is chance (SO_REUSEPORT). So the agent dials and
looks where it landed: the 101 says `Flyby-Worker: 1/4`.

    controls   dial until each of the N workers has one. A second to the same worker is closed before it says anything
               (the edge would keep the newer and close the older, and the two would take turns for ever).
    links      idle < spare in some worker: dial. Landed on one that has 2 x spare idle: keep it, but wait a little
               before the next, a little longer each time. A link that becomes busy is replaced at once, so the next
               one is on its way before the last is taken.
    too many   is for the edge to say, which closes what it has not needed for a while: it is the client, so no
               request can be on its way. Only what lands on a worker at its capacity, or on one without a control
               connection, is retired by the agent

Each address is kept apart: what one node does is nothing to the others. Two addresses of the same node (its
name and boot say so; IPv4 and IPv6, say) are one node: the second waits and looks again now and then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from flyby_agent import log
from flyby_agent.backoff import Backoff
from flyby_agent.control import Control
from flyby_agent.endpoints import Address
from flyby_agent.faults import reason
from flyby_agent.link import CLOSED, IDLE, Link
from flyby_agent.upgrade import CONTROL, LINK, Answer, Refused, dial, request

if TYPE_CHECKING:
    from flyby_agent.agent import Agent

MOST_DIALS = 8  # of links, at a time
SPARE = 4
MOST_SPARE = 256
REPEAT_S = 60.0  # the same complaint is not logged more often
DENIED_S = 30.0  # at least, after a wrong token: nothing that the agent does will mend it
TWIN_S = 30.0
FINAL = {401, 403, 426}


class Worker:
    """One worker of the edge: its control connection and the links to it."""

    __slots__ = (
        "boot",
        "control",
        "drained",
        "draining",
        "idle",
        "index",
        "links",
        "node",
        "registered",
        "spare",
    )

    def __init__(self, node: Node, answer: Answer) -> None:
        self.node = node
        self.index = answer.worker
        self.boot = answer.boot
        self.control: Control | None = Control(node.loop, self)
        self.registered = False
        self.draining = False  # the edge goes down
        self.drained = False  # the edge will send nothing more, as the agent asked
        self.spare = SPARE
        self.links: set[Link] = set()
        self.idle = 0

    def __str__(self) -> str:
        return f"{self.node}: node {self.node.name or '-'}, worker {self.index}"

    # Asked by the control connection.

    def registration(self) -> dict[str, Any]:
        return self.node.agent.registration()

    def load(self) -> dict[str, Any]:
        return self.node.agent.load()

    def told(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind in ("registered", "spare"):
            self._spare(message.get("spare" if kind == "registered" else "links"))
            if kind == "registered" and not self.registered:
                self.registered = True
                self.node.registered(self)
            self.node.fill()
        elif kind == "drain":
            self.draining = True
            log.info(f"{self} is going down")
            self.node.wake()
        elif kind == "drained":
            self.drained = True
            self.node.agent.settled()
        elif kind == "revoked":
            self.node.denied("the token was revoked")
        elif kind == "refused":
            self.node.denied(f"the edge refused to register this dyno: {message.get('reason')}")
        elif kind == "replaced":
            log.debug(f"{self} has a newer control connection of this dyno")

    def _spare(self, links: object) -> None:
        if isinstance(links, int) and not isinstance(links, bool):
            self.spare = max(1, min(links, MOST_SPARE))

    def cut(self) -> None:
        """The heartbeats have stopped, or the token is worth nothing: the links lead nowhere either."""
        for link in list(self.links):
            link.abort()

    def control_lost(self, control: Control) -> None:
        self.control = None
        self.node.lost(self)
        for link in list(self.links):
            link.retire()

    # Asked by the links.

    @property
    def open(self) -> bool:
        return self.registered and not self.draining and self.control is not None

    @property
    def wanted(self) -> int:
        """How many more links it should have."""
        if not self.open:
            return 0
        return max(0, min(self.spare - self.idle, self.node.agent.capacity - len(self.links)))

    @property
    def full(self) -> bool:
        return not self.open or len(self.links) >= self.node.agent.capacity

    def add(self, link: Link) -> None:
        self.links.add(link)
        self.idle += 1

    def changed(self, link: Link, before: int) -> None:
        """A link began to be idle, or ceased to be."""
        state = link.state
        if state == IDLE:
            self.idle += 1
            return
        if state == CLOSED:
            self.links.discard(link)
        if before == IDLE:
            self.idle -= 1
            self.node.used(link.served)
        if self.idle < self.spare:
            self.node.fill()

    def snapshot(self) -> dict[str, Any]:
        control = self.control
        return {
            "worker": self.index,
            "registered": self.registered,
            "draining": self.draining,
            "links": len(self.links),
            "idle": self.idle,
            "busy": sum(link.busy for link in self.links),
            "spare": self.spare,
            "rtt_ms": None if control is None or control.rtt_s is None else round(control.rtt_s * 1000, 1),
        }


class Node:
    """Keeps the connections to one address."""

    def __init__(self, agent: Agent, address: Address) -> None:
        self.agent = agent
        self.loop = agent.loop
        self.address = address
        self.name = ""
        self.boot = ""
        self.workers: dict[tuple[str, int], Worker] = {}
        self.count = 1  # how many workers it says it has
        self.error = ""
        self.listed = True  # its address is still one of the endpoint's
        self._backoff = Backoff(self.loop.time)
        self._denied = Backoff(self.loop.time, first_s=DENIED_S, most_s=240)
        self._search = Backoff(self.loop.time, first_s=0.05, most_s=2.0)  # for the right worker
        self._link_backoff = Backoff(self.loop.time)
        self._pause = 0.0  # before the next control dial
        self._lack = asyncio.Event()
        self._dials: set[asyncio.Task[None]] = set()
        self._not_before = 0.0  # the next link dial
        self._later: asyncio.TimerHandle | None = None
        self._landed = ""  # what became of the last control dial
        self._complained = (float("-inf"), "")

    def __str__(self) -> str:
        return str(self.address)

    @property
    def live(self) -> list[Worker]:
        """The workers of its present life that have a control connection."""
        return [worker for worker in self.workers.values() if worker.boot == self.boot and not worker.draining]

    # Control connections.

    async def run(self) -> None:
        """Until cancelled, or until its address has vanished and with it the last connection."""
        try:
            while True:
                if len(self.live) >= self.count or self.agent.draining:
                    self._lack.clear()
                    await self._lack.wait()
                    continue
                if not self.listed and not self.workers:
                    return
                pause, self._pause = self._pause, 0.0
                if pause:
                    await asyncio.sleep(pause)
                self._landed = ""
                try:
                    await self._dial(CONTROL)
                except OSError as error:
                    self._pause = max(self._pause, self._failed(error))
                else:
                    if self._landed:
                        self._pause = TWIN_S if self._landed == "twin" else self._search.next()
                    else:
                        self._search.reset()
        finally:
            self.close()

    async def _dial(self, role: str) -> Answer:
        agent = self.agent
        ask = request(self.address, agent.token, role, agent.dyno_id)
        accept = self._accept_control if role == CONTROL else self._accept_link
        return await dial(self.loop, self.address, agent.tls, ask, agent.pins, accept)

    def _accept_control(self, answer: Answer) -> Control | None:
        if self.agent.draining:
            self._landed = "late"
            return None
        if not self.agent.owns(self, answer.node, answer.boot):
            self._landed = "twin"
            return None
        if self.name and answer.boot != self.boot:
            log.info(f"{self}: node {answer.node or '-'} has restarted")
        self.name, self.boot, self.count = answer.node, answer.boot, answer.workers
        key = (answer.boot, answer.worker)
        if key in self.workers:
            self._landed = "surplus"
            return None
        worker = self.workers[key] = Worker(self, answer)
        return worker.control

    def registered(self, worker: Worker) -> None:
        self.error = ""
        self._complained = (float("-inf"), "")
        self._backoff.healthy()
        self._denied.reset()
        log.info(f"connected to {self.address}: node {self.name or '-'}, worker {worker.index} of {self.count}")

    def lost(self, worker: Worker) -> None:
        """The control connection to a worker is gone."""
        self.workers.pop((worker.boot, worker.index), None)
        self.agent.settled()
        if self.agent.draining:
            return
        if worker.registered and not worker.draining:
            log.warning(f"{worker}: the connection was lost, and is dialled again")
        if not self._pause:
            self._pause = self._backoff.next()
        self.wake()

    def wake(self) -> None:
        self._lack.set()

    def denied(self, why: str) -> None:
        """Said by a worker that knows the token: leave all of them, and come back much later."""
        self._complain(why, log.error)
        self._pause = max(self._pause, DENIED_S + self._denied.next())
        for worker in list(self.workers.values()):
            worker.draining = True
            worker.cut()
            if worker.control is not None:
                worker.control.close()

    def _failed(self, error: OSError) -> float:
        """What to make of a failed dial: seconds to wait."""
        if isinstance(error, Refused) and error.status in FINAL:
            self._complain(told(error), log.error)
            return DENIED_S + self._denied.next()
        self._complain(told(error), log.warning)
        wait = self._backoff.next()
        if isinstance(error, Refused) and error.retry_s is not None:
            wait += min(error.retry_s, 300.0)
        return wait

    def _complain(self, text: str, say: Any) -> None:
        self.error = text
        at, last = self._complained
        if text != last or self.loop.time() - at >= REPEAT_S:
            self._complained = (self.loop.time(), text)
            say(f"{self.address}: {text}")

    # Links.

    def fill(self) -> None:
        """Dial what links are wanted, some at a time."""
        agent = self.agent
        if not agent.app.ready or agent.draining:
            return
        wanted = sum(worker.wanted for worker in self.workers.values()) - len(self._dials)
        if wanted <= 0 or len(self._dials) >= MOST_DIALS:
            return
        wait = self._not_before - self.loop.time()
        if wait > 0:
            if self._later is None:
                self._later = self.loop.call_later(wait, self._fill_later)
            return
        for _ in range(min(wanted, MOST_DIALS - len(self._dials))):
            task = self.loop.create_task(self._dial_link())
            self._dials.add(task)
            task.add_done_callback(self._dialled)

    def _fill_later(self) -> None:
        self._later = None
        self.fill()

    def _dialled(self, task: asyncio.Task[None]) -> None:
        self._dials.discard(task)
        self.fill()

    async def _dial_link(self) -> None:
        try:
            await self._dial(LINK)
        except Refused as error:
            # 409: this worker has no control connection yet, so the dial was only unlucky.
            self._hold(self._search if error.status == 409 else self._link_backoff)
            if error.status != 409:
                self._complain(told(error), log.warning)
        except OSError as error:
            self._hold(self._link_backoff)
            self._complain(told(error), log.warning)

    def _hold(self, backoff: Backoff) -> None:
        self._not_before = max(self._not_before, self.loop.time() + backoff.next())

    def _accept_link(self, answer: Answer) -> Link:
        worker = self.workers.get((answer.boot, answer.worker))
        if worker is None or worker.full:
            self._hold(self._search)
            link = Link(self.loop, self.agent.app, unlisted)
            # Not closed at once: the edge may have taken it already.
            self.loop.call_soon(link.retire)
            return link
        if worker.idle >= 2 * worker.spare:
            self._hold(self._search)
        else:
            self._search.reset()
        link = Link(self.loop, self.agent.app, worker.changed)
        worker.add(link)
        return link

    def used(self, served: bool) -> None:
        """An idle link got a request; or it was closed without one, and dialling anew at once would be a loop."""
        if not served:
            self._hold(self._link_backoff)
        elif self._link_backoff.tries:
            self._link_backoff.reset()

    # The end.

    def tell(self, message: dict[str, Any]) -> None:
        """To every worker."""
        for worker in self.workers.values():
            if worker.control is not None:
                worker.control.send(message)

    @property
    def settled(self) -> bool:
        return all(worker.drained for worker in self.workers.values())

    def close(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        for task in list(self._dials):
            task.cancel()
        for worker in list(self.workers.values()):
            for link in list(worker.links):
                link.finish()
            if worker.control is not None:
                worker.control.close()

    def snapshot(self) -> dict[str, Any]:
        return {
            "endpoint": str(self.address.endpoint),
            "address": self.address.ip,
            "node": self.name,
            "workers": self.count if self.name or self.workers else None,
            "connected": [worker.snapshot() for worker in sorted(self.workers.values(), key=lambda each: each.index)],
            "dialling": len(self._dials),
            "error": self.error,
        }


def unlisted(link: Link, before: int) -> None:
    """What a link that no worker keeps tells of itself."""


def told(error: OSError) -> str:
    """Why a dial failed, with what to do where the edge's answer tells."""
    if isinstance(error, Refused):
        return f"{error}. {error.remedy}" if error.remedy else str(error)
    return f"not connected: {reason(error)}"
