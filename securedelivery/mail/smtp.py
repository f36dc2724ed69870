"""A session with a mail server: connect, TLS, login, one message after the other.

    with Session(server, section="mail.receipts") as session:
        session.open()
        session.send(message)  # the server's answer

TLS is 1.2 or newer and the certificate is always verified. Nothing is sent where STARTTLS is asked for and not to be
had, and nothing that was said in clear is believed behind it (RFC 3207, 4.2). The login goes through TLS alone; a
server without TLS (`security = "none"`) is one on this machine, or the session ends before a word.
"""

import os
import re
import ssl
import stat
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import policy
from email.errors import MessageError
from email.generator import BytesGenerator
from email.message import EmailMessage
from io import BytesIO
from ipaddress import ip_address
from socket import gaierror
from typing import Any, Self

from securedelivery.errors import ConfigurationError, MailRefused, MailServerFailure, Undeliverable
from securedelivery.mail.addresses import address_of, mailbox
from securedelivery.mail.line import Answer, Ended, Line, NoAnswer, SpokenInClear, clean
from securedelivery.mail.settings import PORTS, MailServer

__all__ = ["OPERATION_SECONDS", "Session", "load"]

OPERATION_SECONDS = 30.0
"""Connecting, TLS's handshake, a command with its answer: each of them. RFC 5321 would wait for minutes."""
PATIENT = 8
"""Times as long for the answer to a message as for others. Whoever hangs up before it sends the message once more, and
some servers look for viruses first; RFC 5321, 4.5.3.2.6, has ten minutes.
"""
GOODBYE_SECONDS = 2.0  # for QUIT's answer, which changes nothing
MAX_PASSWORD = 1_024  # bytes; AUTH PLAIN is one line
OTHERS = stat.S_IRWXG | stat.S_IRWXO

OF_THE_SESSION = frozenset({530, 534, 535, 538})
"""At MAIL or RCPT: login or encryption is wanted first (RFC 4954, 6; RFC 3207, 4). No message can help that."""

_CERTIFICATE_FAULTS = {
    9: "is not valid yet",
    10: "has expired",
    18: "is its own authority, and not trusted",
    19: "is of an authority that is not trusted",
    20: "is of an authority that is not trusted",
    21: "is of an authority that is not trusted",
    62: "is for another name",
    64: "is for another address",
}
"""OpenSSL's X509_V_ERR_*."""


def load(server: MailServer, section: str) -> None:
    """See that there is a password, and whom to trust. Raises ConfigurationError (`mail.receipts.password_file`)."""
    password_of(server, section)
    context_for(server, section)


