"""Certificates and keys in files: loaded, and judged as a client would judge them.

The standard library can load a certificate but not read it. So it is shown to a client in memory: a handshake between
two SSL objects, no socket, in which the client trusts that very certificate and nothing else. What the client then
refuses (expired, not yet valid, not for servers) is what every visitor would refuse, and what it was shown tells the
names.

A context that comes from here speaks TLS 1.2 and 1.3 with forward secrecy and authenticated encryption only, and
HTTP/1.1 by ALPN (RFC 7301).
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import stat
import time
from collections.abc import Sequence
from typing import Any, Literal

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 are all sound
WARN_S = 14 * 86_400  # a certificate that ends sooner should have been renewed: authorities' clients do it at 30 days

_FIRST = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")

# X509_V_ERR_…, as OpenSSL numbers them.
_NOT_YET, _EXPIRED, _PURPOSE = 9, 10, 26


class CertificateError(ValueError):
    """One of the two files cannot be used; `which` says which, `hint` what to do."""

    def __init__(self, which: Literal["certificate", "key"], message: str, hint: str = "") -> None:
        super().__init__(message)
        self.which = which
        self.hint = hint


class ServerContext(ssl.SSLContext):
    """One certificate with its key, ready for handshakes, and the host names that it answers for."""

    names: frozenset[str]  # exact ones, in lower case, and addresses
    parents: frozenset[str]  # of wildcards: "example.com" for "*.example.com"
    everything: bool  # answers for any name
    expires: float  # seconds since 1970
    remarks: tuple[str, ...]  # what works but should be mended

    def answers(self, host: str) -> bool:
        """Whether the certificate is valid for a host in lower case, without port and brackets (RFC 9525 6.3)."""
        return self.everything or host in self.names or parent(host) in self.parents

    def covers(self, authority: bytes) -> bool:
        """`answers` for the authority of a request, as the parser has normalised it."""
        colon = authority.rfind(b":")
        host = authority[:colon] if colon > authority.rfind(b"]") else authority
        return self.answers(host.strip(b"[]").decode("latin-1"))


def parent(host: str) -> str:
    """What a wildcard for this host has after its "*.", which stands for exactly one label; "" when there is none."""
    label, _, rest = host.partition(".")
    return rest if label else ""


def server_context() -> ServerContext:
    """A context for the server's side, without a certificate."""
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    # All of them are strong: let a phone without AES in hardware have the one that is cheap for it.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.names = context.parents = frozenset()
    context.everything = False
    context.expires = 0.0
    context.remarks = ()
    return context


def load(certificate: str, key: str, hosts: Sequence[str] | None = None) -> ServerContext:
    """The context of a certificate, which answers for its own names or for `hosts`. Raises `CertificateError`."""
    first = _first(certificate)
    _has_key(key)
    context = server_context()
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except _Encrypted:
        hint = f"openssl pkey -in {key} -out NEW writes it without"
        raise CertificateError("key", f'"{key}" is encrypted with a passphrase', hint) from None
    except ssl.SSLError as error:
        raise _refused(certificate, key, error) from None
    try:
        der = ssl.PEM_cert_to_DER_cert(first.decode("ascii"))
        shown = _shown(context, der)
    except (ValueError, ssl.SSLError) as error:
        raise _unfit(certificate, error) from None
    own = [value for kind, value in shown.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    # Nobody believes a certificate without names, so what it may answer for is nobody's loss.
    _name(context, hosts if hosts is not None else own or ["*"])
    context.expires = ssl.cert_time_to_seconds(str(shown["notAfter"]))
    context.remarks = tuple(_remarks(certificate, key, context, bool(own) or hosts is not None))
    return context


def faults_in(certificate: str, key: str, hosts: Sequence[str] | None = None) -> list[CertificateError]:
    """Everything that is wrong with the two files; a fault of the one does not hide those of the other."""
    found: list[CertificateError] = []
    for look, path in ((_first, certificate), (_has_key, key)):
        try:
            look(path)
        except CertificateError as error:
            found.append(error)
    if not found:
        try:
            load(certificate, key, hosts)
        except CertificateError as error:
            found.append(error)
    return found


def _first(path: str) -> bytes:
    """The first certificate in a file, which is the server's own, as PEM."""
    first = _FIRST.search(_read("certificate", path))
    if first is None:
        hint = "it must be PEM, as in -----BEGIN CERTIFICATE-----, the server's own first"
        raise CertificateError("certificate", f'"{path}" holds no certificate', hint)
    return first[0]


def _has_key(path: str) -> None:
    if not _KEY.search(_read("key", path)):
        hint = "it must be PEM, as in -----BEGIN PRIVATE KEY-----"
        raise CertificateError("key", f'"{path}" holds no private key', hint)


class _Encrypted(Exception):
    """The key asks for a passphrase, which nobody is there to type."""


def _no_password() -> str:
    raise _Encrypted


def _read(which: Literal["certificate", "key"], path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        hint = "the user that flyby runs as must be able to" if isinstance(error, PermissionError) else ""
        raise CertificateError(which, f'"{path}" cannot be read: {told}', hint) from None


def _refused(certificate: str, key: str, error: ssl.SSLError) -> CertificateError:
    reason = error.reason or str(error)
    if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        hint = "both files must come from the same order"
        return CertificateError("key", f'"{key}" is not the key of the certificate in "{certificate}"', hint)
    if reason in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"):
        hint = "an RSA key needs 2048 bits and a signature SHA-256"
        return CertificateError("certificate", f'"{certificate}" is too weak for TLS ({reason})', hint)
    return CertificateError("certificate", f'"{certificate}" and "{key}" cannot be used ({reason})', "are they whole?")


def _unfit(certificate: str, error: Exception) -> CertificateError:
    code = getattr(error, "verify_code", 0)
    if code == _EXPIRED:
        return CertificateError("certificate", f'"{certificate}" has expired', "renew it")
    if code == _NOT_YET:
        return CertificateError("certificate", f'"{certificate}" is not valid yet', "is this machine's clock right?")
    if code == _PURPOSE:
        hint = "order one for TLS servers"
        return CertificateError("certificate", f'"{certificate}" is not meant for a server', hint)
    return CertificateError("certificate", f'"{certificate}" cannot be used: {error}')


def _shown(context: ssl.SSLContext, der: bytes) -> dict[str, Any]:
    """What a client is shown that trusts this certificate; raises what it refuses."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # this certificate will do, whoever issued it
    trusting.load_verify_locations(cadata=der)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):  # two flights each are enough
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = client.getpeercert()
    assert shown  # the client has verified it
    return shown


def _name(context: ServerContext, hosts: Sequence[str]) -> None:
    lower = [host.lower().rstrip(".") for host in hosts]
    context.everything = "*" in lower
    context.parents = frozenset(host[2:] for host in lower if host.startswith("*.") and host != "*.")
    context.names = frozenset(_plain(host) for host in lower if not host.startswith("*"))


def _plain(host: str) -> str:
    """Addresses in the one form that the parser of requests gives them, too."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def _remarks(certificate: str, key: str, context: ServerContext, named: bool) -> list[str]:
    remarks = []
    if stat.S_IMODE(os.stat(key).st_mode) & stat.S_IROTH:
        remarks.append(f'"{key}" can be read by every user (chmod o-r {key})')
    left = context.expires - time.time()
    if left < WARN_S:
        remarks.append(f'"{certificate}" expires in {max(int(left // 86_400), 0)} days (renew it)')
    if not named:
        remarks.append(f'"{certificate}" names no host (subjectAltName), so clients that verify it refuse it')
    return remarks
