"""A certificate authority for tests: sound by default, wrong in one thing at a time where asked."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from securedelivery.protocol.authentication import Credentials
from securedelivery.protocol.certificates import Trust

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DAY = timedelta(days=1)
TRUST_DOMAIN = "shop.test"


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(**allowed: bool) -> x509.KeyUsage:
    kinds = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(**{kind: allowed.get(kind, False) for kind in kinds.split()})


@dataclass
class Issued:
    certificate: x509.Certificate
    key: PrivateKey

    @property
    def credentials(self) -> Credentials:
        return Credentials([self.certificate], self.key)

    def write(self, certificate: Path, key: Path) -> None:
        certificate.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        key.touch(0o600)
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@dataclass
class CertificateAuthority:
    common_name: str = "test CA"
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    revoked: list[tuple[int, datetime]] = field(default_factory=list)

    def __post_init__(self) -> None:
        ski = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(self.common_name))
            .issuer_name(_name(self.common_name))
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - 365 * DAY)
            .not_valid_after(self.now + 3650 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(ski, critical=False)
            .sign(self.key, SHA256())
        )

    def client(self, name: str = "alice", **wrong: object) -> Issued:
        uri = x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/account/{name}")
        return self.issue(name, names=[uri], purpose=ExtendedKeyUsageOID.CLIENT_AUTH, **wrong)

    def proxy(self, name: str = "edge", **wrong: object) -> Issued:
        uri = x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/proxy/{name}")
        return self.issue(name, names=[uri], purpose=ExtendedKeyUsageOID.CLIENT_AUTH, **wrong)

    def server(self, *hosts: str, **wrong: object) -> Issued:
        names: list[x509.GeneralName] = []
        for host in hosts or ("localhost", "127.0.0.1"):
            try:
                names.append(x509.IPAddress(ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        return self.issue("server", names=names, purpose=ExtendedKeyUsageOID.SERVER_AUTH, **wrong)

    def issue(
        self,
        common_name: str,
        *,
        names: list[x509.GeneralName],
        purpose: x509.ObjectIdentifier,
        key: PrivateKey | None = None,
        start: timedelta = -DAY,
        end: timedelta = 89 * DAY,
    ) -> Issued:
        key = key or ec.generate_private_key(ec.SECP256R1())
        issuer_ski = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now + start)
            .not_valid_after(self.now + end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_ski), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, SHA256())
        )
        return Issued(certificate, key)

    def revoke(self, *issued: Issued) -> None:
        self.revoked += [(one.certificate.serial_number, self.now) for one in issued]

    def crl(self, start: timedelta = -DAY, end: timedelta = 30 * DAY) -> x509.CertificateRevocationList:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(self.now + start)
            .next_update(self.now + end)
            .add_extension(x509.CRLNumber(len(self.revoked) + 1), critical=False)
        )
        for serial, at in self.revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, SHA256())

    def trust(self, *, with_crl: bool = True) -> Trust:
        return Trust((self.certificate,), (self.crl(),) if with_crl else None)

    def write(self, directory: Path, server: Issued | None = None) -> Path:
        """The files of gen_certs.sh: ca.crt crl.pem server.crt server.key."""
        directory.mkdir(exist_ok=True)
        (directory / "ca.crt").write_bytes(self.certificate.public_bytes(Encoding.PEM))
        self.write_crl(directory)
        (server or self.server()).write(directory / "server.crt", directory / "server.key")
        return directory

    def write_crl(self, directory: Path, **times: timedelta) -> None:
        beside = directory / "crl.pem.new"
        beside.write_bytes(self.crl(**times).public_bytes(Encoding.PEM))
        beside.rename(directory / "crl.pem")