class Session:
    """One thread's, but for abort(). Every method but close() and abort() raises MailServerFailure; then it is closed.

    section: `mail.receipts`, for errors that name a setting. uncertain: after a failure of send(), whether the server
    may have accepted the message all the same.
    """

    def __init__(self, server: MailServer, *, section: str, timeout_seconds: float = OPERATION_SECONDS) -> None:
        self.server = server
        self.section = section
        self.uncertain = False
        self._seconds = timeout_seconds
        sender = address_of(server.sender or "")
        self._sender = "" if sender is None else sender.addr_spec
        self._line = Line("localhost" if sender is None else sender.domain, timeout_seconds)
        self._is_ready = False
        self._is_untidy = False  # the server knows half a message, which RSET makes it forget

    def __repr__(self) -> str:
        return f"Session({self.server!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent, as far as is known without asking."""
        return self._is_ready and self._line.sock is not None and not self._line.aborted

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """None where it goes in clear, and before it is secured."""
        return self._line.tls

    @property
    def sender(self) -> str:
        """The address that the server is told: that of the settings, without its name."""
        return self._sender

    def open(self) -> None:
        self.connect()
        self.secure()
        self.log_in()

    def connect(self) -> None:
        """TCP alone."""
        host, (port, security) = str(self.server.host), self.server.way
        with self._failing(self._why_unreachable):
            self._line.dial(host, port)
            if security == "none" and not _is_loopback(self._line.peer):
                raise self._failure(
                    "is not on this machine, and nothing is sent in clear",
                    f'{self.section}.security: write "starttls" or "tls"',
                )

    def secure(self) -> None:
        """The greeting, TLS and EHLO, in the order that the security has them."""
        host, (_, security) = str(self.server.host), self.server.way
        context = self._read(context_for)
        if security == "tls":
            with self._failing(self._why_not_secured):
                self._line.begin_tls(context, host)
        with self._failing(self._why_not_greeted):
            self._expect(self._line.answer(), "does not greet")
            self._introduce()
            if security != "starttls":
                return
            if not self._line.has_extn("starttls"):
                raise self._failure(
                    "does not offer STARTTLS; nothing was sent",
                    f"see that {self.section}.port is one for submission (usually {PORTS['starttls']}), or set"
                    f' {self.section}.security = "tls" ({PORTS["tls"]}); a server that used to offer it may be hidden'
                    " behind somebody who strips it",
                )
            self._expect(self._line.ask("STARTTLS"), "offers STARTTLS and refuses it; nothing was sent")
        with self._failing(self._why_not_secured):
            self._line.begin_tls(context, host)
        with self._failing():
            self._introduce()

    def log_in(self) -> None:
        """With AUTH PLAIN, or LOGIN where that is all there is. Without a username: nothing."""
        password = self._read(password_of)
        if self.server.username is not None and password is not None:
            with self._failing():
                self._log_in(self.server.username, password)
        self._is_ready = True

    def send(self, message: EmailMessage) -> str:
        """From the settings' sender to those in To. The server's answer: `250 2.0.0 Ok: queued as 4711`.

        Raises MailRefused (the session goes on, if is_open), Undeliverable, and MailServerFailure: see uncertain.
        """
        self.uncertain = False
        if not self.is_open:
            raise self._failure("is not connected")
        recipients, options, content = self._prepared(message)
        with self._failing():
            self._tidy()
            self._is_untidy = True
            self._agree(self._line.ask("MAIL", f"FROM:<{self._sender}>{options}"))
            for recipient in recipients:
                self._agree(self._line.ask("RCPT", f"TO:<{recipient}>"))
            if (go_on := self._line.ask("DATA")).code != 354:  # noqa: PLR2004 -- RFC 5321, 4.3.2
                raise self._refused(go_on)
            self._line.send(content)
            self.uncertain = True  # not before: without the dot there is no message
            self._line.send(b".\r\n")
            self._line.seconds = self._seconds * PATIENT
            answer = self._line.answer()
            self._line.seconds = self._seconds
            self.uncertain = not (answer.is_good or answer.is_refusal)
            self._agree(answer)
            self._is_untidy = False
            return answer.words

    def ask_for(self, recipient: str) -> tuple[str, Answer]:
        """Whether the server would take a message to that address: the last command, and its answer. None is sent."""
        international = not (self._sender + recipient).isascii()
        with self._failing():
            self._tidy()
            self._is_untidy = True
            command, answer = "MAIL", self._line.ask("MAIL", f"FROM:<{self._sender}>{' SMTPUTF8' * international}")
            if answer.is_good:
                command, answer = "RCPT", self._line.ask("RCPT", f"TO:<{recipient}>")
            self._tidy()
            return command, answer

    def close(self) -> None:
        """QUIT, for as long as that is answered within a moment. Never raises."""
        if self.is_open:
            self._is_ready = False
            try:
                self._line.seconds = GOODBYE_SECONDS
                self._line.ask("QUIT")
            except OSError:
                pass  # it is over either way
        self._is_ready = False
        self._line.close()

    def abort(self) -> None:
        """From another thread: what is under way fails at once."""
        self._line.abort()

    # Steps

    def _introduce(self) -> None:
        """EHLO, which also forgets what was offered before."""
        code, raw = self._line.ehlo()
        self._expect(Answer.of(code, raw), "does not take EHLO")

    def _log_in(self, username: str, password: str) -> None:
        offered = self._line.esmtp_features.get("auth", "").upper().split()
        if "PLAIN" in offered:
            secrets = [_encoded(f"\0{username}\0{password}")]
            answer = self._line.ask("AUTH", f"PLAIN {secrets[0]}")
        elif "LOGIN" in offered:
            secrets = [_encoded(username), _encoded(password)]
            answer = self._line.ask("AUTH", "LOGIN")
            for secret in secrets:
                if answer.code == 334:  # noqa: PLR2004 -- RFC 4954: go on
                    answer = self._line.ask(secret)
        else:
            raise self._failure(
                "offers no login that this program knows (PLAIN, LOGIN)",
                f"see that {self.section}.port is one for submission, or leave {self.section}.username out",
            )
        if answer.is_good:
            return
        said = _without(answer, [password, *secrets, _encoded(password), _encoded(username), username])
        if answer.code >= 500:  # noqa: PLR2004 -- for good
            raise self._failure(f"refused the login: {said}", f"check {self.section}.username and the password")
        raise self._failure(f"does not take the login now: {said}", "it may do so later")

    def _tidy(self) -> None:
        if self._is_untidy:
            if not self._line.ask("RSET").is_good:
                raise self._failure("does not forget a message that it refused")
            self._is_untidy = False

    def _agree(self, answer: Answer) -> None:
        if not answer.is_good:
            raise self._refused(answer)

    def _refused(self, answer: Answer) -> MailRefused | MailServerFailure:
        """Neither tells the log what the server said: it may quote an address."""
        if answer.code in OF_THE_SESSION:
            return self._failure(
                f"wants a login, or encryption, before it takes mail ({answer.code})",
                f"check {self.section}.username and {self.section}.security",
            )
        if not answer.is_refusal:
            return self._failure(f"answered {answer.code}, which has no meaning there")
        if answer.code == 421:  # noqa: PLR2004 -- RFC 5321, 3.8: it closes the connection
            self._line.close()
        return MailRefused(answer.words, permanent=answer.code >= 500)  # noqa: PLR2004

    def _prepared(self, message: EmailMessage) -> tuple[list[str], str, bytes]:
        """The recipients, the options of MAIL, and the message as it goes over the line, without the last dot."""
        named = {name: _addresses(message, name) for name in ("To", "From", "Reply-To")}
        recipients = [address for one in named["To"] if (address := mailbox(one)) is not None]
        if not recipients or len(recipients) < len(named["To"]):
            raise Undeliverable("the mail has no recipient, or one that SMTP does not take")
        international = not all(one.isascii() for one in (self._sender, *(x for some in named.values() for x in some)))
        if international and not self._line.has_extn("smtputf8"):
            raise Undeliverable("an address is not all ASCII, and the mail server does not offer SMTPUTF8")
        eight_bit = self._line.has_extn("8bitmime")
        content = _written(message, utf8=international, eight_bit=eight_bit)
        options = " SMTPUTF8" * international + " BODY=8BITMIME" * (eight_bit and not content.isascii())
        if self._line.has_extn("size"):
            options += f" SIZE={len(content)}"
        return recipients, options, content

    # Failures

    def _read(self, what: Callable[[MailServer, str], Any]) -> Any:
        try:
            return what(self.server, self.section)
        except ConfigurationError as error:
            self._line.close()
            raise MailServerFailure(str(error), error.hint) from None

    def _expect(self, answer: Answer, what: str) -> None:
        if not answer.is_good:
            raise self._failure(f"{what}: {answer.words}")

    def _failure(self, what: str, hint: str = "") -> MailServerFailure:
        port, _ = self.server.way
        return MailServerFailure(f"mail server {self.server.host}:{port} {what}", hint)

    @contextmanager
    def _failing(self, why: "Callable[[Exception], tuple[str, str] | None] | None" = None) -> Iterator[None]:
        """What goes wrong below, as a failure in words. Its cause is left out: it may show what was being sent."""
        try:
            yield
        except MailServerFailure:
            self._line.close()
            raise
        except (OSError, ValueError) as error:  # ValueError: a name that is none
            self._line.close()
            raise self._failure(*self._told(error, why)) from None

    def _told(self, error: Exception, why: "Callable[[Exception], tuple[str, str] | None] | None") -> tuple[str, str]:
        if self._line.aborted:
            return "took too long, or was in the way of the end", ""
        special = None if why is None else why(error)
        if special is not None:
            return special
        if isinstance(error, TimeoutError):
            return f"did not answer within {self._line.seconds:g} seconds", ""
        if isinstance(error, NoAnswer):
            return "does not speak SMTP: what it said is no answer", f"check {self.section}.port"
        if isinstance(error, Ended | ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return "ended the connection", ""
        return f"cannot be used: {_reason(error)}", f"check {self.section}.host and {self.section}.port"

    def _why_unreachable(self, error: Exception) -> tuple[str, str]:
        if isinstance(error, gaierror | ValueError):
            return "has no address", f"check {self.section}.host, and this machine's name servers"
        if isinstance(error, TimeoutError):
            return (
                f"cannot be reached within {self._seconds:g} seconds",
                f"check {self.section}.port, and that no firewall is in between; many networks block port 25",
            )
        return f"cannot be reached: {_reason(error)}", f"check {self.section}.host and {self.section}.port"

    def _why_not_greeted(self, error: Exception) -> tuple[str, str] | None:
        _, security = self.server.way
        if security != "tls" and isinstance(error, TimeoutError):
            return (
                f"said nothing within {self._seconds:g} seconds",
                f'check {self.section}.port; if it begins with TLS (usually {PORTS["tls"]}), set security = "tls"',
            )
        return None

    def _why_not_secured(self, error: Exception) -> tuple[str, str] | None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._why_not_trusted(error)
        if isinstance(error, SpokenInClear):
            return (
                "said more in clear behind STARTTLS; nothing was sent",
                "somebody between here and the server may have put that there",
            )
        if not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError):
            return None
        reason = error.reason or ""
        if "PROTOCOL_VERSION" in reason or "UNSUPPORTED_PROTOCOL" in reason:
            return "offers no TLS of version 1.2 or newer", "it is to be updated: older ones can be broken"
        if self.server.way[1] == "tls" and reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return (
                "does not begin with TLS: it answers in clear",
                f'for this port set {self.section}.security = "starttls", or choose another (usually {PORTS["tls"]})',
            )
        return f"cannot agree on TLS: {_reason(error)}", f"check {self.section}.port"

    def _why_not_trusted(self, error: ssl.SSLCertVerificationError) -> tuple[str, str]:
        fault = _CERTIFICATE_FAULTS.get(error.verify_code, f"is not trusted: {error.verify_message}")
        hint = f"{self.section}.ca_file: name the authority's certificate (PEM)"
        if error.verify_code in (9, 10):
            hint = "check this machine's clock; else the server needs a new certificate"
        elif error.verify_code in (62, 64):
            hint = f"{self.section}.host: write the name that the certificate is for"
        return f"has a certificate that {fault}; nothing was sent", hint


