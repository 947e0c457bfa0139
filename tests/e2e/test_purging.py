"""Plays about what is purged: by tag, by URL, by prefix, by host, all of it; for good, or only outdated."""

from __future__ import annotations

from tests.e2e.stage import play, reply, stage


@play
async def test_tags_are_kept_from_clients() -> None:
    async with stage(reply(Cache_Control="max-age=60", Surrogate_Key="a b", Cache_Tag="c")) as scene:
        for _ in range(2):
            answer = await scene.ask("/")
            assert (answer.get("surrogate-key"), answer.get("cache-tag")) == (None, None)
        assert len(scene.origin.requests) == 1
    async with stage(reply(Cache_Control="no-store", Surrogate_Key="a b", Cache_Tag="c")) as scene:
        answer = await scene.ask("/")
        assert (answer.get("surrogate-key"), answer.get("cache-tag")) == (None, None)


@play
async def test_tags_reach_clients_when_so_configured() -> None:
    for control in ("max-age=60", "no-store"):
        script = reply(Cache_Control=control, Surrogate_Key="a b", Cache_Tag="c")
        async with stage(script, cache={"strip_tags": False}) as scene:
            for _ in range(2):
                answer = await scene.ask("/")
                assert (answer.get("surrogate-key"), answer.get("cache-tag")) == ("a b", "c")
