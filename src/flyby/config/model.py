"""The configuration, as typed and frozen structures: one class for each table of the TOML file.

Owns the names, the types and the defaults of everything an operator can set; every limit and time is a named constant
with a sentence that says what it is for. Every class can be made without an argument, so the same tree comes from a
file, from the command line and from Python. Keys that end in `_s` are seconds (a number here; the file may also say
"500ms" or "2m"); sizes are bytes (the file may also say "8KiB").

What is well typed here need not make sense: `rules.py` holds the rules between the values.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from flyby.config.values import parse_size

if TYPE_CHECKING:
    from flyby.errors import Problem

KIB = 1024
MIB = 1024 * KIB

PREVIEW_DOMAIN = "preview.localhost"  # *.localhost is this machine for browsers and curl, so it works as it is

# -- limits on what a client or an origin may send (RFC 9112 3: a server chooses its limits, and answers 414 or 431)
REQUEST_LINE = 8 * KIB  # longest request line; a longer one is answered with 414
HEADER_LINE = 16 * KIB  # longest field line of a request; a longer one is answered with 431
HEADER_BLOCK = 32 * KIB  # all field lines of a request together; more is answered with 431
FIELDS = 100  # field lines in a request; more is answered with 431
CHUNK_LINE = 4 * KIB  # one chunk-size line with its extensions; a longer one is answered with 400
CHUNK_EXTENSIONS = 16 * KIB  # all chunk extensions of one body together, so that a body cannot be mostly extensions
RESPONSE_LINE = 16 * KIB  # longest status line that is read from an origin; a longer one is a 502
RESPONSE_HEADER_LINE = 32 * KIB  # longest field line that is read from an origin; a longer one is a 502
RESPONSE_BLOCK = 64 * KIB  # all field lines of an origin's response together; more is a 502
RESPONSE_FIELDS = 200  # field lines in an origin's response; more is a 502
NO_BODY_LIMIT = 0  # stands for "any size": bodies are streamed, so their size costs no memory

# -- times on the client's side
HANDSHAKE_S = 10.0  # a TLS handshake must be done this long after the connection was made
HEAD_S = 10.0  # a request's head must be complete this long after its first byte, else 408 (slow-loris)
BODY_S = 20.0  # the longest wait for the next bytes of a request's body, else 408
IDLE_S = 60.0  # a kept connection without a request is closed after this
HALF_CLOSED_S = 5.0  # silence of the origin after which a client that has sent its FIN counts as gone
WRITE_S = 30.0  # the longest wait for a client that reads nothing, then its connection is closed
DRAIN_S = 25.0  # how long in-flight responses may take after TERM (Heroku kills after 30 s)
BODY_RATE = 500  # bytes a second over 20 s: a slower request body gets 408 while others wait for its origin
READ_RATE = KIB  # bytes a second over 30 s: a slower reader is broken off while others wait for its origin
NO_RATE = 0  # stands for "however slow"

# -- the cache
CACHE_SIZE = "256MiB"  # shared memory for all workers together, allocated in full at the start
MAX_OBJECT_SHARE = 8  # one object may take one part in this many of the cache, unless cache.max_object says otherwise
MAX_VARIANTS = 64  # variants (Vary) of one object, so that a client cannot fill the cache with one page
COLLAPSE_WAIT_S = 3.0  # a follower's longest wait for a fetch that gets no byte from the origin; then it fetches itself
HIT_FOR_MISS_S = 120.0  # how long a key whose response may not be stored is fetched without waiting for one another
GUESS_S = 600.0  # the longest lifetime that profile `default` guesses from Last-Modified
TARGETED = ("CDN-Cache-Control", "Surrogate-Control")  # targeted fields that we obey, first match wins (RFC 9213 2.2)

# -- the origin's side; Heroku's router waits as long
CONNECT_S = 5.0  # name, TCP and TLS together; then 503 or 504
FIRST_BYTE_S = 30.0  # from the request's last byte to the end of the response's head, however it drips; then 504
BETWEEN_BYTES_S = 55.0  # the longest silence inside a response; then the response is broken off
MAX_CONNECTIONS = 512  # connections to one origin address, a worker
MAX_WAITERS = 1024  # requests that may wait for one of them; the next is answered with 503 at once
EARLY = 8  # requests to one origin address that may be sent before their content has come, a worker
WAIT_S = 5.0  # how long a request waits for a connection; then 503
POOL_IDLE_S = 60.0  # an idle connection is closed after this; Heroku's router closes its end at 90 s
LIFETIME_S = 3600.0  # a connection is not reused after this, so that new DNS answers are seen
EJECT_FAILURES = 5  # consecutive failures after which an origin gets no requests for a while
EJECT_BACKOFF_S = 1.0  # the first such pause; it doubles with each ejection in a row
EJECT_MAX_BACKOFF_S = 60.0  # and never grows past this
HEALTH_INTERVAL_S = 10.0  # between two active checks of one origin
HEALTH_TIMEOUT_S = 5.0  # an active check without an answer for this long has failed
HEALTH_RISE = 2  # successes in a row that bring an origin back
HEALTH_FALL = 3  # failures in a row that take it out

# -- dynos that dial in
MAX_DYNOS = 100  # of one backend, in each worker; the next is refused
MAX_LINKS = 512  # of one dyno, in each worker; the next is refused

MAX_WORKERS = 1024  # more is a slip of the finger
MAX_SHARE = 1_000_000  # of one backend of a route: parts of a million are finer than anybody measures

# The units that a string in the file may have; `rules.py` turns it into the number before it is decoded.
# The upper bounds keep sums of them within what timers and 64-bit counters take.
MOST_SECONDS = 1_000_000_000  # about thirty years
MOST_BYTES = 1 << 50
MOST = 1_000_000_000
Seconds = Annotated[float, Meta(gt=0, le=MOST_SECONDS, extra={"unit": "duration"})]
MaybeZeroSeconds = Annotated[float, Meta(ge=0, le=MOST_SECONDS, extra={"unit": "duration"})]
Bytes = Annotated[int, Meta(ge=1, le=MOST_BYTES, extra={"unit": "size"})]
MaybeZeroBytes = Annotated[int, Meta(ge=0, le=MOST_BYTES, extra={"unit": "size"})]
Count = Annotated[int, Meta(ge=1, le=MOST)]
MaybeZeroCount = Annotated[int, Meta(ge=0, le=MOST)]
Share = Annotated[int, Meta(ge=0, le=MAX_SHARE)]

Profile = Literal["default", "rfc9111"]
Forwarded = Literal["replace", "append"]
Compression = Literal["high", "fast", "off"]
LogFormat = Literal["console", "combined", "json", "logfmt", "heroku", "off"]
PROFILES: tuple[Profile, ...] = ("default", "rfc9111")
LOG_FORMATS: tuple[LogFormat, ...] = ("console", "combined", "json", "logfmt", "heroku", "off")


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """One table of the file: frozen, so a configuration that is in use never changes under a request.

    Made in Python, it takes sizes and durations as the file does, in text too, and keeps numbers; a value of another
    kind raises `ConfigError` at once.
    """

    def __post_init__(self) -> None:
        from flyby.config.shape import fit

        fit(self)


class Limits(Table, frozen=True, kw_only=True):
    """`[server.limits]`: how much of a message is read before it is refused, and of how many clients at once."""

    connections: MaybeZeroCount = 0  # 0: three quarters of the descriptors
    request_line: Bytes = REQUEST_LINE
    header_line: Bytes = HEADER_LINE
    header_block: Bytes = HEADER_BLOCK
    fields: Count = FIELDS
    body: MaybeZeroBytes = NO_BODY_LIMIT
    chunk_line: Bytes = CHUNK_LINE
    chunk_extensions: Bytes = CHUNK_EXTENSIONS
    response_line: Bytes = RESPONSE_LINE
    response_header_line: Bytes = RESPONSE_HEADER_LINE
    response_block: Bytes = RESPONSE_BLOCK
    response_fields: Count = RESPONSE_FIELDS


class Timeouts(Table, frozen=True, kw_only=True):
    """`[server.timeouts]`: how long a client may take, and how slow it may be. The rates are bytes a second."""

    handshake_s: Seconds = HANDSHAKE_S
    head_s: Seconds = HEAD_S
    body_s: Seconds = BODY_S
    idle_s: Seconds = IDLE_S
    half_closed_s: Seconds = HALF_CLOSED_S
    write_s: Seconds = WRITE_S
    drain_s: MaybeZeroSeconds = DRAIN_S
    body_rate: MaybeZeroBytes = BODY_RATE
    read_rate: MaybeZeroBytes = READ_RATE


class Purge(Table, frozen=True, kw_only=True):
    """`[server.purge]`: who may PURGE. With neither a secret nor an address, nobody may."""

    secret: str | None = None
    allow: list[str] = []


class Tunnel(Table, frozen=True, kw_only=True):
    """`[server.tunnel]`: the dynos that dial in. `node` is this machine's name for them, by default its host name."""

    node: str | None = None
    plain: bool = False
    max_dynos: Count = MAX_DYNOS
    max_links: Count = MAX_LINKS


