"""What gen_certs.sh makes, sentence by sentence of its specification."""

from __future__ import annotations

import base64
import ipaddress
import os
import pty
import re
import shutil
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from certificates.authority import SCRIPT, Authority, contents, openssl
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Callable

LEAF_LIFE = timedelta(days=89)


def key_of(path: Path) -> Any:
    return serialization.load_pem_private_key(path.read_bytes(), password=None)


def belongs(key: Path, certificate: Path) -> bool:
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    return bool(key_of(key).public_key() == loaded.public_key())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def revoked_serials(authority: Authority) -> set[int]:
    return {entry.serial_number for entry in authority.revocation_list()}


def age(authority: Authority, name: str, begin: timedelta, end: timedelta) -> x509.Certificate:
    """Signs the certificate again with the CA's key and other dates, relative to now."""
    old = authority.certificate(name)
    now = datetime.now(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(old.public_key())
        .serial_number(old.serial_number)
        .not_valid_before(now + begin)
        .not_valid_after(now + end)
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    new = builder.sign(key_of(authority.folder / "ca.key"), hashes.SHA256())
    (authority.folder / name).write_bytes(new.public_bytes(serialization.Encoding.PEM))
    return new


def age_list(authority: Authority, begin: timedelta, end: timedelta) -> None:
    old = authority.revocation_list()
    now = datetime.now(UTC).replace(microsecond=0)
    builder = x509.CertificateRevocationListBuilder().issuer_name(old.issuer)
    builder = builder.last_update(now + begin).next_update(now + end)
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    new = builder.sign(key_of(authority.folder / "ca.key"), hashes.SHA256())
    (authority.folder / "crl.pem").write_bytes(new.public_bytes(serialization.Encoding.PEM))


def values(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> tuple[Any, bool]:
    extension = certificate.extensions.get_extension_for_class(kind)
    return extension.value, extension.critical


def alt_names(certificate: x509.Certificate) -> list[str]:
    return [str(name.value) for name in values(certificate, x509.SubjectAlternativeName)[0]]


# --------------------------------------------------------------------------------------------------------- first run


def test_first_run_makes_ca_server_and_list(nothing: Authority) -> None:
    said = nothing.done()
    assert [line.split(":")[0] for line in said.splitlines()] == ["ca.crt", "server.crt", "crl.pem"]
    assert set(contents(nothing.folder)) == {
        "ca.crt", "ca.key", "crl.pem", "server.crt", "server.key", "names.txt", "trust-domain", "index.txt",
        "crlnumber",
    }  # fmt: skip


def test_default_folder_is_certs_beside_the_script(tmp_path: Path) -> None:
    (tmp_path / "certs").mkdir()
    shutil.copy(SCRIPT, tmp_path)
    shutil.copy(SCRIPT.parent / "certs" / "openssl.cnf", tmp_path / "certs")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "make").symlink_to(tmp_path / "gen_certs.sh")
    subprocess.run([tmp_path / "link" / "make"], cwd="/", check=True, capture_output=True)
    assert belongs(tmp_path / "certs" / "server.key", tmp_path / "certs" / "server.crt")


def test_second_run_changes_nothing_and_says_so(authority: Authority) -> None:
    before = contents(authority.folder)
    said = authority.done()
    assert contents(authority.folder) == before
    assert "ca.crt: kept" in said
    assert "server.crt: kept" in said
    assert "crl.pem: kept" in said
    assert "nothing was changed" in said


def test_modes(authority: Authority) -> None:
    authority.done("p12", "alice", stdin="secret\n")
    authority.done("proxy", "edge")
    expected = {"ca.key": 0o400, "index.txt": 0o600, "crlnumber": 0o600}
    for name in contents(authority.folder):
        by_kind = 0o600 if name.endswith((".key", ".p12")) else 0o644
        assert mode(authority.folder / name) == expected.get(name, by_kind), name
    for folder in (authority.folder, authority.folder / "clients", authority.folder / "proxies"):
        assert mode(folder) == 0o700


# ----------------------------------------------------------------------------------------------------------- profiles


def test_ca_profile(authority: Authority) -> None:
    ca = authority.certificate("ca.crt")
    assert {extension.oid for extension in ca.extensions} == {
        x509.BasicConstraints.oid, x509.KeyUsage.oid, x509.SubjectKeyIdentifier.oid,
    }  # fmt: skip
    assert values(ca, x509.BasicConstraints) == (x509.BasicConstraints(ca=True, path_length=0), True)
    usage, critical = values(ca, x509.KeyUsage)
    assert critical
    assert usage == key_usage(key_cert_sign=True, crl_sign=True)
    assert ca.not_valid_after_utc - ca.not_valid_before_utc == timedelta(days=3650)
    assert ca.serial_number > 0
    ca.verify_directly_issued_by(ca)


def key_usage(**set_ones: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{name: set_ones.get(name, False) for name in names})


@pytest.mark.parametrize(
    ("name", "usage", "purpose"),
    [
        ("server.crt", ExtendedKeyUsageOID.SERVER_AUTH, "sslserver"),
        ("clients/alice.crt", ExtendedKeyUsageOID.CLIENT_AUTH, "sslclient"),
        ("proxies/edge.crt", ExtendedKeyUsageOID.CLIENT_AUTH, "sslclient"),
    ],
)
def test_leaf_profile(authority: Authority, name: str, usage: x509.ObjectIdentifier, purpose: str) -> None:
    authority.done("proxy", "edge")
    leaf, ca = authority.certificate(name), authority.certificate("ca.crt")
    assert {extension.oid for extension in leaf.extensions} == {
        x509.BasicConstraints.oid, x509.KeyUsage.oid, x509.ExtendedKeyUsage.oid, x509.SubjectKeyIdentifier.oid,
        x509.AuthorityKeyIdentifier.oid, x509.SubjectAlternativeName.oid,
    }  # fmt: skip
    assert values(leaf, x509.BasicConstraints) == (x509.BasicConstraints(ca=False, path_length=None), True)
    assert values(leaf, x509.KeyUsage) == (key_usage(digital_signature=True), True)
    assert list(values(leaf, x509.ExtendedKeyUsage)[0]) == [usage]
    identifier = values(ca, x509.SubjectKeyIdentifier)[0].digest
    assert values(leaf, x509.AuthorityKeyIdentifier)[0].key_identifier == identifier
    assert values(leaf, x509.SubjectKeyIdentifier)[0] == x509.SubjectKeyIdentifier.from_public_key(leaf.public_key())
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == LEAF_LIFE
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    folder = authority.folder
    strict = ("verify", "-x509_strict", "-crl_check", "-CRLfile", str(folder / "crl.pem"), "-CAfile")
    openssl(*strict, str(folder / "ca.crt"), "-purpose", purpose, str(folder / name))
    other = "sslclient" if purpose == "sslserver" else "sslserver"
    with pytest.raises(AssertionError, match="purpose"):
        openssl(*strict, str(folder / "ca.crt"), "-purpose", other, str(folder / name))


def test_serials_are_random_and_positive(authority: Authority) -> None:
    serials = set()
    for _ in range(3):
        authority.done("renew", "alice")
        serials.add(authority.certificate("clients/alice.crt").serial_number)
    assert len(serials) == 3
    assert all(2**120 < serial < 2**127 for serial in serials)
    assert len({serial >> 96 for serial in serials}) == 3


def test_client_identity(authority: Authority) -> None:
    alice = authority.certificate("clients/alice.crt")
    assert [(one.oid, one.value) for one in alice.subject] == [(NameOID.COMMON_NAME, "alice")]
    names, _ = values(alice, x509.SubjectAlternativeName)
    assert list(names) == [x509.UniformResourceIdentifier("spiffe://securedelivery.local/account/alice")]


def test_proxy_identity_is_no_account(authority: Authority) -> None:
    authority.done("proxy", "edge")
    assert belongs(authority.folder / "proxies/edge.key", authority.folder / "proxies/edge.crt")
    names, _ = values(authority.certificate("proxies/edge.crt"), x509.SubjectAlternativeName)
    assert list(names) == [x509.UniformResourceIdentifier("spiffe://securedelivery.local/proxy/edge")]
    assert (authority.folder / "names.txt").read_text() == "alice\n"
    assert "name of a proxy" in authority.refused("client", "edge")
    assert "name of a client" in authority.refused("proxy", "alice")


def test_list_profile(authority: Authority) -> None:
    revocations = authority.revocation_list()
    assert revocations.next_update_utc is not None
    assert revocations.next_update_utc - revocations.last_update_utc == timedelta(days=30)
    key = authority.certificate("ca.crt").public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert revocations.is_signature_valid(key)
    assert list(revocations) == []
    authority.done("crl")
    number = authority.revocation_list().extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert number == 2


# ------------------------------------------------------------------------------------------------------------ options


def test_default_server_names(authority: Authority) -> None:
    wanted = {"localhost", os.uname().nodename.lower(), "127.0.0.1", "::1"}
    assert set(alt_names(authority.certificate("server.crt"))) >= wanted - {os.uname().nodename.lower()}
    assert set(alt_names(authority.certificate("server.crt"))) <= wanted


def test_server_names_are_repeatable_and_survive_renewal(nothing: Authority) -> None:
    options = ("--dns", "shop.example", "--ip", "192.0.2.7", "--dns=Www.Shop.Example", "--ip", "2001:DB8::7", "--ip",
               "2001:db8:0:0::0:7")  # fmt: skip
    nothing.done(*options)
    wanted = ["shop.example", "192.0.2.7", "www.shop.example", "2001:db8::7"]
    assert alt_names(nothing.certificate("server.crt")) == wanted
    nothing.done("renew", "server")
    assert alt_names(nothing.certificate("server.crt")) == wanted
    nothing.done("--force")
    assert alt_names(nothing.certificate("server.crt")) == wanted
    nothing.done(*options)  # the same deployment again is no mistake
    assert "renew server" in nothing.refused("--dns", "other.example")
    nothing.done("renew", "server", "--dns", "other.example")
    assert alt_names(nothing.certificate("server.crt")) == ["other.example"]


@pytest.mark.parametrize(
    "value",
    [
        "a,DNS:b", "a b", "a\nb", "", "-a", "a-", "*.example", "a..b", ".a", "a.", "a_b", "a;b", "$ENV::HOME",
        "192.0.2.7", "a" * 64, "ä.example", "a.b,email:x@y", "[x]", ".".join(["a" * 63] * 4),
    ],
)  # fmt: skip
def test_bad_dns_names(authority: Authority, value: str) -> None:
    assert "--dns" in authority.refused("renew", "server", "--dns", value, code=2)


@pytest.mark.parametrize(
    "value",
    [
        "1.2.3", "1.2.3.256", "01.2.3.4", "1.2.3.4,DNS:x", "::1::", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "g::1",
        "12345::", "fe80::1%eth0", "localhost", "", ":1", "1:2:3:4:5:6:7:8::", "1.2.3.4/24", ":1:2:3:4:5:6:7:8",
        "::1:", ":", "::ffff:1.2.3.4", "1::2:3:4:5:6:7:8",
    ],
)  # fmt: skip
def test_bad_addresses(authority: Authority, value: str) -> None:
    assert "--ip" in authority.refused("renew", "server", "--ip", value, code=2)


def test_good_addresses(authority: Authority) -> None:
    good = ["::", "::1", "1::", "fe80::1", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "192.0.2.1"]
    authority.done("renew", "server", *(word for address in good for word in ("--ip", address)))
    assert alt_names(authority.certificate("server.crt")) == [str(ipaddress.ip_address(address)) for address in good]


def test_trust_domain_is_chosen_once(nothing: Authority) -> None:
    nothing.done("--trust-domain", "shop.example")
    assert (nothing.folder / "trust-domain").read_text() == "shop.example\n"
    nothing.done("client", "alice")
    assert alt_names(nothing.certificate("clients/alice.crt")) == ["spiffe://shop.example/account/alice"]
    nothing.done("client", "bob", "--trust-domain", "shop.example")
    assert "shop.example" in nothing.refused("client", "carol", "--trust-domain", "other.example")


def test_lost_trust_domain_is_not_guessed(authority: Authority) -> None:
    (authority.folder / "trust-domain").unlink()
    assert "--trust-domain" in authority.refused("client", "bob")
    authority.done("--trust-domain", "securedelivery.local")
    authority.done("client", "bob")
    (authority.folder / "trust-domain").write_text("Not/One\n")
    authority.refused("client", "carol")


@pytest.mark.parametrize(
    "value", ["Shop.example", "a/b", "", "a b", "a" * 256, "a\n", "spiffe://a", "ä", "a:1", "a%20"]
)
def test_bad_trust_domains(nothing: Authority, value: str) -> None:
    assert "--trust-domain" in nothing.refused("--trust-domain", value, code=2)
    assert not nothing.folder.exists()


def test_rsa_keys(authority: Authority) -> None:
    authority.done("client", "bob", "--key", "rsa")
    bob = authority.certificate("clients/bob.crt").public_key()
    assert isinstance(bob, rsa.RSAPublicKey)
    assert bob.key_size == 3072
    authority.done("renew", "bob")  # keeps the kind
    assert isinstance(authority.certificate("clients/bob.crt").public_key(), rsa.RSAPublicKey)
    authority.done("renew", "bob", "--key", "ecdsa")
    assert isinstance(authority.certificate("clients/bob.crt").public_key(), ec.EllipticCurvePublicKey)


def test_days(authority: Authority) -> None:
    authority.done("client", "bob", "--days", "7")
    bob = authority.certificate("clients/bob.crt")
    assert bob.not_valid_after_utc - bob.not_valid_before_utc == timedelta(days=7)
    authority.done("crl", "--days", "3")
    revocations = authority.revocation_list()
    assert revocations.next_update_utc is not None
    assert revocations.next_update_utc - revocations.last_update_utc == timedelta(days=3)
    for bad in ("0", "-1", "x", "826", "", "1 2", "007", "99999999999999999999", "1\n2", "a[$(id)]"):
        authority.refused("client", "carol", "--days", bad, code=2)


def test_options_may_come_first(authority: Authority) -> None:
    authority.done("--key", "ecdsa", "--days", "5", "client", "bob")
    authority.done("client", "--days=5", "carol")
    authority.done("client", "--", "dave")


def test_help_has_examples() -> None:
    result = subprocess.run([SCRIPT, "list", "--help"], capture_output=True, text=True, check=True)
    assert "Examples:" in result.stdout
    for word in ("server", "client NAME", "--csr", "proxy NAME", "renew server|NAME", "revoke NAME", "--reason", "crl",
                 "p12 NAME", "list", "verify", "--dir", "--dns", "--ip", "--trust-domain", "--key", "--days", "--force",
                 "--help"):  # fmt: skip
        assert word in result.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["frobnicate"], ["client"], ["renew"], ["revoke"], ["p12"], ["proxy"], ["client", "bob", "carol"],
        ["server", "x"],
        ["--frob"], ["-x"], ["client", "bob", "--key", "dsa"], ["client", "bob", "--key"], ["--dir", ""],
        ["list", "--force"],
        ["client", "bob", "--dns", "x"], ["verify", "--days", "3"], ["crl", "--reason", "superseded"],
        ["server", "--csr", "x"],
        ["revoke", "alice", "--reason", "because"], ["revoke", "alice", "--reason", "certificateHold"], ["--force=yes"],
        ["revoke", "alice", "--reason", "keyCompromise superseded"], ["client", "bob", "--csr", "x", "--key", "rsa"],
        ["renew", "alice", "--dns", "x"], ["renew", "server", "--csr", "x"], [""], ["client", "bob", "--csr", ""],
    ],
)  # fmt: skip
def test_wrong_usage(authority: Authority, words: list[str]) -> None:
    assert "--help" in authority.refused(*words, code=2)


