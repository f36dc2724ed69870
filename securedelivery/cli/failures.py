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
from collections.abc import Callable
from typing import Any, TypeGuard

import typer

from securedelivery.cli import terminal
from securedelivery.cli.service import Advised
from securedelivery.cli.text import quantity
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

Data = dict[str, Any]

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
    Reason.NOT_ENOUGH_POINTS: "see what there is: securedelivery rewards",
    Reason.OUT_OF_STOCK: "see what there is: securedelivery catalog",
    Reason.ILLEGAL_TRANSITION: "you cannot change it any more; ask the shop: securedelivery chat",
    Reason.WRONG_CODE: "there are no more tries until the shop has looked at the order: ask it",
    Reason.VERSION_CONFLICT: "see what it is now: securedelivery order show NUMBER",
    Reason.CONVERSATION_TAKEN: "see which wait for somebody: securedelivery support queue",
    Reason.OPEN_ORDERS: "wait until they are delivered, or cancel them: securedelivery order cancel NUMBER",
    Reason.RATE_LIMITED: "try again in a moment",
    Reason.UNAVAILABLE: "try again in a moment",
    Reason.INTERNAL: "tell the operator, with the number of the incident",
}
# Which option or argument a parameter of the protocol comes from.
_OPTIONS = {
    "/address": "give one with --address, or keep one: securedelivery account update --address TEXT",
    "": "give shorter texts, in UTF-8",
    "/lines": "up to 100 products, as they are called in: securedelivery catalog",
    "/redeem_points": "--redeem takes a whole number of points",
    "/idempotency_key": "--key takes 1 to 128 characters",
    "/username": "see securedelivery account create --help",
    "/password": "take a longer or a rarer one",
    "/new_password": "take a longer or a rarer one",
    "/email": "--email takes an address like alice@example.org; to remove it: account update --clear email",
    "/name": "--name takes one line of 1 to 500 characters; to remove it: account update --clear name",
    "/reason": "--reason takes 1 to 500 characters",
    "/note": "--note takes 1 to 500 characters",
    "/courier": "the shop has to assign a courier first",
    "/agent": "name somebody who works in support, and can log in",
    "/code": "the code is the 6 digits that the customer has",
    "/after": "give --after the cursor as it was printed",
    "/limit": "--limit takes a whole number from 1",
}

# The command that brings an order into a status.
_STEPS = {
    "cancelled": " (securedelivery order cancel NUMBER)",
    "out_for_delivery": " (securedelivery deliveries out NUMBER)",
    "packed": " (securedelivery deliveries failed NUMBER)",
    "delivered": " (securedelivery deliveries confirm NUMBER CODE)",
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
    if isinstance(refusal, Advised):
        return refusal.hint
    if isinstance(refusal, UnknownRefusal):
        return "this program is older than the server: update securedelivery"
    advise = _ADVICE.get(refusal.reason)
    hint = advise(refusal.data) if advise is not None else ""
    return hint or _HINTS.get(refusal.reason, "")


# What the data of a refusal tell, as far as they are what they should be: a server can send anything. "" is nothing.


def _out_of_stock(data: Data) -> str:
    available = data.get("available")
    return f"order at most {available}: {data.get('sku')}:{available}" if _counts(available) else ""


def _not_enough_points(data: Data) -> str:
    return f"redeem at most {data['points']}: --redeem {data['points']}" if _counts(data.get("points")) else ""


def _illegal_transition(data: Data) -> str:
    allowed = data.get("allowed")
    if not isinstance(allowed, list) or not allowed:
        return ""
    return "what you may make of it now: " + ", ".join(
        f"{str(status).replace('_', ' ')}{_STEPS.get(str(status), '')}" for status in allowed
    )


def _wrong_code(data: Data) -> str:
    left = data.get("tries_left")
    if not _counts(left):
        return ""
    return f"have the customer read it out again; {quantity(left, 'try is', 'tries are')} left"


def _conversation_taken(data: Data) -> str:
    agent = data.get("agent")
    return f"it is with {agent}, who can hand it over: securedelivery support transfer NUMBER AGENT" if agent else ""


def _not_found(data: Data) -> str:
    return "securedelivery catalog" if "sku" in data else "securedelivery order list"


def _rate_limited(data: Data) -> str:
    return f"try again in {data['retry_after']} seconds" if "retry_after" in data else ""


def _invalid_params(data: Data) -> str:
    path = str(data.get("path", ""))
    return _OPTIONS.get("/lines" if path.startswith("/lines/") else path, "")


def _counts(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and value > 0


_ADVICE: dict[Reason, Callable[[Data], str]] = {
    Reason.OUT_OF_STOCK: _out_of_stock,
    Reason.NOT_ENOUGH_POINTS: _not_enough_points,
    Reason.ILLEGAL_TRANSITION: _illegal_transition,
    Reason.WRONG_CODE: _wrong_code,
    Reason.CONVERSATION_TAKEN: _conversation_taken,
    Reason.NOT_FOUND: _not_found,
    Reason.RATE_LIMITED: _rate_limited,
    Reason.INVALID_PARAMS: _invalid_params,
}


def _bug(error: BaseException) -> int:
    terminal.error(
        f"this is a bug of securedelivery: {type(error).__name__}: {error}",
        "please report it, with what SECUREDELIVERY_TRACEBACK=1 shows",
    )
    if os.environ.get("SECUREDELIVERY_TRACEBACK"):
        terminal.note_lines("".join(traceback.format_exception(error)))
    return FAILED
