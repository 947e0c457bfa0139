"""The check: each fault of a file, alone and all together, with its line, its column and what to do about it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from flyby.config import check as check_file
from flyby.config.load import read_text

BASE = '[backends.app]\norigins = ["http://127.0.0.1:1"]\n'  # two lines


def told(text: str) -> list[str]:
    return [str(problem) for problem in read_text(text, "f")[1]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # keys
        ("[server]\nworkes = 3", 'f:2:1: unknown key "workes" (did you mean "workers"?)'),
        ("[sever]\n", 'f:1:2: unknown key "sever" (did you mean "server"?)'),
        ("listen = []", 'f:1:1: unknown key "listen" ("listen" belongs in [server])'),
        ("[server]\nzzz = 1", 'f:2:1: unknown key "zzz" (known: listen, workers, log, state, '),
        ("[server.timeouts]\nidle = 3", 'f:2:1: unknown key "idle" (did you mean "idle_s"?)'),
        # kinds
        ("server = 3", "f:1:10: expected a table, got a whole number (write it as [server])"),
        ("backends = 3", "f:1:12: expected a table of tables, got a whole number (write [backends.NAME])"),
        ("[backends]\napp = 'x'", 'f:2:7: expected a table, got text in quotes (write app = { origins = ["x"] })'),
        ("[routes]\nhost = 'a'", "f:1:2: expected an array of tables, got a table (write [[routes]])"),
        ("routes = [3]", "f:1:11: expected a table, got a whole number (write it as [routes])"),
        (
            "[server.limits]\nfields = '9'",
            "f:2:10: expected a whole number, got text in quotes (write 9 without quotes)",
        ),
        ("[cache]\npath = 3", 'f:2:8: expected text in quotes, got a whole number (write "3")'),
        ("[server.limits]\nfields = 0", "f:2:10: expected a whole number of at least 1"),
        ("[server.limits]\nfields = true", "f:2:10: expected a whole number, got true or false"),
        ("[server.limits]\nbody = '9 x'", "f:2:8: '9 x' is not a size such as 64KiB, 256MiB or 2GiB"),
        ("[server.timeouts]\nidle_s = 0", "f:2:10: expected a number greater than 0"),
        ("[server.timeouts]\nidle_s = inf", "f:2:10: inf is not a time or a number that can be counted to"),
        ("[server.timeouts]\nidle_s = '1 day of rest'", "f:2:10: '1 day of rest' is not a duration such as 500ms, 30s"),
        ("[server]\nlisten = ':80'", 'f:2:10: expected an array, got text in quotes (write [":80"])'),
        ("[server]\nlisten = [':80', 81]", 'f:2:18: expected text in quotes, got a whole number (write "81")'),
        ("[server]\nworkers = 'atuo'", 'f:2:11: "atuo" is not a whole number or "auto" (did you mean "auto"?)'),
        ("[server]\nworkers = 0", "f:2:11: expected a whole number of at least 1"),
        (
            "[server]\nlog = 'JSON'",
            'f:2:7: "JSON" is not one of "console", "combined", "json", "logfmt", "heroku", "off"',
        ),
        ("[cache]\ncompression = 'hihg'", 'f:2:15: "hihg" is not one of "high", "fast", "off" (did you mean "high"?)'),
        (
            "[cache]\nprofile = 'rfc9112'",
            'f:2:11: "rfc9112" is not one of "default", "rfc9111" (did you mean "rfc9111"?)',
        ),
        (
            BASE + "verify = 'no'",
            "f:3:10: expected true or false, got text in quotes (write true or false without quotes)",
        ),
        (BASE + "host = 2026-01-01", "f:3:8: expected text in quotes"),
        # [server]
        ("[server]\nlisten = []", 'f:2:10: no address to listen on (write ["127.0.0.1:8080"])'),
        ("[server]\nlisten = ['8080']", "f:2:11: '8080' is only a port (write HOST:PORT, as 127.0.0.1:8080 or :8080)"),
        ("[server]\nlisten = [':1', '*:1']", 'f:2:17: "*:1" is given twice (remove one of them)'),
        (
            "[server.purge]\nsecret = ''",
            "f:2:10: must be visible ASCII characters without spaces, at least one (remove",
        ),
        ("[server.purge]\nallow = ['10.0.0.1/8']", 'did you mean "10.0.0.0/8"?'),
        (
            "[server.purge]\nallow = ['home']",
            'f:2:10: "home" is not an address or network (write an address, or a network',
        ),
        ("[server]\ntrusted_proxies = ['10.0.0.1/8']", 'did you mean "10.0.0.0/8"?'),
        (
            "[server]\ntrusted_proxies = ['unix', 'lb']",
            'f:2:28: "lb" is not an address or network or "unix" (write an address',
        ),
        (
            "[server]\nlisten = ['proxy+http://:80']",
            'f:2:11: nobody may connect to "proxy+http://:80": no proxy is trusted (write server.trusted_proxies',
        ),
        ("[server]\nforwarded = 'add'", 'f:2:13: "add" is not one of "replace", "append"'),
        ("[server]\nlisten = ['0.0.0.0:80', '127.0.0.1:80']", 'f:2:25: "127.0.0.1:80" and another address at port 80'),
        ("[server]\nlisten = ['[::1]:80', '[::]:80']", 'f:2:23: "[::]:80" and another address at port 80 overlap'),
        ("[server]\nlisten = ['localhost:80', ':80']", 'f:2:27: ":80" and another address at port 80 overlap'),
        ("[server]\nlisten = ['A:80', 'a:80']", 'f:2:19: "a:80" is given twice'),
        ("[server]\nworkers = 5000", "f:2:11: 5000 workers are more than any machine has use for"),
        # one thing in another's place
        (BASE + "[[routes]]\ncache = 'off'", "f:4:9: expected a table, got text in quotes (write cache = { off ="),
        (BASE + "[[routes]]\ncache = false", "f:4:9: expected a table, got true or false (write cache = { off ="),
        (BASE + "[[routes]]\ncache = 60", "f:4:9: expected a table, got a whole number (write cache = { ttl_s = 60 })"),
        ("cache = 'off'", "f:1:9: expected a table, got text in quotes (there is always a cache: write"),
        ("cache = '1GiB'", 'f:1:9: expected a table, got text in quotes (write cache = { size = "1GiB" })'),
        ("server = ':80'", 'f:1:10: expected a table, got text in quotes (write server = { listen = [":80"] })'),
        (BASE + "[[routes]]\nredirect = 'https://x/'", '(write redirect = { to = "https://x/" })'),
        (BASE + "health = '/up'", '(write health = { path = "/up" })'),
        # origins
        ("[backends.a]\norigins = ['x.herokuapp.com']", "is not an http:// or https:// URL (write https://x.hero"),
        ("[backends.a]\norigins = ['unix:/x.sock']", "is a Unix socket, which flyby cannot dial (let the app"),
        ("[backends.a]\norigins = ['/x.sock']", "is a Unix socket"),
        (
            "[server]\nlisten = [':80']\n[backends.a]\norigins = ['http://localhost']",
            'f:4:12: "http://localhost" is this edge itself, which listens there (name the app',
        ),
        (
            "[server]\nlisten = ['127.0.0.1:81']\n[backends.a]\norigins = ['http://b', 'http://127.0.0.1:81']",
            'f:4:24: "http://127.0.0.1:81" is this edge itself',
        ),
        # [cache]
        ("[cache]\nsize = '256 megs'", "f:2:8: '256 megs' is not a size"),
        ("[cache]\nsize = 4", "f:2:8: 4 bytes are too small for a cache (the least is 1MiB)"),
        ("[cache]\nmax_object = '1g'", "f:2:14: must be from 1 byte to the size of the cache (256MiB)"),
        ("[cache]\npath = '/no/such/place/x'", 'f:2:8: "/no/such/place/x" is not in a directory that exists'),
        ("[cache]\ntargeted = ['A', 'a']", 'f:2:18: "a" is given twice (remove one of them)'),
        ("[cache]\ntargeted = ['CDN Cache:']", 'f:2:13: "CDN Cache:" is not a header name (did you mean "CDN-Cache"?)'),
        # [backends]
        (
            "[backends.app]\n",
            'f:1:11: backend "app" has no origins (write origins = ["https://..."], or tunnel = true)',
        ),
        ('[backends."a b"]\norigins = ["http://a"]', 'f:1:11: "a b" is no name for a backend'),
        ("[backends.a]\norigins = ['a:5']", "f:2:12: 'a:5' is not an http:// or https:// URL (write http://a:5)"),
        (
            "[backends.a]\norigins = ['http://A', 'http://a:80/']",
            'f:2:24: "http://a:80/" is given twice in backend "a"',
        ),
        (BASE + "host = 'a b'", "f:3:8: 'a b' has no valid host name"),
        (BASE + "tls_name = 'a:443'", 'f:3:12: "a:443" must be a name without a port'),
        (BASE + "ca_file = '/no/such.pem'", 'f:3:11: "/no/such.pem" cannot be read: No such file or directory'),
        (BASE + "ca_file = '/etc/passwd'", 'f:3:11: "/etc/passwd" holds no certificates (it must be PEM'),
        (BASE + "health.path = 'up'", 'f:3:15: "up" must start with a slash and hold no spaces'),
        (BASE + "eject.max_backoff_s = 0.5", "f:3:23: must not be less than backoff_s (1)"),
        (
            BASE + "[backends.b]\norigins = ['http://b']",
            "f:1:2: no routes say what goes to which backend (app, b) (write [[routes]])",
        ),
        # [[routes]]
        (BASE + "[[routes]]\nbackend = 'ap'", 'f:4:11: there is no backend "ap" (did you mean "app"?)'),
        ("[[routes]]\nbackend = 'ap'", 'f:2:11: there is no backend "ap" (write [backends.ap])'),
        ("[[routes]]\nhost = 'a'", "f:1:1: has neither a backend nor a redirect"),
        (BASE + "[[routes]]\nbackend = 'app'\nredirect.to = '/'", "f:3:1: has both a backend and a redirect"),
        (BASE + "[[routes]]\nbackend = { ap = 5 }", 'f:4:13: there is no backend "ap" (did you mean "app"?)'),
        (BASE + "[[routes]]\nbackend = { app = 0 }", "f:4:11: no backend has a share (write { app = 95, canary = 5 })"),
        (BASE + "[[routes]]\nbackend.app = -1", "f:4:15: expected a whole number of at least 0"),
        (BASE + "[[routes]]\nbackend = {}", "f:4:11: no backend has a share"),
        (BASE + "[[routes]]\nhost = 'a*.b'", "f:4:8: 'a*.b' can have a wildcard only as its whole first label"),
        (BASE + "[[routes]]\nhost = 'http://a'", "f:4:8: "),
        (BASE + "[[routes]]\nhost = '.example.com'", "before its first dot (write *.example.com for every name"),
        (BASE + "[[routes]]\nhost = '(www|m).example.com'", "is no regular expression here (write example.com or"),
        (BASE + "[[routes]]\nhost = '~^www'", "is no regular expression here"),
        (BASE + "[[routes]]\nhost = 'https://A.b/x'", "f:4:8: 'https://A.b/x' must be a host, without scheme and p"),
        (BASE + "[[routes]]\npath = '/u/{id}'", "f:4:8: '/u/{id}' never matches: no path holds { (it is no regular"),
        (BASE + "[[routes]]\npath = '^/u$'", "f:4:8: '^/u$' never matches: no path holds ^ (it is no regular"),
        (BASE + "[[routes]]\npath = '/*all.css'", "f:4:8: '*all.css' in '/*all.css' is neither a name nor an en"),
        (BASE + "[[routes]]\nscheme = 'htps'", 'f:4:10: "htps" is not one of "http", "https" (did you mean "https"?)'),
        (BASE + "[[routes]]\npath = 'api'", "f:4:8: 'api' must start with a slash (write /api)"),
        (BASE + "[[routes]]\npath = '/a?b'", "f:4:8: '/a?b' must be a path without a query"),
        (BASE + "[[routes]]\npath = '/é x'", "so it must be percent-encoded (write /%C3%A9%20x)"),
        (BASE + "[[routes]]\npath = '/*a/b'", "f:4:8: '*a' in '/*a/b' takes all that follows, so it must be the last"),
        (BASE + "[[routes]]\npath = '/:a/:a'", "f:4:8: '/:a/:a' captures 'a' twice"),
        (
            BASE + "[[routes]]\npath = '/x/*'",
            "f:4:8: '*' in '/x/*' needs a name of letters, digits and _ (write *name)",
        ),
        (BASE + "[[routes]]\nheaders = { 'X Y' = '1' }", 'f:4:13: "X Y" is not a header name (did you mean "X-Y"?)'),
        (BASE + "[[routes]]\nrewrite = 'x'", "f:4:11: 'x' must start with a slash (write /x)"),
        (BASE + "[[routes]]\npath = '/:a'\nrewrite = '/:b'", "f:5:11: ':b' in '/:b' is not a part of"),
        (BASE + "[[routes]]\nrewrite = '/a'\nredirect.to = '/'", "f:4:11: has no effect beside a redirect"),
        (BASE + "[[routes]]\nredirect = {}", 'f:4:12: has no target (write to = "https://...")'),
        (BASE + "[[routes]]\nredirect = { to = 'a.b' }", "f:4:19: 'a.b' must be an absolute URL or a path"),
        (BASE + "[[routes]]\nredirect = { to = '//a.b' }", "f:4:19: '//a.b' must be an absolute URL or a path"),
        (BASE + "[[routes]]\nredirect = { to = 'ftp://a' }", "f:4:19: 'ftp://a' must be an http:// or https:// URL"),
        (
            BASE + "[[routes]]\nredirect = { to = 'https://a.b$request_uri' }",
            "f:4:19: '$request_uri' in 'https://a.b$request_uri' is no part of a host, and there are no",
        ),
        (
            BASE + "[[routes]]\nredirect = { to = 'https://{host}/' }",
            "f:4:19: '{host}' in 'https://{host}/' is no part",
        ),
        (BASE + "[[routes]]\npath = '/:h'\nredirect = { to = 'http://:h/' }", "f:5:19: "),
        (
            BASE + "[[routes]]\nredirect = { to = '/', status = 399 }",
            "f:4:33: 399 is not one of 301, 302, 303, 307, 308",
        ),
        (
            BASE + "[[routes]]\npath = '/a'\n[[routes]]\npath = '/a'",
            "f:5:1: is never used: route number 1 matches the same requests (remove one of them)",
        ),
        (
            BASE + "[[routes]]\n[[routes]]\npath = '/a'",
            "f:4:1: is never used: route number 1 stands before it and matches all of its requests (move it above",
        ),
        (
            BASE + "[[routes]]\n[routes.cache]\nquery_allow = []\nquery_deny = []",
            "f:6:1: query_allow and query_deny exclude each other (keep one of them)",
        ),
        (
            BASE + "[[routes]]\n[routes.cache]\nkeep_cookies = []\nignore_cookies = []",
            "f:6:1: keep_cookies and ignore_cookies exclude each other (keep one of them)",
        ),
        (BASE + "[[routes]]\ncache.vary_allow = ['a b']", 'f:4:21: "a b" is not a header name (did you mean "a-b"?)'),
        (
            BASE + "[[routes]]\nrequest_headers.set = { Host = 'x' }",
            'f:4:32: "Host" is written by flyby itself and cannot be changed by a rule (a backend\'s host sets it)',
        ),
        (BASE + "[[routes]]\nresponse_headers.remove = ['Content-Length']", 'f:4:28: "Content-Length" is written by'),
        (
            BASE + '[[routes]]\nresponse_headers.add = { X = "a\\r\\nB: c" }',
            'f:4:30: "X" has a value that no header can',
        ),
        (
            BASE + "[[routes]]\npath = '/api'\n[[routes]]\npath = '/b'\n[[routes]]\npath = '/api/v2'",
            "f:7:1: is never used: route number 1 stands before it and matches all of its requests (move it",
        ),
        (BASE + "[server.tunnel]\nnode = 'my edge'", "f:4:8: must be visible ASCII characters without spaces"),
        # not TOML
        ("[server\n", "f:1:8: not TOML: "),
        ("[server]\nlog = json", "f:2:7: not TOML: invalid value (text needs quotes"),
        ("[server]\nlog = 'json'\nlog = 'off'", "not TOML: cannot overwrite a value (a key may be given only once"),
        ("[server]\n[server]", "not TOML: cannot declare ('server',) twice (a [table] may be given only once"),
        ("[server]\nlisten = [", "f:2:11: not TOML: "),
        ("[server]\r\n\r\nx = 1", 'f:3:1: unknown key "x"'),
        ("a = " + "[" * 5000 + "]" * 5000, "f:1:1: arrays or tables are nested too deeply"),
    ],
)
def test_one_fault(text: str, problem: str) -> None:
    [only] = told(text)
    assert problem in only


def test_every_fault_is_reported_in_the_order_of_the_file() -> None:
    text = """\
