"""What workers say of their dynos in files: whole or not at all, private, and gone when they are."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from flyby.control import presence


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_what_workers_publish_is_read_in_order_but_for_ones_own(tmp_path: Path) -> None:
    assert presence.read(tmp_path) == []
    presence.publish(tmp_path, "b-1", {"worker": 1})
    presence.publish(tmp_path, "b-0", {"worker": 0})
    presence.publish(tmp_path, "b-0", {"worker": 0, "more": "é"})
    assert presence.read(tmp_path) == [{"worker": 0, "more": "é"}, {"worker": 1}]
    assert presence.read(tmp_path, but="b-1") == [{"worker": 0, "more": "é"}]
    presence.withdraw(tmp_path, "b-0")
    presence.withdraw(tmp_path, "b-0")
    assert presence.read(tmp_path) == [{"worker": 1}]


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    presence.publish(tmp_path, "b-0", {})
    folder = tmp_path / presence.FOLDER
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "b-0.json").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["b-0.json"]


def test_a_worker_that_was_killed_is_forgotten(tmp_path: Path) -> None:
    presence.publish(tmp_path, "b-0", {"worker": 0})
    file = tmp_path / presence.FOLDER / "b-0.json"
    age(file, presence.STALE_S - 5)
    presence.sweep(tmp_path)
    assert presence.read(tmp_path) == [{"worker": 0}]
    age(file, 10)
    assert presence.read(tmp_path) == []
    presence.sweep(tmp_path)
    assert file.exists()
    age(file, presence.REMOVED_S)
    presence.sweep(tmp_path)
    assert not file.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"{}x"])
def test_what_is_no_message_is_left_out(tmp_path: Path, content: bytes) -> None:
    presence.publish(tmp_path, "a", {"worker": 0})
    (tmp_path / presence.FOLDER / "b.json").write_bytes(content)
    assert presence.read(tmp_path) == [{"worker": 0}]


def test_a_link_in_the_drafts_place_is_not_followed(tmp_path: Path) -> None:
    presence.publish(tmp_path, "a", {})
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / presence.FOLDER / ".b").symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        presence.publish(tmp_path, "b", {})
    assert target.read_text() == "mine"
