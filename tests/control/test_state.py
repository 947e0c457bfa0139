"""The control state: backends, tokens and releases, on the real database, with a clock that stands still."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyby.clock import ManualClock
from flyby.control import BackendRecord, State, StateError, backend_name
from flyby.control.releases import MOST_KEPT

NOW = 1_800_000_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall_ms=NOW)


@pytest.fixture
def state(tmp_path: Path, clock: ManualClock) -> Iterator[State]:
    with State.open(tmp_path / "state", clock=clock) as opened:
        yield opened


# ---- backends --------------------------------------------------------------------------------------------------------


def test_a_backend_is_added_found_and_removed(state: State) -> None:
    record, _ = state.add_backend("shop", ["https://shop.herokuapp.com", "http://10.0.0.1:5000"])
    assert record == BackendRecord(
        record.id, "shop", ("https://shop.herokuapp.com", "http://10.0.0.1:5000"), created_ms=NOW
    )
    other, _ = state.add_backend("blog")
    assert other.origins == ()
    assert state.backends() == [other, record]  # by name
    assert state.backend("shop") == record
    state.remove_backend("shop")
    assert state.backends() == [other]
    assert state.backend("shop") is None


def test_what_is_stored_outlives_the_process(tmp_path: Path) -> None:
    with State.open(tmp_path) as first:
        record, text = first.add_backend("shop", ["http://127.0.0.1:5000"])
    with State.open(tmp_path) as second:
        assert second.backends() == [record]
        assert second.authenticate(text) is not None


def test_a_backend_that_is_added_anew_is_another_one(state: State) -> None:
    first, text = state.add_backend("shop")
    state.record_release("shop", "v1")
    state.remove_backend("shop")
    second, _ = state.add_backend("shop")
    assert second.id != first.id
    assert state.authenticate(text) is None
    assert state.releases("shop") == []


def test_a_name_is_taken_once(state: State) -> None:
    state.add_backend("shop", ["http://127.0.0.1:1"])
    with pytest.raises(StateError, match="there is a backend shop already"):
        state.add_backend("shop", ["http://127.0.0.1:2"])
    [record] = state.backends()
    assert record.origins == ("http://127.0.0.1:1",)
    assert len(state.tokens("shop")) == 1


@pytest.mark.parametrize("name", ["a", "7", "shop", "shop-2", "a" * 63, "0-0", "x-n--p"])
def test_labels_are_names(name: str) -> None:
    assert backend_name(name) == name


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "1 to 63"),
        ("Shop", 'did you mean "shop"?'),
        ("my_shop", 'did you mean "my-shop"?'),
        ("shop.example", 'did you mean "shop-example"?'),
        ("-shop", 'did you mean "shop"?'),
        ("shop-", 'did you mean "shop"?'),
        ("a" * 64, f'did you mean "{"a" * 63}"?'),
        ("shop\n", 'did you mean "shop"?'),
        ("käse", 'did you mean "k-se"?'),
        ("٣", "1 to 63"),
        ("xn--ksa", "IDNA"),
        ("ab--c", "IDNA"),
    ],
)
def test_what_cannot_be_a_host_name_is_refused(name: str, told: str, state: State) -> None:
    with pytest.raises(ValueError, match="cannot be a host name") as refused:
        backend_name(name)
    assert told in str(refused.value)
    with pytest.raises(StateError, match="cannot be a host name"):
        state.add_backend(name)
    assert state.backends() == []


@pytest.mark.parametrize(
    "act",
    [
        lambda state: state.remove_backend("shop"),
        lambda state: state.create_token("shop"),
        lambda state: state.tokens("shop"),
        lambda state: state.record_release("shop", "v1"),
        lambda state: state.release_ready("shop", "v1"),
        lambda state: state.releases("shop"),
    ],
)
def test_an_unknown_backend_is_told_with_those_that_are_known(state: State, act: object) -> None:
    assert callable(act)
    with pytest.raises(StateError, match=r"there is no backend shop \(flyby backend add shop\)"):
        act(state)
    state.add_backend("blog")
    with pytest.raises(StateError, match=r"there is no backend shop \(known: blog\)"):
        act(state)


# ---- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_says_whose_it_is(state: State) -> None:
    record, text = state.add_backend("shop")
    state.add_backend("blog")
    found = state.authenticate(text)
    assert found is not None
    assert (found.backend, found.backend_id, found.created_ms, found.live) == ("shop", record.id, NOW, True)
    assert text.startswith(f"fly_{found.id}_")
    assert len(text) == len("fly_") + 8 + len("_") + 43
    assert state.tokens("shop") == [found]
    assert state.token(found.id) == found


def test_two_tokens_live_for_a_rotation_and_no_third(state: State, clock: ManualClock) -> None:
    _, old = state.add_backend("shop")
    record, new = state.create_token("shop")
    assert [token.backend for token in map(state.authenticate, (old, new)) if token is not None] == ["shop", "shop"]
    with pytest.raises(StateError, match="has 2 live tokens already"):
        state.create_token("shop")
    first = state.tokens("shop")[0]
    clock.advance(5)
    revoked = state.revoke(first.id)
    assert revoked.revoked_ms == NOW + 5000
    assert state.authenticate(old) is None
    assert state.authenticate(new) == record
    assert state.live_tokens() == {record.id}
    state.create_token("shop")
    assert [token.live for token in state.tokens("shop")] == [False, True, True]


def test_a_revocation_keeps_its_first_time(state: State, clock: ManualClock) -> None:
    state.add_backend("shop")
    [token] = state.tokens("shop")
    state.revoke(token.id)
    clock.advance(60)
    assert state.revoke(token.id).revoked_ms == NOW
    with pytest.raises(StateError, match="there is no token nosuchid"):
        state.revoke("nosuchid")


def test_nothing_but_the_text_itself_is_taken(state: State) -> None:
    _, text = state.add_backend("shop")
    head, tail = text[:-1], text[-1]
    other = "a" if tail != "a" else "b"
    _, foreign = state.add_backend("blog")
    for wrong in (
        "",
        "fly_",
        head,
        head + other,
        text + "a",
        text + "\n",
        " " + text,
        text.replace("fly_", "FLY_"),
        text[:12] + foreign[12:],  # the id of one with the secret of another
        foreign[:12] + text[12:],
        "fly_00000000_" + text[13:],
        head + "ä",
        text.replace("_", "%"),
    ):
        assert state.authenticate(wrong) is None, wrong
    assert state.authenticate(text) is not None


def test_no_secret_is_in_the_file(tmp_path: Path) -> None:
    with State.open(tmp_path) as state:
        _, text = state.add_backend("shop")
        secret = text.rpartition("_")[2].encode()
        for file in tmp_path.iterdir():
            assert secret not in file.read_bytes()


# ---- releases --------------------------------------------------------------------------------------------------------


def test_a_release_is_new_once_and_ready_once(tmp_path: Path, clock: ManualClock) -> None:
    with State.open(tmp_path, clock=clock) as one, State.open(tmp_path, clock=clock) as other:
        one.add_backend("shop")
        assert one.record_release("shop", "v1", description="Deploy 1f2e", branch="main")
        assert not other.record_release("shop", "v1", description="again", branch="other")
        clock.advance(1)
        assert other.release_ready("shop", "v1")
        assert not one.release_ready("shop", "v1")
        clock.advance(1)
        assert one.record_release("shop", "v2")
        newest, first = one.releases("shop")
    assert (newest.id, newest.description, newest.first_seen_ms, newest.first_ready_ms) == ("v2", "", NOW + 2000, None)
    assert (first.id, first.description, first.branch) == ("v1", "Deploy 1f2e", "main")
    assert (first.first_seen_ms, first.first_ready_ms) == (NOW, NOW + 1000)


def test_a_release_that_nobody_named_is_not_ready(state: State) -> None:
    state.add_backend("shop")
    assert not state.release_ready("shop", "v9")


def test_only_so_many_releases_and_words_are_kept(state: State, clock: ManualClock) -> None:
    state.add_backend("shop")
    for number in range(MOST_KEPT + 3):
        assert state.record_release("shop", f"v{number}")
        clock.advance(1)
    assert len(state.releases("shop")) == MOST_KEPT
    assert state.releases("shop")[0].id == f"v{MOST_KEPT + 2}"
    assert state.record_release("shop", "x" * 1000, description="d" * 1000, branch="b" * 1000)
    long = state.releases("shop")[0]
    assert (len(long.id), len(long.description), len(long.branch)) == (128, 256, 256)
    assert not state.record_release("shop", "x" * 2000)
    assert state.release_ready("shop", "x" * 1000)


# ---- seen from another process ---------------------------------------------------------------------------------------


def test_changes_of_others_are_noticed_once(tmp_path: Path) -> None:
    with State.open(tmp_path) as edge, State.open(tmp_path) as line:
        assert not edge.changed()
        line.add_backend("shop")
        assert edge.changed()
        assert not edge.changed()
        assert [record.name for record in edge.backends()] == ["shop"]
        line.revoke(line.tokens("shop")[0].id)
        line.remove_backend("shop")
        assert edge.changed()
        edge.add_backend("blog")
        assert edge.changed()  # one's own change counts, too
        assert not edge.changed()
        assert line.changed()


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    with State.open(tmp_path) as edge, State.open(tmp_path) as line:
        _, text = line.add_backend("shop")
        writer = sqlite3.connect(tmp_path / "flyby.db", isolation_level=None)
        try:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("DELETE FROM backends")
            assert [record.name for record in edge.backends()] == ["shop"]
            assert edge.authenticate(text) is not None
            assert edge.changed()  # of the backend that was added before
        finally:
            writer.close()


def test_a_writer_that_has_waited_long_enough_says_so(tmp_path: Path) -> None:
    with State.open(tmp_path, wait_s=0) as state:
        writer = sqlite3.connect(tmp_path / "flyby.db", isolation_level=None)
        try:
            writer.execute("BEGIN IMMEDIATE")
            with pytest.raises(StateError, match="is locked by another program") as refused:
                state.add_backend("shop")
        finally:
            writer.close()
        assert refused.value.exit_code == 75
        state.add_backend("shop")