# -------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name",
    [
        "", "al", "a" * 33, "Alice", "1ab", "-alice", "_ab", ".ab", "alice\n", "alice\nbob", "../alice", "a/b", "a b c",
        "älice", "alice,bob", "a$(id)", "a*b", "server", "alice\x01", "x=y",
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["client", "proxy", "p12"])
def test_bad_names(authority: Authority, command: str, name: str) -> None:
    words = (command, "--", name)
    error = authority.refused(*words, code=2)
    assert "name" in error


def test_good_names(authority: Authority) -> None:
    for name in ("bob", "b" * 32, "b.-_", "b.."):
        authority.done("client", name)
        assert alt_names(authority.certificate(f"clients/{name}.crt")) == [
            f"spiffe://securedelivery.local/account/{name}"
        ]
    authority.done("verify")


def test_odd_locale_does_not_widen_the_rule(authority: Authority) -> None:
    for locale in ("tr_TR.UTF-8", "C.UTF-8", "xx"):
        result = authority.run("client", "--", "Bob", env={"LC_ALL": locale, "LANG": locale})
        assert result.returncode == 2


def test_names_are_kept_for_ever(authority: Authority) -> None:
    authority.done("client", "zoe")
    authority.done("client", "bob")
    authority.done("revoke", "bob")
    authority.done("client", "bob", "--force")
    authority.done("renew", "alice")
    for name in ("alice", "bob"):
        (authority.folder / f"clients/{name}.crt").unlink()
        (authority.folder / f"clients/{name}.key").unlink()
    authority.done("client", "bob")
    assert (authority.folder / "names.txt").read_text() == "alice\nzoe\nbob\n"


