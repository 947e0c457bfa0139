"""Texts that are written in the language of another proxy or framework, and what they are in ours.

A path here is matched literally but for `:segment`, `*rest` and `*.ending`, a target is sent literally but for what the
path has captured, and names and values are compared whole. Regular expressions (nginx, HAProxy), templates
(OpenAPI, Flask, Spring) and variables (nginx, Caddy, Apache) look as if they meant something, and mean nothing: so each
is told, with what to write instead where that can be said.
"""

from __future__ import annotations

import re

# What no path that reaches a route can have: flyby refuses requests with these bytes in their path.
NEVER = re.compile(r'["<>\\^`{}]')
_LOOKS = re.compile(
    r"\.[*+]"  # any character, often
    r"|\[[^\]/]+\][*+?]"  # one of a class, often
    r"|\([^)/]*[|*+][^)/]*\)"  # a group with a choice or a repetition
    r"|(?<!/)\*"  # a star that is not at the start of a segment
    r"|\*[^/]*[*/]"  # a star that something follows
    r"|\*\Z(?<=/\*)"  # a star alone
    r"|\$\Z"  # the end
)
_EXPRESSION = re.compile(r"\.[*+]|\A[\^~]|\([^)]*\|[^)]*\)|\[[^\]]+\][*+]|\\[dws.]")
_VARIABLE = re.compile(
    r"\$[0-9&]|\\[0-9]"  # what a regular expression has captured
    r"|\$\{?(?:uri|document_uri|request_uri|host|http_host|server_name|scheme|args|is_args|query_string)\b\}?"  # nginx
    r"|%?\{[\w.]+\}"  # Caddy, Apache
)
_ANY = r"\.[*+]\??"
_ENDING = re.compile(rf"(?:{_ANY}|\({_ANY}\)|\w*\*+)(?:\\?)(\.\w+)\Z")
_SEGMENT = re.compile(
    r"\{(?P<template>\w+)(?::[^}]*)?\}"  # {id}, {id:[0-9]+}
    r"|<(?:\w+:)?(?P<flask>\w+)>"  # <id>, <int:id>
    r"|\(\?P?<(?P<group>\w+)>[^)]*\)"  # (?P<id>…)
    r"|\(?(?:\\[dw]|\[[^\]]*\]|\.)[*+]\??\)?"  # \d+, ([0-9]+), [^/]+, .+
    r"|\*"
)
_REST = re.compile(rf"\(?{_ANY}\)?|\*\*?|\{{\*\*?(?P<template>\w+)?\}}|\{{(?P<catch>\w+):\.\*\}}|<path:(?P<flask>\w+)>")


def looks_foreign(text: str) -> bool:
    """Whether a path looks like a pattern of another language, though it may be meant as it stands."""
    return _LOOKS.search("/" + text.removeprefix("/")) is not None


def is_expression(text: str) -> bool:
    """Whether a value, which is compared whole, looks like a regular expression."""
    return _EXPRESSION.search(text) is not None


def variable_in(target: str) -> str | None:
    """What in the target of a rewrite or redirect looks like another proxy's variable."""
    found = _VARIABLE.search(target)
    return found[0] if found else None


def translated(text: str) -> str | None:
    """What to write in its place; None when there is nothing that says the same."""
    anchored = text.startswith("^")
    body = text.removeprefix("^").removesuffix("$").replace("[^/]", "[.]")
    if body.startswith(("*.", ".*")):
        body = "/" + body
    if not body.startswith("/"):
        return None
    segments = body.split("/")[1:]
    made: list[str] = []
    for number, segment in enumerate(segments, start=1):
        last = number == len(segments)
        ending, rest, whole = _ENDING.fullmatch(segment), _REST.fullmatch(segment), _SEGMENT.fullmatch(segment)
        if last and ending is not None:
            made.append(f"*{ending[1]}")
        elif last and rest is not None:
            # At the end of a regular expression, what follows may be nothing or anything, as after a prefix.
            made.append("" if anchored else f"*{_name(rest, 'rest', made)}")
        elif whole is not None:
            made.append(f":{_name(whole, 'name', made)}")
        else:
            plain = segment.replace("\\.", ".").replace("\\-", "-")
            if NEVER.search(plain) or _LOOKS.search("/" + plain):
                return None
            made.append(plain)
    return "/" + "/".join(made)


def _name(match: re.Match[str], otherwise: str, made: list[str]) -> str:
    """The capture's own name, or one that none before it has."""
    name = next((each for each in match.groupdict().values() if each), otherwise)
    count = sum(each.lstrip(":*").rstrip("0123456789") == name for each in made)
    return f"{name}{count + 1}" if count else name
