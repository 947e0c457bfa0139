"""The house keeps its order: what may import what, where I/O may happen, how long and how named a file may be.

The floors are a list from left to right, and a module imports only from its own floor and from those on its left; the
rooms of `proxy` are such a list too. No module imports itself by way of others, and that includes imports within
functions and those for types alone, but not what only a Cython module's stub needs for its types.

Both languages are read: Python by its syntax tree, Cython (imports and cimports) line by line.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
PACKAGE = SRC / "flyby"

FLOORS = (
    ("errors",),
    ("clock",),
    ("config",),
    ("metrics",),
    ("log",),
    ("wire",),
    ("policy",),
    ("store",),
    ("upstream",),
    ("control",),
    ("proxy",),
    ("tunnel", "heroku"),
    ("server", "demo"),
    ("cli",),
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}

# The rooms of the proxy floor. `lane` is the rightmost: it hands on to every room, and only `server` knows it.
ROOMS = ("road", "routing", "stored", "transform", "fetching", "decision", "http1", "lane")
ROOM = {name: number for number, name in enumerate(ROOMS)}

# Circles of imports that there still are, to be broken; a new one, or a module more in one of these, is a fault. Only
# that of the configuration is more than types: the model reads, checks and writes itself by imports within its methods.
CIRCLES = (
    {
        "flyby.config.coverage",
        "flyby.config.header_rules",
        "flyby.config.load",
        "flyby.config.model",
        "flyby.config.remarks",
        "flyby.config.render",
        "flyby.config.route_rules",
        "flyby.config.rules",
        "flyby.config.shape",
    },
    {"flyby.store._candidates", "flyby.store._shard"},
    {"flyby.proxy.road._exchange", "flyby.proxy.road.arrival"},
    {"flyby_agent.agent", "flyby_agent.node"},
)

# Beyond the order: the store knows bytes and times but no HTTP, the upstream knows neither store nor policy, the
# control state nothing of a proxy, and the demo is an application like any other.
STRANGERS = {
    "store": {"wire", "policy"},
    "upstream": {"policy", "store"},
    "control": {*FLOOR} - {"errors", "clock", "control"},
    "demo": {*FLOOR} - {"demo"},
}

PURE = ("wire", "policy")
IO_MODULES = {
    "asyncio",
    "concurrent",
    "io",
    "logging",
    "mmap",
    "multiprocessing",
    "os",
    "pathlib",
    "posix",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "uvloop",
}  # fmt: skip
IO_CALLS = {"open", "print", "input", "now", "utcnow", "today"}

MOST_LINES = 500
MOST_COLUMNS = 120
BANNED_NAMES = {"base", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|NotImplementedError)\b")

TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "benchmarks",
    "docs",
    "examples",
    "pyproject.toml",
    "setup.py",
    "src",
    "tests",
    "tox.ini",
}

PYTHON = sorted(SRC.rglob("*.py"))
CYTHON = sorted(SRC.rglob("*.pyx"))
DECLARATIONS = sorted(SRC.rglob("*.pxd"))
STUBS = sorted(SRC.rglob("*.pyi"))
SOURCES = [*PYTHON, *CYTHON]
PURE_SOURCES = [path for floor in PURE for path in [*SOURCES, *DECLARATIONS] if PACKAGE / floor in path.parents]
AGENT = "flyby_agent"  # stands apart: it runs in a dyno, without flyby
AGENT_PYTHON = (3, 9)
AGENT_SOURCES = sorted((SRC / AGENT).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def shown(path: object) -> str:
    return str(path.relative_to(ROOT)) if isinstance(path, Path) else str(path)


class Import(NamedTuple):
    line: int
    module: str
    name: str = ""  # the name in `from module import name`


def module_of(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def absolute(path: Path, module: str, level: int) -> str:
    if not level:
        return module
    package = list(path.parent.relative_to(SRC).parts)
    return ".".join([*package[: len(package) - level + 1], *([module] if module else [])])


def python_imports(path: Path) -> Iterator[Import]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = absolute(path, node.module or "", node.level)
            for alias in node.names:
                yield Import(node.lineno, module, alias.name)


FROM = re.compile(r"\s*from\s+(\.*)([\w.]*)\s+c?import\s+\(?\s*(.*)")
PLAIN = re.compile(r"\s*c?import\s+([\w., ]+)")
EXTERN = re.compile(r"\s*cdef\s+extern\s+from\s+[\"<]+([\w./]+)")


def cython_imports(path: Path) -> Iterator[Import]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        code = line.split("#")[0]
        if found := FROM.match(code):
            module = absolute(path, found[2], len(found[1]))
            names = re.findall(r"(\w+)(?:\s+as\s+\w+)?", found[3]) or [""]
            for name in names:
                yield Import(number, module, name)
        elif found := PLAIN.match(code):
            for name in found[1].split(","):
                yield Import(number, name.split()[0] if name.split() else "")


def imports(path: Path) -> Iterator[Import]:
    return cython_imports(path) if path.suffix in (".pyx", ".pxd") else python_imports(path)


def floor_of(each: Import) -> str | None:
    """The floor that an import reaches into; None when it stays outside of flyby."""
    parts = [*each.module.split("."), each.name]
    if parts[0] != "flyby":
        return None
    return next((part for part in parts[1:2] if part in FLOOR), "")


@pytest.mark.parametrize("path", [*SOURCES, *DECLARATIONS, *STUBS], ids=shown)
def test_imports_go_only_leftwards(path: Path) -> None:
    own = module_of(path).split(".")
    if own[0] != "flyby" or len(own) == 1 or own[1] == "__main__":
        return  # the package's front door and its entry point stand outside of the floors
    assert own[1] in FLOOR, f"{own[1]} has no floor: give it one in FLOORS"
    for each in imports(path):
        floor = floor_of(each)
        if floor is None or floor == own[1]:
            continue
        if floor == "":
            # `from flyby import …`: only the version, which stands nowhere else.
            assert each.name == "__version__", f"line {each.line} imports the package's front door"
            continue
        assert FLOOR[floor] <= FLOOR[own[1]], f"line {each.line}: {own[1]} imports {floor}, which is on its right"
        assert floor not in STRANGERS.get(own[1], set()), f"line {each.line}: {own[1]} must not know {floor}"


IN_ROOMS = [path for path in [*SOURCES, *DECLARATIONS, *STUBS] if PACKAGE / "proxy" in path.parents[1:]]


def room_of(module: str) -> str | None:
    """The room of `proxy` that a module lies in; None for all others."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["flyby", "proxy"] and len(parts) > 2 else None