class Certificate(Table, frozen=True, kw_only=True):
    """`[[server.tls]]`: a certificate with its chain, and its key, as PEM files.

    The first is for clients that name no host, or one that no certificate has. `hosts` are the names that it answers
    for, "*" for any; without it they are the certificate's own.
    """

    certificate: str = ""
    key: str = ""
    hosts: list[str] | None = None


class Server(Table, frozen=True, kw_only=True):
    """`[server]`: where we listen, and the client's side.

    `state` is the directory with the backends that `flyby backend` has added; each is served, beside the
    configuration's own, under NAME.`preview_domain`. An empty domain: under none.

    `trusted_proxies` are the networks whose X-Forwarded fields and Forwarded are believed, and which may send the PROXY
    protocol; "unix" is the peer of a Unix socket. `forwarded` says what becomes of these fields from others.
    """

    listen: list[str] = field(default_factory=lambda: ["127.0.0.1:8080"])
    workers: Count | Literal["auto"] = "auto"
    log: LogFormat = "console"
    state: str | None = None
    preview_domain: str = PREVIEW_DOMAIN
    trusted_proxies: list[str] = []
    forwarded: Forwarded = "replace"
    tls: list[Certificate] = []
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    purge: Purge = field(default_factory=Purge)
    tunnel: Tunnel = field(default_factory=Tunnel)