# ----------------------------------------------------------------------------------------------- overwriting, renewing


def test_nothing_is_overwritten_without_force(authority: Authority) -> None:
    assert "--force" in authority.refused("client", "alice")
    assert "renew server" in authority.refused("server")
    before = authority.certificate("clients/alice.crt")
    authority.done("client", "alice", "--force")
    after = authority.certificate("clients/alice.crt")
    assert after.public_key() != before.public_key()
    authority.done("server", "--force")
    for base in ("clients/alice", "server"):
        assert belongs(authority.folder / f"{base}.key", authority.folder / f"{base}.crt")


def test_key_without_certificate_is_not_overwritten(authority: Authority) -> None:
    (authority.folder / "clients/bob.key").write_text("precious")
    assert "--force" in authority.refused("client", "bob")
    authority.done("client", "bob", "--force")


@pytest.mark.parametrize("words", [["renew", "alice"], ["p12", "alice"], ["renew", "server"], []])
def test_foreign_key_is_an_error(authority: Authority, words: list[str]) -> None:
    base = "clients/alice" if "alice" in words else "server"
    openssl("genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out",
            str(authority.folder / f"{base}.key"))  # fmt: skip
    assert "does not belong" in authority.refused(*words, stdin="secret\n")


@pytest.mark.parametrize(
    "words", [[], ["server", "--force"], ["client", "bob"], ["crl"], ["revoke", "alice"], ["--force"]]
)
def test_foreign_ca_key_is_an_error(authority: Authority, words: list[str]) -> None:
    (authority.folder / "ca.key").unlink()
    shutil.copy(authority.folder / "server.key", authority.folder / "ca.key")
    assert "ca.key does not belong to ca.crt" in authority.refused(*words)