[server]
workes = 3
log = "jsn"
[cache]
size = "big"
[backends.app]
orgins = ["x"]
[[routes]]
backend = "ap"
path = "x"
cache = { ttl = 1 }
"""
    assert [line.split(": ")[0] for line in told(text)] == [
        "f:2:1",
        "f:3:7",
        "f:5:8",
        "f:7:1",
        "f:9:11",
        "f:10:8",
        "f:11:11",
    ]


def test_a_misspelt_key_is_not_reported_again_as_missing() -> None:
    assert told("[backends.app]\norgins = ['http://a']") == ['f:2:1: unknown key "orgins" (did you mean "origins"?)']


@pytest.mark.parametrize(
    "text",
    [
        "",
        BASE,
        BASE + "[[routes]]\nhost = '*.a.b:8080'\npath = '/:a/*b'\nrewrite = '/x/:a/*b'\n[[routes]]\nhost = '*'",
        "[[routes]]\npath = '/*p'\nredirect = { to = 'https://a.b:8/*p', status = 308 }",
        "[server]\nlisten = ['127.0.0.1:0', '127.0.0.1:0']\nworkers = 'auto'",
        "[server.timeouts]\nhead_s = '1500ms'\ndrain_s = 0\n[server.limits]\nbody = '10MiB'\nrequest_line = 4096",
        "[server.purge]\nallow = ['127.0.0.1', '::1', '10.0.0.0/8']\nsecret = 'x'",
    ],
)
def test_what_is_sound(text: str) -> None:
    assert told(text) == []


def test_units_are_decoded() -> None:
    config, _ = read_text("[server.timeouts]\nhead_s = '1500ms'\n[server.limits]\nbody = '10MiB'", "f")
    assert (config.server.timeouts.head_s, config.server.limits.body) == (1.5, 10 << 20)


def test_a_missing_package_is_told_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "flyby.config.rules.find_spec", lambda name: None if name in ("lz4", "ssl") else find_spec(name)
    )
    remedy = "this Python was built without OpenSSL; install one that has it"
    assert told("[backends.app]\norigins = ['http://a', 'https://b']") == [
        "f:1:1: the cache's compression needs the Python package lz4, which is not installed (pip install lz4)",
        f"f:2:24: an https origin needs the Python package ssl, which is not installed ({remedy})",
    ]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"[server]\nlog = '\xc3\xa9 \xff'", "f.toml:2:10: byte 0xff is not UTF-8 (TOML is UTF-8)"),
        (None, "f.toml: cannot be read: No such file or directory"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, data: bytes | None, problem: str) -> None:
    file = tmp_path / "f.toml"
    if data is not None:
        file.write_bytes(data)
    [only] = check_file(file)
    assert str(only) == f"{tmp_path}/{problem}"


def test_the_check_is_still_a_function_after_everything_was_imported() -> None:
    import flyby.config
    import flyby.config.load

    assert flyby.config.check is check_file
