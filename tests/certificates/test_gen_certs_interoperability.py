"""What gen_certs.sh makes, in the hands of those who will use it: Python's ssl and cryptography's verifier."""

from __future__ import annotations

import ipaddress
import shutil
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from certificates.authority import Authority
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError


@pytest.fixture(scope="session", params=["ecdsa", "rsa"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    authority = Authority(tmp_path_factory.mktemp("both") / "certs")
    authority.done("--key", request.param)
    for name in ("alice", "mallory"):
        authority.done("client", name)
    authority.done("revoke", "mallory")
    return authority.folder


@pytest.fixture
def both(made: Path, tmp_path: Path) -> Authority:
    """CA and server with keys of either kind, and the clients alice and mallory, of whom the second is revoked."""
    shutil.copytree(made, tmp_path / "certs")
    return Authority(tmp_path / "certs")


def server_context(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_CRL_CHECK_LEAF
    context.load_verify_locations(authority.folder / "ca.crt")
    context.load_verify_locations(authority.folder / "crl.pem")
    context.load_cert_chain(authority.folder / "server.crt", authority.folder / "server.key")
    return context


def client_context(authority: Authority, name: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_CRL_CHECK_LEAF
    context.load_verify_locations(authority.folder / "ca.crt")
    context.load_verify_locations(authority.folder / "crl.pem")
    if name is not None:
        context.load_cert_chain(authority.folder / f"clients/{name}.crt", authority.folder / f"clients/{name}.key")
    return context


def shake_hands(authority: Authority, name: str | None, host: str = "localhost") -> ssl.SSLObject:
    """Joins both sides in memory and returns the server's."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context(authority).wrap_bio(to_server, to_client, server_side=True)
    client = client_context(authority, name).wrap_bio(to_client, to_server, server_hostname=host)
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    assert waiting == []
    return server


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_tls_handshake(authority: Authority, host: str) -> None:
    server = shake_hands(authority, "alice", host)
    peer = server.getpeercert()
    assert peer is not None
    assert peer["subjectAltName"] == (("URI", "spiffe://securedelivery.local/account/alice"),)


def test_tls_refuses_what_it_shall(both: Authority) -> None:
    shake_hands(both, "alice")
    with pytest.raises(ssl.SSLError, match="certificate revoked"):
        shake_hands(both, "mallory")
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake_hands(both, None)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(both, "alice", "other.example")
    both.done("renew", "alice")
    shake_hands(both, "alice")
    both.done("revoke", "server")
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
        shake_hands(both, "alice")


def test_cryptography_verifies(both: Authority) -> None:
    ca, server = both.certificate("ca.crt"), both.certificate("server.crt")
    alice = both.certificate("clients/alice.crt")
    builder = PolicyBuilder().store(Store([ca])).time(datetime.now(UTC).replace(tzinfo=None))
    for subject in (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("::1"))):
        verifier = builder.build_server_verifier(subject)
        assert verifier.verify(server, []) == [server, ca]
        with pytest.raises(VerificationError):
            verifier.verify(alice, [])
    verified = builder.build_client_verifier().verify(alice, [])
    assert verified.chain == [alice, ca]
    assert verified.subjects == [x509.UniformResourceIdentifier("spiffe://securedelivery.local/account/alice")]
    with pytest.raises(VerificationError):
        builder.build_client_verifier().verify(server, [])
