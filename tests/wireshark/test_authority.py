"""The throw-away CA: what it makes is what both sides of the protocol accept, and its keys are private."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from securedelivery.errors import RemoteProtocolError
from securedelivery.protocol.certificates import Trust, account_identity, uri_names
from securedelivery.transport.tls import (
    ServerFiles,
    ServerSecurity,
    client_context,
    load_credentials,
    load_trust,
)
from securedelivery.wireshark.authority import Authority

DOMAIN = "shop.example"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, DOMAIN)


def _trust(authority: Authority) -> Trust:
    return load_trust(authority.ca_file, authority.folder / "crl.pem")


def _load(authority: Authority) -> ServerSecurity:
    return ServerSecurity.load(
        ServerFiles.in_directory(authority.folder),
        trust_domain=DOMAIN,
        certificates_required=True,
        trusted_proxies=frozenset(),
    )


def test_a_server_loads_what_it_made(authority: Authority) -> None:
    pair = authority.server("localhost", "127.0.0.1")
    security = _load(authority)
    assert security.credentials.certificates == (pair.certificate,)
    assert security.crl_expires is not None
    assert (security.crl_expires - datetime.now(UTC)).days >= 29, "it would warn of its list's end"
    for name in ("localhost", "127.0.0.1"):
        _trust(authority).verify_server([pair.certificate], name, datetime.now(UTC))
    with pytest.raises(RemoteProtocolError) as caught:
        _trust(authority).verify_server([pair.certificate], "elsewhere.example", datetime.now(UTC))
    assert caught.value.reason == "identity_mismatch"


def test_clients_and_proxies_have_their_names(authority: Authority) -> None:
    alice, gateway = authority.client("alice"), authority.proxy("gateway")
    assert account_identity(alice.certificate, DOMAIN).name == "alice"
    assert uri_names(gateway.certificate) == [f"spiffe://{DOMAIN}/proxy/gateway"]
    for pair in (alice, gateway):
        _trust(authority).verify_client([pair.certificate], datetime.now(UTC))
        client_context(authority.ca_file, pair.certificate_file, pair.key_file, None)
        assert load_credentials(pair.certificate_file, pair.key_file).chain == pair.credentials.chain
    with pytest.raises(RemoteProtocolError) as caught:
        _trust(authority).verify_server([alice.certificate], "localhost", datetime.now(UTC))
    assert caught.value.reason == "certificate_untrusted"


def test_the_list_revokes_one_and_no_other(authority: Authority) -> None:
    old, new = authority.client("mallory", "revoked"), authority.client("mallory")
    authority.revoke(old)
    trust = _trust(authority)
    trust.verify_client([new.certificate], datetime.now(UTC))
    with pytest.raises(RemoteProtocolError) as caught:
        trust.verify_client([old.certificate], datetime.now(UTC))
    assert caught.value.reason == "certificate_revoked"
    authority.revoke()
    _trust(authority).verify_client([old.certificate], datetime.now(UTC))


def test_keys_are_private_and_the_authoritys_own_is_nowhere(authority: Authority) -> None:
    authority.server("localhost")
    authority.client("alice")
    keys = [path for path in authority.folder.iterdir() if b"PRIVATE" in path.read_bytes()]
    assert sorted(path.name for path in keys) == ["alice.key", "server.key"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}
    public = x509.load_pem_x509_certificate(authority.ca_file.read_bytes()).public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    for path in keys:
        assert load_credentials(path.with_suffix(".crt"), path).certificates[0].public_key() != public


def test_a_file_that_is_there_is_not_written_over(authority: Authority) -> None:
    (authority.folder / "alice.key").symlink_to(authority.folder / "elsewhere")
    with pytest.raises(FileExistsError):
        authority.client("alice")
    assert not (authority.folder / "elsewhere").exists()
