"""The way out through a forward proxy: which endpoints take it, what the proxy is asked, and what its answers mean."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import pytest

from flyby_agent import forward
from flyby_agent.forward import Proxy, ProxyRefused
from flyby_agent.settings import SettingsError, merged, settle
from tests.agent.conftest import Stage, certificates
from tests.agent.test_process import command, steps

PROXY = Proxy("proxy.example", 3128)
VARIABLE = {"HTTPS_PROXY": "http://proxy.example:3128"}


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        (VARIABLE, PROXY),
        ({"https_proxy": "http://proxy.example:3128/"}, PROXY),
        ({"ALL_PROXY": "proxy.example:3128"}, PROXY),
        ({"all_proxy": "HTTP://proxy.example:3128"}, PROXY),
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:2"}, Proxy("b", 2)),
        ({"HTTPS_PROXY": " ", "ALL_PROXY": "http://b:2"}, Proxy("b", 2)),
        ({"HTTPS_PROXY": "http://proxy.example"}, Proxy("proxy.example", 80)),
        ({"HTTPS_PROXY": "http://[fd00::1]:8080"}, Proxy("fd00::1", 8080)),
        ({"HTTP_PROXY": "http://proxy.example:3128"}, None),
        (
            {"HTTPS_PROXY": "http://me:p%40ss%3Aword@proxy.example:3128"},
            Proxy("proxy.example", 3128, "Basic " + base64.b64encode(b"me:p@ss:word").decode()),
        ),
        ({"HTTPS_PROXY": "http://me@p:1"}, Proxy("p", 1, "Basic " + base64.b64encode(b"me:").decode())),
    ],
)
def test_the_proxy_of_an_endpoint(environment: dict[str, str], proxy: Proxy | None) -> None:
    assert forward.choose("edge.example", 443, environment) == proxy


@pytest.mark.parametrize(
    ("host", "excluded", "direct"),
    [
        ("edge.example", "*", True),
        ("edge.example", "edge.example", True),
        ("edge.example", "EDGE.Example", True),
        ("a.edge.example", "edge.example", True),
        ("a.edge.example", ".edge.example", True),
        ("edge.example", ".edge.example", True),
        ("a.edge.example", "*.edge.example", True),
        ("myedge.example", "edge.example", False),
        ("edge.example", "a.edge.example", False),
        ("edge.example", "other, edge.example", True),
        ("edge.example", "other edge.example", True),
        ("edge.example", "edge.example:443", True),
        ("edge.example", "edge.example:8443", False),
        ("edge.example", "", False),
        ("edge.example", ".", False),
        ("edge.example", "10.0.0.0/8", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:443", True),
        ("10.1.2.3", "10.1.2.3:80", False),
        ("10.1.2.3", "2.3", False),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("fd00::5", "fd00::/8", True),
        ("fd00::5", "[fd00::5]:443", True),
        ("fd00::5", "fd00::6", False),
        ("localhost", "", True),
        ("127.0.0.1", "", True),
        ("::1", "", True),
        ("shop.localhost", "", True),
    ],
)
def test_what_no_proxy_excludes(host: str, excluded: str, direct: bool) -> None:
    found = forward.choose(host, 443, {**VARIABLE, "NO_PROXY": excluded})
    assert found == (None if direct else PROXY)


@pytest.mark.parametrize(
    "text", ["socks5://proxy:1080", "https://proxy", "http://", "http://a b", "p:0", "p:65536", "//p"]
)
def test_a_proxy_that_cannot_be_used_is_told_and_its_password_is_not(text: str) -> None:
    given = {"FLY_TOKEN": "t", "FLY_REMOTE_ENDPOINT": "https://edge.example"}
    for each in (text, text.replace("://", "://me:hush@")):
        environment = {**given, "HTTPS_PROXY": each}
        with pytest.raises(SettingsError, match="HTTPS_PROXY") as failure:
            settle(merged({}, environment), environment)
        assert "hush" not in str(failure.value)
    environment["NO_PROXY"] = "edge.example"
    assert settle(merged({}, environment), environment).endpoints[0].proxy is None


def test_the_credentials_are_never_shown() -> None:
    proxy = forward.choose("edge.example", 443, {"HTTPS_PROXY": "http://me:hush@proxy.example:3128"})
    assert proxy is not None
    hidden = ("hush", "me", proxy.authorization.split()[1])
    assert not any(secret in f"{proxy} {proxy!r} {[proxy]}" for secret in hidden)


def test_the_request_is_in_authority_form() -> None:
    assert forward.request(PROXY, "edge.example", 443) == (
        b"CONNECT edge.example:443 HTTP/1.1\r\nHost: edge.example:443\r\n\r\n"
    )
    assert forward.request(Proxy("p", 1, "Basic eA=="), "fd00::1", 8443) == (
        b"CONNECT [fd00::1]:8443 HTTP/1.1\r\nHost: [fd00::1]:8443\r\nProxy-Authorization: Basic eA==\r\n\r\n"
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\n",
        b"HTTP/1.1 204 \r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
    ],
)
def test_a_tunnel_is_open_at_the_end_of_the_head_and_not_before(answer: bytes) -> None:
    for length in range(len(answer)):
        assert forward.check(PROXY, answer[:length]) is False
    assert forward.check(PROXY, answer) is True
    with pytest.raises(ProxyRefused):
        forward.check(PROXY, answer + b"x")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nno!", "407: it wants credentials"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "403: it does not let"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "502: it cannot reach"),
        (b"HTTP/1.1 301 Moved\r\n\r\n", "301: it opens no tunnel"),
        (b"220 mail ESMTP\r\n\r\n", "did not answer like one"),
        (b"x" * 20_000, "did not answer like one"),
    ],
)
def test_an_answer_that_opens_no_tunnel_is_told(answer: bytes, words: str) -> None:
    with pytest.raises(ProxyRefused, match=words):
        forward.check(PROXY, answer)


def proxied(tls: tuple[ssl.SSLContext, str, bytes], port: int, edge_port: int) -> dict[str, str]:
    return {
        "FLY_REMOTE_ENDPOINT": f"https://edge.test:{edge_port}",  # a name that only the proxy knows
        "FLY_CA_FILE": tls[1],
        "HTTPS_PROXY": f"http://me:pass@127.0.0.1:{port}",
    }


def test_an_agent_reaches_its_edge_through_a_proxy_that_never_sees_the_token(stage: Stage, tmp_path: Path) -> None:
    tls = certificates(tmp_path)
    edge, app = stage.edge(tls=tls[0]), stage.app()
    proxy = stage.proxy(edge.port)
    agent = stage.agent(edge, app, **proxied(tls, proxy.port, edge.port))
    edge.wait_idle(2)
    asked = f"CONNECT edge.test:{edge.port} HTTP/1.1\r\nHost: edge.test:{edge.port}\r\nProxy-Authorization: Basic "
    assert all(head.startswith(asked.encode()) for head in proxy.heads)
    assert edge.token.encode() not in proxy.seen + b"".join(proxy.heads)
    agent.wait_for(f"connected to https://edge.test:{edge.port} through the proxy 127.0.0.1:{proxy.port}: node ")
    assert "pass" not in agent.said()


def test_a_proxy_that_refuses_is_named_in_the_log_and_in_a_diagnosis(stage: Stage, tmp_path: Path) -> None:
    tls = certificates(tmp_path)
    proxy = stage.proxy(1, b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
    variables = proxied(tls, proxy.port, 443)
    agent = stage.agent("https://edge.test", 1, **variables)
    agent.wait_for(f"not connected: the proxy 127.0.0.1:{proxy.port} answered 407: it wants credentials")
    ran = command("diagnose", FLY_TOKEN="t", FLY_PORT="1", **variables)
    assert (ran.returncode, steps(ran.stdout)["tcp"], steps(ran.stdout)["proxy"]) == (1, "ok", "FAIL")


def test_a_diagnosis_goes_through_the_proxy(stage: Stage, tmp_path: Path) -> None:
    tls = certificates(tmp_path)
    edge, app = stage.edge(tls=tls[0]), stage.app()
    proxy = stage.proxy(edge.port)
    variables = proxied(tls, proxy.port, edge.port)
    ran = command("diagnose", FLY_TOKEN=edge.token, FLY_PORT=str(app.port), **variables)
    assert ran.returncode == 0, ran.stdout
    assert set(steps(ran.stdout).values()) == {"ok"}
    assert "proxy" in steps(ran.stdout)


def test_a_proxy_without_an_address_is_told(stage: Stage) -> None:
    agent = stage.agent("https://edge.test", 1, HTTPS_PROXY="http://does-not-exist.invalid:3128")
    agent.wait_for("https://edge.test: the proxy does-not-exist.invalid has no address: ")
