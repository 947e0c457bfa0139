"""The file of the control state: who may read it, how it is made, and every state in which it is refused."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import pytest

from flyby.control import DATABASE, State, StateError, default_directory, schema
from flyby.control.schema import APPLICATION_ID, MIGRATIONS


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/flyby"}, "/var/lib/flyby"),
        ({"STATE_DIRECTORY": "/var/lib/flyby:/var/lib/other", "XDG_STATE_HOME": "/x"}, "/var/lib/flyby"),
        ({"XDG_STATE_HOME": "/home/me/state"}, "/home/me/state/flyby"),
        ({"XDG_STATE_HOME": "relative"}, "~/.local/state/flyby"),
        ({}, "~/.local/state/flyby"),
    ],
)
def test_the_default_directory(environment: dict[str, str], expected: str) -> None:
    assert default_directory(environment) == Path(expected).expanduser()


def test_nobody_else_may_look(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with State.open(tmp_path / "deep" / "state") as state:
            state.add_backend("shop")
            assert mode(tmp_path / "deep" / "state") == 0o700
            files = sorted((tmp_path / "deep" / "state").iterdir())
            assert [file.name for file in files] == [DATABASE, f"{DATABASE}-shm", f"{DATABASE}-wal"]
            assert {mode(file) for file in files} == {0o600}
    finally:
        os.umask(old)


def test_nothing_else_is_left_in_the_directory(tmp_path: Path) -> None:
    State.open(tmp_path).close()
    assert [file.name for file in tmp_path.iterdir()] == [DATABASE]


def _add(directory: Path, name: str) -> None:
    with State.open(directory) as state:
        state.add_backend(name)


def test_several_programs_may_make_it_at_once(tmp_path: Path) -> None:
    context = get_context("fork")
    names = [f"app-{number}" for number in range(6)]
    crowd = [context.Process(target=_add, args=(tmp_path / "state", name)) for name in names]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(30)
    assert [process.exitcode for process in crowd] == [0] * len(names)
    with State.open(tmp_path / "state") as state:
        assert [record.name for record in state.backends()] == names


# ---- what is refused -------------------------------------------------------------------------------------------------


def refused(directory: Path) -> StateError:
    with pytest.raises(StateError) as error:
        State.open(directory).close()
    assert "\n" not in str(error.value)
    return error.value


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"[server]\nlisten = []\n" * 100)
    error = refused(tmp_path)
    assert "is not a SQLite database" in str(error)
    assert str(tmp_path / DATABASE) in str(error)
    assert error.exit_code == 65


@pytest.mark.parametrize("content", [b"", None], ids=["empty", "foreign"])
def test_a_database_of_another_program(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / DATABASE).write_bytes(content)
    else:
        with closing(sqlite3.connect(tmp_path / DATABASE)) as other:
            other.execute("CREATE TABLE backends (id, name)")
    error = refused(tmp_path)
    assert "is not flyby's database" in str(error)
    assert error.exit_code == 65


def test_a_database_of_a_newer_flyby(tmp_path: Path) -> None:
    State.open(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as newer:
        newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    error = refused(tmp_path)
    assert "was written by a newer flyby" in str(error)
    assert "upgrade flyby" in str(error)


def test_a_damaged_database(tmp_path: Path) -> None:
    with State.open(tmp_path) as state:
        state.add_backend("shop")
    path = tmp_path / DATABASE
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)  # the head stays: it still says that it is ours
    path.write_bytes(data)
    error = refused(tmp_path)
    assert "is damaged" in str(error)
    assert "restore it from a copy" in str(error)


def test_a_directory_that_others_can_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    error = refused(tmp_path)
    assert f"chmod go-w {tmp_path}" in str(error)
    assert error.exit_code == 77


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    for directory in (tmp_path / "state", tmp_path / "state" / "deeper"):
        assert "is not a directory" in str(refused(directory))


def test_a_place_where_nothing_can_be_made() -> None:
    error = refused(Path("/proc/flyby-state"))
    assert "cannot be made" in str(error)
    assert "--state DIR" in str(error)


def test_a_full_disk_is_told_and_changes_nothing(tmp_path: Path) -> None:
    with State.open(tmp_path) as state:
        state.add_backend("shop")
        # SQLite's own limit answers with the same code as a file system without room.
        connection = state._connection
        [pages] = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StateError, match="the disk is full") as full:
            state.add_backend("blog", [f"http://origin-{number}.example" for number in range(1000)])
        assert full.value.exit_code == 74
        assert [record.name for record in state.backends()] == ["shop"]
        connection.execute("PRAGMA max_page_count = 1000000")
        state.add_backend("blog")


# ---- migrations ------------------------------------------------------------------------------------------------------


def test_an_older_file_is_brought_up_to_date_and_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with State.open(tmp_path) as state:
        record, text = state.add_backend("shop")
    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, "ALTER TABLE backends ADD COLUMN colour TEXT"))
    with State.open(tmp_path) as state:
        assert state.backends() == [record]
        assert state.authenticate(text) is not None
    with closing(sqlite3.connect(tmp_path / DATABASE)) as after:
        assert after.execute("SELECT colour FROM backends").fetchall() == [(None,)]
        assert after.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
        assert after.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with State.open(tmp_path) as state:
        record, _ = state.add_backend("shop")
    with monkeypatch.context() as patch:
        half = "CREATE TABLE colours (name TEXT) STRICT; CREATE TABLE colours (name TEXT) STRICT"
        patch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, half))
        refused(tmp_path)
    with State.open(tmp_path) as state:
        assert state.backends() == [record]
    with closing(sqlite3.connect(tmp_path / DATABASE)) as after:
        assert after.execute("SELECT 1 FROM sqlite_schema WHERE name = 'colours'").fetchall() == []