@pytest.mark.parametrize("path", IN_ROOMS, ids=shown)
def test_rooms_import_only_leftwards(path: Path) -> None:
    own = room_of(module_of(path))
    assert own in ROOM, f"{own} has no place among the rooms: give it one in ROOMS"
    for each in imports(path):
        room = room_of(f"{each.module}.{each.name}")
        if room is not None:
            assert ROOM.get(room, 0) <= ROOM[own], f"line {each.line}: {own} imports {room}, which is on its right"


def import_graph() -> dict[str, set[str]]:
    """Which module imports which, of those in `src`; the version, which the front door holds, is no import of it."""
    files: dict[str, list[Path]] = {}
    for path in [*SOURCES, *DECLARATIONS]:
        files.setdefault(module_of(path), []).append(path)
    graph: dict[str, set[str]] = {}
    for module, paths in files.items():
        graph[module] = reached = set()
        for each in (each for path in paths for each in imports(path) if each.name != "__version__"):
            inner = f"{each.module}.{each.name}"
            reached.add(inner if inner in files else each.module)
        graph[module] = {other for other in reached if other in files and other != module}
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The largest sets of modules each of which reaches all others (strongly connected components)."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        ahead = [*graph[start]]
        while ahead:
            module = ahead.pop()
            if module not in seen:
                seen.add(module)
                ahead += graph[module]
        return seen

    reached = {module: reach(module) for module in graph}
    found: list[set[str]] = []
    for module in graph:
        circle = {other for other in reached[module] if module in reached[other]}
        if circle and circle not in found:
            found.append(circle)
    return found


def test_no_module_imports_itself_by_way_of_others() -> None:
    found = circles(import_graph())
    assert [sorted(circle) for circle in found if not any(circle <= known for known in CIRCLES)] == []


def test_a_circle_that_is_broken_is_no_longer_listed() -> None:
    found = circles(import_graph())
    assert [sorted(known) for known in CIRCLES if known not in found] == []


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": {"d"}, "f": {"a"}, "g": set()}
    assert circles(graph) == [{"a", "b", "c"}, {"d", "e"}]


@pytest.mark.parametrize("path", AGENT_SOURCES, ids=shown)
def test_the_agent_needs_nothing_but_an_old_python(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=AGENT_PYTHON)
    for each in imports(path):
        assert each.module.split(".")[0] in {AGENT, *sys.stdlib_module_names}, f"line {each.line}: {each.module}"


