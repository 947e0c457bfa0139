"""What a worker tells of its dynos, and what it makes of what the others tell."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flyby.control import presence
from flyby.policy import parse_http_date
from flyby.tunnel.report import EVERY_S, LOOK_S, Report
from tests.e2e.stage import play
from tests.tunnel.stage import Stage, stage, until

OTHERS = {"worker": 1, "backends": {"app": [{"id": "x"}], "idle": []}}


def said(scene: Stage) -> dict[str, Any]:
    """What the edge's one worker has published."""
    [found] = presence.read(scene.state.path.parent)
    return found


@play
async def test_dynos_are_published_when_they_come_change_and_go() -> None:
    async with stage() as scene:
        agent = scene.agent()
        control = await agent.join(links=2, release={"id": "v7"}, region="eu", ready=False)
        [dyno] = said(scene)["backends"]["app"]
        assert (dyno["name"], dyno["release"], dyno["region"], dyno["state"]) == ("web.1", "v7", "eu", "not-ready")
        assert dyno["id"] == agent.key
        control.say("ready", ready=True)
        await until(lambda: said(scene)["backends"]["app"][0]["state"] == "ready")
        control.say("drain")
        await until(lambda: said(scene)["backends"]["app"] == [])


@play
async def test_the_worker_and_its_node_are_named_and_nothing_is_left_at_the_end() -> None:
    async with stage() as scene:
        await scene.agent().join()
        found = said(scene)
        assert (found["node"], found["worker"], found["workers"], found["pid"]) == ("edge-1", 0, 1, os.getpid())
        directory = scene.state.path.parent
        assert scene.token not in json.dumps(found)
        scene.tunnel.close()
        await asyncio.sleep(0)
        assert presence.read(directory) == []


@play
async def test_a_request_waits_for_a_dyno_that_another_worker_has_met() -> None:
    async with stage(pool={"wait_s": 5}) as scene:
        assert (await scene.ask()).status == 503  # nobody has seen one
        presence.publish(scene.state.path.parent, "other-1", OTHERS)
        await asyncio.sleep(1.5 * LOOK_S)
        asked = asyncio.create_task(scene.ask())
        dynos = scene.tunnel.dynos()[0]
        await until(lambda: dynos.waiting == 1 or asked.done())
        await scene.agent().join()
        assert (await asked).status == 200


@play
async def test_nobody_waits_where_the_others_have_no_dyno_of_this_backend() -> None:
    async with stage(pool={"wait_s": 60}) as scene:
        presence.publish(scene.state.path.parent, "other-1", {"backends": {"app": [], "shop": [{"id": "x"}]}})
        assert (await scene.ask()).status == 503


@play
async def test_the_backends_own_origins_do_not_wait_for_another_workers_dyno() -> None:
    async with stage(pool={"wait_s": 60}, backend={"origins": ["http://127.0.0.1:9"]}) as scene:
        presence.publish(scene.state.path.parent, "other-1", OTHERS)
        assert (await scene.ask()).status == 502


@play
async def test_the_edges_clock_stands_in_the_101() -> None:
    async with stage() as scene:
        head, _, writer = await scene.agent().dial("control")
        writer.close()
        assert head.status == 101
        [date] = head.get_all("date")
        assert parse_http_date(date.encode()) is not None


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def date_ms(self) -> int:
        return self.wall_ms()

    def wall_ms(self) -> int:
        return int(self.now * 1000)


def report(directory: Path, clock: Clock) -> Report:
    state: Any = SimpleNamespace(path=directory / "flyby.db")
    return Report("me", {"worker": 0}, lambda: state, list, clock)


def test_others_are_asked_ten_times_a_second_at_most(tmp_path: Path) -> None:
    clock = Clock()
    mine = report(tmp_path, clock)
    assert not mine.elsewhere("app")
    presence.publish(tmp_path, "other", OTHERS)
    assert not mine.elsewhere("app")
    clock.now += 1.5 * LOOK_S
    assert mine.elsewhere("app")
    assert not mine.elsewhere("idle")
    assert not mine.elsewhere("shop")


def test_ones_own_dynos_are_not_elsewhere(tmp_path: Path) -> None:
    presence.publish(tmp_path, "me", OTHERS)
    assert not report(tmp_path, Clock()).elsewhere("app")


@pytest.mark.parametrize("backends", [[], None, "app", 7])
def test_what_others_say_amiss_is_nothing(tmp_path: Path, backends: object) -> None:
    presence.publish(tmp_path, "other", {"backends": backends})
    assert not report(tmp_path, Clock()).elsewhere("app")


def test_counters_are_published_now_and_then(tmp_path: Path) -> None:
    clock = Clock()
    mine = report(tmp_path, clock)
    file = tmp_path / presence.FOLDER / "me.json"
    mine.tick(clock.now)
    first = file.stat().st_ino
    clock.now += EVERY_S - 0.1
    mine.tick(clock.now)
    assert file.stat().st_ino == first
    file.unlink()
    clock.now += 0.1
    mine.tick(clock.now)
    assert file.exists()
    mine.close()
    clock.now += 2 * EVERY_S
    mine.tick(clock.now)
    assert not file.exists()


def test_a_directory_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / presence.FOLDER).write_text("in the way")
    clock = Clock()
    mine = report(tmp_path, clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            mine.tick(clock.now)
            clock.now += EVERY_S
    assert [record.levelname for record in caplog.records] == ["WARNING"]
