"""Errors by who is to blame; every error says what to do about it.

A `WireError` is the fault of the peer that sent the bytes, an `UpstreamError` the origin's or the way to it, a
`ConfigError` the operator's, a `StoreError` the cache's (which never fails a request: the proxy goes on without it),
a `StateError` the control state's. Only `proxy/exchange.py` turns an error into a response.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass


class FlybyError(Exception):
    """Root of every error that flyby raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in a configuration, with the place to mend it. Lines and columns count from 1; 0 means unknown.

    A fault of no file at all (what reload finds in options and file together) has an empty `file`.
    """

    file: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        text = f"{place}: {self.message}" if place else self.message
        return f"{text} ({self.hint})" if self.hint else text


class ConfigError(FlybyError):
    """The configuration is not usable; `problems` lists every fault that was found, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class WireError(FlybyError):
    """A peer sent bytes that are not HTTP as we accept it.

    `status` is the response status that names the fault (RFC 9110 15.5), `reason` a short token for logs,
    `detail` a sentence for people.
    """

    def __init__(self, status: int, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.status = status
        self.reason = reason
        self.detail = detail or reason


class Retry(enum.Enum):
    """When the same request may be sent again."""

    NEVER = "never"
    IF_REUSED = "if-reused"  # a kept connection died before the first response byte (RFC 9112 9.3.1)
    ALWAYS = "always"  # not a byte of the request was passed on


class UpstreamError(FlybyError):
    """The origin could not be reached or broke its answer off.

    `status` is 502, 503 or 504; `proxy_error` is the type that RFC 9209 2.3 registers, sent in Proxy-Status.
    """

    def __init__(
        self, status: int, reason: str, proxy_error: str, detail: str = "", retry: Retry = Retry.NEVER
    ) -> None:
        super().__init__(detail or reason)
        self.status = status
        self.reason = reason
        self.proxy_error = proxy_error
        self.detail = detail or reason
        self.retry = retry


class StoreError(FlybyError):
    """The shared-memory store cannot be made or attached; the message names the limit and the remedy.

    `exit_code` is what a command ends with for it (sysexits): a matter of the system's, by default.
    """

    def __init__(self, message: str, exit_code: int = os.EX_OSERR) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StateError(FlybyError):
    """The control state cannot be used, or not in this way; `exit_code` is the sysexits code that says why."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
