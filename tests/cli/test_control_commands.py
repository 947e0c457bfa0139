"""`flyby backend` and `flyby token`: what they print, what they change, and how they refuse."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyby.cli import main
from flyby.cli.dynos import age, connected
from flyby.cli.edges import RunningEdge, described, running_edges
from flyby.control import DATABASE, State, presence
from flyby.errors import ConfigError
from tests.edge import served

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
    lines = dict(line.split(None, 1) for line in out.splitlines()[:6])
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
    assert listed == {**added, "live_tokens": 1, "dynos": []}
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


def test_tables_are_tidy(run: Run, tmp_path: Path) -> None:
    assert sound(run("backend", "list")) == f"no backends yet in {tmp_path / 'flyby'} (flyby backend add NAME)\n"
    sound(run("backend", "add", "a-long-name", "--origin", "http://a"))
    sound(run("backend", "add", "b"))
    header, first, second = sound(run("backend", "list")).splitlines()
    assert header.split() == ["NAME", "PREVIEW", "ORIGINS", "TOKENS", "DYNOS", "CREATED"]
    assert first.split()[:5] == ["a-long-name", "a-long-name.preview.localhost", "http://a", "1", "0"]
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


# ---- which state, and who reads it -----------------------------------------------------------------------------------


def options(*arguments: str, home: str = "/srv", **environment: str) -> RunningEdge:
    return described(7, list(arguments), Path(home), environment)


def test_an_edges_state_is_that_of_its_options_its_file_and_its_environment(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text('[server]\nstate = "kept"\npreview_domain = "preview.example.com"\n')
    plain = tmp_path / "plain.toml"
    plain.write_text("")
    assert options("--state", "/a").directory == Path("/a")
    assert options("--state", "a").directory == Path("/srv/a")
    assert options(f"--config={file}", "--workers", "2").directory == Path("/srv/kept")
    assert options("-c", str(file)).preview_domain == "preview.example.com"
    assert options("-c", "edge.toml", home=str(tmp_path)).config == str(file)
    assert options("-c", str(file), "--state", "/b").directory == Path("/b")
    assert options("-c", str(plain), STATE_DIRECTORY="/var/lib/flyby").directory == Path("/var/lib/flyby")
    assert options(XDG_STATE_HOME="/x").directory == Path("/x/flyby")
    assert options().preview_domain == "preview.localhost"


def test_an_edge_whose_file_is_gone_is_left_out(tmp_path: Path) -> None:
    assert running_edges(tmp_path) == []
    with pytest.raises((OSError, ConfigError)):
        options("-c", str(tmp_path / "gone.toml"))


def edge(directory: Path, process: int = 7) -> RunningEdge:
    return RunningEdge(process, directory, "preview.example.com", None)


@pytest.fixture
def at_home(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Nobody names a place: the default one is below `tmp_path / "home"`, and these edges run."""
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def running(*edges: RunningEdge) -> None:
        monkeypatch.setattr("flyby.cli.state.running_edges", lambda: list(edges))

    running()
    return running


def test_without_an_option_the_state_of_the_edge_that_runs_here_is_meant(
    run: Run, tmp_path: Path, at_home: Callable[..., None]
) -> None:
    at_home(edge(tmp_path / "unit"))
    out = sound(run("backend", "add", "shop"))
    assert "shop.preview.example.com" in out
    assert f"{tmp_path / 'unit'}\n" in out
    assert "No edge" not in out
    with State.open(tmp_path / "unit", create=False) as state:
        assert state.backend("shop") is not None
    assert "shop.preview.example.com" in sound(run("backend", "list"))
    assert parsed(run("backend", "show", "shop", "--json"))["edges"] == [7]


def test_two_workers_worth_of_edges_with_one_state_are_one_place(
    run: Run, tmp_path: Path, at_home: Callable[..., None]
) -> None:
    at_home(edge(tmp_path / "unit"), edge(tmp_path / "unit", 8))
    assert parsed(run("backend", "add", "shop", "--json"))["edges"] == [7, 8]


def test_between_several_edges_somebody_has_to_choose(run: Run, tmp_path: Path, at_home: Callable[..., None]) -> None:
    at_home(edge(tmp_path / "one"), edge(tmp_path / "two", 8))
    told = refused(run("backend", "add", "shop"), 2)
    assert "several edges run here" in told
    assert f"process 8, state {tmp_path / 'two'}" in told
    assert "No edge" not in sound(run("backend", "add", "shop", "--state", str(tmp_path / "two")))


def test_a_state_that_no_edge_reads_is_said_plainly(run: Run, tmp_path: Path, at_home: Callable[..., None]) -> None:
    default = tmp_path / "home/.local/state/flyby"
    out = sound(run("backend", "add", "shop"))
    assert f"No edge that this user can see runs with this state, {default}." in out
    assert "(no edge runs with it)" in sound(run("backend", "show", "shop"))
    assert "No edge" in sound(run("token", "create", "shop"))
    at_home(edge(tmp_path / "unit"))  # one that was started later does not take the default's place
    assert "No edge" in sound(run("backend", "add", "more"))
    assert parsed(run("backend", "list", "--json"))[0]["edges"] == []
    at_home(edge(default))
    assert "No edge" not in sound(run("backend", "add", "again"))


