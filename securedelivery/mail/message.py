"""A mail as it goes over the wire: headers and two bodies, text and HTML (RFC 5322, 2046)."""

import re
from datetime import datetime
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy
from email.utils import format_datetime
from hashlib import sha256
from typing import Self
from urllib.parse import quote

from securedelivery.errors import Undeliverable
from securedelivery.mail.addresses import address_of, mailbox
from securedelivery.mail.rendering import Rendered
from securedelivery.mail.settings import MailServer

MAX_SUBJECT = 200
MAX_ASKING = 49  # "unsubscribe ", a username and " chat"; with the longest address the link still fits a line of 998
LONGEST_LINE = 998  # RFC 5322, section 2.1.1
MAX_LINE = 76  # characters of a header's line (RFC 2047, section 2)


def recipient(name: str | None, email: str) -> Address:
    """name: as its owner wrote it. Raises Undeliverable."""
    address = mailbox(email)
    if address is None:
        raise Undeliverable("the account's e-mail is not an address that mail can be sent to")
    local, _, domain = address.rpartition("@")
    return Address(one_line(name or ""), local, domain)


def operator(text: str) -> Address:
    """text: of the settings."""
    address = address_of(text)
    assert address is not None, "config.py has seen to it"
    return address


def one_line(text: str) -> str:
    """Without line ends, controls and half surrogate pairs, which no header takes."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def build(
    server: MailServer,
    to: Address,
    rendered: Rendered,
    *,
    message_id: str,
    date: datetime,
    unsubscribe: str | None = None,
    one_click: str | None = None,
) -> EmailMessage:
    """message_id: what stands before the @, unique for ever. date: aware. unsubscribe: the subject of a mail that asks
    to be spared; None for a mail that has been asked for. one_click: what a POST to has the same effect (RFC 8058).
    """
    sender = address_of(str(server.sender))
    assert sender is not None, "config.py has seen to it"
    answers = sender if server.reply_to is None else address_of(server.reply_to)
    assert answers is not None, "config.py has seen to it"
    international = not (to.addr_spec + sender.addr_spec + answers.addr_spec).isascii()
    message = EmailMessage(SMTP.clone(utf8=international))
    message["From"] = _Mailbox.of("From", sender)
    message["To"] = _Mailbox.of("To", to)
    message["Reply-To"] = _Mailbox.of("Reply-To", answers)
    message["Subject"] = _Words.of("Subject", _cut(one_line(rendered.subject), MAX_SUBJECT))
    message["Date"] = format_datetime(date.replace(microsecond=0))
    identity = f"<{message_id}@{sender.domain}>"
    message["Message-ID"] = identity
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence is to answer it
    if unsubscribe is not None:
        asks = quote(one_line(unsubscribe)[:MAX_ASKING], safe="")
        link = f"<mailto:{quote(answers.addr_spec, safe='@')}?subject={asks}>"  # RFC 6068
        links = [link] if one_click is None else [f"<{one_click}>", link]
        message["List-Unsubscribe"] = _Links.of("List-Unsubscribe", ", ".join(links))
        if one_click is not None:
            message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(rendered.text, cte="quoted-printable")
    message.add_alternative(rendered.html, subtype="html", cte="quoted-printable")
    for part in message.iter_parts():
        del part["MIME-Version"]  # of the whole alone (RFC 2045, section 4)
    # Not by chance: what is sent a second time is the same to the byte.
    message.set_boundary(sha256(identity.encode()).hexdigest()[:40])
    return message


class _Words(str):  # noqa: SLOT000 -- the email package's way: a header is its value, and knows how it is written
    """A header that writes itself. Python 3.11's own way drops quotes around names that it folds (gh-121284), turns
    long links into encoded words, and takes what looks like an encoded word for one.
    """

    name: str

    @classmethod
    def of(cls, name: str, value: str) -> Self:
        header = cls(value)
        header.name = name
        return header

    def fold(self, *, policy: EmailPolicy) -> str:
        return f"{self.name}: {self._written(policy.linesep)}{policy.linesep}"

    def _written(self, line_end: str) -> str:
        return str(self) if self._is_plain(self) else self._encoded(self, line_end)

    def _encoded(self, text: str, line_end: str) -> str:
        """As encoded words, as many as it takes (RFC 2047)."""
        return Header(text, "utf-8", maxlinelen=MAX_LINE, header_name=self.name).encode(linesep=line_end)

    def _is_plain(self, text: str) -> bool:
        """Whether it fits the header's first line as it is."""
        return text.isascii() and "=?" not in text and len(self.name) + len(text) + 2 <= MAX_LINE


class _Links(_Words):
    """Each in < and >. What does not fit a line has one for each; the first of them is that of the header's name, as
    mail programs have it everywhere, unless it fits no line at all then.
    """

    def _written(self, line_end: str) -> str:
        if self._is_plain(self):
            return str(self)
        first, *others = re.split("(?<=,) ", self)
        if len(self.name) + len(first) + 2 > LONGEST_LINE:
            first = f"{line_end} {first}"
        return "".join([first, *(f"{line_end} {one}" for one in others)])


class _Mailbox(_Words):
    """addresses: one, as of the email package's own headers."""

    addresses: tuple[Address, ...]

    @classmethod
    def of(cls, name: str, value: Address | str) -> Self:
        assert isinstance(value, Address)
        header = super().of(name, str(value))
        header.addresses = (value,)
        return header

    def _written(self, line_end: str) -> str:
        (address,) = self.addresses
        if not address.display_name:
            return address.addr_spec
        quoted = '"{}"'.format(address.display_name.replace("\\", r"\\").replace('"', r"\""))
        phrase = quoted if self._is_plain(quoted) else self._encoded(address.display_name, line_end)
        last = len(phrase.rpartition("\n")[2]) + (0 if "\n" in phrase else len(self.name) + 2)
        room = last + len(address.addr_spec) + 3 <= MAX_LINE
        return f"{phrase}{'' if room else line_end} <{address.addr_spec}>"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}\u2026"