class Cache(Table, frozen=True, kw_only=True):
    """`[cache]`: the shared store and the rules that hold for every route."""

    size: str | Bytes = CACHE_SIZE
    profile: Profile = "default"
    max_object: str | Bytes | None = None
    path: str | None = None
    compression: Compression = "high"
    targeted: list[str] = field(default_factory=lambda: list(TARGETED))
    max_variants: Count = MAX_VARIANTS
    strip_tags: bool = True
    collapse_wait_s: Seconds = COLLAPSE_WAIT_S
    hit_for_miss_s: MaybeZeroSeconds = HIT_FOR_MISS_S
    guess_s: MaybeZeroSeconds | None = None

    @property
    def longest_guess_s(self) -> float | None:
        """The longest lifetime that may be guessed, in seconds; None when only the RFC's own rule bounds it."""
        if self.guess_s is not None:
            return self.guess_s
        return GUESS_S if self.profile == "default" else None

    @property
    def size_bytes(self) -> int:
        """The store's size in bytes; ValueError when the text is no size."""
        return parse_size(self.size)

    @property
    def max_object_bytes(self) -> int:
        """The largest object that is stored, in bytes."""
        return self.size_bytes // MAX_OBJECT_SHARE if self.max_object is None else parse_size(self.max_object)


class Pool(Table, frozen=True, kw_only=True):
    """`[backends.NAME.pool]`: kept connections to each origin address, counted in each worker."""

    max_connections: Count = MAX_CONNECTIONS
    max_waiters: MaybeZeroCount = MAX_WAITERS
    early: MaybeZeroCount = EARLY
    wait_s: Seconds = WAIT_S
    idle_s: Seconds = POOL_IDLE_S
    lifetime_s: Seconds = LIFETIME_S


class Health(Table, frozen=True, kw_only=True):
    """`[backends.NAME.health]`: active checks; without this table there are none."""

    path: str = "/"
    interval_s: Seconds = HEALTH_INTERVAL_S
    timeout_s: Seconds = HEALTH_TIMEOUT_S
    rise: Count = HEALTH_RISE
    fall: Count = HEALTH_FALL


class Eject(Table, frozen=True, kw_only=True):
    """`[backends.NAME.eject]`: when an origin that keeps failing is left alone."""

    failures: Count = EJECT_FAILURES
    backoff_s: Seconds = EJECT_BACKOFF_S
    max_backoff_s: Seconds = EJECT_MAX_BACKOFF_S


class Backend(Table, frozen=True, kw_only=True):
    """`[backends.NAME]`: origins that serve the same thing, and how to reach them.

    `host` is the Host that the origin sees: "origin" (the name in its URL, what a Heroku app needs; without origins
    the client's), "client" (what the client sent) or a name of your own. `tunnel` says that the origins are dynos that
    dial in; `origins` are then asked only while no dyno is there, and may be none. `purge_on_release` is what
    becomes of the responses of other releases when the first dyno of a new one is ready. `affinity` keeps a visitor on
    one origin or dyno while it is well. `map_origin` writes the origin's own name into an Origin field that names the
    edge.
    """

    origins: list[str] = []
    tunnel: bool = False
    purge_on_release: Literal["off", "soft", "hard"] = "off"
    host: str = "origin"
    map_origin: bool = False
    affinity: Literal["cookie"] | None = None
    tls_name: str | None = None
    ca_file: str | None = None
    verify: bool = True
    connect_s: Seconds = CONNECT_S
    first_byte_s: Seconds = FIRST_BYTE_S
    between_bytes_s: Seconds = BETWEEN_BYTES_S
    pool: Pool = field(default_factory=Pool)
    health: Health | None = None
    eject: Eject = field(default_factory=Eject)