def password_of(server: MailServer, section: str) -> str | None:
    """That of the environment, or the file's first line. Raises ConfigurationError.

    Here and not where settings are read, for the server alone may have it in its environment.
    """
    if server.username is not None and server.password is None and server.password_file is None:
        raise ConfigurationError(
            f"{section}.password_file", "there is a username, but no password", "name a file of mode 0600 that holds it"
        )
    if server.password_file is None:
        if server.password is not None and not _is_password(server.password):
            raise ConfigurationError(f"{section}.password", "it is empty, too long, or no text", "set another")
        return server.password
    key, path = f"{section}.password_file", server.password_file
    try:
        with open(path, "rb", opener=_opened) as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigurationError(key, f"{path} is not a file", "name the file that holds the password")
            if mode & OTHERS:
                raise ConfigurationError(key, f"{path} can be read by others", f"chmod 600 {path}")
            line = stream.readline(MAX_PASSWORD + 2)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            key, f"{path} cannot be read ({_reason(error)})", "name a file of mode 0600 that holds the password"
        ) from None
    try:
        password = line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise ConfigurationError(key, f"the first line of {path} is not UTF-8", "write the password there") from None
    if not _is_password(password):
        raise ConfigurationError(
            key, f"the first line of {path} is empty, too long, or holds U+0000", "write the password there"
        )
    return password


