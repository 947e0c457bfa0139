"""The file that is equivalent to a configuration.

What differs from the defaults is written, and of the rest what an operator looks for first (where it listens, the
workers, the log, the cache's size and profile). Reading the text gives the same `Config` back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import fields

from flyby.config.model import Config

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z", re.ASCII)
_ALWAYS = {("server", "listen"), ("server", "workers"), ("server", "log"), ("cache", "size"), ("cache", "profile")}


def render(config: Config) -> str:
    """TOML text, ending in a newline."""
    return "\n".join(_blocks(config, ())).lstrip("\n") + "\n"


def _blocks(table: msgspec.Struct, path: tuple[str, ...]) -> Iterator[str]:
    """A table's lines: first its plain values, then the tables inside it, each under a header of its own."""
    inner: list[tuple[str, Any]] = []
    for info in fields(table):
        value = getattr(table, info.name)
        if value is None or (value == _default(info) and (*path, info.name) not in _ALWAYS and not _holds(value)):
            continue
        if _is_table(value):
            inner.append((info.name, value))
        else:
            yield f"{_key(info.name)} = {_value(value)}"
    for name, value in inner:
        yield from _inner(value, (*path, name))


def _inner(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    header = ".".join(_key(part) for part in path)
    if isinstance(value, list):
        for each in value:
            yield f"\n[[{header}]]"
            yield from _blocks(each, path)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield f"\n[{header}.{_key(name)}]"
            yield from _blocks(each, (*path, name))
    else:
        yield f"\n[{header}]"
        yield from _blocks(value, path)


def _default(info: msgspec.structs.FieldInfo) -> Any:
    if info.default_factory is not msgspec.NODEFAULT:
        return info.default_factory()
    return info.default


def _holds(value: Any) -> bool:
    """Whether it is a table in which something is always written."""
    return type(value).__name__ in ("Server", "Cache")


def _is_table(value: Any) -> bool:
    if isinstance(value, dict):
        return any(isinstance(each, msgspec.Struct) for each in value.values())
    if isinstance(value, list):
        return any(isinstance(each, msgspec.Struct) for each in value)
    return isinstance(value, msgspec.Struct)


def _key(name: str) -> str:
    return name if _BARE_KEY.match(name) else _text(name)


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped and JSON leaves.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
        return str(int(value)) if whole else repr(value)
    if isinstance(value, dict):
        pairs = ", ".join(f"{_key(name)} = {_value(each)}" for name, each in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return f"[{', '.join(_value(each) for each in value)}]"
