"""TLS to the origins: whose certificates are believed, and whether a stream has ended in good order."""

from __future__ import annotations

import asyncio
import ssl

from flyby.errors import ConfigError, Problem


def client_context(ca_file: str | None, verify: bool) -> ssl.SSLContext:
    """TLS 1.2 or later, certificates judged by `ca_file` or the system's list. `ConfigError` when it cannot be used."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
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
