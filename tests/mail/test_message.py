"""Messages as they go over the wire, read again as a mail program reads them."""

import re
from datetime import UTC, datetime
from email import message_from_bytes
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8, compat32, default
from email.utils import parseaddr
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securedelivery.errors import Undeliverable
from securedelivery.mail import message
from securedelivery.mail.rendering import Rendered
from securedelivery.mail.settings import ReceiptsServer

SERVER = ReceiptsServer(host="mail.example", sender="Bits & Co <orders@bits.example>")
DATE = datetime(2026, 11, 30, 17, 45, 6, 789, UTC)
NAMES = ("From", "To", "Reply-To", "Subject", "Date", "Message-ID", "Auto-Submitted", "List-Unsubscribe")
HOSTILE = (
    "\r\nBcc: eve@evil.example",
    "\n\n<b>",
    "\0",
    "\ud800",
    "\u202eedoc",
    "\u2028Bcc: x",
    "\x85X: y",
    "=?utf-8?q?=0D=0ABcc?=",
)


def built(
    name: str = "Greta Example",
    email: str = "greta@home.example",
    subject: str = "Your order 17",
    *,
    text: str = "Hello\n",
    html: str = "<p>Hello</p>\n",
    server: ReceiptsServer = SERVER,
    unsubscribe: str | None = None,
    one_click: str | None = None,
) -> EmailMessage:
    to = message.recipient(name, email)
    return message.build(
        server,
        to,
        Rendered(subject, text, html),
        message_id="order-placed.17.ab",
        date=DATE,
        unsubscribe=unsubscribe,
        one_click=one_click,
    )


def read(written: EmailMessage, policy: object = None) -> EmailMessage:
    """As it arrives. policy: of the sender's connection."""
    raw = written.as_bytes(policy=policy)  # type: ignore[arg-type]
    for line in raw.split(b"\r\n"):
        assert len(line) <= 998
        assert b"\r" not in line
        assert b"\n" not in line
    again = message_from_bytes(raw, policy=default)
    assert isinstance(again, EmailMessage)
    for part in again.walk():
        assert part.defects == []
    return again


def recipient(written: EmailMessage, policy: object = None) -> tuple[str, str]:
    """Name and address. By email.header: Python 3.11's newer parser leaves spaces between encoded words (gh-92081)."""
    raw = message_from_bytes(written.as_bytes(policy=policy), policy=compat32)["To"]  # type: ignore[arg-type]
    name, address = parseaddr(re.sub(r"\r?\n", "", raw))
    return str(make_header(decode_header(name))), address


def bodies(mail: EmailMessage) -> list[str]:
    return [part.get_content().replace("\r\n", "\n") for part in mail.iter_parts()]


def test_everything_that_a_mail_has() -> None:
    mail = read(built(unsubscribe="unsubscribe greta"))
    assert {name: str(mail[name]) for name in NAMES} == {
        "From": "Bits & Co <orders@bits.example>",
        "To": "Greta Example <greta@home.example>",
        "Reply-To": "Bits & Co <orders@bits.example>",
        "Subject": "Your order 17",
        "Date": "Mon, 30 Nov 2026 17:45:06 +0000",
        "Message-ID": "<order-placed.17.ab@bits.example>",
        "Auto-Submitted": "auto-generated",
        "List-Unsubscribe": "<mailto:orders@bits.example?subject=unsubscribe%20greta>",
    }
    assert sorted(mail.keys()) == sorted([*NAMES, "MIME-Version", "Content-Type"])
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    assert bodies(mail) == ["Hello\n", "<p>Hello</p>\n"]
    assert [part.keys() for part in mail.iter_parts()] == [["Content-Type", "Content-Transfer-Encoding"]] * 2


def test_what_was_asked_for_has_no_way_to_unsubscribe() -> None:
    assert not {"List-Unsubscribe", "List-Unsubscribe-Post"} & set(built().keys())


OFF = "https://shop.example.org/mail/off?token=0123456789abcdefghijklmnopqrstuv"


