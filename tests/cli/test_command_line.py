"""The command line: manners, exit codes, and that options and a file make the same configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flyby import __version__
from flyby.cli import main
from flyby.cli.serve import Options, configured
from flyby.config import Backend, Config, Route
from flyby.errors import ConfigError
from tests.certificates import issue

SOUND = '[backends.app]\norigins = ["http://a"]\nverify = false\n'
FAULTY = '[server]\nworkes = 3\nlog = "jsn"\n'


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "flyby.toml"
        path.write_text(text)
        return str(path)

    return write


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"flyby {__version__}\n"


def test_without_a_command_the_help_is_shown_as_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "check" in err
    assert "serve" in err


@pytest.mark.parametrize("group", ["agent", "backend", "buildpack", "token"])
def test_a_group_without_a_command_shows_what_it_has(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(group) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"Usage: flyby {group} [OPTIONS] COMMAND [ARGS]...\n\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serv"], "flyby: No such command 'serv'. Did you mean 'serve'? (see flyby --help)"),
        (["wash"], "flyby: No such command 'wash'."),
        (["serve", "--listen", "8080"], "flyby serve: Invalid value for '--listen': '8080' is only a port"),
        (["serve", "--listen", "a:1", "--listen", "b"], "'b' has no port"),
        (["serve", "--listen", "a:1", "--listen", "a:1"], '"a:1" is given twice'),
        (["serve", "--origin", "localhost:5000"], "write http://localhost:5000"),
        (["serve", "--origin", "http://a", "--origin", "http://a"], "is given twice in backend"),
        (["serve", "--workers", "0"], "'0' is neither a number from 1 to 1024 nor auto"),
        (["serve", "--workers", "٣"], "is neither a number"),
        (["serve", "--cache-size", "big"], "'big' is not a size such as"),
        (["serve", "--cache-size", "1"], "1 bytes are too small for a cache (the least is 1MiB)"),
        (["serve", "--profile", "strict"], "'strict' is not one of 'default', 'rfc9111'"),
        (["serve", "--log", "xml"], "'xml' is not one of"),
        (["serve", "--porfile", "x"], "No such option"),
        (["serve", "extra"], "unexpected extra argument"),
        (["check", "--json=1"], "does not take a value"),
        (["serve", "http://a"], "unexpected extra argument 'http://a'; write --origin http://a"),
        (["serve", "flyby.toml"], "unexpected extra argument 'flyby.toml'; write -c flyby.toml"),
    ],
)
def test_wrong_use_is_one_line_and_2(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err


def test_check_of_a_sound_file(file: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    path = file(SOUND)
    assert run("check", "-c", path) == 0
    assert capsys.readouterr().out == f"{path}: ok, 1 backend, 1 route\n"
    assert run("check", "-c", path, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"file": path, "ok": True, "problems": [], "remarks": []}


def test_check_takes_the_file_without_an_option(file: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    path = file(SOUND)
    assert run("check", path) == 0
    assert run("check", path, "-c", path) == 2
    assert "FILE and --config name the same thing" in capsys.readouterr().err


def test_check_warns_with_a_place(file: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    path = file(SOUND + "[[routes]]\npath = '/img/.*'\n")
    assert run("check", path) == 0
    warning = 'warning: "/img/.*" is matched literally: it is no regular expression and no template (write /img/*rest)'
    assert capsys.readouterr().out.splitlines()[1] == f"{path}:5:8: {warning}"
    assert run("check", path, "--json") == 0
    [remark] = json.loads(capsys.readouterr().out)["remarks"]
    assert (remark["line"], remark["column"], remark["hint"]) == (5, 8, "write /img/*rest")


def test_a_byte_order_mark_means_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "flyby.toml"
    path.write_bytes(b"\xef\xbb\xbf[server]\nx = 1\n")
    assert run("check", str(path)) == 78
    assert capsys.readouterr().out.startswith(f'{path}:2:1: unknown key "x"')


def test_check_prints_each_problem_on_a_line(file: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    path = file(FAULTY)
    assert run("check", "-c", path) == 78
    out, err = capsys.readouterr()
    assert err == ""
    first, second = out.splitlines()
    assert first == f'{path}:2:1: unknown key "workes" (did you mean "workers"?)'
    assert second.startswith(f'{path}:3:7: "jsn" is not one of')


def test_check_as_json(file: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    path = file(FAULTY)
    assert run("check", "--config", path, "--json") == 78
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"]
    assert report["problems"][0] == {
        "file": path,
        "line": 2,
        "column": 1,
        "message": 'unknown key "workes"',
        "hint": 'did you mean "workers"?',
    }


def test_serve_refuses_a_faulty_file_as_check_does(
    file: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = file(FAULTY)
    assert run("serve", "-c", path) == 78
    told = capsys.readouterr().err
    run("check", "-c", path)
    assert told == capsys.readouterr().out


def test_options_and_the_file_that_they_print_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--listen :0 --listen [::1]:0 --origin http://a:1 --origin https://b --workers 2 --cache-size 1GiB"
    assert run("serve", *arguments.split(), "--profile", "rfc9111", "--log", "json", "--print-config") == 0
    (tmp_path / "printed.toml").write_text(capsys.readouterr().out)
    printed = Config.load(tmp_path / "printed.toml")
    assert printed == configured(
        Options(
            listen=(":0", "[::1]:0"),
            origin=("http://a:1", "https://b"),
            workers=2,
            cache_size="1GiB",
            profile="rfc9111",
            log="json",
        )
    )
    assert printed.server.listen == [":0", "[::1]:0"]
    assert (printed.server.workers, printed.server.log) == (2, "json")
    assert (printed.cache.size_bytes, printed.cache.profile) == (1 << 30, "rfc9111")
    assert printed.backends == {"origin": Backend(origins=["http://a:1", "https://b"])}
    assert printed.routes == [Route(backend="origin")]
    assert not printed.empty


def test_without_anything_the_demo_is_served() -> None:
    assert configured(Options()) == Config()
    assert configured(Options(workers=1, listen=("127.0.0.1:0",))).empty


@pytest.mark.parametrize(
    ("arguments", "demo"),
    [
        ("", "alone"),
        ("--listen :0 --workers 1", "alone"),
        ("--demo", "yes"),
        ("-c FILE", "no"),
        ("-c FILE --demo", "yes"),
        ("--tls-cert CERT --tls-key KEY --listen https://:0", "no"),
    ],
)
def test_the_demo_is_for_an_edge_that_nobody_has_configured(
    arguments: str, demo: str, file: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted: list[str] = []

    def serve(config: Config, *, demo: str, reload: Callable[[], Config]) -> int:
        wanted.append(demo)
        return 0

    monkeypatch.setattr("flyby.server.run", serve)
    certificate, key = issue(tmp_path, "a", "a.example")
    names = {"FILE": file("[server]\npreview_domain = 'p.example'\n"), "CERT": certificate, "KEY": key}
    assert run("serve", *(names.get(word, word) for word in arguments.split())) == 0
    assert wanted == [demo]


def test_the_demo_beside_a_backend_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("serve", "--demo", "--origin", "http://a") == 2
    assert "--demo serves the demo app, but a backend or route is named" in capsys.readouterr().err


def test_options_override_a_file_and_leave_the_rest(file: Callable[[str], str]) -> None:
    path = file('[server]\nlog = "json"\nworkers = 3\n' + SOUND)
    config = configured(Options(path=path, workers="auto", origin=("http://b",)))
    assert (config.server.log, config.server.workers) == ("json", "auto")
    assert config.backends == {"app": Backend(origins=["http://b"], verify=False)}


def test_an_origin_follows_the_redirects_of_a_file(file: Callable[[str], str]) -> None:
    config = configured(Options(path=file("[[routes]]\npath = '/x'\nredirect.to = '/y'\n"), origin=("http://b",)))
    assert [route.backend for route in config.routes] == [None, "origin"]


def test_an_origin_beside_several_backends_is_wrong_use(
    file: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = file(SOUND + "[backends.b]\norigins = ['http://b']\n[[routes]]\nbackend = 'b'\n")
    assert run("serve", "-c", path, "--origin", "http://c") == 2
    assert "--origin could be any of the file's backends (app, b)" in capsys.readouterr().err


def test_serve_runs_the_server_and_reload_reads_the_file_again(
    file: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file(SOUND)
    seen: list[Config] = []

    def serve(config: Config, *, demo: str, reload: Callable[[], Config]) -> int:
        assert demo == "no"
        seen.append(config)
        file('[server]\nworkers = 7\nlog = "json"\n' + SOUND)
        seen.append(reload())
        file(FAULTY)
        with pytest.raises(ConfigError) as caught:
            reload()
        assert len(caught.value.problems) == 2
        return 77

    monkeypatch.setattr("flyby.server.run", serve)
    assert run("serve", "-c", path, "--log", "off") == 77
    assert [(each.server.workers, each.server.log) for each in seen] == [("auto", "off"), (7, "off")]


def test_a_check_loads_neither_the_proxy_nor_the_loop() -> None:
    code = """
import contextlib, sys, flyby.cli
with contextlib.suppress(SystemExit):
    flyby.cli.main(["serve", "--print-config"])
unwanted = ("asyncio", "uvloop", "httptools", "ssl", "flyby.proxy", "flyby.server")
print([name for name in unwanted if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -m flyby check -c /no/such/file | :'],
        capture_output=True,
        text=True,
        check=False,
        env=_environment(),
    )
    assert done.stderr == ""


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": "/usr/bin:/bin"}