@pytest.mark.parametrize("file", ["ca.key", "ca.crt", "server.key", "server.crt"])
def test_broken_file_is_one_line(authority: Authority, file: str) -> None:
    (authority.folder / file).unlink()
    (authority.folder / file).write_text("garbage\n")
    authority.refused()


def test_encrypted_key_never_asks(authority: Authority) -> None:
    path = authority.folder / "ca.key"
    secret = openssl("pkey", "-in", str(path), "-aes256", "-passout", "pass:secret")
    path.unlink()
    path.write_text(secret)
    authority.refused("client", "bob")


def test_renewing_makes_a_fresh_pair_and_revokes_nothing(authority: Authority) -> None:
    before = authority.certificate("clients/alice.crt")
    authority.done("renew", "alice")
    after = authority.certificate("clients/alice.crt")
    assert after.public_key() != before.public_key()
    assert after.subject == before.subject
    assert revoked_serials(authority) == set()
    listed = authority.done("list")
    assert re.search(rf"^alice +client +{before.serial_number:X} .* replaced$", listed, re.MULTILINE)
    assert re.search(rf"^alice +client +{after.serial_number:X} .* valid$", listed, re.MULTILINE)


def test_renewing_needs_something_to_renew(authority: Authority) -> None:
    assert "no certificate was ever issued" in authority.refused("renew", "bob")
    (authority.folder / "clients/alice.crt").unlink()
    assert "missing" in authority.refused("renew", "alice")


