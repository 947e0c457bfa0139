"""The documents keep pace with the code: every key with its default, every example valid, every link to something."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from flyby.cli.figures import requests_report
from flyby.config import Config, model
from flyby.config.values import parse_size
from flyby.metrics import MetricsSnapshot
from flyby.policy import Outcome, Profile, Reason
from flyby.server.supervisor import KILL_GRACE_S
from flyby.store import StoreStatistics
from tests.test_house import FLOORS, ROOMS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    "README.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md")),
)
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()

SECTIONS = {
    "`[server]`": model.Server,
    "`[[server.tls]]`": model.Certificate,
    "`[server.limits]`": model.Limits,
    "`[server.timeouts]`": model.Timeouts,
    "`[server.purge]`": model.Purge,
    "`[server.tunnel]`": model.Tunnel,
    "`[cache]`": model.Cache,
    "`[backends.NAME]`": model.Backend,
    "`[backends.NAME.pool]`": model.Pool,
    "`[backends.NAME.health]`": model.Health,
    "`[backends.NAME.eject]`": model.Eject,
    "`[[routes]]`": model.Route,
    "`routes.redirect`": model.Redirect,
    "`routes.cache`": model.RouteCache,
    "`routes.request_headers`, `routes.response_headers`": model.HeaderRules,
}
# Tables that have a heading of their own, and so no line in the table above them.
OWN_HEADING = {tuple(heading.strip("`[]").rsplit(".", 1)) for heading in SECTIONS if heading.startswith("`[")}


def described(heading: str) -> dict[str, str]:
    """The keys of the table below a heading, and the default that it gives for each."""
    [section] = re.findall(rf"^##+ {re.escape(heading)}\n(.*?)(?=^## |^### |\Z)", CONFIGURATION, re.M | re.S)
    rows: list[tuple[str, str]] = re.findall(r"^\| `(\w+)` \|([^|]*)\|", section, re.M)
    return {key: told.strip() for key, told in rows}


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_is_described_and_no_other(heading: str) -> None:
    own = {key for key in SECTIONS[heading].__struct_fields__ if (heading.strip("`[]"), key) in OWN_HEADING}
    assert set(described(heading)) == set(SECTIONS[heading].__struct_fields__) - own


@pytest.mark.parametrize("heading", SECTIONS)
def test_defaults_are_those_of_the_code(heading: str) -> None:
    made = SECTIONS[heading]()
    for key, told in described(heading).items():
        default = getattr(made, key)
        if not told.startswith("`"):  # in words: there is no value to compare
            assert default in (None, "", []) or isinstance(default, model.Table | bool), key
            continue
        value = tomllib.loads(f"value = {told.strip('`')}")["value"]
        if isinstance(value, str) and isinstance(default, int):
            value = parse_size(value)
        assert value == default, key


@pytest.mark.parametrize("document", DOCUMENTS)
def test_examples_are_valid(document: str, tmp_path: Path) -> None:
    text = (ROOT / document).read_text().replace("/run/flyby/", f"{tmp_path}/")  # which is there only under systemd
    for example in re.findall(r"^```toml\n(.*?)^```", text, re.M | re.S):
        Config.from_text(example)
    for example in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
        ast.parse(example)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files_that_exist(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_modules_that_are_named_exist() -> None:
    text = (ROOT / "docs" / "life-of-a-request.md").read_text()
    packages = {path.parent.name for path in ROOT.glob("src/flyby/*/__init__.py")}
    # A room of the proxy is named without its floor.
    named = re.findall(rf"`((?:{'|'.join([*packages, *ROOMS])})/[\w/]*(?:\.pyx?)?)`", text)
    assert len(named) > 10
    for name in named:
        places = [ROOT / "src" / "flyby" / name, ROOT / "src" / "flyby" / "proxy" / name]
        assert any(Path(f"{place}{end}").exists() for place in places for end in ("", ".py", ".pyx")), name
    assert set(re.findall(r"^\| `(\w+)/` \|", text, re.M)) == packages | {*ROOMS}
    [floors] = re.findall(r"^`(errors · .*)`$", text, re.M)
    assert re.split(" [·│] ", floors) == [name for names in FLOORS for name in names]
    [rooms] = re.findall(r"^`(road │ .*)`$", text, re.M)
    assert rooms.split(" │ ") == [*ROOMS]


def test_every_outcome_and_reason_is_explained() -> None:
    text = (ROOT / "docs" / "caching.md").read_text()
    told = {word for cell in re.findall(r"^\| (`[^|]*`) \|", text, re.M) for word in re.findall(r"`([\w-]+)`", cell)}
    assert {word.value for word in (*Outcome, *Reason)} <= told


def test_every_point_of_a_profile_is_told() -> None:
    text = (ROOT / "docs" / "caching.md").read_text()
    [table] = re.findall(r"^\| point \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.M)
    # Cookies are one guard and two lines.
    assert len(table.splitlines()) == len(Profile.__dataclass_fields__) + 1


def service() -> dict[str, list[str]]:
    """The keys of the unit, and every value that each is given, in their order."""
    found: dict[str, list[str]] = {}
    for number, line in enumerate((ROOT / "docs" / "flyby.service").read_text().splitlines(), 1):
        if line and not re.fullmatch(r"\[(?:Unit|Service|Install)\]|#.*", line):
            key, equals, value = line.partition("=")
            assert re.fullmatch(r"[A-Z]\w+", key), f"line {number}"
            assert equals, f"line {number}"
            assert value, f"line {number}"
            found.setdefault(key, []).append(value)
    return found


def test_the_unit_fits_what_flyby_does() -> None:
    unit = service()
    assert unit["ExecReload"][-1] == "/bin/kill -HUP $MAINPID"
    assert int(unit["TimeoutStopSec"][0]) > model.Timeouts().drain_s + KILL_GRACE_S
    text = (ROOT / "docs" / "operations.md").read_text()
    told = tomllib.loads(re.findall(r"^```toml\n(.*?)^```", text, re.M | re.S)[0])
    assert told["server"]["state"] == f"/var/lib/{unit['StateDirectory'][0]}"
    assert told["cache"]["path"].startswith(f"/run/{unit['RuntimeDirectory'][0]}/")
    for line in re.findall(r"^\| (`[A-Z].*?) \|", text, re.M):
        for key, value in re.findall(r"`([A-Z]\w+)=([^`]*)`", line):
            assert value in ("", *unit[key]), key


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    verifier = shutil.which("systemd-analyze")
    path = tmp_path / "flyby.service"
    # What it starts is not installed here, and may not be missing.
    path.write_text((ROOT / "docs" / "flyby.service").read_text().replace("/opt/flyby/bin/flyby", "/bin/true"))
    if verifier is not None:  # else the test above has read it
        ran = subprocess.run([verifier, "verify", path], capture_output=True, text=True)
        assert (ran.returncode, [line for line in ran.stderr.splitlines() if str(path) in line]) == (0, [])


def test_figures_to_watch_are_figures_that_there_are() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    [table] = re.findall(r"^\| figure \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.M)
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    requests = {*requests_report(MetricsSnapshot())}
    assert requests - named == set()
    assert named - requests <= {*StoreStatistics.__dataclass_fields__}
    assert len(named - requests) > 8