def context_for(server: MailServer, section: str) -> ssl.SSLContext:
    """Whom to trust. Raises ConfigurationError."""
    # create_default_context would obey SSLKEYLOGFILE, a bare context does not; this one verifies chain and name.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    if server.ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context
    try:
        context.load_verify_locations(server.ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigurationError(
            f"{section}.ca_file",
            f"{server.ca_file} cannot be used ({_reason(error)})",
            "name a PEM file of certificates",
        ) from None
    return context


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # nobody may ever write into a FIFO


def _is_password(text: str) -> bool:
    try:
        return bool(text) and "\0" not in text and len(text.encode()) <= MAX_PASSWORD
    except UnicodeEncodeError:  # the environment holds any bytes
        return False


def _is_loopback(address: str) -> bool:
    ip = ip_address(address.partition("%")[0])
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


def _without(answer: Answer, secrets: list[str]) -> str:
    """A server may repeat what it was told: then its words are left out, all of them."""
    told = [clean(secret.encode()) for secret in secrets]
    return f"{answer.code}, and repeats what it was told" if any(one in answer.text for one in told) else answer.words


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return getattr(error, "strerror", None) or type(error).__name__


def _addresses(message: EmailMessage, name: str) -> list[str]:
    return [one.addr_spec for header in message.get_all(name, []) for one in header.addresses]


def _written(message: EmailMessage, *, utf8: bool, eight_bit: bool) -> bytes:
    """CRLF everywhere, a line's first dot doubled (RFC 5321, 4.5.2), a line's end at its end."""
    how = (policy.SMTPUTF8 if utf8 else policy.SMTP).clone(cte_type="8bit" if eight_bit else "7bit")
    buffer = BytesIO()
    try:
        BytesGenerator(buffer, mangle_from_=False, policy=how).flatten(message)
    except (MessageError, ValueError, LookupError, TypeError) as error:
        raise Undeliverable(f"the mail cannot be written ({type(error).__name__})") from None
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", buffer.getvalue())
    return re.sub(rb"(?m)^\.", b"..", lines if lines.endswith(b"\r\n") else lines + b"\r\n")
