"""The AUTH frame: each side proves its certificate over the handshake (docs/protocol.md, section 4).

The construction is TLS 1.3's CertificateVerify (RFC 8446, section 4.4.3) over a transcript of the Noise handshake.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import PublicKeyAlgorithmOID

from securedelivery.errors import RemoteProtocolError
from securedelivery.protocol.certificates import (
    UNREADABLE,
    Identity,
    Trust,
    account_identity,
    der,
    load_certificate,
    uri_names,
)
from securedelivery.protocol.frames import AUTH_BLOCK, MAX_AUTH_PLAINTEXT

__all__ = ["Auth", "ClientPolicy", "Credentials", "Transcript", "decode_auth", "encode_auth"]

ECDSA_SECP256R1_SHA256 = 0x0403
RSA_PSS_RSAE_SHA256 = 0x0804
MIN_RSA_BITS = 3072  # as strong as P-256 (NIST SP 800-57 part 1, table 2)
MAX_CHAIN = MAX_AUTH_PLAINTEXT - 2_048  # bytes; leaves room for the lengths and the signature of a 16,000-bit RSA key
_PSS = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=32)

SERVER_LABEL = b"securedelivery/1, server CertificateVerify"
CLIENT_LABEL = b"securedelivery/1, client CertificateVerify"


@dataclass(frozen=True)
class Auth:
    """What an AUTH plaintext says. certificates: leaf first, empty for a client without one; chain: as on the wire."""

    chain: bytes
    certificates: tuple[x509.Certificate, ...]
    scheme: int
    signature: bytes


NO_CERTIFICATE = Auth(b"", (), 0, b"")


class Credentials:
    """A certificate chain (leaf first, without the root) and the leaf's private key.

    Raises ValueError where no scheme fits the key or the chain does not fit AUTH; whether key and leaf match is the
    loader's to check.
    """

    def __init__(self, chain: Sequence[x509.Certificate], key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
        self.chain = encode_chain(chain)
        if len(self.chain) > MAX_CHAIN:
            raise ValueError(f"a chain of {len(self.chain)} bytes, where {MAX_CHAIN} fit")
        self.certificates = tuple(chain)
        self.scheme = _scheme_of(chain[0])
        self._key = key

    def sign(self, content: bytes) -> bytes:
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(content, ec.ECDSA(SHA256()))
        return self._key.sign(content, _PSS, SHA256())


class Transcript:
    """The running hash T over the handshake hash, both chains and both signatures."""

    def __init__(self, h: bytes) -> None:
        self._t = h

    def add_server_chain(self, chain: bytes) -> bytes:
        """T1; returns what the server signs."""
        self._t = sha256(self._t + b"\x01" + len(chain).to_bytes(3) + chain).digest()
        return b" " * 64 + SERVER_LABEL + b"\0" + self._t

    def add_server_signature(self, auth: Auth) -> None:
        """T2."""
        self._add_signature(b"\x02", auth)

    def add_client_chain(self, chain: bytes) -> bytes:
        """T3; returns what the client signs."""
        self._t = sha256(self._t + b"\x03" + len(chain).to_bytes(3) + chain).digest()
        return b" " * 64 + CLIENT_LABEL + b"\0" + self._t

    def add_client_signature(self, auth: Auth) -> bytes:
        """The session: 32 bytes that only these two sides, in this connection, can arrive at."""
        self._add_signature(b"\x04", auth)
        return self._t

    def _add_signature(self, label: bytes, auth: Auth) -> None:
        signature = auth.scheme.to_bytes(2) + len(auth.signature).to_bytes(2) + auth.signature
        self._t = sha256(self._t + label + signature).digest()


def encode_chain(chain: Sequence[x509.Certificate]) -> bytes:
    return b"".join(len(one).to_bytes(3) + one for one in map(der, chain))


def encode_auth(auth: Auth) -> bytes:
    """The AUTH plaintext, padded with zeros to a multiple of 1,024 bytes so that its length tells little."""
    plaintext = b"".join(
        (
            len(auth.chain).to_bytes(3),
            auth.chain,
            auth.scheme.to_bytes(2),
            len(auth.signature).to_bytes(2),
            auth.signature,
        )
    )
    return plaintext + bytes(-len(plaintext) % AUTH_BLOCK)


def decode_auth(plaintext: bytes) -> Auth:
    """Read an AUTH plaintext. Raises RemoteProtocolError unless every byte of it is accounted for."""
    rest = memoryview(plaintext)

    def take(length: int) -> bytes:
        nonlocal rest
        if len(rest) < length:
            raise RemoteProtocolError("AUTH is shorter than the lengths in it")
        part, rest = bytes(rest[:length]), rest[length:]
        return part

    chain = take(int.from_bytes(take(3)))
    scheme = int.from_bytes(take(2))
    signature = take(int.from_bytes(take(2)))
    if any(rest):
        raise RemoteProtocolError("AUTH is padded with something other than zeros")
    if not chain and (scheme or signature):
        raise RemoteProtocolError("AUTH has a signature and no certificate")
    return Auth(chain, _decode_chain(chain), scheme, signature)


def _decode_chain(chain: bytes) -> tuple[x509.Certificate, ...]:
    certificates = []
    while chain:
        length = int.from_bytes(chain[:3])
        encoded, chain = chain[3 : 3 + length], chain[3 + length :]
        if len(encoded) != length or not length:
            raise RemoteProtocolError("the certificate chain is cut short")
        try:
            certificates.append(load_certificate(encoded))
        except UNREADABLE as error:
            raise RemoteProtocolError(f"a certificate cannot be read: {error}") from error
    return tuple(certificates)


def verify_signature(auth: Auth, content: bytes) -> None:
    """Check the leaf's signature over content. Raises RemoteProtocolError, also for a scheme that is not the key's."""
    leaf = auth.certificates[0]
    try:
        if auth.scheme != _scheme_of(leaf):
            raise RemoteProtocolError(f"signature scheme {auth.scheme:#06x} does not fit the certificate's key")
        key = leaf.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(auth.signature, content, ec.ECDSA(SHA256()))
        else:
            assert isinstance(key, rsa.RSAPublicKey)
            key.verify(auth.signature, content, _PSS, SHA256())
    except (InvalidSignature, *UNREADABLE) as error:
        why = f": {error}" if str(error) else ""  # InvalidSignature has nothing to add
        raise RemoteProtocolError(f"the signature over the handshake does not verify{why}") from error


def _scheme_of(leaf: x509.Certificate) -> int:
    """The one scheme that fits the leaf's key. Raises ValueError or UnsupportedAlgorithm where none does."""
    key = leaf.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return ECDSA_SECP256R1_SHA256
    # A key that is marked for PSS alone would need a scheme of its own, 0x0809 (RFC 8446, section 4.2.3).
    plain_rsa = leaf.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5
    if isinstance(key, rsa.RSAPublicKey) and plain_rsa and key.key_size >= MIN_RSA_BITS:
        return RSA_PSS_RSAE_SHA256
    raise ValueError(f"the key is neither P-256 nor RSA of {MIN_RSA_BITS} bits or more")


