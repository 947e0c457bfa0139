"""The process around the agent: beside an app that somebody else runs, or as the parent of the app.

    sidecar       flyby-agent                    ends with SIGTERM or SIGINT, after the drain, with 0
    supervisor    flyby-agent -- bin/web args…   ends with its child, and with the child's exit code

The supervisor starts argv as it stands, no shell between. SIGTERM drains first: the edge is told, what is in flight
ends, at most 5 s; then the child gets the signal (a second SIGTERM goes on at once). Every other signal that means
something to an app is passed on as it comes. A child that a signal ended is 128 + its number, as in a shell; one
that could not be started 127 or 126. All children are reaped, so it may be process 1 of a container.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from flyby_agent import log
from flyby_agent.agent import Agent
from flyby_agent.settings import Settings
from flyby_agent.status import StatusSocket

PASSED_ON = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTTIN", "SIGTTOU", "SIGCONT")
FIRST_S = 5.0  # for the edge to stop sending, before the child hears of SIGTERM
LAST_S = 2.0  # for what is under way when the child has ended
KILL_AFTER_S = 2.0  # beyond the drain, a child that does not end


def exit_code(status: int) -> int:
    """Of a wait status, as a shell has it."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def start(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """The child's process id; OSError when there is no such program."""
    # Python ignores these for itself, and a child would inherit that: `yes | head` needs SIGPIPE.
    restored = [getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ") if hasattr(signal, name)]
    return os.posix_spawnp(argv[0], list(argv), dict(environment), setsigdef=restored)


def unstarted(argv: Sequence[str], error: OSError) -> int:
    log.error(f"{argv[0]}: {error.strerror or error}")
    return 127 if isinstance(error, FileNotFoundError) else 126


class Child:
    """The application as a child process. `ended` is its exit code, once there is one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ended: asyncio.Future[int] = loop.create_future()
        self.pid = 0  # before it is started

    def send(self, number: int) -> None:
        if self.pid and not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def reap(self) -> None:
        """On SIGCHLD: this child, and, as process 1, whatever was left to us."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self.pid and not self.ended.done():
                self.ended.set_result(exit_code(status))


def _unexpected(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, OSError):
        log.debug(f"{context.get('message')}: {error}")  # a connection that went away; whoever used it knows
    else:
        log.error(f"{context.get('message')}: {error!r}")


async def _opened(settings: Settings) -> tuple[Agent, StatusSocket]:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_unexpected)
    agent = Agent(loop, settings)
    agent.start()
    status = StatusSocket(agent.snapshot)
    await status.open()
    return agent, status


async def sidecar(settings: Settings) -> int:
    """Run until a signal asks for the end."""
    agent, status = await _opened(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, log.debug, "SIGHUP: there is nothing to reload")
    try:
        await stop.wait()
        log.info("stopping: the edge is told, and what is in flight ends")
        await _drain(agent, settings)
    finally:
        await agent.close()
        status.close()
    return 0


async def _drain(agent: Agent, settings: Settings) -> None:
    agent.drain()
    if not await agent.drained(settings.drain_s):
        log.warning(f"{agent.app.in_flight} requests were still in flight after {settings.drain_s:.0f} s")


async def supervised(argv: Sequence[str], settings: Settings, environment: Mapping[str, str]) -> int:
    """Run the child, and the agent for as long as it lives."""
    loop = asyncio.get_running_loop()
    agent, status = await _opened(settings)
    child = Child(loop)
    asked = asyncio.Event()

    def terminate() -> None:
        if asked.is_set():
            child.send(signal.SIGTERM)
        asked.set()

    loop.add_signal_handler(signal.SIGCHLD, child.reap)
    loop.add_signal_handler(signal.SIGTERM, terminate)
    for name in PASSED_ON:
        number = getattr(signal, name)
        if signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, child.send, number)
    stopping = loop.create_task(_stopped(agent, settings, child, asked))
    try:
        # Only now that every signal has a handler: one that came between would leave the child alone.
        child.pid = start(argv, environment)
        return await child.ended
    except OSError as error:
        return unstarted(argv, error)
    finally:
        stopping.cancel()
        agent.drain()
        await agent.drained(LAST_S)  # what the app said last may still be on its way through here
        await agent.close()
        status.close()


async def _stopped(agent: Agent, settings: Settings, child: Child, asked: asyncio.Event) -> None:
    """After SIGTERM: the edge first, then the child, and in the end by force."""
    await asked.wait()
    began = asyncio.get_running_loop().time()
    log.info("stopping: the edge is told, then the app")
    agent.drain()
    await agent.drained(min(FIRST_S, settings.drain_s))
    child.send(signal.SIGTERM)
    await asyncio.sleep(max(0.0, settings.drain_s + KILL_AFTER_S - (asyncio.get_running_loop().time() - began)))
    log.warning(f"the app did not end within {settings.drain_s + KILL_AFTER_S:.0f} s of SIGTERM, and is killed")
    child.send(signal.SIGKILL)
