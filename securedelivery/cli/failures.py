"""Every error as `error: ...` and `hint: ...` on stderr, with an exit code; never a traceback.

0    done
1    refused by the service, or failed here
2    wrong usage, a setting that cannot be used
3    no connection, or a certificate is not accepted
130  Ctrl-C
141  whoever read the output went away
"""

import os
import traceback

import typer

from securedelivery.cli import terminal
from securedelivery.cli.service import Advised
from securedelivery.errors import (
    CatalogFileError,
    ConfigurationError,
    ConnectionFailure,
    Reason,
    Refusal,
    RemoteProtocolError,
    SecureDeliveryError,
    UnknownRefusal,
)

__all__ = ["DONE", "FAILED", "INTERRUPTED", "NO_CONNECTION", "USAGE", "report"]

DONE, FAILED, USAGE, NO_CONNECTION, INTERRUPTED = 0, 1, 2, 3, 130

_CODES = (
    ((ConnectionFailure, RemoteProtocolError), NO_CONNECTION),
    ((ConfigurationError, CatalogFileError), USAGE),
)

_HINTS = {
    Reason.METHOD_NOT_FOUND: "the server is older than this program: ask its operator for an update",
    Reason.NOT_LOGGED_IN: "say who you are: --certificate FILE, or --user NAME",
    Reason.BAD_CREDENTIALS: "check --user and the password; with a certificate, no password is needed",
    Reason.FORBIDDEN: "this account may not do that; another may (--user, --certificate)",
    Reason.DISABLED: "ask the operator",
    Reason.USERNAME_TAKEN: "take another name, or log in if it is yours: --user NAME",
    Reason.IDEMPOTENCY_CONFLICT: "leave out --key to place a new order; the old one is in: securedelivery order list",
    Reason.NOT_ENOUGH_POINTS: "see what there is: securedelivery account show",
    Reason.UNAVAILABLE: "try again in a moment",
    Reason.INTERNAL: "tell the operator, with the number of the incident",
}
# Which option or argument a parameter of the protocol comes from.
_OPTIONS = {
    "/address": "give one with --address, or keep one in the account",
    "": "give shorter texts, in UTF-8",
    "/lines": "up to 100 products, as they are called in: securedelivery catalog",
    "/redeem_points": "--redeem takes a whole number of points",
    "/idempotency_key": "--key takes 1 to 128 characters",
    "/username": "see securedelivery account create --help",
    "/password": "take a longer or a rarer one",
    "/email": "--email takes an address like alice@example.org",
    "/after": "give --after the cursor as it was printed",
    "/limit": "--limit takes a whole number from 1",
}


def report(error: BaseException) -> int:
    """Tell the user; returns the exit code."""
    match error:
        case typer.TyperException():
            return _usage(error)
        case SecureDeliveryError():
            return _failure(error)
        case typer.Abort():
            terminal.error("nothing was entered", "answer the question, or see --help for how to give it beforehand")
            return USAGE
        case KeyboardInterrupt():
            return INTERRUPTED
        case OSError():
            terminal.error(error.strerror or str(error), "is the disk full, or a file not accessible?")
            return FAILED
        case _:
            return _bug(error)


def _failure(error: SecureDeliveryError) -> int:
    code = next((code for kinds, code in _CODES if isinstance(error, kinds)), FAILED)
    if isinstance(error, RemoteProtocolError):
        terminal.error(f"the server does not keep to the protocol: {error}", "update securedelivery on both sides")
    else:
        terminal.error(str(error), _hint_for(error) if isinstance(error, Refusal) else getattr(error, "hint", ""))
    return code


def _usage(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "securedelivery"
    message = error.format_message().replace(": Value error, ", ": ")  # pydantic's words in Typer's
    if "\n" in message:  # a command that was called with nothing: the message is its help
        terminal.note_lines(message)
        return USAGE
    terminal.error(f"{message[:1].lower()}{message[1:]}".rstrip("."), f"{command} --help")
    return USAGE


def _hint_for(refusal: Refusal) -> str:
    data = refusal.data
    if isinstance(refusal, Advised):
        return refusal.hint
    if isinstance(refusal, UnknownRefusal):
        return "this program is older than the server: update securedelivery"
    match refusal.reason:
        case Reason.OUT_OF_STOCK if isinstance(data.get("available"), int) and data["available"] > 0:
            return f"order at most {data['available']}: {data.get('sku')}:{data['available']}"
        case Reason.OUT_OF_STOCK:
            return "see what there is: securedelivery catalog"
        case Reason.NOT_FOUND:
            return "securedelivery catalog" if "sku" in data else "securedelivery order list"
        case Reason.RATE_LIMITED if "retry_after" in data:
            return f"try again in {data['retry_after']} seconds"
        case Reason.INVALID_PARAMS:
            path = str(data.get("path", ""))
            return _OPTIONS.get("/lines" if path.startswith("/lines/") else path, "")
    return _HINTS.get(refusal.reason, "")


def _bug(error: BaseException) -> int:
    terminal.error(
        f"this is a bug of securedelivery: {type(error).__name__}: {error}",
        "please report it, with what SECUREDELIVERY_TRACEBACK=1 shows",
    )
    if os.environ.get("SECUREDELIVERY_TRACEBACK"):
        terminal.note_lines("".join(traceback.format_exception(error)))
    return FAILED
