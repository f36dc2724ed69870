"""Whom to believe: certificate chains, the identity in a leaf, revocation lists (docs/protocol.md, sections 1 and 4).

Paths are built and checked by cryptography's `x509.verification` (RFC 5280). It checks no revocation list, and tells
neither an expired certificate nor one for another purpose apart from an untrusted one: that is here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from securedelivery.errors import RemoteProtocolError
from securedelivery.model import USERNAME

__all__ = ["TRUST_DOMAIN", "Identity", "Trust", "account_identity", "end_of_life", "uri_names"]

TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}", re.ASCII)
"""SPIFFE-ID, section 2.1. Match it with fullmatch."""

UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises for a certificate, or a part of one, that it cannot read."""

_PURPOSE = x509.ExtendedKeyUsage
_EE_POLICY = ExtensionPolicy.webpki_defaults_ee().may_be_present(_PURPOSE, Criticality.AGNOSTIC, None)
_CA_POLICY = ExtensionPolicy.webpki_defaults_ca().may_be_present(_PURPOSE, Criticality.AGNOSTIC, None)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client certificate says it is. uri: the whole `spiffe://<trust domain>/account/<name>`."""

    uri: str
    name: str


@dataclass(frozen=True)
class Trust:
    """The certificate authorities believed in, and their revocation lists.

    crls: None where this side has no list and skips the check (a client may, a server may not: it passes an empty
    tuple, and then every client certificate is refused).
    """

    authorities: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...] | None

    def verify_client(self, chain: Sequence[x509.Certificate], now: datetime) -> None:
        """Check chain (leaf first), dates, extended key usage clientAuth and the revocation list at the aware time now.

        Raises RemoteProtocolError with the reason certificate_untrusted, certificate_expired or certificate_revoked.
        """
        self._verify(chain, ExtendedKeyUsageOID.CLIENT_AUTH, now)

    def verify_server(self, chain: Sequence[x509.Certificate], server_name: str, now: datetime) -> None:
        """As verify_client, with serverAuth and the DNS name or IP address that was dialled (RFC 9525).

        Another name is `identity_mismatch`.
        """
        names = self._verify(chain, ExtendedKeyUsageOID.SERVER_AUTH, now)
        builder = PolicyBuilder().store(Store(list(self.authorities))).time(now)
        try:
            builder.build_server_verifier(_subject(server_name)).verify(chain[0], list(chain[1:]))
        except (VerificationError, ValueError) as error:
            own = ", ".join(str(name.value) for name in names)
            message = f"the server's certificate is for {own}, not for {server_name}"
            raise RemoteProtocolError(message, "identity_mismatch") from error

    def verify_own_server(self, chain: Sequence[x509.Certificate], now: datetime) -> None:
        """What every client will check of this side's own server certificate, but for the name that it dials."""
        self._verify(chain, ExtendedKeyUsageOID.SERVER_AUTH, now)

    def standing(self, leaf: x509.Certificate, now: datetime) -> str | None:
        """The slug for which an already verified leaf has to go now, or None: for connections that are open."""
        if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
            return "certificate_expired"
        return "certificate_revoked" if self._revoked(leaf) else None

    def _verify(
        self, chain: Sequence[x509.Certificate], purpose: x509.ObjectIdentifier, now: datetime
    ) -> Sequence[x509.GeneralName]:
        """All checks but that of the server's name; returns the names in the leaf."""
        # A client verifier, for servers too: with the purpose left out, it is the one that asks for no name.
        builder = PolicyBuilder().store(Store(list(self.authorities))).time(_within_life(chain, now))
        verifier = builder.extension_policies(ca_policy=_CA_POLICY, ee_policy=_EE_POLICY).build_client_verifier()
        try:
            names = verifier.verify(chain[0], list(chain[1:])).subjects or ()
        except (VerificationError, ValueError) as error:
            raise RemoteProtocolError(f"the certificate is not trusted: {error}", "certificate_untrusted") from error
        for certificate in chain:
            if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
                life = f"{certificate.not_valid_before_utc} to {certificate.not_valid_after_utc}"
                raise RemoteProtocolError(f"the certificate is valid from {life}", "certificate_expired")
        if not all(_serves(certificate, purpose) for certificate in chain):
            message = f"the certificate is for another purpose than {purpose.dotted_string}"
            raise RemoteProtocolError(message, "certificate_untrusted")
        if self.crls is None:
            return names
        leaf = chain[0]
        if not any(_is_current(crl, leaf, now) for crl in self.crls):
            raise RemoteProtocolError("there is no current revocation list of its issuer", "certificate_untrusted")
        if self._revoked(leaf):
            serial = f"{leaf.serial_number:X}"
            raise RemoteProtocolError(f"the certificate with serial {serial} is revoked", "certificate_revoked")
        return names

    def _revoked(self, leaf: x509.Certificate) -> bool:
        return (leaf.issuer, leaf.serial_number) in self._revoked_serials

    @cached_property
    def _revoked_serials(self) -> frozenset[tuple[x509.Name, int]]:
        # A list is searched from end to end; a reload looks up every open connection.
        return frozenset((crl.issuer, entry.serial_number) for crl in self.crls or () for entry in crl)


def load_certificate(encoded: bytes) -> x509.Certificate:
    """Read a DER certificate to the end, with what cryptography reads only on demand. Raises one of UNREADABLE."""
    certificate = x509.load_der_x509_certificate(encoded)
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.issuer, certificate.extensions
    if certificate.serial_number <= 0:  # RFC 5280, section 4.1.2.2; cannot be looked up in a revocation list either
        raise ValueError("its serial number is not positive")
    return certificate


def uri_names(leaf: x509.Certificate) -> list[str]:
    """The URIs among the subject alternative names, in the order of the certificate."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def account_identity(leaf: x509.Certificate, trust_domain: str) -> Identity:
    """The identity in a client's leaf: its single URI. Raises RemoteProtocolError (certificate_untrusted)."""
    uris = uri_names(leaf)
    prefix = f"spiffe://{trust_domain}/account/"
    if len(uris) == 1 and uris[0].startswith(prefix):
        name = uris[0].removeprefix(prefix)
        if USERNAME.fullmatch(name):
            return Identity(uris[0], name)
    raise RemoteProtocolError(f"the certificate names {uris}, not one {prefix}<name>", "certificate_untrusted")


def end_of_life(chain: Sequence[x509.Certificate]) -> datetime:
    """When the first certificate of the chain expires (aware, UTC)."""
    return min(certificate.not_valid_after_utc for certificate in chain)


def _within_life(chain: Sequence[x509.Certificate], now: datetime) -> datetime:
    # Verified at a moment of its life, an expired chain is told apart from an untrusted one.
    begin = max(certificate.not_valid_before_utc for certificate in chain)
    return max(begin, min(now, end_of_life(chain)))


def _serves(certificate: x509.Certificate, purpose: x509.ObjectIdentifier) -> bool:
    try:
        return purpose in certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:  # RFC 5280, section 4.2.1.12: without the extension, any purpose
        return True


def _is_current(crl: x509.CertificateRevocationList, leaf: x509.Certificate, now: datetime) -> bool:
    if crl.issuer != leaf.issuer or crl.next_update_utc is None:
        return False
    return crl.last_update_utc <= now <= crl.next_update_utc


def _subject(server_name: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ip_address(server_name))
    except ValueError:
        return x509.DNSName(server_name)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