def test_revoked_certificate_is_not_renewed(authority: Authority) -> None:
    authority.done("revoke", "alice")
    for command in ("renew", "client"):
        said = authority.refused(command, "alice")
        assert "is revoked: " in said
        assert "client alice --force' issues a new one" in said
    authority.done("client", "alice", "--force")
    authority.done("verify")


DAYS = timedelta(days=1)


def test_last_third_of_the_server(authority: Authority) -> None:
    authority.done("client", "bob")
    kept = age(authority, "server.crt", -59 * DAYS, 30 * DAYS)
    before = contents(authority.folder)
    assert "nothing was changed" in authority.done()
    assert contents(authority.folder) == before
    assert authority.certificate("server.crt") == kept
    due = age(authority, "server.crt", -60 * DAYS, 29 * DAYS)
    assert "ok   server.crt: due for renewal" in authority.done("verify")
    before = contents(authority.folder)
    said = authority.done()
    assert "server.crt: issued" in said
    assert "ca.crt: kept" in said
    after = contents(authority.folder)
    changed = {name for name in after if after[name] != before[name]}
    assert {"server.crt", "server.key"} <= changed <= {"server.crt", "server.key", "index.txt", "crlnumber"}
    assert alt_names(authority.certificate("server.crt")) == alt_names(due)


def test_expired_server_is_renewed(authority: Authority) -> None:
    age(authority, "server.crt", -90 * DAYS, -1 * DAYS)
    assert "server.crt: issued" in authority.done()


def test_last_third_of_the_list(authority: Authority) -> None:
    age_list(authority, -19 * DAYS, 11 * DAYS)
    before = contents(authority.folder)
    assert "crl.pem: kept" in authority.done()
    assert contents(authority.folder) == before
    for end in (9 * DAYS, -1 * DAYS):
        age_list(authority, end - 30 * DAYS, end)
        assert "crl.pem: made" in authority.done()
        assert "server.crt: kept" in authority.done()
    (authority.folder / "crl.pem").unlink()
    assert "crl.pem: made" in authority.done()


def test_last_third_of_the_ca(authority: Authority) -> None:
    age(authority, "ca.crt", -2400 * DAYS, 1250 * DAYS)
    assert "ca.crt: kept" in authority.done()
    old = age(authority, "ca.crt", -2450 * DAYS, 1200 * DAYS)
    assert "ca.crt: renewed" in authority.done()
    new = authority.certificate("ca.crt")
    assert new.public_key() == old.public_key()
    assert new.subject == old.subject
    assert new.serial_number != old.serial_number
    assert new.not_valid_after_utc > datetime.now(UTC) + 3649 * DAYS
    assert "server.crt: kept" in authority.done()
    authority.done("verify")


@pytest.mark.parametrize("words", [[], ["client", "bob"], ["server", "--force"], ["renew", "alice"], ["crl"]])
def test_expired_ca(authority: Authority, words: list[str]) -> None:
    age(authority, "ca.crt", -3651 * DAYS, -1 * DAYS)
    assert "--force" in authority.refused(*words)


def test_force_renews_an_expired_ca(authority: Authority) -> None:
    old = age(authority, "ca.crt", -3651 * DAYS, -1 * DAYS)
    authority.done("--force")
    assert authority.certificate("ca.crt").public_key() == old.public_key()
    authority.done("verify")


def test_no_leaf_outlives_the_ca(authority: Authority) -> None:
    age(authority, "ca.crt", -3600 * DAYS, 50 * DAYS)
    assert "the CA ends before" in authority.refused("client", "bob")
    authority.done("client", "bob", "--days", "49")
    authority.done()
    authority.done("client", "carol")


@pytest.mark.parametrize("words", [["client", "bob"], ["server"], ["crl"], ["list"], ["verify"], ["revoke", "bob"]])
def test_missing_ca(nothing: Authority, words: list[str]) -> None:
    nothing.refused(*words)
    assert not nothing.folder.exists()
    nothing.folder.mkdir()
    assert "no CA" in nothing.refused(*words)
    assert list(nothing.folder.iterdir()) == []


@pytest.mark.parametrize("file", ["ca.key", "ca.crt", "index.txt", "crlnumber", "names.txt"])
def test_lost_file_is_never_made_up(authority: Authority, file: str) -> None:
    (authority.folder / file).unlink()
    for words in ([], ["client", "bob"], ["--force"]):
        assert "backup" in authority.refused(*words)


def test_lost_ca_pair_beside_an_index(authority: Authority) -> None:
    (authority.folder / "ca.key").unlink()
    (authority.folder / "ca.crt").unlink()
    for name in ("index.txt", "crlnumber", "crl.pem", "names.txt"):
        assert f"there is {name} but no CA" in authority.refused()
        (authority.folder / name).unlink()
    assert "not a server's from this CA" in authority.refused()


