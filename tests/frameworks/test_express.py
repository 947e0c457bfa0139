"""Express behind the edge: forms, redirects, the client's name and scheme, and the first page that is a hit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.certificates import issue
from tests.edge import served
from tests.frameworks.app_process import running
from tests.frameworks.browser import Browser, path_of

HOST = "shop.test"
VERSION = "express@5"
INSTALLED_S = 45

Open = Callable[..., Browser]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the app and Express."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Express needs node and npm")
    folder = tmp_path_factory.mktemp("express")
    shutil.copy(Path(__file__).parent / "express/server.js", folder)
    options = ["--no-audit", "--no-fund", "--silent", "--prefix", str(folder)]
    try:
        done = subprocess.run([npm, "install", *options, VERSION], cwd=folder, capture_output=True, timeout=INSTALLED_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm has not installed Express within {INSTALLED_S} s")
    if done.returncode != 0:
        pytest.skip("npm cannot install Express here")
    return folder


@pytest.fixture
def open_site(project: Path, tmp_path: Path) -> Iterator[Open]:
    with ExitStack() as stack:

        def opened(secure: bool = False, **environment: str) -> Browser:
            log = tmp_path / f"express-{len(os.listdir(tmp_path))}.log"
            port = stack.enter_context(running(["node", "server.js"], project, log, **environment))
            config = f'[backends.app]\norigins = ["http://127.0.0.1:{port}"]\n[[routes]]\nbackend = "app"\n'
            options: tuple[str, ...] = ()
            if secure:
                certificate, key = issue(tmp_path, "edge", HOST)
                options = ("--tls-cert", certificate, "--tls-key", key)
            return Browser(stack.enter_context(served(*options, config=config, secure=secure)), HOST)

        yield opened


@pytest.mark.parametrize("environment", [{}, {"TRUST_PROXY": "1"}])
def test_a_form_passes_and_its_redirect_names_the_edge(open_site: Open, environment: dict[str, str]) -> None:
    browser = open_site(**environment)
    answer = browser.post("/form", {"name": "Ada"})
    assert answer.status == 303
    assert answer.headers["Location"] == f"{browser.origin}/thanks/Ada"
    assert browser.get(path_of(answer.headers["Location"])).text == "thanks, Ada"


@pytest.mark.parametrize(
    ("environment", "seen"),
    [
        ({}, {"host": "127.0.0.1", "secure": False, "ip": "127.0.0.1"}),
        ({"TRUST_PROXY": "1"}, {"host": HOST, "secure": True, "ip": "127.0.0.1"}),
    ],
)
def test_the_clients_name_and_scheme_are_seen_with_trust_proxy(
    open_site: Open, environment: dict[str, str], seen: dict[str, object]
) -> None:
    assert json.loads(open_site(secure=True, **environment).get("/seen").text) == seen


def test_a_page_is_a_hit_once_it_says_that_it_is_for_everybody(open_site: Open) -> None:
    browser = open_site()
    browser.get("/plain")
    assert "hit" not in browser.get("/plain").cache
    browser.get("/public")
    assert browser.get("/public").cache.startswith("flyby; hit")


def test_a_page_that_sets_a_cookie_is_not_stored(open_site: Open) -> None:
    browser = open_site()
    browser.get("/session")
    assert "hit" not in Browser(browser.edge, HOST).get("/session").cache


def test_files_are_hits_once_they_have_a_max_age(open_site: Open) -> None:
    plain = open_site()
    plain.get("/files/server.js")
    assert not plain.get("/files/server.js").cache.startswith("flyby; hit;")  # max-age=0: asked about each time
    aged = open_site(MAX_AGE="1h")
    aged.get("/files/server.js")
    assert aged.get("/files/server.js").cache.startswith("flyby; hit")
