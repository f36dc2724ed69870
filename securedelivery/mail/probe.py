"""A mail server tried, step by step, without a mail: for the doctor, and for whoever sets it up."""

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from securedelivery.errors import MailServerFailure
from securedelivery.mail.addresses import mailbox
from securedelivery.mail.line import Answer
from securedelivery.mail.settings import MailServer
from securedelivery.mail.smtp import OF_THE_SESSION, Session

PATIENCE_SECONDS = 10.0
"""For each step: somebody waits at a terminal, and some servers let a stranger wait for five seconds."""
SOON = timedelta(days=14)


class Fact(NamedTuple):
    """state: `wrong` is the last one. remedy: empty where there is nothing to do."""

    state: Literal["ok", "note", "wrong"]
    what: str
    remedy: str = ""


def examine(
    server: MailServer,
    section: str,
    to: str | None = None,
    *,
    now: datetime | None = None,
    timeout_seconds: float = PATIENCE_SECONDS,
) -> Iterator[Fact]:
    """Connect, TLS, login, and whether it would take a mail to that address; each as it is known.

    section: `mail.receipts`. now: aware, for the life of its certificate.
    """
    host, (port, security) = server.host, server.way
    is_secured = None
    with Session(server, section=section, timeout_seconds=timeout_seconds) as session:
        try:
            session.connect()
            is_secured = False
            yield Fact("ok", f"{section}: {host}:{port} can be reached")
            session.secure()
            is_secured = True
            yield _secured(session, now or datetime.now(UTC))
            session.log_in()
            if server.username is None:
                yield Fact("ok", f"{section}: no login is asked for by the settings")
            else:
                yield Fact("ok", f"{section}: logged in as {server.username}")
            if to is not None:
                yield _permission(session, to)
        except MailServerFailure as error:
            if is_secured is False and security != "tls" and _begins_with_tls(str(host), port, timeout_seconds):
                yield Fact(
                    "wrong",
                    f"mail server {host}:{port} begins with TLS, which {security!r} does not",
                    f'set {section}.security = "tls", or choose another port',
                )
            else:
                yield Fact("wrong", str(error), error.hint)


def _secured(session: Session, now: datetime) -> Fact:
    section = session.section
    if session.tls is None:
        return Fact("ok", f"{section}: in clear, within this machine")
    shown: Any = session.tls.getpeercert()
    names = ", ".join(name for _, name in shown.get("subjectAltName", ()))
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC)
    what = f"{section}: {session.tls.version()}; its certificate is for {names}, until {ends:%Y-%m-%d}"
    if ends - now < SOON:
        return Fact("note", what, "it needs a new one soon, or no mail leaves any more")
    return Fact("ok", what)


def _permission(session: Session, to: str) -> Fact:
    section, sender = session.section, session.sender
    address = mailbox(to)
    if address is None:
        return Fact("wrong", f"{to!r} is not an address", "write for example owner@shop.example.org")
    command, answer = session.ask_for(address)
    if answer.is_good:
        return Fact("ok", f"{section}: takes mail from {sender} to {address}")
    if answer.code in OF_THE_SESSION:
        return Fact(
            "wrong", f"{section}: it wants a login before it takes mail: {answer.words}", f"set {section}.username"
        )
    if not answer.is_refusal or answer.code < 500:  # noqa: PLR2004 -- for now
        return Fact("note", f"{section}: it takes no mail to {address} now: {answer.words}", "it may do so later")
    if command == "MAIL":
        return Fact(
            "wrong",
            f"{section}: it does not let us write as {sender}: {answer.words}",
            f"check {section}.sender; many servers take only the address of the one who logged in",
        )
    if _is_about_relaying(answer):
        return Fact(
            "wrong",
            f"{section}: it refuses to relay mail to {address}: {answer.words}",
            f"log in ({section}.username), use its port for submission, or let it trust this machine",
        )
    return Fact("wrong", f"{section}: it refuses mail to {address}: {answer.words}", "try another address")


def _is_about_relaying(answer: Answer) -> bool:
    """Of RFC 3463 5.7.1 says so among other things; the words are what servers agree upon."""
    return "relay" in answer.text.lower() or answer.text.startswith("5.7.1 ")


def _begins_with_tls(host: str, port: int, seconds: float) -> bool:
    """Whether the port answers a TLS handshake at once. No authority is trusted here, so all certificates are bad."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        with socket.create_connection((host, port), seconds) as connection:
            context.wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError:
        return True
    except (OSError, ValueError):
        pass
    return False