@pytest.mark.parametrize("policy", [None, SMTP, SMTPUTF8, SMTP.clone(cte_type="7bit")])
def test_one_click(policy: object) -> None:
    """RFC 8058, section 3.1: the address for the click, in its order before the mail (RFC 2369), and a header that
    says that it takes one; each link on a line that no mail server has to fold.
    """
    mail = read(built(unsubscribe="unsubscribe greta", one_click=OFF), policy)
    assert sorted(mail.keys()) == sorted([*NAMES, "List-Unsubscribe-Post", "MIME-Version", "Content-Type"])
    links = str(mail["List-Unsubscribe"]).split()
    assert links == [f"<{OFF}>,", "<mailto:orders@bits.example?subject=unsubscribe%20greta>"]
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    raw = built(unsubscribe="unsubscribe greta", one_click=OFF).as_bytes()
    assert f"\r\nList-Unsubscribe: <{OFF}>,\r\n <mailto:".encode() in raw
    shorter = built(
        server=ReceiptsServer(host="x", sender="a@b.example"), unsubscribe="x", one_click="https://b.example/"
    )
    assert b"\r\nList-Unsubscribe: <https://b.example/>, <mailto:a@b.example?subject=x>\r\n" in shorter.as_bytes()


def test_answers_go_where_the_settings_say() -> None:
    server = ReceiptsServer(host="x", sender="orders@bits.example", reply_to="Desk <desk@bits.example>")
    mail = read(built(server=server, unsubscribe="unsubscribe greta"))
    assert (mail["From"], mail["Reply-To"]) == ("orders@bits.example", "Desk <desk@bits.example>")
    assert mail["List-Unsubscribe"].startswith("<mailto:desk@bits.example?")


def test_twice_the_same_to_the_byte() -> None:
    assert built().as_bytes() == built().as_bytes()
    other = message.build(
        SERVER, message.recipient(None, "a@b.example"), Rendered("s", "t\n", "h\n"), message_id="another", date=DATE
    )
    assert other.get_boundary() != built().get_boundary()


def test_plain_text_can_be_read_as_it_lies() -> None:
    raw = built(text="Total                  EUR 853.80\n\n-- \nParts & Co\n").as_bytes()
    assert b"Total                  EUR 853.80\r\n" in raw
    assert b"quoted-printable" in raw


@pytest.mark.parametrize("policy", [None, SMTP, SMTPUTF8, SMTP.clone(cte_type="7bit")])
@pytest.mark.parametrize(
    "name",
    [
        "Jörg Groß", "Smith, John", 'The "Duke" of \\ York', "Smith, Jörg (x) <a@b>; c:", "=?utf-8?q?Eve?=", "李小龍",
        "a" * 500, "Groß, " * 83, "👩‍🔧 Ada", "eve@evil.example", "1, " * 100 + "ö", "(comment)", ".", "a.b",
    ],
)  # fmt: skip
def test_names(name: str, policy: object) -> None:
    written = built(name)
    assert len(read(written, policy)["To"].addresses) == 1
    assert recipient(written, policy) == (message.one_line(name), "greta@home.example")


def test_no_name() -> None:
    for name in ("", "\0\n"):
        assert read(built(name))["To"] == "greta@home.example"


@pytest.mark.parametrize(
    "sender", ['"Bits, Bolts & Co" <orders@bits.example>', "Bücher & Größe <o@x.example>", '"A \\"B\\"" <o@x.example>']
)
def test_names_of_shops(sender: str) -> None:
    mail = read(built(server=ReceiptsServer(host="x", sender=sender)))
    (sent,) = mail["From"].addresses
    expected = message.operator(sender)
    assert (sent.display_name, sent.addr_spec) == (expected.display_name, expected.addr_spec)


def test_long_addresses_stay_whole() -> None:
    domain = ".".join(["a" * 60, "b" * 60, "c" * 60, "example"])
    local = "x" * 60
    server = ReceiptsServer(host="x", sender=f"orders@{domain}")
    for policy in (None, SMTP, SMTPUTF8):
        mail = read(built(email=f"{local}@{domain}", server=server, unsubscribe="unsubscribe " + "u" * 32), policy)
        assert mail["To"].addresses[0].addr_spec == f"{local}@{domain}"
        assert str(mail["Message-ID"]).strip() == f"<order-placed.17.ab@{domain}>"
        assert mail["List-Unsubscribe"].strip() == f"<mailto:orders@{domain}?subject=unsubscribe%20{'u' * 32}>"