class RouteCache(Table, frozen=True, kw_only=True):
    """`[routes.cache]`: how this route differs from the rules of HTTP.

    `query_allow` keys (and passes on) only the named parameters, `query_deny` all but them. `ignore_cookies` drops the
    named cookies before the cache and the origin see them, `keep_cookies` all but the named; "*" at a name's end
    stands for any ending. `vary_allow` is the list of request fields that a response may vary on. `set_cookie` says
    what becomes of a response with Set-Cookie that could be stored otherwise: "store" it as it is, or "strip" the
    cookie from what is stored. Without it the profile decides.
    """

    off: bool = False
    ttl_s: MaybeZeroSeconds | None = None
    query_allow: list[str] | None = None
    query_deny: list[str] | None = None
    ignore_cookies: list[str] | None = None
    keep_cookies: list[str] | None = None
    vary_allow: list[str] | None = None
    set_cookie: Literal["store", "strip"] | None = None


class HeaderRules(Table, frozen=True, kw_only=True):
    """`[routes.request_headers]`, `[routes.response_headers]`: done in the order remove, set, add."""

    set: dict[str, str] = {}
    add: dict[str, str] = {}
    remove: list[str] = []


class Redirect(Table, frozen=True, kw_only=True):
    """`[routes.redirect]`: answer at the edge. `to` may hold the `:segment`s and the `*rest` of the route's path."""

    to: str = ""
    status: Literal[301, 302, 303, 307, 308] = 302


class Route(Table, frozen=True, kw_only=True):
    """One `[[routes]]`: what it matches (all that is given must match), and where the request goes.

    `host` is exact, or "*.example.com" for every name below example.com. `path` is a prefix ("/api" matches /api and
    /api/x, not /apix), or with `:segment` or a final `*rest` a pattern for the whole path. `headers` maps a field's
    name to its exact value, "*" for any. `rewrite` replaces the path (of a prefix: the prefix) that the origin sees.
    `backend` is one name, or a table of names with the share of visitors that each gets.
    """

    host: str | None = None
    path: str | None = None
    scheme: Literal["http", "https"] | None = None
    headers: dict[str, str] = {}
    backend: str | dict[str, Share] | None = None
    redirect: Redirect | None = None
    rewrite: str | None = None
    body_rate: MaybeZeroBytes | None = None
    cache: RouteCache = field(default_factory=RouteCache)
    request_headers: HeaderRules = field(default_factory=HeaderRules)
    response_headers: HeaderRules = field(default_factory=HeaderRules)

    @property
    def shares(self) -> dict[str, int]:
        """The backends that the route leads to and their weights: one of weight 1 for a name, none for a redirect."""
        if isinstance(self.backend, str):
            return {self.backend: 1}
        return dict(self.backend or {})


class Config(Table, frozen=True, kw_only=True):
    """The whole configuration."""

    server: Server = field(default_factory=Server)
    cache: Cache = field(default_factory=Cache)
    backends: dict[str, Backend] = {}
    routes: list[Route] = []

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Config:
        """Read a file; `ConfigError` lists every problem in it."""
        from flyby.config.load import load

        return load(path)

    @classmethod
    def from_text(cls, text: str, file: str = "<text>") -> Config:
        """Read TOML text; `file` is the name that problems carry."""
        from flyby.config.load import from_text

        return from_text(text, file)

    @property
    def empty(self) -> bool:
        """Whether it names nothing to stand in front of; the control state may still have backends."""
        return not self.backends and not self.routes

    def effective_routes(self) -> list[Route]:
        """The routes with what goes without saying: a sole backend serves every route that names no other fate."""
        if len(self.backends) != 1:
            return list(self.routes)
        only = next(iter(self.backends))
        if not self.routes:
            return [Route(backend=only)]
        return [
            route if route.backend is not None or route.redirect is not None else replace(route, backend=only)
            for route in self.routes
        ]

    def problems(self, file: str = "<config>", *, certificates: bool = True) -> list[Problem]:
        """What is wrong with a configuration that was made in Python; empty when it can be used.

        `certificates` says whether the files of `[[server.tls]]` are judged, too.
        """
        from flyby.config.rules import problems_of

        return problems_of(self, file, certificates=certificates)

    def to_toml(self) -> str:
        """The equivalent file."""
        from flyby.config.render import render

        return render(self)
