"""What `flyby serve` prints when it has started: where it listens, what it fronts, and what to try.

With the demo app in front, the list is the shortest tour of the cache: each line is a command to paste, and what its
Cache-Status field will say (RFC 9211).
"""

from __future__ import annotations

from collections.abc import Sequence

from flyby.config import Config
from flyby.control import BackendRecord

_WILDCARDS = (("://0.0.0.0:", "://127.0.0.1:"), ("://[::]:", "://[::1]:"))

# (what to see, the commands; URL stands for the edge's own)
# It is a GET that shows the head alone: a HEAD would leave nothing in the cache.
_LOOK = "curl -sD- -o/dev/null"

_TOUR: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a miss, then a hit (for 10 s)", (f"{_LOOK} URL/", f"{_LOOK} URL/")),
    ("a hit for a year: an asset that never changes", (f"{_LOOK} URL/assets/style.7d1f.css",) * 2),
    ("revalidated: the app answers 304 to its ETag", (f"{_LOOK} URL/assets/logo.svg",) * 2),
    ("stale, served at once and refreshed behind", (f"{_LOOK} URL/; sleep 11; {_LOOK} URL/",)),
    ("stale because the app fails", (
        f"{_LOOK} URL/news; curl -sX POST URL/demo/break; sleep 3; {_LOOK} URL/news",
        "curl -sX POST URL/demo/mend",
    )),
    ("collapsed: two clients share one request to the app", ("curl -sN URL/slow & curl -sN URL/slow; wait",)),
    ("private: every request reaches the app", (f"{_LOOK} URL/account",)),
    ("how many have reached it", ("curl -s URL/demo/counter",)),
)  # fmt: skip


def _behind(origins: Sequence[str]) -> str:
    return ", ".join(origins) or "dynos that dial in"


def url(listens: str) -> str:
    """What to type into a client on this machine."""
    for every, this in _WILDCARDS:
        listens = listens.replace(every, this)
    return listens


def banner(
    config: Config,
    urls: Sequence[str],
    workers: int,
    known: Sequence[BackendRecord] = (),
    *,
    demo: bool,
) -> str:
    """The text, with its final newline. `urls` are where it listens, `known` are the backends of the control state."""
    if demo:
        fronts = ["the built-in demo app (name your own with --origin URL)"]
    else:
        fronts = [f"{name}: {_behind(backend.origins)}" for name, backend in config.backends.items()]
        domain = config.server.preview_domain
        for record in known:
            preview = f", as {record.name}.{domain}" if domain else ""
            fronts.append(f"{record.name}: {_behind(record.origins)}{preview}")
    lines = [
        "flyby listens on " + ", ".join(urls),
        *(f"       in front of {front}" for front in fronts),
        f"       {workers} worker{'s' * (workers != 1)}, cache {config.cache.size}, profile {config.cache.profile}",
    ]
    if demo:
        lines += ["", "Try, and read the Cache-Status field of each answer:"]
        for shows, commands in _TOUR:
            lines += ["", f"  # {shows}"]
            lines += [f"  {command.replace('URL', url(urls[0]))}" for command in commands]
    return "\n".join(lines) + "\n\n"
