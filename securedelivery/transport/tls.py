"""TLS contexts and credentials from the files that gen_certs.sh makes (docs/protocol.md, section 1)."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from securedelivery.errors import ConfigurationError, RemoteProtocolError
from securedelivery.protocol.authentication import ClientPolicy, Credentials
from securedelivery.protocol.certificates import Trust, end_of_life
from securedelivery.protocol.connection import ALPN
from securedelivery.transport.keylog import KeyLogs

__all__ = ["ServerFiles", "ServerSecurity", "WebTls", "client_context", "load_credentials", "load_trust"]


@dataclass(frozen=True)
class ServerFiles:
    """Where the server's files are."""

    ca: Path
    certificate: Path
    key: Path
    crl: Path

    @classmethod
    def in_directory(cls, directory: Path) -> "ServerFiles":
        """The names that gen_certs.sh gives them."""
        return cls(directory / "ca.crt", directory / "server.crt", directory / "server.key", directory / "crl.pem")


@dataclass(frozen=True)
class ServerSecurity:
    """One loaded state of the server's files: TLS context and inner credentials always belong together.

    crl_expires: when the revocation list runs out (aware, UTC), None where there is no list.
    certificate_begins, certificate_ends: the life of the server's own certificate. key_logs: where keys are logged.
    """

    context: ssl.SSLContext
    credentials: Credentials
    policy: ClientPolicy
    crl_expires: datetime | None
    certificate_begins: datetime
    certificate_ends: datetime
    key_logs: KeyLogs | None = None

    @classmethod
    def load(
        cls,
        files: ServerFiles,
        *,
        trust_domain: str,
        certificates_required: bool,
        trusted_proxies: frozenset[str],
        key_logs: KeyLogs | None = None,
    ) -> "ServerSecurity":
        """Load all of it or nothing. Raises ConfigurationError that names the file and the remedy.

        A missing revocation list is no error: then every client certificate is refused. Nor are a server certificate's
        dates, which the clock can mend.
        """
        credentials = load_credentials(files.certificate, files.key)
        crl = files.crl if files.crl.exists() else None
        trust = load_trust(files.ca, crl)
        try:
            Trust(trust.authorities, None).verify_own_server(credentials.certificates, datetime.now(UTC))
        except RemoteProtocolError as error:
            if error.reason != "certificate_expired":
                raise ConfigurationError(
                    str(files.certificate),
                    f"no client will accept it: {error}",
                    f"it has to be a server's certificate of {files.ca}: ./gen_certs.sh server --force",
                ) from error
        # create_default_context would obey SSLKEYLOGFILE even in a server, a bare context does not.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _prepare(context)
        context.num_tickets = 0  # a resumed session would skip the revocation list
        context.verify_mode = ssl.CERT_REQUIRED if certificates_required else ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_X509_STRICT
        context.load_verify_locations(files.ca)
        if crl is not None:
            context.load_verify_locations(crl)
        _load_chain(context, files.certificate, files.key)
        if key_logs is not None:
            key_logs.prepare(context)
        crls = trust.crls or ()
        return cls(
            context,
            credentials,
            ClientPolicy(Trust(trust.authorities, crls), trust_domain, certificates_required, trusted_proxies),
            min((one.next_update_utc for one in crls if one.next_update_utc), default=None),
            credentials.certificates[0].not_valid_before_utc,
            end_of_life(credentials.certificates),
            key_logs,
        )


