"""The servers of the table: how each is configured, started on loopback with one worker, and stopped.

Every peer gets a configuration that its own users would call tuned: one worker, logging off, the cache in memory (a
tmpfs for nginx), keep-alive to the origin without a limit on requests. What a server cannot do is left out and not
replaced. flyby alone writes its log, a line a request, as it does unless told otherwise; a thread here reads the pipe
and keeps the end. Each runs in its own temporary directory and in its own session, so that stopping it stops its tree.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from importlib import metadata
from pathlib import Path
from types import TracebackType

from benchmarks.cases import Case, Upstream
from benchmarks.load import Target

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent / "src"
START_S = 20.0
STOP_S = 5.0
CACHE_MIB = 64

NGINX = """\
{user}
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/temp;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    open_file_cache max=1000 inactive=1h;
    # Its manager deletes 100 files a turn unless told otherwise, and would put off most of what a fill makes it evict.
    proxy_cache_path {directory}/cache levels=1:2 keys_zone=bench:16m max_size={cache}m inactive=1h use_temp_path=off
        manager_files=10000 manager_sleep=50ms manager_threshold=200ms;
    upstream origin {{
        server 127.0.0.1:{origin};
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        listen 127.0.0.1:{secure} ssl backlog=1024;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        ssl_protocols TLSv1.2 TLSv1.3;
        location / {{
            proxy_pass {scheme}://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache bench;
            proxy_force_ranges on;
            proxy_buffer_size 16k;
            proxy_buffers 16 16k;
            proxy_busy_buffers_size 64k;
        }}
    }}
}}
"""

HAPROXY = """\
global
    nbthread 1
    maxconn 4096
cache bench
    total-max-size {cache}
    max-object-size 2000000
    max-age 86400
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option splice-auto
    http-reuse always
frontend edge
    bind 127.0.0.1:{port}
    bind 127.0.0.1:{secure} ssl crt {certificate} ssl-min-ver TLSv1.2
    default_backend origin
backend origin
    http-request cache-use bench
    http-response cache-store bench
    server origin 127.0.0.1:{origin}{tls}
"""

# Takes TLS off what it passes on, or puts it on: an origin and a tunnel over TLS are the plain ones behind it.
RELAY = """\
global
    nbthread 1
    maxconn 4096
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen plain
    bind 127.0.0.1:{port}
    server taken 127.0.0.1:{origin} ssl verify none
listen secure
    bind 127.0.0.1:{secure} ssl crt {certificate} ssl-min-ver TLSv1.2
    server taken 127.0.0.1:{origin}
"""

FLYBY_TLS = """\
[backends.bench]
origins = ["https://127.0.0.1:{origin}"]
verify = false

[[routes]]
backend = "bench"
"""

# The builtin rules pass every request that has a cookie; the benchmark's objects are public, so they are looked up.
VARNISH = """\
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{origin}"; }}
sub vcl_recv {{
    if (req.method == "GET" || req.method == "HEAD") {{ return (hash); }}
}}
"""


class ServerError(Exception):
    """A server did not start, or did not answer what a case expects."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a recipe is given to write its configuration with."""

    directory: Path
    port: int
    secure: int  # the port that speaks TLS
    origin: int
    certificate: Path  # with its key, in one file
    cache_mib: int = CACHE_MIB
    workers: int = 1
    upstream: Upstream = Upstream.PLAIN


def _any(case: Case) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to run one server."""

    name: str
    missing: Callable[[], str | None]
    version: Callable[[], str]
    command: Callable[[Place], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    takes: Callable[[Case], bool] = _any  # the cases that mean something for it
    beside: Callable[[Place], tuple[list[str], bytes]] | None = None  # a helper's command, and what it is told
    proxies: bool = True  # False: it answers by itself
    secure: bool = False  # it is given a certificate


def said(*argv: str) -> str:
    """What a program prints about itself, on either stream; empty when it cannot be run."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def version_in(text: str) -> str:
    """The first thing that looks like a version."""
    found = re.search(r"[0-9]+\.[0-9]+(?:\.[0-9]+)?[-+.\w]*", text)
    return found.group() if found else "unknown"


