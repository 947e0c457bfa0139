"""Errors of the network in words: what happened, and nothing of Python.

asyncio and OpenSSL word their errors for programmers ("Connect call failed ('127.0.0.1', 5000)", "(EOF) (_ssl.c:992)").
The system's own word for the error's number, or a sentence of ours, takes their place.
"""

from __future__ import annotations

import os
import ssl

from flyby_agent.log import flat

_TLS = {
    "WRONG_VERSION_NUMBER": "what answered does not speak TLS",
    "HTTP_REQUEST": "what answered speaks HTTP without TLS",
    "UNEXPECTED_EOF_WHILE_READING": "the other side closed the connection during the TLS handshake",
    "TLSV1_ALERT_INTERNAL_ERROR": "the other side has no certificate for this name",
    "TLSV1_UNRECOGNIZED_NAME": "the other side has no certificate for this name",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the other side wants another version of TLS",
}


def reason(error: BaseException) -> str:
    """An error of a socket, of TLS or of a name as a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the edge's certificate is not trusted: {flat(error.verify_message)} (FLY_CA_FILE names other authorities)"
        )
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return _TLS["UNEXPECTED_EOF_WHILE_READING"]
    if isinstance(error, ssl.SSLError):
        name = getattr(error, "reason", None) or ""  # OpenSSL's own; one that Python makes has none
        return _TLS.get(name) or f"TLS failed: {name.replace('_', ' ').lower() or 'no reason is known'}"
    if isinstance(error, OSError) and type(error.errno) is int and error.errno > 0:
        return os.strerror(error.errno)
    text = (error.strerror if isinstance(error, OSError) else "") or str(error)
    return flat(text) or type(error).__name__
