"""What can be wrong with a certificate, a key or a revocation list: each error names the file and the remedy."""

from collections.abc import Callable
from pathlib import Path

import pytest
from certificate_authority import DAY, CertificateAuthority, Issued
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from securedelivery.errors import ConfigurationError
from securedelivery.transport.tls import ServerFiles, ServerSecurity, client_context, load_credentials, load_trust


@pytest.fixture
def alice(ca: CertificateAuthority, certs: Path) -> tuple[Path, Path]:
    certificate, key = certs / "alice.crt", certs / "alice.key"
    ca.client("alice").write(certificate, key)
    return certificate, key


def test_a_pair_that_fits(alice: tuple[Path, Path]) -> None:
    assert load_credentials(*alice).scheme == 0x0403


def test_rsa(ca: CertificateAuthority, certs: Path) -> None:
    key = rsa.generate_private_key(65537, 3072)
    ca.client("bob", key=key).write(certs / "bob.crt", certs / "bob.key")
    assert load_credentials(certs / "bob.crt", certs / "bob.key").scheme == 0x0804


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()])
def test_a_key_that_no_scheme_fits(ca: CertificateAuthority, certs: Path, key: ec.EllipticCurvePrivateKey) -> None:
    ca.client("bob", key=key).write(certs / "bob.crt", certs / "bob.key")
    with pytest.raises(ConfigurationError, match=r"bob\.key: a key that the protocol does not take") as error:
        load_credentials(certs / "bob.crt", certs / "bob.key")
    assert error.value.hint == "use --key ecdsa or --key rsa"


def test_a_key_of_another_certificate(ca: CertificateAuthority, certs: Path, alice: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigurationError, match=r"alice\.key: this key does not belong to .*server\.crt"):
        load_credentials(certs / "server.crt", alice[1])


def test_a_key_with_a_password(alice: tuple[Path, Path]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    alice[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    with pytest.raises(ConfigurationError, match="not a PEM private key without password"):
        load_credentials(*alice)


@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_is_something_else(alice: tuple[Path, Path], which: int) -> None:
    alice[which].write_bytes(b"something else")
    with pytest.raises(ConfigurationError, match=f"{alice[which].name}: not a PEM"):
        load_credentials(*alice)


@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_is_missing(alice: tuple[Path, Path], which: int) -> None:
    alice[which].unlink()
    with pytest.raises(ConfigurationError, match=f"{alice[which].name}: there is no such file"):
        load_credentials(*alice)


def test_a_file_that_cannot_be_read(certs: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"{certs.name}: cannot be read"):
        load_trust(certs, None)


def test_an_authority_that_signs_no_lists(certs: Path) -> None:
    stranger = CertificateAuthority()  # the same name, another key
    stranger.write_crl(certs)
    with pytest.raises(ConfigurationError, match="was not made by"):
        load_trust(certs / "ca.crt", certs / "crl.pem")


def test_a_clients_context_takes_all_or_as_little_as_it_has(certs: Path, alice: tuple[Path, Path]) -> None:
    ca = certs / "ca.crt"
    full, bare = client_context(ca, *alice, certs / "crl.pem"), client_context(ca, None, None, None)
    assert full.check_hostname
    assert bare.check_hostname
    assert full.verify_flags != bare.verify_flags


def test_a_pair_that_openssl_does_not_take(
    alice: tuple[Path, Path], certs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = CertificateAuthority().key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    alice[1].write_bytes(encoded)
    with pytest.raises(ConfigurationError, match=r"alice\.crt: OpenSSL does not take it"):
        client_context(certs / "ca.crt", *alice, None)


def load(certs: Path) -> ServerSecurity:
    return ServerSecurity.load(
        ServerFiles.in_directory(certs),
        trust_domain="shop.test",
        certificates_required=True,
        trusted_proxies=frozenset(),
    )


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda _ca: CertificateAuthority("another CA").server(), id="of another CA"),
        pytest.param(lambda ca: ca.client(), id="a client's"),
    ],
)
def test_a_server_certificate_that_no_client_would_accept(
    ca: CertificateAuthority, certs: Path, wrong: Callable[[CertificateAuthority], Issued]
) -> None:
    load(certs)
    wrong(ca).write(certs / "server.crt", certs / "server.key")
    with pytest.raises(ConfigurationError, match=r"server\.crt: no client will accept it") as error:
        load(certs)
    assert "gen_certs.sh server --force" in error.value.hint


def test_dates_of_the_server_certificate_are_no_error_as_the_clock_may_be_wrong(
    ca: CertificateAuthority, certs: Path
) -> None:
    ca.server(start=-90 * DAY, end=-DAY).write(certs / "server.crt", certs / "server.key")
    assert load(certs).certificate_ends < ca.now
