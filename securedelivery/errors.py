"""Every error of the project, in one tree.

    SecureDeliveryError
     +-- ConfigurationError      a setting is wrong; names the key and the remedy
     +-- ProtocolError
     |    +-- LocalProtocolError     our caller asked for what the protocol forbids: a bug on this side
     |    +-- RemoteProtocolError    the peer broke the protocol or is not to be trusted; `reason` is the CLOSE slug
     +-- Refusal                 the service said no; `reason` and `data` are those of the protocol's error table
     |    +-- UnknownRefusal         for a reason that this client does not know; `slug` and `code` as they came
     +-- StoreError              the database cannot be opened, migrated or written
     |    +-- DamagedRow             a sealed value was altered, or belongs elsewhere; names table, column and row
     +-- CatalogFileError        a catalogue file cannot be used; names line, column and the remedy
     +-- MailError
     |    +-- MailServerFailure      there is no session with the mail server, or it has ended; `hint` says what to do
     |    +-- MailRefused            the mail server does not take one message, for now or for good
     |    +-- NotYet                 this mail is not to be written before some time
     |    +-- Unwanted               nobody is to get this mail any more
     |    +-- Undeliverable          this mail cannot be written: no address, damaged data
     +-- ConnectionFailure       the client has no usable connection; `hint` says what to do
          +-- PeerClosed             the other side ended the connection; `reason` is its slug, or None for a truncation

Whatever else is raised is a bug: it is logged with an incident number and the peer learns only that number.
"""

from enum import Enum
from typing import Any

__all__ = [
    "CatalogFileError",
    "ConfigurationError",
    "ConnectionFailure",
    "DamagedRow",
    "LocalProtocolError",
    "MailError",
    "MailRefused",
    "MailServerFailure",
    "NotYet",
    "PeerClosed",
    "ProtocolError",
    "Reason",
    "Refusal",
    "RemoteProtocolError",
    "SecureDeliveryError",
    "StoreError",
    "Undeliverable",
    "UnknownRefusal",
    "Unwanted",
]

MAX_MESSAGE = 500
"""Characters of a refusal's message, which may repeat what the caller sent: an error answer has to fit a frame."""


class Reason(Enum):
    """`data.reason` of an error answer, with its JSON-RPC code: 1000 + the HTTP status that means the same."""

    PARSE_ERROR = ("parse_error", -32700)
    INVALID_REQUEST = ("invalid_request", -32600)
    METHOD_NOT_FOUND = ("method_not_found", -32601)
    INVALID_PARAMS = ("invalid_params", -32602)
    INTERNAL = ("internal", -32603)
    NOT_LOGGED_IN = ("not_logged_in", 1401)
    BAD_CREDENTIALS = ("bad_credentials", 1401)
    FORBIDDEN = ("forbidden", 1403)
    DISABLED = ("disabled", 1403)
    NOT_FOUND = ("not_found", 1404)
    USERNAME_TAKEN = ("username_taken", 1409)
    VERSION_CONFLICT = ("version_conflict", 1409)
    IDEMPOTENCY_CONFLICT = ("idempotency_conflict", 1409)
    OUT_OF_STOCK = ("out_of_stock", 1409)
    ILLEGAL_TRANSITION = ("illegal_transition", 1409)
    NOT_ENOUGH_POINTS = ("not_enough_points", 1409)
    WRONG_CODE = ("wrong_code", 1409)
    CONVERSATION_TAKEN = ("conversation_taken", 1409)
    OPEN_ORDERS = ("open_orders", 1409)
    RATE_LIMITED = ("rate_limited", 1429)
    UNAVAILABLE = ("unavailable", 1503)

    def __init__(self, slug: str, code: int) -> None:
        self.slug = slug
        self.code = code


class SecureDeliveryError(Exception):
    """The root of the tree."""


class ConfigurationError(SecureDeliveryError):
    """A setting cannot be used.

    key: the setting as the operator wrote it (`limits.connections`, `--listen`), hint: what to write instead.
    """

    def __init__(self, key: str, message: str, hint: str = "") -> None:
        super().__init__(f"{key}: {message}")
        self.key = key
        self.hint = hint


class ProtocolError(SecureDeliveryError):
    """The rules of docs/protocol.md were broken."""


