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

KNOWN = 1_024  # paths, and certificates; some 10 KiB each
MAX_KNOWN_CERTIFICATE = 4_096  # bytes; with a P-256 key it has 600, with an RSA key of 8,192 bits 2,500

_certificates: dict[bytes, x509.Certificate] = {}
"""By their DER: those of remembered paths, which an authority has signed, so that no stranger fills it."""

_PURPOSE = x509.ExtendedKeyUsage
_EE_POLICY = ExtensionPolicy.webpki_defaults_ee().may_be_present(_PURPOSE, Criticality.AGNOSTIC, None)
_CA_POLICY = ExtensionPolicy.webpki_defaults_ca().may_be_present(_PURPOSE, Criticality.AGNOSTIC, None)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client certificate says it is. uri: the whole `spiffe://<trust domain>/account/<name>`."""

    uri: str
    name: str


@dataclass(frozen=True, slots=True)
class _RevocationList:
    """A list, read once: the original is searched from end to end. current: from when until when."""

    issuer: x509.Name
    begins: datetime
    ends: datetime | None
    serials: frozenset[int]

    def is_current(self, now: datetime) -> bool:
        return self.ends is not None and self.begins <= now <= self.ends


@dataclass(frozen=True, slots=True)
class _Path:
    """A chain for which a path to an authority was found, and what of that stays true from begins to ends.

    names: those in the leaf; lists: of the leaf's issuer; lasting: whether it is to be remembered.
    """

    names: Sequence[x509.GeneralName]
    begins: datetime
    ends: datetime
    serial: int
    lists: tuple[_RevocationList, ...]
    lasting: bool


@dataclass(frozen=True)
class Trust:
    """The certificate authorities believed in, and their revocation lists.

    crls: None where this side has no list and skips the check (a client may, a server may not: it passes an empty
    tuple, and then every client certificate is refused).

    A path that passed is remembered: customers come back with the same chain, and as long as all its certificates are
    valid, the answer is the same. A new list or authority is a new Trust, which remembers nothing. A chain with more in
    it than its path needs is not remembered, for anybody can append to one.
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
        builder = PolicyBuilder().store(self._store).time(now)
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
        key = (tuple(chain), purpose)
        path = self._paths.get(key)
        known = path is not None and path.begins <= now <= path.ends
        if path is None or not known:
            path = self._find_path(chain, purpose, now)
        if self.crls is not None:
            _check_lists(path, now)
        if path.lasting and not known:
            for memory in (self._paths, _certificates):
                if len(memory) >= KNOWN:
                    memory.clear()  # one step, so that threads need no lock
            self._paths[key] = path
            _certificates.update((der(certificate), certificate) for certificate in chain)
        return path.names

    def _find_path(self, chain: Sequence[x509.Certificate], purpose: x509.ObjectIdentifier, now: datetime) -> _Path:
        """Signatures, dates and purposes; all but the revocation lists."""
        # A client verifier, for servers too: with the purpose left out, it is the one that asks for no name.
        builder = PolicyBuilder().store(self._store).time(_within_life(chain, now))
        verifier = builder.extension_policies(ca_policy=_CA_POLICY, ee_policy=_EE_POLICY).build_client_verifier()
        try:
            verified = verifier.verify(chain[0], list(chain[1:]))
        except (VerificationError, ValueError) as error:
            raise RemoteProtocolError(f"the certificate is not trusted: {error}", "certificate_untrusted") from error
        for certificate in chain:
            if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
                life = f"{certificate.not_valid_before_utc} to {certificate.not_valid_after_utc}"
                raise RemoteProtocolError(f"the certificate is valid from {life}", "certificate_expired")
        if not all(_serves(certificate, purpose) for certificate in chain):
            message = f"the certificate is for another purpose than {purpose.dotted_string}"
            raise RemoteProtocolError(message, "certificate_untrusted")
        involved = (*chain, *verified.chain)  # what came with the leaf and was not needed has to be valid too
        issuer = chain[0].issuer
        return _Path(
            verified.subjects or (),
            max(certificate.not_valid_before_utc for certificate in involved),
            end_of_life(involved),
            chain[0].serial_number,
            tuple(one for one in self._lists if one.issuer == issuer),
            all(one in verified.chain and len(der(one)) <= MAX_KNOWN_CERTIFICATE for one in chain),
        )

    @cached_property
    def _store(self) -> Store:
        return Store(list(self.authorities))

    @cached_property
    def _paths(self) -> dict[tuple[tuple[x509.Certificate, ...], x509.ObjectIdentifier], _Path]:
        return {}

    @cached_property
    def _lists(self) -> tuple[_RevocationList, ...]:
        return tuple(
            _RevocationList(
                crl.issuer, crl.last_update_utc, crl.next_update_utc, frozenset(entry.serial_number for entry in crl)
            )
            for crl in self.crls or ()
        )

    def _revoked(self, leaf: x509.Certificate) -> bool:
        return any(leaf.serial_number in one.serials and one.issuer == leaf.issuer for one in self._lists)


def load_certificate(encoded: bytes) -> x509.Certificate:
    """Read a DER certificate to the end, with what cryptography reads only on demand. Raises one of UNREADABLE."""
    known = _certificates.get(encoded)
    if known is not None:
        return known
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


def _check_lists(path: _Path, now: datetime) -> None:
    if not any(one.is_current(now) for one in path.lists):
        raise RemoteProtocolError("there is no current revocation list of its issuer", "certificate_untrusted")
    if any(path.serial in one.serials for one in path.lists):
        raise RemoteProtocolError(f"the certificate with serial {path.serial:X} is revoked", "certificate_revoked")


def _serves(certificate: x509.Certificate, purpose: x509.ObjectIdentifier) -> bool:
    try:
        return purpose in certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:  # RFC 5280, section 4.2.1.12: without the extension, any purpose
        return True


def _subject(server_name: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ip_address(server_name))
    except ValueError:
        return x509.DNSName(server_name)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
