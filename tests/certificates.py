"""Certificates for tests: an authority of their own, and files as an operator has them."""

from __future__ import annotations

import functools
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


def issue(directory: Path, name: str, *hosts: str, days: tuple[float, float] = (-1, 90)) -> tuple[str, str]:
    """Files NAME.pem and NAME.key for `hosts`, valid for these days from now on; their paths."""
    now = datetime.now(UTC)
    start, end = (now + timedelta(days=each) for each in days)
    issued = authority().issue_cert(*hosts, not_before=start, not_after=end)
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    chain = b"".join(each.bytes() for each in issued.cert_chain_pems)
    # As an ACME client does: whole files take the place of the old ones.
    for path, data in ((certificate, chain), (key, issued.private_key_pem.bytes())):
        fresh = path.with_suffix(path.suffix + ".new")
        fresh.write_bytes(data)
        fresh.chmod(0o600)
        os.replace(fresh, path)
    return str(certificate), str(key)


def trusting() -> ssl.SSLContext:
    """A client's context that believes the tests' authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    authority().configure_trust(context)
    return context