class LocalProtocolError(ProtocolError):
    """We tried to send what its state does not allow. Never caused by a peer."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol forbids, or proved an identity that is not acceptable. Final for the connection.

    reason: the CLOSE slug to answer with. The message is for this side's log, not for the peer.
    """

    def __init__(self, message: str, reason: str = "protocol_error") -> None:
        super().__init__(message)
        self.reason = reason


class Refusal(SecureDeliveryError):  # noqa: N818 -- an answer of the service, not a fault
    """The service refuses a call. Nothing was changed.

    data: the members that the protocol's table lists for the reason (`sku`, `available`, `path`, ...).
    """

    def __init__(self, reason: Reason, message: str, **data: Any) -> None:
        if len(message) > MAX_MESSAGE:
            message = f"{message[: MAX_MESSAGE - 3]}..."
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.data = data

    @classmethod
    def invalid(cls, path: str, message: str) -> "Refusal":
        """A parameter breaks a rule that its type cannot express. path: JSON Pointer (RFC 6901) into params."""
        return cls(Reason.INVALID_PARAMS, message, path=path)


class UnknownRefusal(Refusal):
    """A client's: the service gave a reason that this program is too old to know. slug, code: as they came.

    reason is INTERNAL for want of a better one.
    """

    def __init__(self, slug: str, code: int, message: str, **data: Any) -> None:
        super().__init__(Reason.INTERNAL, message, **data)
        self.slug = slug
        self.code = code


class StoreError(SecureDeliveryError):
    """The database is missing, too new, locked or damaged; the message says which and what to do."""


class DamagedRow(StoreError):  # noqa: N818 -- what is wrong, not that something is
    """A sealed value cannot be opened: it was altered, or moved from another row. cell: `accounts.email:17`."""

    def __init__(self, cell: str) -> None:
        super().__init__(f"{cell} is damaged: it was altered, or moved from another row; restore a backup")
        self.cell = cell


class CatalogFileError(SecureDeliveryError):
    """A catalogue file cannot be used; nothing of it was. hint: what to write instead.

    line: as an editor counts them, from 1; None where the file as a whole is meant. column: as in the header, or None.
    """

    def __init__(self, message: str, hint: str, *, line: int | None = None, column: str | None = None) -> None:
        place = [f"line {line}"] if line is not None else []
        place += [f"column {column}"] if column is not None else []
        super().__init__(": ".join((", ".join(place), message)) if place else message)
        self.hint = hint
        self.line = line
        self.column = column


class MailError(SecureDeliveryError):
    """A mail does not leave."""


class MailServerFailure(MailError):  # noqa: N818 -- it reads as English where it is caught
    """No session with the mail server, or it was lost. hint: what the operator can do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class MailRefused(MailError):  # noqa: N818 -- an answer of the server, not a fault
    """The mail server does not take this message, at MAIL, RCPT or DATA.

    answer: `550 5.1.1 no such user`, in one line. permanent: whether another try would be in vain (5xx).
    """

    def __init__(self, answer: str, *, permanent: bool) -> None:
        super().__init__(answer)
        self.answer = answer
        self.permanent = permanent


class NotYet(MailError):  # noqa: N818 -- what is so, not a fault
    """It is too early for this mail."""


class Unwanted(MailError):  # noqa: N818 -- what is so, not a fault
    """Nobody is to get this mail any more: the account is gone, has no address or wants none, or has read it."""


class Undeliverable(MailError):  # noqa: N818 -- what is so, not a fault
    """A mail that cannot be written, however often it is tried."""


class ConnectionFailure(SecureDeliveryError):  # noqa: N818 -- it reads as English where it is caught
    """No usable connection to the service. hint: what the user can do about it.

    temporary: whether the same may work on a new connection in a moment.
    """

    def __init__(self, message: str, hint: str = "", *, temporary: bool = False) -> None:
        super().__init__(message)
        self.hint = hint
        self.temporary = temporary


class PeerClosed(ConnectionFailure):
    """The other side ended the connection.

    reason: the slug of its CLOSE or, where TLS refused, the slug that the alert amounts to; None where the end came
    without a word (a truncation): what was not answered may or may not have happened.
    """

    def __init__(self, message: str, hint: str = "", reason: str | None = None, *, temporary: bool = False) -> None:
        super().__init__(message, hint, temporary=temporary)
        self.reason = reason
