"""Certificates and keys in files: what is taken, what they answer for, and every way in which they are refused."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from flyby.config import Certificate, Config, Server, check
from flyby.config.certificates import CertificateError, load
from tests.certificates import issue


def test_a_certificate_answers_for_its_names(tmp_path: Path) -> None:
    context = load(*issue(tmp_path, "a", "Example.com", "*.example.org", "127.0.0.1", "::1"))
    assert context.remarks == ()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    for host in (b"example.com", b"example.com:8443", b"a.example.org", b"127.0.0.1", b"127.0.0.1:1", b"[::1]:8443"):
        assert context.covers(host), host
    for host in (b"", b"www.example.com", b"example.org", b"a.b.example.org", b".example.org", b"127.0.0.2", b"[::2]"):
        assert not context.covers(host), host


def test_all_ciphers_are_authenticated_and_keep_past_secrets(tmp_path: Path) -> None:
    context = load(*issue(tmp_path, "a", "example.com"))
    names = [cipher["name"] for cipher in context.get_ciphers()]
    assert all("GCM" in name or "CHACHA20" in name for name in names)
    assert all(name.startswith(("TLS_", "ECDHE-")) for name in names)


@pytest.mark.parametrize(
    ("hosts", "host", "answers"),
    [
        (["shop.test"], b"shop.test", True),
        (["shop.test"], b"example.com", False),  # they stand for the certificate's own
        (["*"], b"anything.at.all", True),
        (["*.shop.test"], b"a.shop.test", True),
    ],
)
def test_it_answers_for_other_names_when_told_so(tmp_path: Path, hosts: list[str], host: bytes, answers: bool) -> None:
    assert load(*issue(tmp_path, "a", "example.com"), hosts).covers(host) is answers


def refused(certificate: object, key: object) -> CertificateError:
    with pytest.raises(CertificateError) as error:
        load(str(certificate), str(key))
    return error.value


def test_what_is_no_certificate_or_key(tmp_path: Path) -> None:
    certificate, key = issue(tmp_path, "a", "example.com")
    empty = tmp_path / "empty"
    empty.write_text("nothing\n")
    cut = tmp_path / "cut"
    cut.write_text(Path(certificate).read_text()[:300] + "\n-----END CERTIFICATE-----\n")
    for wrong, which, told in (
        (refused(tmp_path / "none", key), "certificate", 'none" cannot be read: No such file'),
        (refused(certificate, tmp_path / "none"), "key", 'none" cannot be read: No such file'),
        (refused(empty, key), "certificate", "holds no certificate"),
        (refused(certificate, empty), "key", "holds no private key"),
        (refused(key, key), "certificate", "holds no certificate"),
        (refused(certificate, certificate), "key", "holds no private key"),
        (refused(cut, key), "certificate", "cannot be used"),
        (refused(tmp_path, key), "certificate", "cannot be read: Is a directory"),
    ):
        assert (wrong.which, told in str(wrong)) == (which, True), wrong


def test_the_key_of_another_certificate(tmp_path: Path) -> None:
    certificate, _ = issue(tmp_path, "a", "example.com")
    _, key = issue(tmp_path, "b", "example.com")
    error = refused(certificate, key)
    assert error.which == "key"
    assert "is not the key of the certificate in" in str(error)


@pytest.mark.parametrize(
    ("days", "told"), [((-9, -1), "has expired"), ((1, 9), "is not valid yet")], ids=["expired", "future"]
)
def test_the_wrong_time(tmp_path: Path, days: tuple[float, float], told: str) -> None:
    assert told in str(refused(*issue(tmp_path, "a", "example.com", days=days)))


def test_a_key_with_a_passphrase(tmp_path: Path) -> None:
    certificate, _ = issue(tmp_path, "a", "example.com")
    key = tmp_path / "locked.key"
    key.write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    error = refused(certificate, key)
    assert "is encrypted with a passphrase" in str(error)
    assert "openssl pkey" in error.hint


def test_what_works_but_should_be_mended_is_remarked(tmp_path: Path) -> None:
    certificate, key = issue(tmp_path, "a", "example.com", days=(-80, 10.5))
    assert load(certificate, key).remarks == (f'"{certificate}" expires in 10 days (renew it)',)
    certificate, key = issue(tmp_path, "b", "example.com")
    Path(key).chmod(0o644)
    assert load(certificate, key).remarks == (f'"{key}" can be read by every user (chmod o-r {key})',)


# ---- in a configuration ----------------------------------------------------------------------------------------------


def told(directory: Path, text: str) -> list[str]:
    file = directory / "f"
    file.write_text(text)
    return [str(problem).removeprefix(f"{directory}/") for problem in check(file)]


def test_every_fault_has_its_place(tmp_path: Path) -> None:
    certificate, key = issue(tmp_path, "a", "example.com", days=(-9, -1))
    listen = '[server]\nlisten = ["https://127.0.0.1:0"]\n'
    [problem] = told(tmp_path, f'{listen}[[server.tls]]\ncertificate = "{certificate}"\nkey = "{key}"')
    assert problem == f'f:4:15: "{certificate}" has expired (renew it)'
    [problem] = told(tmp_path, f'{listen}[[server.tls]]\ncertificate = "{certificate}"')
    assert problem == 'f:3:1: has no "key" (both are files in PEM form)'
    [problem] = told(tmp_path, listen)
    assert problem == (
        'f:2:11: "https://127.0.0.1:0" needs a certificate (write [[server.tls]] with certificate and key)'
    )
    certificate, key = issue(tmp_path, "a", "example.com")
    pair = f'[[server.tls]]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    [problem] = told(tmp_path, f'[server]\nlisten = ["127.0.0.1:0"]\n{pair}')
    assert "no address in server.listen speaks TLS" in problem
    [problem] = told(tmp_path, f"{listen}{pair}hosts = ['a b']")
    assert problem.startswith("f:6:10: 'a b' ")
    assert told(tmp_path, f"{listen}{pair}hosts = ['a.test', '*', '*.b.test']") == []


def test_a_configuration_made_in_python_is_judged_too(tmp_path: Path) -> None:
    certificate, key = issue(tmp_path, "a", "example.com", days=(-9, -1))
    config = Config(server=Server(listen=["https://127.0.0.1:0"], tls=[Certificate(certificate=certificate, key=key)]))
    [problem] = config.problems()
    assert problem.message == f'server.tls[0].certificate: "{certificate}" has expired'
    assert config.problems(certificates=False) == []
