"""Log lines: one line each, with a prefix, on standard error, where Heroku and systemd collect it.

    fly: connected to edge-1, worker 0 of 2
    fly: warning: the app on 127.0.0.1:5000 refused a connection

No line ever holds the token: nothing that knows it formats it, and `text` is flattened so that what a peer said
cannot begin a line of its own. (The standard library's logging would cost a megabyte for this.)
"""

from __future__ import annotations

import contextlib
import os
import re

LEVELS = ("error", "warning", "info", "debug")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

_level = LEVELS.index("info")


def set_level(name: str) -> None:
    global _level
    _level = LEVELS.index(name)


def flat(text: str, most: int = 300) -> str:
    """One line of printable text, of a bounded length."""
    text = _UNSEEN.sub(" ", text).strip()
    return text if len(text) <= most else text[: most - 1] + "…"


def _say(level: int, text: str) -> None:
    if level > _level:
        return
    mark = "" if LEVELS[level] == "info" else LEVELS[level] + ": "
    line = f"fly: {mark}{flat(text, 1000)}\n".encode(errors="replace")
    # One write, so that the lines of two processes do not mix. When nobody reads the log any more the tunnel goes on.
    with contextlib.suppress(OSError, ValueError):
        os.write(2, line)


def error(text: str) -> None:
    _say(0, text)


def warning(text: str) -> None:
    _say(1, text)


def info(text: str) -> None:
    _say(2, text)


def debug(text: str) -> None:
    _say(3, text)