def test_server_takes_over_no_name_but_hosts(authority: Authority) -> None:
    wanted = alt_names(authority.certificate("server.crt"))
    for kind in ("crt", "key"):
        shutil.copy(authority.folder / f"clients/alice.{kind}", authority.folder / f"server.{kind}")
    assert "not a server's from this CA" in authority.refused()
    authority.done("server", "--force")
    assert alt_names(authority.certificate("server.crt")) == wanted


def test_server_certificate_of_another_ca(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    other.done()
    for file in ("server.crt", "server.key"):
        shutil.copy(other.folder / file, authority.folder / file)
    assert "not a server's from this CA" in authority.refused()
    authority.done("server", "--force")
    authority.done("verify")


# ----------------------------------------------------------------------------------------------------------- requests


def test_request_gives_its_key_and_nothing_else(authority: Authority, request_file: Callable[..., Path]) -> None:
    request = request_file()
    authority.done("client", "bob", "--csr", request)
    bob = authority.certificate("clients/bob.crt")
    assert bob.public_key() == x509.load_pem_x509_csr(request.read_bytes()).public_key()
    assert [one.value for one in bob.subject] == ["bob"]
    assert alt_names(bob) == ["spiffe://securedelivery.local/account/bob"]
    assert not values(bob, x509.BasicConstraints)[0].ca
    assert not (authority.folder / "clients/bob.key").exists()
    assert "owner has the key" in authority.refused("p12", "bob", stdin="secret\n")
    authority.done("renew", "bob")
    assert authority.certificate("clients/bob.crt").public_key() == bob.public_key()
    assert authority.certificate("clients/bob.crt").serial_number != bob.serial_number
    assert not (authority.folder / "clients/bob.key").exists()
    other = request_file(name="other")
    authority.done("renew", "bob", "--csr", other)
    assert belongs(other.with_suffix(".key"), authority.folder / "clients/bob.crt")
    authority.done("verify")


def test_request_replaces_a_key_of_ours(authority: Authority, request_file: Callable[..., Path]) -> None:
    request = request_file()
    assert "--force" in authority.refused("client", "alice", "--csr", request)
    authority.done("client", "alice", "--csr", request, "--force")
    assert not (authority.folder / "clients/alice.key").exists()
    authority.done("verify")


def test_request_by_relative_path(authority: Authority, request_file: Callable[..., Path]) -> None:
    request = request_file(name="-odd name")
    words = [str(SCRIPT), "--dir", str(authority.folder), "client", "bob", "--csr", request.name]
    subprocess.run(words, cwd=request.parent, check=True, capture_output=True)
    assert belongs(request.with_suffix(".key"), authority.folder / "clients/bob.crt")


def test_rsa_request(authority: Authority, request_file: Callable[..., Path]) -> None:
    authority.done("client", "bob", "--csr", request_file("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"))
    authority.done("verify")


@pytest.mark.parametrize(
    "algorithm",
    [
        ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        ["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:3072"],
        ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072", "-pkeyopt", "rsa_keygen_pubexp:3"],
        ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
        ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"],
        ["-algorithm", "ED25519"],
    ],
)
def test_weak_or_unknown_keys_are_refused(
    authority: Authority, request_file: Callable[..., Path], algorithm: list[str]
) -> None:
    assert "neither P-256 nor RSA" in authority.refused("client", "bob", "--csr", request_file(*algorithm))


def test_requests_that_are_none(authority: Authority, request_file: Callable[..., Path], tmp_path: Path) -> None:
    good = x509.load_pem_x509_csr(request_file().read_bytes()).public_bytes(serialization.Encoding.DER)
    bad = tmp_path / "bad.csr"
    for content in (good[:-1] + bytes([good[-1] ^ 1]), good.replace(b"admin", b"nimda"), b"", b"garbage", good[:100]):
        bad.write_bytes(b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(content)
                        + b"-----END CERTIFICATE REQUEST-----\n")  # fmt: skip
        assert "own key has signed" in authority.refused("client", "bob", "--csr", bad)
    shutil.copy(authority.folder / "clients/alice.crt", bad)
    authority.refused("client", "bob", "--csr", bad)
    for path in (tmp_path, tmp_path / "none", Path("/dev/zero")):
        assert "cannot read" in authority.refused("client", "bob", "--csr", path)


# ----------------------------------------------------------------------------------------------------------- revoking


def test_revoking_takes_every_valid_certificate_of_the_name(authority: Authority) -> None:
    first = authority.certificate("clients/alice.crt").serial_number
    authority.done("renew", "alice")
    authority.done("client", "bob")
    second = authority.certificate("clients/alice.crt").serial_number
    authority.done("revoke", "alice", "--reason", "keyCompromise")
    assert revoked_serials(authority) == {first, second}
    for entry in authority.revocation_list():
        assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == x509.ReasonFlags.key_compromise
    authority.done("client", "alice", "--force")
    assert "nothing to revoke" not in authority.done("revoke", "alice")
    assert len(revoked_serials(authority)) == 3
    before = contents(authority.folder)
    assert "nothing to revoke" in authority.done("revoke", "alice")
    assert contents(authority.folder) == before


def test_revoking_without_files(authority: Authority) -> None:
    serial = authority.certificate("clients/alice.crt").serial_number
    (authority.folder / "clients/alice.crt").unlink()
    (authority.folder / "clients/alice.key").unlink()
    authority.done("revoke", "alice")
    assert revoked_serials(authority) == {serial}
    [entry] = authority.revocation_list()
    assert list(entry.extensions) == []
    assert "no certificate was ever issued" in authority.refused("revoke", "nobody")


def test_revoking_proxy_and_server(authority: Authority) -> None:
    authority.done("proxy", "edge")
    authority.done("revoke", "edge")
    authority.done("revoke", "server")
    assert len(revoked_serials(authority)) == 2
    assert "server.crt is revoked" in authority.refused()
    authority.done("server", "--force")
    assert "nothing was changed" in authority.done()


def test_openssl_itself_reads_the_index(authority: Authority) -> None:
    authority.done("renew", "alice")
    authority.done("revoke", "alice", "--reason", "superseded")
    authority.done("client", "alice", "--force")
    lines = (authority.folder / "index.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["V", "R", "R", "V"]
    assert all(len(line.split("\t")) == 6 for line in lines)
    serial = f"{authority.certificate('clients/alice.crt').serial_number:X}"
    configuration = authority.folder / "own.cnf"
    configuration.write_text(f"[ca]\ndefault_ca=c\n[c]\ndatabase={authority.folder}/index.txt\ndefault_md=sha256\n"
                             "unique_subject=no\n")  # fmt: skip
    result = subprocess.run(
        ["openssl", "ca", "-config", configuration, "-status", serial],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{serial}=Valid" in result.stderr


# -------------------------------------------------------------------------------------------------------- p12 and list


def test_p12(authority: Authority) -> None:
    assert authority.done("p12", "alice", stdin="pass wörd\n") == "clients/alice.p12: made\n"
    data = (authority.folder / "clients/alice.p12").read_bytes()
    key, certificate, others = pkcs12.load_key_and_certificates(data, "pass wörd".encode())
    assert certificate == authority.certificate("clients/alice.crt")
    assert others == [authority.certificate("ca.crt")]
    assert key is not None
    assert key.public_key() == certificate.public_key()
    assert "--force" in authority.refused("p12", "alice", stdin="secret\n")
    assert "alice.p12" in authority.done("renew", "alice")
    authority.done("p12", "alice", "--force", stdin="secret")
    for bad in ("", "\n", "x" * 300 + "\n"):
        assert "password" in authority.refused("p12", "alice", "--force", stdin=bad)


def test_p12_asks_on_a_terminal(authority: Authority) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        authority.command("p12", "alice"), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    said = b""
    for prompt in (b"Password for alice.p12: ", b"Once more: "):
        while prompt not in said:
            said += os.read(ours, 1000)
        os.write(ours, b"secret\n")
    assert process.wait(timeout=30) == 0
    os.close(ours)
    assert b"secret" not in said
    data = (authority.folder / "clients/alice.p12").read_bytes()
    assert pkcs12.load_key_and_certificates(data, b"secret")[1] == authority.certificate("clients/alice.crt")


def test_list_is_an_aligned_table(authority: Authority) -> None:
    authority.done("client", "b" * 32)
    authority.done("proxy", "edge")
    authority.done("revoke", "alice")
    lines = authority.done("list").splitlines()
    header = lines[0]
    assert header.split() == ["NAME", "KIND", "SERIAL", "VALID", "UNTIL", "STATE"]
    rows = {line.split()[0]: line for line in lines[1:]}
    assert list(rows) == ["ca", "server", "alice", "b" * 32, "edge"]
    for line in rows.values():
        for column in ("KIND", "SERIAL", "VALID UNTIL", "STATE"):
            start = header.index(column)
            assert line[start - 1] == " "
            assert line[start] != " "
    serial = authority.certificate("clients/alice.crt").serial_number
    end = authority.certificate("clients/alice.crt").not_valid_after_utc
    assert rows["alice"].split() == ["alice", "client", f"{serial:X}", f"{end:%Y-%m-%d}", f"{end:%H:%M:%S}Z", "revoked"]
    assert [rows[name].split()[-1] for name in ("ca", "server", "edge")] == ["valid"] * 3


def test_list_shows_what_has_ended(authority: Authority) -> None:
    index = authority.folder / "index.txt"
    index.write_text(index.read_text() + "V\t200101000000Z\t\t7B\tunknown\t/CN=bob\n")
    assert re.search(r"^bob +client +7B +2020-01-01 00:00:00Z  expired$", authority.done("list"), re.MULTILINE)


# -------------------------------------------------------------------------------------------------------------- verify


def test_verify_is_content(authority: Authority) -> None:
    authority.done("proxy", "edge")
    lines = authority.done("verify").splitlines()
    assert all(line.startswith("ok   ") for line in lines)
    for file in ("ca.crt", "ca.key", "crl.pem", "server.crt", "clients/alice.crt", "proxies/edge.crt", "names.txt"):
        assert sum(line.startswith(f"ok   {file}") for line in lines) == 1


def loosen(name: str, bits: int) -> Callable[[Authority], object]:
    return lambda authority: (authority.folder / name).chmod(bits)


def replace_file(name: str, other: str) -> Callable[[Authority], object]:
    def change(authority: Authority) -> None:
        data = (authority.folder / other).read_bytes()
        (authority.folder / name).unlink()
        (authority.folder / name).write_bytes(data)

    return change


def write(name: str, text: str) -> Callable[[Authority], object]:
    return lambda authority: (authority.folder / name).write_text(text)


def remove(name: str) -> Callable[[Authority], object]:
    return lambda authority: (authority.folder / name).unlink()


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (loosen("ca.key", 0o440), "bad  ca.key: mode is 440"),
        (loosen("server.key", 0o644), "bad  server.key: mode is 644: chmod 600"),
        (loosen("clients/alice.key", 0o660), "bad  clients/alice.key: mode is 660"),
        (loosen("server.crt", 0o666), "bad  server.crt: mode is 666"),
        (loosen("crl.pem", 0o664), "bad  crl.pem: mode is 664"),
        (replace_file("server.key", "clients/alice.key"), "bad  server.crt: its key does not belong"),
        (replace_file("ca.key", "server.key"), "bad  ca.key: does not belong"),
        (replace_file("clients/alice.crt", "server.crt"), "bad  clients/alice.crt: "),
        (replace_file("server.crt", "clients/alice.crt"), "bad  server.crt: "),
        (write("clients/alice.crt", "garbage"), "bad  clients/alice.crt: "),
        (write("crl.pem", "garbage"), "bad  crl.pem: not signed"),
        (write("names.txt", ""), "bad  names.txt: alice is not in it"),
        (write("clients/bob.key", "orphan"), "bad  clients/bob.key: "),
        (write("index.txt", ""), "bad  clients/alice.crt: not in index.txt"),
        (remove("crl.pem"), "bad  crl.pem: missing"),
        (remove("server.key"), "bad  server.crt: server.key is missing"),
        (remove("server.crt"), "bad  server.crt: missing"),
        (remove("ca.key"), "bad  ca.key: missing"),
        (lambda it: age(it, "server.crt", -90 * DAYS, -1 * DAYS), "bad  server.crt: certificate has expired"),
        (lambda it: age(it, "clients/alice.crt", 1 * DAYS, 9 * DAYS), "bad  clients/alice.crt: certificate is not yet"),
        (lambda it: age(it, "ca.crt", -90 * DAYS, -1 * DAYS), "bad  ca.crt: certificate has expired"),
        (lambda it: age_list(it, -31 * DAYS, -1 * DAYS), "bad  crl.pem: outdated"),
        (lambda it: (it.done("revoke", "server")), "bad  server.crt: revoked"),
    ],
)  # fmt: skip
def test_verify_finds(authority: Authority, change: Callable[[Authority], object], finding: str) -> None:
    change(authority)
    result = authority.run("verify")
    assert result.returncode == 1, result
    assert any(line.startswith(finding) for line in result.stdout.splitlines()), result
    assert re.fullmatch(r"error: .*\n", result.stderr), result


def test_verify_finds_an_open_p12(authority: Authority) -> None:
    authority.done("p12", "alice", stdin="a password\n")
    (authority.folder / "clients/alice.p12").chmod(0o644)
    result = authority.run("verify")
    assert result.returncode == 1
    assert "bad  clients/alice.p12: mode is 644: chmod 600 it\n" in result.stdout


def test_verify_after_the_cas_end_begins_with_the_ca(authority: Authority) -> None:
    age(authority, "ca.crt", -3651 * DAYS, -1 * DAYS)
    age_list(authority, -31 * DAYS, -1 * DAYS)
    result = authority.run("verify")
    assert result.returncode == 1
    assert re.fullmatch(r"error: the CA in .* has expired: begin with '.* --force', then verify again\n", result.stderr)
    assert not re.search(r"(client|renew) alice|renew server|server --force| crl'", result.stdout)
    authority.done("--force")
    authority.done("verify")


def test_verify_does_not_mind_a_revoked_client(authority: Authority) -> None:
    old = (authority.folder / "crl.pem").read_bytes()
    authority.done("revoke", "alice")
    assert "ok   clients/alice.crt: revoked" in authority.done("verify")
    (authority.folder / "crl.pem").write_bytes(old)
    result = authority.run("verify")
    assert result.returncode == 1
    assert "index.txt and crl.pem disagree" in result.stdout


def test_verify_trusts_nothing_else(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    other.done()
    other.done("client", "alice")
    for file in ("clients/alice.crt", "clients/alice.key"):
        shutil.copy(other.folder / file, authority.folder / file)
    environment = {"SSL_CERT_FILE": str(other.folder / "ca.crt")}
    result = authority.run("verify", env=environment)
    assert result.returncode == 1
    assert "bad  clients/alice.crt: unable to get local issuer certificate" in result.stdout


def test_shellcheck_is_content() -> None:
    tool = shutil.which("shellcheck") or shutil.which("shellcheck", path="/tmp/v/bin")
    if tool is None:
        pytest.skip("shellcheck is not installed")
    subprocess.run([tool, SCRIPT], check=True)