def test_addresses_that_are_not_ascii() -> None:
    written = built("Jörg", "jörg@höfe.example")
    raw = written.as_bytes()
    assert "jörg@xn--hfe-sna.example".encode() in raw
    with pytest.raises(UnicodeEncodeError):  # which is why a server without SMTPUTF8 never gets it
        written.as_bytes(policy=SMTP)


def test_links_to_unsubscribe_are_encoded() -> None:
    server = ReceiptsServer(host="x", sender="a@b.example", reply_to="so?what&more=100%@b.example")
    link = read(built(server=server, unsubscribe="unsubscribe a&b\r\nX: y"))["List-Unsubscribe"].strip()
    found = re.fullmatch(r"<mailto:([^?&]*)\?subject=([^?&\s]*)>", link)
    assert found is not None
    assert [unquote(one) for one in found.groups()] == ["so?what&more=100%@b.example", "unsubscribe a&b X: y"]


def test_links_to_unsubscribe_fit_a_line() -> None:
    domain = ".".join(["d" * 62, "e" * 62, "f" * 55, "example"])
    server = ReceiptsServer(host="x", sender="a@b.example", reply_to=f"{'?' * 64}@{domain}")
    link = read(built(server=server, unsubscribe="\U0001f527" * 500))["List-Unsubscribe"].strip()
    assert link.count("%3F") == 64
    assert link.count("%F0%9F%94%A7") == message.MAX_ASKING
    both = read(built(server=server, unsubscribe="\U0001f527" * 500, one_click=OFF))["List-Unsubscribe"]
    assert both.split() == [f"<{OFF}>,", link]
    far = f"https://{domain}/{'a' * 300}/mail/off?token={'b' * 32}"
    assert read(built(unsubscribe="unsubscribe x", one_click=far))["List-Unsubscribe"].startswith(f"<{far}>, <mailto:")


@pytest.mark.parametrize("bad", HOSTILE)
def test_nothing_gets_into_headers(bad: str) -> None:
    mail = read(built(f"Greta{bad}", subject=f"Order{bad}", unsubscribe=f"unsubscribe{bad}"))
    assert sorted(mail.keys()) == sorted([*NAMES, "MIME-Version", "Content-Type"])
    assert len(mail["To"].addresses) == 1
    assert str(mail["Subject"]).isprintable()


text = st.text(st.characters(exclude_categories=()), max_size=500)


@settings(deadline=None)
@given(text, text, text)
def test_any_text_in_headers(name: str, subject: str, unsubscribe: str) -> None:
    written = built(name, subject=subject, unsubscribe=unsubscribe)
    mail = read(written, SMTP)
    assert sorted(mail.keys()) == sorted([*NAMES, "MIME-Version", "Content-Type"])
    assert [one.addr_spec for one in mail["To"].addresses] == ["greta@home.example"]
    assert recipient(written) == (message.one_line(name), "greta@home.example")
    shown = message.one_line(subject)
    said = str(mail["Subject"])
    assert said == shown if len(shown) <= message.MAX_SUBJECT else said.endswith("\u2026")
    assert len(said) <= message.MAX_SUBJECT


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r"), max_size=2_000))
def test_any_text_in_bodies(body: str) -> None:
    mail = read(built(text=f"{body}\n", html=f"{body}\n"))
    assert bodies(mail) == [f"{body}\n"] * 2


@pytest.mark.parametrize(
    "email", ["", "greta", "greta@", "a b@home.example", '"a"@home.example', "a@[127.0.0.1]", "a@b,c"]
)
def test_what_is_no_address(email: str) -> None:
    with pytest.raises(Undeliverable):
        message.recipient("Greta", email)


def test_the_operator() -> None:
    assert message.operator("Boss <boss@bits.example>") == Address("Boss", "boss", "bits.example")