def imported_at_run_time(path: Path) -> Iterator[str]:
    """The top-level modules that a file needs when it runs: all but what stands below `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("path", [path for path in PYTHON if PACKAGE in path.parents], ids=shown)
def test_what_is_imported_is_installed_with_flyby(path: Path) -> None:
    if "buildpack" in path.parts:
        return  # package data: it runs in a build, not here
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = {re.split(r"[^\w-]", each, maxsplit=1)[0] for each in project["dependencies"]}
    foreign = {*imported_at_run_time(path)} - {*sys.stdlib_module_names, "flyby", AGENT}
    assert foreign <= required, "pip install . does not bring it: add it to the dependencies, or do without"


def test_only_the_command_line_knows_the_agent_and_who_gives_it_away() -> None:
    knowing = {path for path in SOURCES if PACKAGE in path.parents for each in imports(path) if AGENT in each.module}
    assert knowing == {PACKAGE / "cli" / "agent.py", PACKAGE / "cli" / "buildpack.py", PACKAGE / "server" / "edge.py"}


@pytest.mark.parametrize("path", PURE_SOURCES, ids=shown)
def test_the_pure_floors_do_no_io(path: Path) -> None:
    for each in imports(path):
        assert each.module.split(".")[0] not in IO_MODULES, f"line {each.line} imports {each.module}"
        assert each.module not in ("libc.stdio", "libc.time"), f"line {each.line} cimports {each.module}"
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                assert name not in IO_CALLS, f"line {node.lineno} calls {name}()"
    else:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            header = EXTERN.match(line)
            assert not (header and re.match(r"sys/|unistd|stdio|time\.h", header[1])), f"line {number}: {header}"


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_no_file_is_too_long(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_LINES, f"{lines} lines"


@pytest.mark.parametrize("path", [*SOURCES, *DECLARATIONS, *STUBS], ids=shown)
def test_no_line_is_too_wide(path: Path) -> None:
    wide = [number for number, line in enumerate(path.read_text().splitlines(), 1) if len(line) > MOST_COLUMNS]
    assert not wide, f"lines {wide}"


@pytest.mark.parametrize("path", [*SOURCES, *DECLARATIONS, *STUBS, *TESTS], ids=shown)
def test_every_file_has_a_name_that_says_something(path: Path) -> None:
    names = {part.removeprefix("test_").strip("_") for part in path.relative_to(ROOT).with_suffix("").parts}
    assert not names & BANNED_NAMES


@pytest.mark.parametrize("path", [*PYTHON, *TESTS], ids=shown)
def test_every_python_file_opens_with_its_theory(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", CYTHON, ids=shown)
def test_every_cython_file_opens_with_its_theory(path: Path) -> None:
    assert re.match(r'(?:#[^\n]*\n|\s)*"""\S', path.read_text())


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_nothing_is_left_for_later(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        assert not UNFINISHED.search(line), f"line {number}: {line.strip()}"


@pytest.mark.parametrize("path", CYTHON, ids=shown)
def test_every_cython_module_is_private_and_has_a_stub(path: Path) -> None:
    assert path.name.startswith("_")
    assert path.with_suffix(".pyi").exists()


def test_every_stub_has_its_module() -> None:
    assert [stub for stub in STUBS if not stub.with_suffix(".pyx").exists()] == []


def test_the_build_names_every_extension_and_no_other() -> None:
    [names] = [
        ast.literal_eval(node.value)
        for node in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "EXTENSIONS"
    ]
    assert sorted(names) == sorted(module_of(path) for path in CYTHON)


def test_the_top_level_holds_what_the_plan_names() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert {line.split("/")[0] for line in listed.stdout.splitlines()} == TOP_LEVEL


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from flyby.wire._fields cimport Fields, FieldLine as Line", ["flyby.wire", "Fields"]),
        ("from ._fields cimport Fields", ["flyby.policy._fields", "Fields"]),
        ("from ..store cimport _store", ["flyby.store", "_store"]),
        ("cimport cython", ["cython", ""]),
        ("import time, os", ["time", ""]),
        ("    from flyby.store import Store  # late", ["flyby.store", "Store"]),
    ],
)
def test_cython_imports_are_found(line: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = PACKAGE / "policy" / "_vary.pyx"
    monkeypatch.setattr(Path, "read_text", lambda self: line)
    first = next(iter(cython_imports(path)))
    assert first.module.startswith(expected[0])
    assert first.name == expected[1]
