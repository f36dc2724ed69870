"""Why there is no connection, in words that name the remedy.

Every failure of the network, of TLS and of the inner handshake becomes one ConnectionFailure here. TLS 1.3 tells a
client that its certificate was refused only at its first read, so an alert after the handshake is the usual way to hear
of it; what the server means by an alert and by the CLOSE slug of the same name is one thing, said in the same words.
"""

import re
import socket
import ssl

from securedelivery.errors import ConnectionFailure, PeerClosed, RemoteProtocolError
from securedelivery.protocol.connection import CloseReceived
from securedelivery.transport.channel import TlsFailure, reason_of

__all__ = ["closed", "inner_refused", "timed_out", "tls_failed", "truncated", "unreachable"]

_SET_CERTIFICATE = "securedelivery profile set --certificate FILE --key FILE"
_SET_CA = "securedelivery profile set --ca FILE"
_SET_TLS_CA = "securedelivery profile set --tls-ca FILE"
_SET_SERVER = "securedelivery profile set --server HOST:PORT"
_RENEW = "get a new one from the operator (gen_certs.sh renew NAME)"
# A server whose list is missing or outdated refuses every certificate, with alerts that do not say so.
_LIST = "if it is good, tell the operator that the server's revocation list may be missing or outdated"

# X.509 verification results of OpenSSL (x509_vfy.h) that have a remedy of their own.
_NOT_YET_VALID, _EXPIRED, _CRL_NOT_YET_VALID, _CRL_EXPIRED = 9, 10, 11, 12
_WRONG_CA = frozenset((2, 7, 18, 19, 20, 21))
_NO_CRL, _REVOKED, _WRONG_PURPOSE = 3, 23, 26
_WRONG_NAME = frozenset((62, 64))

# What the alerts about a client's certificate amount to (RFC 8446, section 6.2).
_ALERT_SLUGS = {
    "CERTIFICATE_REQUIRED": "certificate_required",
    "UNKNOWN_CA": "certificate_untrusted",
    "BAD_CERTIFICATE": "certificate_untrusted",
    "UNSUPPORTED_CERTIFICATE": "certificate_untrusted",
    "CERTIFICATE_UNKNOWN": "certificate_untrusted",
    "ACCESS_DENIED": "certificate_untrusted",
    "CERTIFICATE_EXPIRED": "certificate_expired",
    "CERTIFICATE_REVOKED": "certificate_revoked",
}
_NO_TLS = frozenset(
    ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
)

_INNER_HINTS = {
    "certificate_expired": "check this computer's clock; if it is right, the operator has to renew the certificate",
    "certificate_revoked": "do not go on: somebody else may have the server's key; ask the operator",
}
_INNER_HINT = (
    "TLS ends before the server, and this is not the server that was expected, or the list (--crl) is outdated:"
    " ask the operator"
)
_SLUGS = {
    "certificate_required": (
        "the server wants a certificate from its customers, and none was given",
        f"ask the operator for one, then: {_SET_CERTIFICATE}",
    ),
    "certificate_untrusted": (
        "the server does not accept this certificate",
        f"use the pair that this service's operator made for you ({_SET_CERTIFICATE}); {_LIST}",
    ),
    "certificate_expired": (
        "the server says that the certificate has expired",
        f"{_RENEW}; {_LIST}",
    ),
    "certificate_revoked": (
        "the certificate has been revoked",
        "it will never work again: ask the operator for a new one",
    ),
    "identity_mismatch": (
        "the certificate outside, in TLS, and the one inside are not the same",
        "a proxy on the way ends TLS; its operator has to enter it in the server's trusted_proxies",
    ),
    "protocol_error": ("the server says that the protocol was broken", "update securedelivery on both sides"),
    "draining": ("the server is stopping", "try again in a moment"),
    "credentials_changed": (
        "the account's password or its right to log in was changed",
        "log in again; if that is refused, ask the operator",
    ),
    "account_deleted": ("the account has been deleted", "create another: securedelivery account create"),
    "session_expired": ("the connection had lived as long as one may", "connect again"),
    "idle": ("nothing was said for too long", "connect again"),
    "too_slow": ("this side was too slow for the server", "check the network, then connect again"),
    "internal": ("the server had an internal error", "try again in a moment; if it stays so, tell the operator"),
}
_TEMPORARY = frozenset(("draining", "session_expired", "idle", "too_slow", "internal"))


def unreachable(server: str, error: OSError) -> ConnectionFailure:
    """No TCP connection. server: as the user wrote it."""
    if isinstance(error, socket.gaierror):
        temporary = error.errno == socket.EAI_AGAIN
        return ConnectionFailure(
            f"the name of {server} is not known ({error.strerror})",
            f"check the spelling and the network: {_SET_SERVER}",
            temporary=temporary,
        )
    if isinstance(error, ConnectionRefusedError):
        return ConnectionFailure(
            f"nothing answers at {server} (connection refused)",
            f"is the service running, and is this its port? If not: {_SET_SERVER}",
            temporary=True,
        )
    if isinstance(error, TimeoutError):
        return timed_out(server, 0.0)
    return ConnectionFailure(
        f"{server} cannot be reached ({error.strerror or error})",
        f"check the network and the address: {_SET_SERVER}",
        temporary=True,
    )


