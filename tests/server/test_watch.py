"""The control state as a worker sees it: when it is opened and read, and what it adds to a configuration."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from pathlib import Path

import pytest

from flyby.clock import SystemClock
from flyby.config import Backend, Config, Server
from flyby.control import DATABASE, BackendRecord, State
from flyby.errors import StateError
from flyby.server.watch import Watch, joined, previews


def names(watch: Watch) -> list[str]:
    return [record.name for record in watch.records]


def test_the_state_may_come_later_and_is_never_made(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    watch = Watch(directory, None, SystemClock())
    assert not watch.look()
    assert watch.state is None
    assert not directory.exists()
    with State.open(directory) as line:
        assert watch.look()
        assert names(watch) == []
        assert not watch.look()
        line.add_backend("shop")
        assert watch.look()
        assert names(watch) == ["shop"]
        line.revoke(line.tokens("shop")[0].id)
        assert watch.look()  # no backend is different, but a token is
        assert not watch.look()
    watch.close()
    assert watch.state is None


def test_a_file_that_was_put_in_its_place_is_read(tmp_path: Path) -> None:
    with State.open(tmp_path / "one") as state:
        state.add_backend("shop")
    with State.open(tmp_path / "two") as state:
        state.add_backend("blog")
    watch = Watch(tmp_path / "one", None, SystemClock())
    assert watch.look()
    (tmp_path / "one" / DATABASE).unlink()
    assert not watch.look()
    assert names(watch) == ["shop"]
    shutil.move(tmp_path / "two" / DATABASE, tmp_path / "one" / DATABASE)
    for leftover in ("-wal", "-shm"):
        (tmp_path / "one" / f"{DATABASE}{leftover}").unlink(missing_ok=True)
    assert watch.look()
    assert names(watch) == ["blog"]
    watch.close()


def test_a_damaged_file_is_told_once_and_what_was_known_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with State.open(tmp_path / "state") as state:
        state.add_backend("shop")
    watch = Watch(tmp_path / "state", None, SystemClock())
    assert watch.look()
    (tmp_path / "broken").write_bytes(b"not a database at all" * 1000)
    shutil.move(tmp_path / "broken", tmp_path / "state" / DATABASE)
    with caplog.at_level(logging.ERROR, "flyby.edge"):
        assert not watch.look()
        assert not watch.look()
    assert names(watch) == ["shop"]
    [record] = caplog.records
    assert "is not a SQLite database" in record.message
    watch.close()


def test_a_file_that_goes_away_is_told_once_and_its_tokens_stay_good(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with State.open(tmp_path / "state") as state:
        _, text = state.add_backend("shop")
    watch = Watch(tmp_path / "state", None, SystemClock())
    assert watch.look()
    with caplog.at_level(logging.INFO, "flyby.edge"):
        (tmp_path / "state").rename(tmp_path / "elsewhere")
        assert not watch.look()
        assert not watch.look()
        assert names(watch) == ["shop"]
        assert watch.state is not None
        assert watch.state.authenticate(text) is not None
        (tmp_path / "elsewhere").rename(tmp_path / "state")
        watch.look()
    gone, back = caplog.records
    assert (gone.levelname, back.levelname) == ("ERROR", "INFO")
    assert "No such file or directory; its backends and tokens stay in use until it is back" in gone.message
    assert "is there again" in back.message
    watch.close()


def test_a_lock_of_another_program_holds_nobody_up(tmp_path: Path) -> None:
    """SQLite itself is asked how long it would wait: a worker's event loop would stand still for it."""
    with State.open(tmp_path) as line:
        line.add_backend("shop")
    watch = Watch(tmp_path, None, SystemClock())
    assert watch.look()
    assert watch.state is not None
    [wait_ms] = watch.state._connection.execute("PRAGMA busy_timeout").fetchone()
    assert wait_ms <= 20
    holder = sqlite3.connect(tmp_path / DATABASE, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateError, match="locked by another program"):
        watch.state.record_release("shop", "v1")
    holder.execute("ROLLBACK")
    assert watch.state.record_release("shop", "v1")
    holder.close()
    watch.close()


def test_a_change_that_could_not_be_read_is_read_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(state: State) -> list[BackendRecord]:
        raise StateError("flyby.db is locked by another program")

    with State.open(tmp_path) as line:
        watch = Watch(tmp_path, None, SystemClock())
        with monkeypatch.context() as patched:
            patched.setattr(State, "backends", locked)
            assert not watch.look()  # opened, and not read
        assert watch.look()
        line.add_backend("shop")
        with monkeypatch.context() as patched:
            patched.setattr(State, "backends", locked)
            assert not watch.look()
        assert watch.look()
        assert names(watch) == ["shop"]
        assert not watch.look()
    watch.close()


def test_a_state_that_was_given_stays_open(tmp_path: Path) -> None:
    with State.open(tmp_path) as given, State.open(tmp_path) as line:
        given.add_backend("shop")
        watch = Watch(None, given, SystemClock())
        assert names(watch) == ["shop"]
        line.add_backend("blog")
        assert watch.look()
        watch.close()
        assert [record.name for record in given.backends()] == ["blog", "shop"]


SHOP = BackendRecord("id1", "shop", ("http://10.0.0.1:80",), 0)
BLOG = BackendRecord("id2", "blog", (), 0)


@pytest.mark.parametrize(
    ("configured", "record", "expected"),
    [
        (None, SHOP, Backend(origins=["http://10.0.0.1:80"], tunnel=True)),
        (Backend(origins=["http://a"], host="b"), SHOP, Backend(origins=["http://a"], host="b", tunnel=True)),
        (Backend(tunnel=True, connect_s=1), SHOP, Backend(origins=["http://10.0.0.1:80"], tunnel=True, connect_s=1)),
    ],
)  # fmt: skip
def test_a_backend_of_both_has_the_configured_settings(
    configured: Backend | None, record: BackendRecord, expected: Backend
) -> None:
    config = Config(backends={"shop": configured} if configured is not None else {})
    assert joined(config, [record, BLOG]) == {"shop": expected, "blog": Backend(tunnel=True)}


def test_every_backend_of_the_state_has_a_preview_and_no_other() -> None:
    config = Config(server=Server(preview_domain="Preview.Example.com"), backends={"own": Backend(tunnel=True)})
    assert previews(config, [SHOP, BLOG]) == {"shop.preview.example.com": "shop", "blog.preview.example.com": "blog"}
    assert previews(Config(server=Server(preview_domain="")), [SHOP]) == {}
