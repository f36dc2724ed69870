"""A certificate authority to throw away: what the demonstration needs and no more. gen_certs.sh makes real ones."""

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from securedelivery.protocol.authentication import Credentials

__all__ = ["Authority", "Pair"]

BEGINS = timedelta(hours=-1)  # a clock that is set back during a lesson does no harm
ENDS = timedelta(days=30)
_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class Pair(msgspec.Struct, frozen=True):
    """A certificate and its private key, P-256, and the PEM files that they are in."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    certificate_file: Path
    key_file: Path

    @property
    def credentials(self) -> Credentials:
        """For the inner handshake."""
        return Credentials([self.certificate], self.key)


class Authority:
    """Writes into folder (which is there, and this user's alone) what a server looks for: ca.crt, crl.pem, server.crt,
    server.key; and NAME.crt, NAME.key. Its own key is nowhere but in memory. name: of its certificate.
    """

    def __init__(self, folder: Path, trust_domain: str, name: str = "securedelivery demonstration CA") -> None:
        self.folder = folder
        self.ca_file = folder / "ca.crt"
        self._trust_domain = trust_domain
        self._now = datetime.now(UTC).replace(microsecond=0)
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
            .sign(self._key, SHA256())
        )
        self.ca_file.write_bytes(certificate.public_bytes(Encoding.PEM))
        self.revoke()

    def server(self, *hosts: str, name: str = "securedelivery server") -> Pair:
        """hosts: DNS names and IP addresses. name: for people to read."""
        return self._issue("server", name, [_host(one) for one in hosts], "SERVER_AUTH")

    def client(self, name: str, file: str | None = None) -> Pair:
        """file: the name of its files, where it is not the customer's."""
        return self._issue(file or name, name, [self._uri("account", name)], "CLIENT_AUTH")

    def proxy(self, name: str) -> Pair:
        return self._issue(name, f"proxy {name}", [self._uri("proxy", name)], "CLIENT_AUTH")

    def revoke(self, *pairs: Pair) -> None:
        """Write the revocation list, with these in it and no others."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(self._now + BEGINS)
            .next_update(self._now + ENDS)
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(self._issuer(), critical=False)
        )
        for pair in pairs:
            entry = x509.RevokedCertificateBuilder().serial_number(pair.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(self._now).build())
        crl = builder.sign(self._key, SHA256())
        (self.folder / "crl.pem").write_bytes(crl.public_bytes(Encoding.PEM))

    def _issue(self, file: str, common_name: str, names: list[x509.GeneralName], purpose: str) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(_name(common_name), key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([getattr(ExtendedKeyUsageOID, purpose)]), critical=False)
            .add_extension(self._issuer(), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, SHA256())
        )
        pair = Pair(certificate, key, self.folder / f"{file}.crt", self.folder / f"{file}.key")
        pair.certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
        descriptor = os.open(pair.key_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now + BEGINS)
            .not_valid_after(self._now + ENDS)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )

    def _issuer(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier)

    def _uri(self, kind: str, name: str) -> x509.UniformResourceIdentifier:
        return x509.UniformResourceIdentifier(f"spiffe://{self._trust_domain}/{kind}/{name}")


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*allowed: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{kind: kind in allowed for kind in _KEY_USAGES})