def _not_on_path(program: str, package: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        return None if shutil.which(program) else f"{program} is not installed (apt install {package})"

    return missing


def compiler() -> str | None:
    """The system's C compiler."""
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def build(name: str, directory: Path) -> Path:
    """Compile floor.c or load.c into `directory`; ServerError with the compiler's words when it cannot be."""
    program = compiler()
    if program is None:
        raise ServerError("no C compiler (apt install gcc), and without one there is no origin")
    built = directory / name
    try:
        done = subprocess.run(
            [program, "-O2", "-o", str(built), str(HERE / f"{name}.c")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ServerError("floor.c: the compiler did not end within 60 s") from error
    if done.returncode:
        raise ServerError(f"{name}.c: {done.stderr.strip()}")
    return built


def _floor(built: Path) -> Recipe:
    return Recipe(
        "floor",
        lambda: None,
        lambda: version_in(said(compiler() or "cc", "--version")),
        lambda place: [str(built), str(place.port)],
        takes=lambda case: (
            not (case.reaches_origin or case.secure or case.churn) and case.status != HTTPStatus.PARTIAL_CONTENT
        ),
        proxies=False,
    )


def _nginx(place: Place) -> list[str]:
    # Started by root its worker would change to a user that may not enter the directory.
    user = "user root;" if os.geteuid() == 0 else ""
    file = place.directory / "nginx.conf"
    file.write_text(
        NGINX.format(
            user=user,
            directory=place.directory,
            port=place.port,
            secure=place.secure,
            certificate=place.certificate,
            origin=place.origin,
            scheme="https" if place.upstream is Upstream.TLS else "http",
            cache=place.cache_mib,
        )
    )
    return ["nginx", "-e", "stderr", "-p", str(place.directory), "-c", str(file)]


def _haproxy(place: Place) -> list[str]:
    file = place.directory / "haproxy.cfg"
    file.write_text(
        HAPROXY.format(
            port=place.port,
            secure=place.secure,
            certificate=place.certificate,
            origin=place.origin,
            tls=" ssl verify none" if place.upstream is Upstream.TLS else "",
            cache=place.cache_mib,
        )
    )
    return ["haproxy", "-db", "-f", str(file)]


def _relay(place: Place) -> list[str]:
    file = place.directory / "relay.cfg"
    file.write_text(
        RELAY.format(port=place.port, secure=place.secure, certificate=place.certificate, origin=place.origin)
    )
    return ["haproxy", "-db", "-f", str(file)]


def _uvloop(place: Place) -> list[str]:
    return [sys.executable, str(HERE / "bare.py"), str(place.port), str(place.secure), str(place.certificate)]


def _varnish(place: Place) -> list[str]:
    file = place.directory / "edge.vcl"
    file.write_text(VARNISH.format(origin=place.origin))
    argv = [
        "varnishd",
        "-F",
        "-n",
        str(place.directory / "varnish"),
        "-f",
        str(file),
        "-s",
        f"malloc,{place.cache_mib}m",
    ]
    return [*argv, "-a", f"127.0.0.1:{place.port}", "-j", "none", "-p", "thread_pools=1"]


def _flyby(place: Place) -> list[str]:
    argv = [sys.executable, "-m", "flyby", "serve"]
    if place.upstream is Upstream.TLS:
        (place.directory / "flyby.toml").write_text(FLYBY_TLS.format(origin=place.origin))
        argv += ["-c", str(place.directory / "flyby.toml")]
    else:
        argv += ["--origin", f"http://127.0.0.1:{place.origin}"]
    # The log is left at its default: a line a request.
    argv += [
        "--listen",
        f"127.0.0.1:{place.port}",
        "--workers",
        str(place.workers),
        "--cache-size",
        f"{place.cache_mib}MiB",
    ]
    argv += ["--state", str(place.directory)]
    tls = ["--tls-cert", str(place.certificate), "--tls-key", str(place.certificate)]
    return [*argv, "--listen", f"https://127.0.0.1:{place.secure}", *tls]


def _flyby_tunnel(place: Place) -> list[str]:
    """flyby with no origin but what dials in."""
    (place.directory / "flyby.toml").write_text("[backends.bench]\ntunnel = true\n")
    argv = [sys.executable, "-m", "flyby", "serve", "-c", str(place.directory / "flyby.toml")]
    argv += ["--listen", f"127.0.0.1:{place.port}", "--workers", "1", "--cache-size", f"{CACHE_MIB}MiB"]
    tls = ["--tls-cert", str(place.certificate), "--tls-key", str(place.certificate)]
    return [*argv, "--state", str(place.directory), "--listen", f"https://127.0.0.1:{place.secure}", *tls]


def _donor(place: Place) -> tuple[list[str], bytes]:
    """What dials in: the origin itself. Its CPU is not the edge's."""
    made = subprocess.run(
        [sys.executable, "-m", "flyby", "backend", "add", "bench", "--state", str(place.directory)],
        capture_output=True,
        timeout=20,
        env={**os.environ, "PYTHONPATH": _flyby_path()},
        check=False,
    )
    token = re.search(rb"fly_\w+", made.stdout)
    if token is None:
        raise ServerError(f"flyby backend add: {made.stderr.decode(errors='replace').strip()}")
    return [sys.executable, str(HERE / "donor.py"), str(place.port), str(place.origin)], token[0] + b"\n"


def _flyby_path() -> str:
    """The sources, where they are built in place; else what is installed."""
    inherited = os.environ.get("PYTHONPATH", "")
    if not any((SOURCES / "flyby").glob("*/*.so")):
        return inherited
    return f"{SOURCES}{os.pathsep}{inherited}" if inherited else str(SOURCES)


def _flyby_missing() -> str | None:
    if any((SOURCES / "flyby").glob("*/*.so")) or importlib.util.find_spec("flyby"):
        return None
    return "flyby is neither installed (pip install .) nor built in place"


def _flyby_version() -> str:
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import flyby; print(flyby.__version__)"],
            capture_output=True,
            text=True,
            timeout=20,
            env={**os.environ, "PYTHONPATH": _flyby_path()},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "unknown"
    return version_in(done.stdout)


def recipes(floor: Path) -> tuple[Recipe, ...]:
    """All servers, in the order of the table; `floor` is what `build` made of floor.c."""
    return (
        _floor(floor),
        Recipe("flyby", _flyby_missing, _flyby_version, _flyby, {"PYTHONPATH": _flyby_path()}, secure=True),
        Recipe(
            *("flyby-tunnel", _flyby_missing, _flyby_version, _flyby_tunnel, {"PYTHONPATH": _flyby_path()}),
            takes=lambda case: case.path.startswith("/miss/") and not (case.secure and case.upstream is Upstream.TLS),
            beside=_donor,
            secure=True,
        ),
        Recipe("nginx", _not_on_path("nginx", "nginx"), lambda: version_in(said("nginx", "-v")), _nginx, secure=True),
        Recipe(
            *("haproxy", _not_on_path("haproxy", "haproxy"), lambda: version_in(said("haproxy", "-v")), _haproxy),
            secure=True,
        ),
        Recipe(
            *("varnish", _not_on_path("varnishd", "varnish"), lambda: version_in(said("varnishd", "-V")), _varnish),
            takes=lambda case: not case.secure and case.upstream is Upstream.PLAIN,
        ),
        Recipe(
            *("uvloop", lambda: None, lambda: metadata.version("uvloop"), _uvloop),
            takes=lambda case: case.churn,
            proxies=False,
            secure=True,
        ),
    )


def relay() -> Recipe:
    """Speaks TLS for others: with whom it connects to on its plain port, with its clients on the other."""
    return Recipe("relay", _not_on_path("haproxy", "haproxy"), lambda: "", _relay, secure=True)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def memory_directory() -> str | None:
    """A tmpfs where there is one, so that no server's cache is on a disk."""
    shared = "/dev/shm"
    return shared if os.path.isdir(shared) and os.access(shared, os.W_OK) else None


def make_certificate(directory: Path) -> None:
    """A certificate for 127.0.0.1 with an ECDSA key, as most sites have one now, both in `directory`/edge.pem."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-days", "30", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(
            [*argv, "-keyout", str(key), "-out", str(certificate)], capture_output=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ServerError(f"no certificate for the cases with TLS (apt install openssl): {error}") from error
    whole = directory / "edge.pem"
    whole.touch(0o600)
    whole.write_bytes(certificate.read_bytes() + key.read_bytes())


class Running:
    """One server while it runs: `with Running(recipe, origin, pin) as server`."""

    def __init__(
        self,
        recipe: Recipe,
        origin: int,
        pinned: tuple[str, ...] = (),
        cache_mib: int = CACHE_MIB,
        workers: int = 1,
        upstream: Upstream = Upstream.PLAIN,
    ) -> None:
        self.recipe = recipe
        self.name = recipe.name
        self.port = free_port()
        self.secure_port = free_port()
        self._pinned = pinned
        self._directory = tempfile.TemporaryDirectory(prefix="flyby-bench-", dir=memory_directory())
        directory = Path(self._directory.name)
        certificate = directory / "edge.pem"
        self._place = Place(directory, self.port, self.secure_port, origin, certificate, cache_mib, workers, upstream)
        self._relay: Running | None = None  # puts TLS on the links of a tunnel
        self._process: subprocess.Popen[bytes] | None = None
        self._helper: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self.began = 0.0  # when its command was given, on the monotonic clock
        self._said = b""

    def takes(self, case: Case) -> bool:
        """Whether the case means something for this server, with the origin it has."""
        return case.upstream is self._place.upstream and self.recipe.takes(case)

    def target(self, case: Case) -> Target:
        """Where it answers this case."""
        scheme, port = ("https", self.secure_port) if case.secure else ("http", self.port)
        return Target(f"{scheme}://127.0.0.1:{port}", port, self._place.cache_mib)

    @property
    def pid(self) -> int:
        """The root of its process tree: taskset replaces itself by what it starts."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Running:
        reading, writing = os.pipe()
        self._listener = threading.Thread(target=self._listen, args=(reading,), daemon=True)
        self._listener.start()
        self.began = time.monotonic()
        try:
            try:
                if self.recipe.secure:
                    make_certificate(self._place.directory)
                self._process = subprocess.Popen(
                    [*self._pinned, *self.recipe.command(self._place)],
                    stdin=subprocess.DEVNULL,
                    stdout=writing,
                    stderr=writing,
                    env={**os.environ, **self.recipe.environment},
                    start_new_session=True,
                )
            finally:
                os.close(writing)
            self._wait()
            self._start_helper()
        except (OSError, ServerError) as error:
            self.stop()
            last = self._said.decode(errors="replace").strip().splitlines()[-3:]
            raise ServerError(": ".join([f"{self.name}: {error}", *last])) from error
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _listen(self, pipe: int) -> None:
        """Read what the server says, to the end; the last of it is kept."""
        with contextlib.closing(os.fdopen(pipe, "rb", buffering=0)) as output:
            while piece := output.read(1 << 20):
                self._said = (self._said + piece)[-4096:]

    def _wait(self) -> None:
        assert self._process is not None
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise ServerError(f"ended with {self._process.returncode} at its start")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.005)
        raise ServerError(f"does not listen after {START_S:.0f} s")

    def _start_helper(self) -> None:
        if self.recipe.beside is None:
            return
        place = self._place
        if place.upstream is Upstream.TLS:
            self._relay = Running(relay(), self.secure_port)
            self._relay.__enter__()
            place = replace(place, port=self._relay.port)
        command, told = self.recipe.beside(place)
        self._helper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._helper.stdin is not None
        assert self._helper.stdout is not None
        self._helper.stdin.write(told)
        self._helper.stdin.close()
        if self._helper.stdout.readline() != b"ready\n":
            raise ServerError(f"{command[1]} ended with {self._helper.wait()} at its start")

    def stop(self) -> None:
        """End its whole tree, politely first; nothing of it stays behind."""
        if self._helper is not None:
            self._helper.kill()
            self._helper.wait()
            assert self._helper.stdout is not None
            self._helper.stdout.close()
            self._helper = None
        if self._relay is not None:
            self._relay.stop()
            self._relay = None
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its session, which nobody else is in
            process.wait()
        if self._listener is not None:
            self._listener.join(STOP_S)
        self._process = None
        self._directory.cleanup()

    def get(self, case: Case) -> tuple[int, int]:
        """One request on a connection of its own: the status and the body's size."""
        port = self.secure_port if case.secure else self.port
        return _ask(port, case.path, case.headers, case.secure, case.content)[:2]

    def check(self, case: Case) -> None:
        """Ask for the case's answer twice (to fill the cache, and to read it); ServerError when it is another."""
        whole = replace(case, headers=(), status=200) if case.status == HTTPStatus.PARTIAL_CONTENT else None
        for number in range(2):
            try:
                if whole and not number:
                    self.get(whole)  # a part of what has been stored, not of what is being fetched
                    continue
                status, size = self.get(case)
            except (OSError, http.client.HTTPException) as error:
                raise ServerError(f"{self.name}: {case.name}: {error!r}") from error
            # A cold cache may fetch the whole before it knows that nothing has changed.
            if (status, size) not in ((case.status, case.size), (200, case.size or size)):
                raise ServerError(f"{self.name}: {case.name}: answered {status} with {size} bytes")

    def answered(self) -> int:
        """How many requests the origin has answered (only floor.c counts)."""
        status, _, body = _ask(self.port, "/count", ())
        if status != 200:
            raise ServerError(f"{self.name}: /count: {status}")
        return int(body)


def _ask(
    port: int, path: str, headers: tuple[tuple[str, str], ...], secure: bool = False, content: bytes = b""
) -> tuple[int, int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    try:
        connection.request("POST" if content else "GET", path, content or None, headers=dict(headers))
        response = connection.getresponse()
        body = response.read()
        return response.status, len(body), body
    finally:
        connection.close()
