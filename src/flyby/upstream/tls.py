"""TLS to the origins: whose certificates are believed, which session is resumed, and whether a stream has ended in good
order.

A handshake that resumes a session (RFC 8446 2.2, RFC 5077) costs neither side a signature nor a check of certificates,
and under TLS 1.2 one round trip less. No event loop hands a session to a client connection, so the context does.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from flyby.errors import ConfigError, Problem


class ResumingContext(ssl.SSLContext):
    """A client's context that offers a session to each server that it has connected to before, one for each name.

    The ticket of a TLS 1.3 session comes some time after the handshake (RFC 8446 4.6.1). So the last connection's
    engine is kept for each name, and asked for its session when the next connection is made. A copy of a session costs
    a third of a handshake: one that was resumed is offered again, and asked for anew only when the server refuses it.
    """

    def __init__(self, *_: Any) -> None:
        self._engines: dict[str, ssl.SSLObject] = {}
        self._sessions: dict[str, ssl.SSLSession] = {}

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        name = str(server_hostname)
        engine = self._engines.get(name)
        # Never of a handshake that was not completed: nobody has proved anything in it. It has no version either.
        if engine is not None and engine.version() is not None and not engine.session_reused:
            latest = engine.session
            if latest is not None and (latest.has_ticket or latest.id):
                self._sessions[name] = latest
        session = session or self._sessions.get(name)
        engine = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        self._engines[name] = engine
        return engine


def client_context(ca_file: str | None, verify: bool) -> ssl.SSLContext:
    """TLS 1.2 or later, certificates judged by `ca_file` or the system's list. `ConfigError` when it cannot be used."""
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca_file is None:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        else:
            context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        hint = "ca_file names a PEM file with the certificates to trust"
        raise ConfigError([Problem(ca_file or "", 0, 0, f"cannot read certificates: {error}", hint)]) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def orderly_end(transport: asyncio.BaseTransport) -> bool:
    """Whether the end of the stream that `transport` has just told is its peer's word.

    Under TLS it is only with a close_notify: anybody on the way can end the TCP stream (RFC 9112 9.8). asyncio tells
    both in the same way. OpenSSL knows: it reads nothing after a close_notify, and wants more bytes without one.
    """
    engine = transport.get_extra_info("ssl_object")
    if engine is None:
        return True
    try:
        return not engine.read(1)
    except ssl.SSLZeroReturnError:
        return True
    except (ssl.SSLError, ValueError):
        return False