@dataclass(frozen=True)
class ClientPolicy:
    """What the server asks of its clients.

    trusted_proxies: the URIs of TLS-terminating proxies, whose outer certificate gives no identity and is not compared.
    """

    trust: Trust
    trust_domain: str
    certificates_required: bool = True
    trusted_proxies: frozenset[str] = frozenset()

    def identify(self, auth: Auth, outer_leaf: x509.Certificate | None, now: datetime) -> Identity | None:
        """The identity of a client whose signature has been verified; None where it has none and needs none.

        outer_leaf: the certificate that TLS saw. Raises RemoteProtocolError with the slug.
        """
        proxies = self.trusted_proxies
        compared = not proxies or outer_leaf is None or proxies.isdisjoint(uri_names(outer_leaf))
        if not auth.certificates:
            if self.certificates_required:
                raise RemoteProtocolError("AUTH has no certificate and one is required", "certificate_required")
            if compared and outer_leaf is not None:
                raise RemoteProtocolError("a certificate in TLS and none in AUTH", "identity_mismatch")
            return None
        leaf = auth.certificates[0]
        self.trust.verify_client(auth.certificates, now)
        identity = account_identity(leaf, self.trust_domain)
        if compared and leaf != outer_leaf:
            outer = "none" if outer_leaf is None else ", ".join(uri_names(outer_leaf))
            raise RemoteProtocolError(f"AUTH is for {identity.uri}, TLS saw {outer}", "identity_mismatch")
        return identity
