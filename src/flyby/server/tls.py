"""TLS on the listeners: which certificate a handshake gets, how new ones are taken up, and what went wrong how often.

    ClientHello ─▶ base context ─ server name (RFC 6066 3) ─▶ exact name, wildcard, else the first ─▶ its context

The listeners hold the base context for as long as they live; it has no certificate of its own and asks this table in
every handshake. So a reload changes the table and nothing else: connections go on with what they began with, the next
handshake gets the new certificate, and session tickets stay good. Made before the fork, the base context gives all
workers the same ticket keys, so that a client may come back to any of them.

A handshake that fails is counted by OpenSSL's word for it and logged at debug: a port on the internet sees nothing but
scanners all day. One that is never finished (the client left, or `timeouts.handshake_s` passed) is counted as such.
"""

from __future__ import annotations

import logging
import ssl
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from flyby.config import Certificate
from flyby.config.certificates import CertificateError, ServerContext, load, parent, server_context
from flyby.errors import ConfigError, Problem

SHUTDOWN_S = 2.0  # how long a closing connection waits for the client's close_notify

# What a client is told by an alert when it has spoken TLS, but none that we do; anybody else is just closed.
_TOLD = frozenset(
    ("unsupported-protocol", "no-shared-cipher", "no-suitable-signature-algorithm", "no-suitable-key-share")
)

logger = logging.getLogger("flyby.tls")


@dataclass(frozen=True, slots=True)
class TLSStatistics:
    """A snapshot. `failures` maps OpenSSL's reasons to how often they occurred; "unfinished" is ours."""

    handshakes: int
    resumed: int
    failures: dict[str, int]


class Handshakes:
    """What became of the handshakes of one process."""

    __slots__ = ("done", "failed", "resumed")

    def __init__(self) -> None:
        self.done = 0
        self.resumed = 0
        self.failed: Counter[str] = Counter()

    def snapshot(self) -> TLSStatistics:
        return TLSStatistics(self.done, self.resumed, dict(self.failed))


class _Observed(ssl.SSLObject):
    """An SSL object that tells what became of its handshake."""

    handshakes: ClassVar[Handshakes]
    settled = False

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if self.settled:
                raise
            self.settled = True
            reason = (error.reason or "unknown").lower().replace("_", "-")
            self.handshakes.failed[reason] += 1
            logger.debug("a TLS handshake failed: %s", reason)
            if reason in _TOLD:
                # The event loop would drop the alert that OpenSSL has written. Asked to wait for more, it sends it
                # first; the client closes, or the time for the handshake ends.
                raise ssl.SSLWantReadError from error
            raise
        self.settled = True
        self.handshakes.done += 1
        self.handshakes.resumed += bool(self.session_reused)

    def __del__(self) -> None:
        if not self.settled:
            self.handshakes.failed["unfinished"] += 1


class Certificates:
    """The certificates in use. `context` is what the listeners are given."""

    __slots__ = ("_contexts", "_exact", "_parents", "context", "handshakes")

    def __init__(self, settings: Sequence[Certificate]) -> None:
        self.context = server_context()
        self.handshakes = Handshakes()
        self.context.sslobject_class = type("Observed", (_Observed,), {"handshakes": self.handshakes})
        self.context.sni_callback = self._choose
        self._contexts: list[ServerContext] = []
        self._exact: dict[str, ServerContext] = {}
        self._parents: dict[str, ServerContext] = {}
        self.use(settings)

    def __repr__(self) -> str:
        return f"<Certificates {sorted(self._exact)} {sorted(f'*.{parent}' for parent in self._parents)}>"

    def use(self, settings: Sequence[Certificate]) -> None:
        """Read the files and go over to what they hold; `ConfigError` leaves everything as it was.

        Listeners with TLS stay until the next start, so what they were given stays when a reload names nothing.
        """
        contexts = []
        for index, each in enumerate(settings):
            try:
                contexts.append(load(each.certificate, each.key, each.hosts))
            except CertificateError as error:
                place = f"server.tls[{index}].{error.which}"
                raise ConfigError([Problem("", 0, 0, f"{place}: {error}", error.hint)]) from None
        if not contexts:
            return
        # Of two that have the same name, the first answers.
        self._exact = {name: context for context in reversed(contexts) for name in context.names}
        self._parents = {parent: context for context in reversed(contexts) for parent in context.parents}
        self._contexts = contexts

    @property
    def remarks(self) -> list[str]:
        """What works but should be mended."""
        return [remark for context in self._contexts for remark in context.remarks]

    def _choose(self, engine: ssl.SSLObject | ssl.SSLSocket, name: str | None, base: ssl.SSLContext) -> None:
        engine.context = self.named(name)

    def named(self, name: str | None) -> ServerContext:
        """The context for a server name; without one, and for one that nobody has, the first."""
        if name is not None:
            name = name.lower()
            found = self._exact.get(name) or self._parents.get(parent(name))
            if found is not None:
                return found
        return self._contexts[0]