class WebTls:
    """The web's context: TLS 1.3, HTTP/1.1, a client certificate where the browser has one, under the same list.

    certificate, key: what browsers see, where it is not the server's own; any that OpenSSL takes. asks: whether a
    client certificate is asked for at all. Raises ConfigurationError.
    """

    def __init__(
        self, files: ServerFiles, certificate: Path | None = None, key: Path | None = None, *, asks: bool = True
    ) -> None:
        self._files = files
        self._asks = asks
        self._has_its_own = certificate is not None
        self._certificate = certificate or files.certificate
        self._key = key or files.key
        self.paths = (self._certificate, self._key)
        self.context = self._made()

    def renew(self) -> None:
        """Another context, of the files as they are now. Raises ConfigurationError, and then the old one stays."""
        self.context = self._made()

    def life(self) -> tuple[datetime, datetime] | None:
        """From when until when its certificate is valid (aware, UTC), as it lies there now. None: it is the server's,
        or cannot be read.
        """
        try:
            leaf = x509.load_pem_x509_certificates(self._certificate.read_bytes())[0] if self._has_its_own else None
        except (OSError, ValueError):
            return None
        return None if leaf is None else (leaf.not_valid_before_utc, leaf.not_valid_after_utc)

    def _made(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _prepare(context, "http/1.1")
        context.num_tickets = 0
        for path in self.paths:
            _read(path)  # says better than OpenSSL what is wrong with a file
        _load_chain(context, self._certificate, self._key)
        if self._asks:
            self._ask(context)
        return context

    def _ask(self, context: ssl.SSLContext) -> None:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_X509_STRICT
        crl = self._files.crl if self._files.crl.exists() else None
        load_trust(self._files.ca, crl)
        context.load_verify_locations(self._files.ca)
        if crl is not None:
            context.load_verify_locations(crl)


def client_context(ca: Path, certificate: Path | None, key: Path | None, crl: Path | None) -> ssl.SSLContext:
    """A client's context: TLS 1.3, our ALPN, the given CA and nothing else. Raises ConfigurationError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _prepare(context)
    load_trust(ca, crl)  # says better than OpenSSL what is wrong with a file
    context.load_verify_locations(ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if crl is not None:
        context.load_verify_locations(crl)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    if certificate is not None and key is not None:
        _load_chain(context, certificate, key)
    return context


def load_trust(ca: Path, crl: Path | None) -> Trust:
    """The authorities in ca (PEM) and, where given, the lists in crl, each signed by one of them."""
    try:
        authorities = tuple(x509.load_pem_x509_certificates(_read(ca)))
    except ValueError as error:
        raise ConfigurationError(
            str(ca), f"not a PEM certificate ({error})", "name the ca.crt of gen_certs.sh"
        ) from error
    if crl is None:
        return Trust(authorities, None)
    try:
        crls = (x509.load_pem_x509_crl(_read(crl)),)
    except ValueError as error:
        raise ConfigurationError(str(crl), f"not a PEM revocation list ({error})", "run ./gen_certs.sh crl") from error
    for one in crls:
        if not any(_signed(one, authority) for authority in authorities):
            raise ConfigurationError(
                str(crl), f"this revocation list was not made by {ca}", "use the crl.pem that lies beside that ca.crt"
            )
    return Trust(authorities, crls)


def _signed(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    key = authority.public_key()
    if crl.issuer != authority.subject or not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return False
    return crl.is_signature_valid(key)


def load_credentials(certificate: Path, key: Path) -> Credentials:
    """A certificate chain and its key (PEM). Raises ConfigurationError, also where they do not belong together."""
    try:
        chain = x509.load_pem_x509_certificates(_read(certificate))
    except ValueError as error:
        raise ConfigurationError(
            str(certificate), f"not a PEM certificate ({error})", "make one with gen_certs.sh"
        ) from error
    try:
        private = load_pem_private_key(_read(key), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            str(key), f"not a PEM private key without password ({error})", "make one with gen_certs.sh"
        ) from error
    if private.public_key() != chain[0].public_key():
        raise ConfigurationError(
            str(key), f"this key does not belong to {certificate}", "name the pair that was made together"
        )
    try:
        if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ValueError("neither P-256 nor RSA")  # noqa: TRY004, TRY301 -- told to the user in one place, below
        return Credentials(chain, private)
    except ValueError as error:
        raise ConfigurationError(
            str(key), f"a key that the protocol does not take ({error})", "use --key ecdsa or --key rsa"
        ) from error


def _prepare(context: ssl.SSLContext, protocol: str = ALPN) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([protocol])
    context.options |= ssl.OP_NO_RENEGOTIATION


def _load_chain(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(
            str(certificate), f"OpenSSL does not take it ({error})", "make it anew with gen_certs.sh"
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(
            str(path), "there is no such file", "run ./gen_certs.sh, or name the right file"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            str(path), f"cannot be read ({error.strerror})", "give this user the right to read it"
        ) from error
