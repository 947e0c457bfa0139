"""Django behind the edge: forms with the CSRF check, hosts, TLS, redirects, and the first page that is a hit."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flyby.control import State
from tests.agent.dyno import AgentProcess
from tests.certificates import issue
from tests.edge import served
from tests.frameworks.app_process import running
from tests.frameworks.browser import Browser, hidden, path_of

pytest.importorskip("django", reason="Django is not installed (pip install 'flyby[frameworks]')")

HOST = "shop.test"
TOP = Path(__file__).parents[2]
TLS = {"SECURE_PROXY_SSL_HEADER": ["HTTP_X_FORWARDED_PROTO", "https"]}


class Site:
    """Puts the app behind edges."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder

    def open(self, backend: str = "", secure: bool = False, **settings: Any) -> Browser:
        """A visitor of the app under Django's `settings`, behind an edge with these lines in its backend."""
        command = [sys.executable, "-m", "tests.frameworks.django_app"]
        log = self._folder / f"django-{len(list(self._folder.iterdir()))}.log"
        port = self._stack.enter_context(running(command, TOP, log, SETTINGS=json.dumps(settings)))
        config = f'[backends.app]\norigins = ["http://127.0.0.1:{port}"]\n{backend}\n[[routes]]\nbackend = "app"\n'
        edge = self._stack.enter_context(served(*(self._certificate() if secure else ()), config=config, secure=secure))
        return Browser(edge, HOST)

    def _certificate(self) -> tuple[str, ...]:
        certificate, key = issue(self._folder, "edge", HOST)
        return "--tls-cert", certificate, "--tls-key", key


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack, tmp_path)


def tunnelled(folder: Path, port: int, stack: ExitStack) -> Browser:
    """A visitor of the app on `port`, which an agent connects to an edge that knows no origin of it."""
    state = str(folder / "state")
    with State.open(state) as opened:
        _, token = opened.add_backend("app")
    config = '[backends.app]\ntunnel = true\n[[routes]]\nbackend = "app"\n'
    edge = stack.enter_context(served("--state", state, config=config))
    url = f"http://127.0.0.1:{edge.port}"
    agent = AgentProcess(environment={"FLY_TOKEN": token, "FLY_REMOTE_ENDPOINT": url, "FLY_PORT": str(port)})
    stack.callback(agent.stop)
    agent.wait_for("connected to")
    return Browser(edge, HOST)


def posted(browser: Browser) -> int:
    """The status of the form's answer, which leads to a page that the visitor can open."""
    token = hidden(browser.get("/form"), "csrfmiddlewaretoken")
    page = browser.post("/form", {"csrfmiddlewaretoken": token, "name": "Ada"})
    if page.status == 302:
        location = page.headers["Location"]
        assert location == f"{browser.origin}/thanks/Ada"
        assert browser.get(path_of(location)).text == "thanks, Ada"
    return page.status


def test_without_any_setting_the_csrf_check_refuses_the_form(site: Site) -> None:
    assert posted(site.open()) == 403


@pytest.mark.parametrize(
    ("backend", "settings"),
    [
        ("", {"USE_X_FORWARDED_HOST": True}),
        ("", {"CSRF_TRUSTED_ORIGINS": [f"http://{HOST}"]}),
        ("", {"USE_X_FORWARDED_HOST": True, "ALLOWED_HOSTS": [HOST]}),
        ('host = "client"', {}),
        ('host = "client"', {"ALLOWED_HOSTS": [HOST]}),
    ],
)
def test_each_documented_setting_lets_the_form_pass(site: Site, backend: str, settings: dict[str, Any]) -> None:
    assert posted(site.open(backend, **settings)) == 302


def test_through_the_tunnel_alone_the_form_passes_without_any_setting(tmp_path: Path) -> None:
    with ExitStack() as stack:
        command = [sys.executable, "-m", "tests.frameworks.django_app"]
        port = stack.enter_context(running(command, TOP, tmp_path / "django.log"))
        assert posted(tunnelled(tmp_path, port, stack)) == 302


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"USE_X_FORWARDED_HOST": True}, 403),  # Django takes the request for one of http
        ({"USE_X_FORWARDED_HOST": True, **TLS}, 302),
        ({"CSRF_TRUSTED_ORIGINS": [f"https://{HOST}"]}, 302),
        ({"CSRF_TRUSTED_ORIGINS": [f"https://{HOST}"], **TLS}, 302),
    ],
)
def test_under_tls_the_scheme_has_to_be_told_too(site: Site, settings: dict[str, Any], status: int) -> None:
    assert posted(site.open(secure=True, **settings)) == status


def test_a_form_of_another_site_is_refused_all_the_same(site: Site) -> None:
    browser = site.open(USE_X_FORWARDED_HOST=True)
    token = hidden(browser.get("/form"), "csrfmiddlewaretoken")
    fields = {"csrfmiddlewaretoken": token, "name": "Ada"}
    assert browser.post("/form", fields, origin="http://evil.test").status == 403
    assert browser.post("/form", fields).status == 302


@pytest.mark.parametrize(
    ("backend", "allowed", "settings", "status"),
    [
        ("", [HOST], {}, 400),  # Django sees the origin's name
        ("", ["127.0.0.1"], {}, 200),
        ("", [HOST], {"USE_X_FORWARDED_HOST": True}, 200),
        ('host = "client"', [HOST], {}, 200),
        ('host = "client"', ["127.0.0.1"], {}, 400),
    ],
)
def test_allowed_hosts_hold_the_name_that_django_sees(
    site: Site, backend: str, allowed: list[str], settings: dict[str, Any], status: int
) -> None:
    assert site.open(backend, ALLOWED_HOSTS=allowed, **settings).get("/seen").status == status


def test_the_scheme_and_the_name_that_django_sees(site: Site) -> None:
    page = site.open(secure=True, USE_X_FORWARDED_HOST=True, **TLS).get("/seen")
    assert json.loads(page.text) == {"host": HOST, "secure": True, "address": "127.0.0.1"}


def test_a_page_is_a_hit_once_it_says_that_it_is_for_everybody(site: Site) -> None:
    browser = site.open()
    browser.get("/plain")
    assert "hit" not in browser.get("/plain").cache
    first = browser.get("/public")
    assert "hit" not in first.cache
    second = browser.get("/public")
    assert second.cache.startswith("flyby; hit")
    assert second.text == first.text
    # A visitor with a session's cookie gets it too.
    assert Browser(browser.edge, HOST, {"sessionid": "x"}).get("/public").cache.startswith("flyby; hit")


def test_a_page_with_a_visitors_token_is_for_nobody_else(site: Site) -> None:
    browser = site.open()
    first = browser.get("/public-with-token")
    other = Browser(browser.edge, HOST).get("/public-with-token")
    assert "hit" not in other.cache
    assert other.text != first.text