def timed_out(server: str, seconds: float) -> ConnectionFailure:
    """The whole handshake, from the first packet to the welcome, has one deadline."""
    within = f" within {seconds:g} s" if seconds else ""
    return ConnectionFailure(
        f"{server} did not answer{within}",
        f"check the network and the address ({_SET_SERVER}); a firewall on the way may swallow the connection",
        temporary=True,
    )


def tls_failed(
    server: str, host: str, failure: TlsFailure, *, has_crl: bool, has_tls_ca: bool = False
) -> ConnectionFailure:
    """TLS is over: this side does not trust the server, the server refused, or there is no TLS at all."""
    cause = failure.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _server_untrusted(server, host, cause, has_crl=has_crl, has_tls_ca=has_tls_ca)
    if isinstance(cause, ssl.SSLEOFError):
        return truncated(server)
    reason = reason_of(cause) if isinstance(cause, ssl.SSLError) else ""
    if reason in _NO_TLS:
        return ConnectionFailure(
            f"what answers at {server} does not speak TLS", f"this is not the service's port: {_SET_SERVER}"
        )
    alert = re.search(r"ALERT_([A-Z_]+)$", reason)
    slug = _ALERT_SLUGS.get(alert[1]) if alert else None
    if slug is not None:
        return closed(server, CloseReceived(slug, ""))
    if cause is None or (alert and alert[1] in ("NO_APPLICATION_PROTOCOL", "PROTOCOL_VERSION", "HANDSHAKE_FAILURE")):
        return ConnectionFailure(
            f"what answers at {server} does not speak the securedelivery protocol ({failure})",
            f"is this the service's port? {_SET_SERVER}; if it is, update securedelivery",
        )
    return ConnectionFailure(
        f"TLS with {server} failed ({failure})", "if it happens again, something on the way alters the connection"
    )


def _server_untrusted(
    server: str, host: str, error: ssl.SSLCertVerificationError, *, has_crl: bool, has_tls_ca: bool
) -> ConnectionFailure:
    code = error.verify_code
    if code in _WRONG_CA:
        message = f"the certificate of {server} is not from the CA that is trusted here"
        if has_tls_ca:
            hint = f'get the CA of the proxy that ends TLS from the operator, then: {_SET_TLS_CA} ("" without a proxy)'
        else:
            hint = f"get ca.crt from the operator, then: {_SET_CA} (and where a proxy ends TLS, its CA: --tls-ca FILE)"
        hint += ". Do not go on with another certificate"
    elif code in _WRONG_NAME:
        message = f"the certificate of {server} is for another name than {host}"
        hint = f"dial a name that it has ({_SET_SERVER}), or have the operator add this one (gen_certs.sh server --dns)"
    elif code == _EXPIRED:
        message = f"the certificate of {server} has expired"
        hint = "check this computer's clock; if it is right, the operator has to renew it (gen_certs.sh renew server)"
    elif code == _NOT_YET_VALID:
        message = f"the certificate of {server} is not valid yet"
        hint = "check this computer's clock"
    elif code == _REVOKED:
        message = f"the certificate of {server} has been revoked"
        hint = "do not go on: ask the operator, somebody else may have the server's key"
    elif code in (_CRL_EXPIRED, _CRL_NOT_YET_VALID, _NO_CRL) and has_crl:
        message = f"the revocation list given here cannot be applied to {server} ({error.verify_message})"
        hint = "get the present crl.pem from the operator, then: securedelivery profile set --crl FILE"
    elif code == _WRONG_PURPOSE:
        message = f"the certificate of {server} is not a server's"
        hint = "do not go on: somebody uses a customer's certificate as a server"
    else:
        message = f"the certificate of {server} cannot be trusted ({error.verify_message})"
        hint = "tell the operator (gen_certs.sh verify)"
    return ConnectionFailure(message, hint)


def inner_refused(server: str, error: RemoteProtocolError) -> ConnectionFailure:
    """The server broke the protocol, or its certificate inside the Noise handshake is not acceptable."""
    if error.reason == "protocol_error":
        return ConnectionFailure(
            f"what {server} sent is not the securedelivery protocol ({error})",
            "if it happens again, something on the way alters the connection, or one side needs an update",
        )
    return ConnectionFailure(
        f"the server behind {server} cannot be trusted ({error})",
        _INNER_HINTS.get(error.reason, _INNER_HINT),
    )


def closed(server: str, close: CloseReceived) -> PeerClosed:
    """The server's CLOSE, or the alert that means the same."""
    message, hint = _SLUGS.get(close.reason, ("the server ended the connection", "connect again"))
    if close.message and close.reason not in _SLUGS:
        message = f"{message} ({close.message})"
    temporary = close.reason in _TEMPORARY or close.reason not in _SLUGS
    return PeerClosed(f"{server}: {message}", hint, close.reason, temporary=temporary)


def truncated(server: str, *, connected: bool = False) -> PeerClosed:
    """The end came without CLOSE. connected: after the welcome, so it is known that the service is there."""
    if connected:
        message, hint = f"the connection to {server} broke", "check the network, then try again"
    else:
        message = f"{server} hung up before it said who it is"
        hint = f"try again in a moment (the service may be full or starting); is this its port? {_SET_SERVER}"
    return PeerClosed(message, hint, None, temporary=True)
