"""`flyby backend` and `flyby token`: what they print, what they change, and how they refuse."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyby.cli import main
from flyby.control import DATABASE, State

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command, with its state below `tmp_path`, and nobody at the keyboard."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def act(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return act


def sound(result: tuple[int, str, str]) -> str:
    code, out, err = result
    assert (code, err) == (0, "")
    return out


def parsed(result: tuple[int, str, str]) -> Any:
    return json.loads(sound(result))


def refused(result: tuple[int, str, str], code: int) -> str:
    """The one line of an error."""
    assert (result[0], result[1]) == (code, ""), result
    assert result[2].count("\n") == 1
    return result[2]


def test_adding_a_backend_prints_what_is_needed_next(run: Run, tmp_path: Path) -> None:
    out = sound(run("backend", "add", "shop", "--origin", "https://shop.herokuapp.com"))
    lines = dict(line.split(None, 1) for line in out.splitlines()[:5])
    assert lines["backend"] == "shop"
    assert lines["preview"] == "shop.preview.localhost"
    assert lines["origin"] == "https://shop.herokuapp.com"
    assert f"heroku config:set FLY_TOKEN={lines['token']}\n" in out
    with State.open(tmp_path / "flyby") as state:
        token = state.authenticate(lines["token"])
        assert token is not None
        assert (token.backend, token.backend_id) == ("shop", lines["id"])


def test_for_a_program_it_is_json(run: Run) -> None:
    added = parsed(run("backend", "add", "shop", "--json", "--origin", "http://a", "--origin", "http://b"))
    assert (added["name"], added["origins"], added["preview"]) == (
        "shop",
        ["http://a", "http://b"],
        "shop.preview.localhost",
    )
    [listed] = parsed(run("backend", "list", "--json"))
    token = added.pop("token")
    assert listed == {**added, "live_tokens": 1}
    shown = parsed(run("backend", "show", "shop", "--json"))
    assert [each["id"] for each in shown["tokens"]] == [token.split("_")[1]]
    assert shown["releases"] == []
    made = parsed(run("token", "create", "shop", "--json"))
    listed = parsed(run("token", "list", "shop", "--json"))
    assert [each["id"] for each in listed] == [token.split("_")[1], made["id"]]
    assert made["token"].startswith(f"fly_{made['id']}_")
    revoked = parsed(run("token", "revoke", "shop", made["id"], "--json"))
    assert revoked["revoked_ms"] > 0
    assert parsed(run("backend", "remove", "shop", "--yes", "--json")) == {"removed": "shop"}
    assert parsed(run("backend", "list", "--json")) == []


def test_tables_are_tidy(run: Run) -> None:
    assert sound(run("backend", "list")) == "no backends yet (flyby backend add NAME)\n"
    sound(run("backend", "add", "a-long-name", "--origin", "http://a"))
    sound(run("backend", "add", "b"))
    header, first, second = sound(run("backend", "list")).splitlines()
    assert header.split() == ["NAME", "PREVIEW", "ORIGINS", "TOKENS", "CREATED"]
    assert first.split()[:4] == ["a-long-name", "a-long-name.preview.localhost", "http://a", "1"]
    assert second.split()[:4] == ["b", "b.preview.localhost", "-", "1"]
    assert len({line.index(word) for line, word in ((header, "PREVIEW"), (first, "a-long-name."), (second, "b."))}) == 1


def test_a_backend_is_shown_with_its_tokens_and_releases(run: Run, tmp_path: Path) -> None:
    sound(run("backend", "add", "shop"))
    with State.open(tmp_path / "flyby") as state:
        for number in range(1, 8):
            state.record_release("shop", f"v{number}", branch="main")
        state.release_ready("shop", "v7")
    out = sound(run("backend", "show", "shop"))
    assert "shop.preview.localhost" in out
    assert "TOKEN" in out
    releases = out[out.index("RELEASE") :].splitlines()
    assert len(releases) == 6  # a header and the latest five


def test_what_a_dyno_says_of_its_release_moves_no_cursor(run: Run, tmp_path: Path) -> None:
    sound(run("backend", "add", "shop"))
    with State.open(tmp_path / "flyby") as state:
        state.record_release("shop", "v1\x1b[2J", description="\x1b]0;x\x07\nshop  trusted", branch="a\rb")
    out = sound(run("backend", "show", "shop"))
    assert "v1?[2J" in out
    assert "?]0;x??shop  trusted" in out
    assert all(character.isprintable() or character == "\n" for character in out)


def test_a_token_is_rotated_without_a_gap(run: Run) -> None:
    first = parsed(run("backend", "add", "shop", "--json"))["token"]
    out = sound(run("token", "create", "shop"))
    old = first.split("_")[1]
    assert f"flyby token revoke shop {old}" in out
    assert "has 2 live tokens already" in refused(run("token", "create", "shop"), 1)
    assert "name one of" in refused(run("token", "revoke", "shop"), 1)
    # The whole text will do for an id: it is what somebody has at hand whose token has leaked.
    assert sound(run("token", "revoke", "shop", first)) == f"token {old} of shop revoked\n"
    assert sound(run("token", "revoke", "shop", old)) == f"token {old} of shop revoked\n"
    assert "nobody can be asked" in refused(run("token", "revoke", "shop"), 2)
    assert sound(run("token", "revoke", "shop", "--yes")).startswith("token ")
    assert "has no live tokens (flyby token create shop)" in refused(run("token", "revoke", "shop"), 1)
    statuses = [line.split()[-1] for line in sound(run("token", "list", "shop")).splitlines()[1:]]
    assert "-" not in statuses


def test_a_removal_asks_first(run: Run, tmp_path: Path) -> None:
    sound(run("backend", "add", "shop"))
    assert "nobody can be asked: say --yes" in refused(run("backend", "remove", "shop"), 2)
    with State.open(tmp_path / "flyby") as state:
        assert state.backend("shop") is not None
    assert sound(run("backend", "remove", "shop", "--yes")) == "backend shop removed\n"
    assert "there is no backend shop" in refused(run("backend", "remove", "shop", "--yes"), 1)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["backend", "add", "My_Shop"], 2, 'did you mean "my-shop"?'),
        (["backend", "add", "shop", "--origin", "shop.example"], 2, "is not an http:// or https:// URL"),
        (["backend", "show", "shop"], 66, "flyby.db is not there (flyby backend add NAME makes it)"),
        (["token", "list", "shop"], 66, "flyby.db is not there"),
        (["backend", "list", "--state", "/dev/null"], 66, "/dev/null is not a directory"),
        (["backend", "add", "shop", "--state", "/proc/flyby"], 73, "cannot be made"),
        (["backend", "add", "shop", "-c", "/nowhere/flyby.toml"], 78, "/nowhere/flyby.toml: cannot be read"),
    ],
)
def test_what_is_wrong_is_one_line(run: Run, arguments: list[str], code: int, told: str) -> None:
    assert told in refused(run(*arguments), code)


def test_reading_makes_nothing(run: Run, tmp_path: Path) -> None:
    sound(run("backend", "list"))
    refused(run("backend", "show", "shop"), 66)
    assert list(tmp_path.iterdir()) == []


def test_a_token_of_another_backend_is_not_taken(run: Run) -> None:
    other = parsed(run("backend", "add", "blog", "--json"))["token"]
    sound(run("backend", "add", "shop"))
    assert f"backend shop has no token {other.split('_')[1]}" in refused(run("token", "revoke", "shop", other), 1)


def test_the_place_and_the_domain_are_those_of_the_edge(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "flyby.toml"
    file.write_text(f'[server]\nstate = "{tmp_path}/there"\npreview_domain = "preview.example.com"\n')
    assert "shop.preview.example.com" in sound(run("backend", "add", "shop", "-c", str(file)))
    assert (tmp_path / "there" / DATABASE).exists()
    sound(run("backend", "add", "blog", "-c", str(file), "--state", str(tmp_path / "elsewhere")))
    assert (tmp_path / "elsewhere" / DATABASE).exists()
    file.write_text('[server]\npreview_domain = ""\n')
    assert parsed(run("backend", "add", "none", "--json", "-c", str(file)))["preview"] is None
