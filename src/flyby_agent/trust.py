"""Which edge is believed: TLS 1.2 or 1.3, its certificate verified against the name in the URL, and a pin on top.

* Authorities: the system's, or only those of FLY_CA_FILE. A Python that was built elsewhere may not know where the
  system keeps them, so the usual places are tried when it has none.
* A pin is `sha256/BASE64` of the SubjectPublicKeyInfo of the edge's own certificate (RFC 7469 2.4; what
  `openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64` prints).
  Several may be given, for a change of keys. It is asked for in addition to the verification, before the token is sent.
* --insecure leaves the verification out, and only loopback endpoints accept it (endpoints.py).

    Certificate ::= SEQUENCE { tbs SEQUENCE { [0] version?, serial, signature, issuer, validity, subject, SPKI, … }, … }
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import ssl

BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_PIN = re.compile(r"sha256/+([A-Za-z0-9+/]{43}=)")


class PinMismatch(OSError):
    """The certificate is verified, but its key is not one of the pinned."""


def context(ca_file: str = "", insecure: bool = False) -> ssl.SSLContext:
    """OSError or ssl.SSLError when the authorities cannot be read."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    if insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    elif ca_file:
        made.load_verify_locations(cafile=ca_file)
    else:
        made.load_default_certs()
        paths = ssl.get_default_verify_paths()
        if not made.get_ca_certs() and not (paths.capath and os.path.isdir(paths.capath)):
            for bundle in BUNDLES:
                if os.path.isfile(bundle):
                    made.load_verify_locations(cafile=bundle)
                    break
    return made


def parse_pins(text: str) -> tuple[bytes, ...]:
    """ValueError when one is no pin."""
    pins = []
    for word in re.split(r"[\s,]+", text.strip()):
        found = _PIN.fullmatch(word)
        if found is None:
            raise ValueError(f"{word!r} is not a pin, like sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
        try:
            pins.append(base64.b64decode(found[1], validate=True))
        except binascii.Error:
            raise ValueError(f"{word!r} is not base64") from None
    return tuple(pins)


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """(tag, start of the content, end) of the DER element at an offset."""
    tag, length = der[at], der[at + 1]
    at += 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(der[at : at + count], "big")
        at += count
    if at + length > len(der):
        raise ValueError("the certificate is cut off")
    return tag, at, at + length


def public_key(der: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate; ValueError when it is none."""
    try:
        _, at, _ = _element(der, 0)
        _, at, _ = _element(der, at)
        tag, _, end = _element(der, at)
        if tag == 0xA0:  # the version, which version 1 leaves out
            at = end
        for _ in range(5):  # serial, signature, issuer, validity, subject
            _, _, at = _element(der, at)
        _, _, end = _element(der, at)
    except IndexError:
        raise ValueError("the certificate is cut off") from None
    return der[at:end]


def pin_of(der: bytes) -> bytes:
    import hashlib  # half a megabyte, and few pin

    return hashlib.sha256(public_key(der)).digest()


def check_pin(der: bytes | None, pins: tuple[bytes, ...]) -> None:
    """PinMismatch says the pin that the certificate has."""
    if not pins:
        return
    found = pin_of(der) if der else b""
    if found not in pins:
        raise PinMismatch(f"the edge's key is sha256/{base64.b64encode(found).decode()}, which is not pinned")