def test_a_running_edge_is_found_with_its_state_and_its_domain(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    file = '[server]\npreview_domain = "preview.test"\n'
    with served("--state", state, config=file, workers=1) as edge:
        [found] = [each for each in running_edges() if each.process == edge.process.pid]
        assert (found.directory, found.preview_domain) == (Path(state), "preview.test")


# ---- dynos -----------------------------------------------------------------------------------------------------------


def dyno(id_: str = "a" * 32, **values: Any) -> dict[str, Any]:
    usual = {"id": id_, "name": "web.1", "release": "v7", "region": "eu", "state": "ready", "joined_ms": 1000}
    return {**usual, "in_flight": 1, "idle": 8, "latency_ms": 2.5, "failures": 0, **values}


def worker(number: int, *dynos: dict[str, Any], node: str = "edge-1") -> dict[str, Any]:
    return {"node": node, "worker": number, "workers": 2, "backends": {"shop": list(dynos)}}


def test_the_dynos_of_all_workers_are_put_together(tmp_path: Path) -> None:
    presence.publish(tmp_path, "b-0", worker(0, dyno(joined_ms=2000), dyno("b" * 32, name="web.2")))
    presence.publish(tmp_path, "b-1", worker(1, dyno(in_flight=3, latency_ms=9.0, state="ejected", failures=5)))
    first, second = connected(tmp_path)["shop"]
    assert (first.name, first.in_flight, first.idle, first.latency_ms, first.failures) == ("web.1", 4, 16, 9.0, 5)
    assert (first.state, first.joined_ms, first.workers, first.of_workers) == ("ready 1, ejected 1", 1000, 2, 2)
    assert (second.name, second.state, second.workers) == ("web.2", "ready", 1)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"backends": []},
        {"backends": {"shop": {}}},
        {"backends": {"shop": ["x", None]}},
        {"backends": {"other": [{}]}},
    ],
)
def test_what_a_worker_says_amiss_is_left_out(tmp_path: Path, said: dict[str, Any]) -> None:
    presence.publish(tmp_path, "b-0", said)
    assert "shop" not in connected(tmp_path)


def test_dynos_are_shown_with_what_matters(run: Run, tmp_path: Path) -> None:
    sound(run("backend", "add", "shop"))
    assert "no dyno is connected" in sound(run("backend", "show", "shop"))
    presence.publish(tmp_path / "flyby", "b-0", worker(0, dyno(name="web\x1b.1", region="")))
    out = sound(run("backend", "show", "shop"))
    header, line = (each.split() for each in out.splitlines() if each.startswith(("DYNO", "web")))
    assert header == ["DYNO", "RELEASE", "STATE", "AGE", "IN", "FLIGHT", "IDLE", "LATENCY", "WORKERS", "REGION", "NODE"]
    assert line[:4] == ["web?.1", "(aaaaaaaa)", "v7", "ready"]
    assert line[-7:] == ["1", "8", "2.5", "ms", "1/2", "-", "edge-1"]
    assert parsed(run("backend", "list", "--json"))[0]["dynos"][0]["in_flight"] == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0, "0s"), (59, "59s"), (60, "1m 0s"), (3725, "1h 2m"), (90_000, "1d 1h"), (864_000, "10d 0h")],
)
def test_an_age_is_its_two_largest_units(seconds: int, text: str) -> None:
    assert age(seconds * 1000) == text


# ---- one token, two edges --------------------------------------------------------------------------------------------


def imported(run: Run, monkeypatch: pytest.MonkeyPatch, text: str, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    return run("token", "import", *arguments)


def test_a_token_of_one_edge_is_made_good_on_another(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = parsed(run("backend", "add", "shop", "--json", "--state", str(tmp_path / "one")))["token"]
    two = ("--state", str(tmp_path / "two"))
    assert "is not there" in refused(imported(run, monkeypatch, token, "shop", *two), 66)
    out = sound(imported(run, monkeypatch, f"{token}\n", "shop", "--add", *two))
    assert f"token {token.split('_')[1]} of shop is good here" in out
    assert token not in out
    sound(imported(run, monkeypatch, token, "shop", *two))  # again changes nothing
    with State.open(tmp_path / "two", create=False) as state:
        record = state.authenticate(token)
        assert record is not None
        assert record.backend == "shop"
        assert len(state.tokens("shop")) == 1


def test_a_token_that_cannot_be_taken_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    token = parsed(run("backend", "add", "shop", "--json"))["token"]
    sound(run("backend", "add", "other"))
    assert "that is not the text of a token" in refused(imported(run, monkeypatch, "", "shop"), 65)
    assert "that is not the text of a token" in refused(imported(run, monkeypatch, token + "x", "shop"), 65)
    assert "is shop's" in refused(imported(run, monkeypatch, token, "other"), 1)
    forged = token[:-1] + ("0" if token[-1] != "0" else "1")
    assert "has another secret here" in refused(imported(run, monkeypatch, forged, "shop"), 1)
    sound(run("token", "create", "shop"))
    sound(run("token", "revoke", "shop", token))
    assert "is revoked here" in refused(imported(run, monkeypatch, token, "shop"), 1)
    sound(run("token", "create", "shop"))
    strange = "fly_" + "A" * 8 + "_" + "B" * 43
    assert "2 live tokens already" in refused(imported(run, monkeypatch, strange, "shop"), 1)
    assert "nowhere" in refused(imported(run, monkeypatch, strange, "nowhere"), 1)
