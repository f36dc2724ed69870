"""A session with real mail servers over real TLS, one thing wrong at a time; a sound one comes first."""

import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from certificate_authority import DAY, CertificateAuthority
from mail.smtp_server import (
    PATIENCE_SECONDS,
    MailHost,
    RawHost,
    RawLine,
    authority,
    endless_answer,
    endless_line,
    never_answers,
    no_smtp,
    server_context,
)
from msgspec.structs import replace

from securedelivery.errors import ConfigurationError, MailRefused, MailServerFailure, Undeliverable
from securedelivery.mail import line as line_module
from securedelivery.mail import smtp
from securedelivery.mail.line import MAX_ANSWER, Answer, clean
from securedelivery.mail.settings import ReceiptsServer
from securedelivery.mail.smtp import Session, load

SECTION = "mail.receipts"
SHORT = 0.3
"""Seconds, where it is the timeout that is tested."""


def mail(to: str = "grete@home.example", text: str = "hello\n", subject: str = "a mail") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Parts & Co <orders@shop.example>"
    local, _, domain = to.rpartition("@")
    message["To"] = Address("Grete", local, domain)
    message["Subject"] = subject
    message.set_content(text)
    return message


def session(server: ReceiptsServer, seconds: float = PATIENCE_SECONDS) -> Session:
    return Session(server, section=SECTION, timeout_seconds=seconds)


def opened(server: ReceiptsServer, seconds: float = PATIENCE_SECONDS) -> Session:
    one = session(server, seconds)
    one.open()
    return one


def fails(server: ReceiptsServer, what: str, hint: str = "", seconds: float = PATIENCE_SECONDS) -> MailServerFailure:
    """It cannot be opened, says why, names the server, and holds nothing afterwards."""
    one = session(server, seconds)
    with pytest.raises(MailServerFailure) as raised:
        one.open()
    assert what in str(raised.value)
    assert hint in raised.value.hint
    assert f"mail server {server.host}:{server.port} " in str(raised.value)
    assert not one.is_open
    assert one._line.sock is None
    return raised.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mail"


# A sound server


@pytest.mark.parametrize("security", ["starttls", "tls", "none"])
def test_several_messages_go_over_one_connection(folder: Path, security: Any) -> None:
    with MailHost(folder, security=security) as host, session(host.server()) as one:
        assert not one.is_open
        one.open()
        assert one.is_open
        assert one.send(mail(subject="first")) == "250 2.0.0 Ok: queued as 1"
        assert one.send(mail(subject="second", to="hans@home.example")) == "250 2.0.0 Ok: queued as 2"
        first, second = host.wait(2)
        one.close()
        assert not one.is_open
        host.wait_until(lambda: host.open == 0, "the end")
    assert (host.connections, host.logins, len(host.heard("QUIT")), host.heard("RSET")) == (1, 1, 1, [])
    assert (first.sender, first.recipients, first.login) == ("orders@shop.example", ["grete@home.example"], "shop")
    assert (second.recipients, second.message["Subject"]) == (["hans@home.example"], "second")
    assert first.tls == (None if security == "none" else "TLSv1.3")
    assert first.message["To"] == "Grete <grete@home.example>"
    assert host.heard("EHLO") == ["EHLO shop.example"] * (2 if security == "starttls" else 1)


def test_without_a_login(folder: Path) -> None:
    with MailHost(folder, users={}) as host, opened(host.server()) as one:
        one.send(mail())
        assert host.wait(1)[0].login is None
        assert host.heard("AUTH") == []


def test_a_server_that_knows_login_alone(folder: Path) -> None:
    with MailHost(folder, mechanisms=("LOGIN",)) as host, opened(host.server()):
        assert host.logins == 1
        assert host.heard("AUTH") == ["AUTH LOGIN"]


def test_a_password_that_is_not_all_ascii(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes("Löwenzahn 🌼\r\nnot this\n".encode())
    file.chmod(0o600)
    for mechanism in ("PLAIN", "LOGIN"):
        with MailHost(folder, users={"ladle": "Löwenzahn 🌼"}, mechanisms=(mechanism,)) as host:
            server = host.server(password=None, password_file=str(file))
            load(server, SECTION)
            with opened(server):
                assert host.logins == 1


def test_tls_1_2_is_enough(folder: Path) -> None:
    with MailHost(folder) as host:
        host.context.maximum_version = ssl.TLSVersion.TLSv1_2
        with opened(host.server()) as one:
            assert one.tls is not None
            assert one.tls.version() == "TLSv1.2"


def test_what_stands_in_a_mail_arrives_as_it_was(folder: Path) -> None:
    text = ".\n..\n.a line with a dot\nand one without\r\n\n.\nFrom here\nlast"
    with MailHost(folder) as host, opened(host.server()) as one:
        one.send(mail(text=text))
        (received,) = host.wait(1)
    assert received.message.get_content().splitlines() == text.splitlines()
    assert b"\r\n\r\n.\r\n..\r\n.a line" in received.raw
    assert re.search(rb"(?<!\r)\n|\r(?!\n)", received.raw) is None


def test_lone_carriage_returns_and_line_feeds_are_ends_of_lines() -> None:
    """Or a server that takes them for such would find the end of the message where we see text (SMTP smuggling)."""
    message = mail()
    message.set_payload("one\r.\rtwo\n.\r\nMAIL FROM:<x@y>")
    assert smtp._written(message, utf8=False, eight_bit=False).endswith(
        b"\r\n\r\none\r\n..\r\ntwo\r\n..\r\nMAIL FROM:<x@y>\r\n"
    )


def test_letters_beyond_ascii(folder: Path) -> None:
    with MailHost(folder) as host, opened(host.server()) as one:
        one.send(mail(text="schöne Grüße\n", subject="Größe"))
        one.send(mail(to="jürgen@home.example", text="Grüße\n"))
        plain, international = host.wait(2)
    assert (plain.options[0], international.options[:2]) == ("BODY=8BITMIME", ["SMTPUTF8", "BODY=8BITMIME"])
    assert plain.message["Subject"] == "Größe"
    assert plain.raw.partition(b"\r\n\r\n")[0].isascii()  # names and subjects need no SMTPUTF8
    assert international.recipients == ["jürgen@home.example"]
    assert "jürgen@home.example".encode() in international.raw
    assert international.message.get_content().strip() == "Grüße"


def test_a_server_of_the_old_kind(folder: Path) -> None:
    with MailHost(folder, utf8=False, eight_bit=False) as host, opened(host.server()) as one:
        message = mail(text="schöne Grüße\n", subject="Größe")
        message.add_alternative("<p>Grüße</p>", subtype="html")
        one.send(message)
        with pytest.raises(Undeliverable, match="does not offer SMTPUTF8") as raised:
            one.send(mail(to="jürgen@home.example"))
        assert "jürgen" not in str(raised.value)
        one.send(mail())
        received, _ = host.wait(2)
    assert received.raw.isascii()
    assert received.message["Subject"] == "Größe"
    assert received.message.get_body(("plain",)).get_content().strip() == "schöne Grüße"
    assert [one for one in received.options if not one.startswith("SIZE=")] == []


def test_the_size_is_told_where_it_is_asked_for(folder: Path) -> None:
    def no_size(line: RawLine) -> None:
        line.greet()
        assert line.hear() == b"MAIL FROM:<orders@shop.example>"
        line.say(b"552 5.3.4 too large\r\n")
        line.wait_for_end()

    with MailHost(folder) as host, opened(host.server()) as one:
        one.send(mail())
        (received,) = host.wait(1)
    assert received.options == [f"SIZE={len(received.raw)}"]
    with RawHost(no_size) as raw, opened(raw.server()) as one, pytest.raises(MailRefused, match="too large"):
        one.send(mail())


@pytest.mark.parametrize("broken", ["no recipient", "no address", "no text", "quoted"])
def test_a_mail_that_cannot_be_written(folder: Path, broken: str) -> None:
    message = mail()
    if broken == "no recipient":
        del message["To"]
    elif broken == "no address":
        message.replace_header("To", "Grete")
    elif broken == "quoted":
        message.replace_header("To", '"a b"@home.example')
    else:
        message.set_payload("\udce4")
        message.set_param("charset", "no-such")
    with MailHost(folder, eight_bit=False) as host, opened(host.server()) as one:
        with pytest.raises(Undeliverable):
            one.send(message)
        assert one.is_open
        one.send(mail())
        host.wait(1)
        assert len(host.heard("MAIL")) == 1


# What a server refuses


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA", "MESSAGE"])
@pytest.mark.parametrize(
    ("answer", "permanent"), [("452 4.3.1 no room", False), ("550 5.1.1 no such user", True), ("421 4.3.2 not", False)]
)
def test_a_refusal_is_of_one_message(folder: Path, command: str, answer: str, *, permanent: bool) -> None:
    is_over = answer.startswith("421")
    with MailHost(folder) as host, opened(host.server()) as first:
        host.fail(command, answer)
        with pytest.raises(MailRefused) as raised:
            first.send(mail(subject="refused"))
        assert (raised.value.answer, raised.value.permanent, first.uncertain) == (answer, permanent, False)
        assert first.is_open is not is_over
        with opened(host.server()) if is_over else first as one:
            one.send(mail(subject="taken"))
        (received,) = host.wait(1)
        assert received.message["Subject"] == "taken"
        assert len(host.heard("RSET")) == (0 if is_over else 1)


def test_after_421_the_connection_is_over(folder: Path) -> None:
    with MailHost(folder) as host, opened(host.server()) as one:
        host.fail("MAIL", "421 4.3.2 going down", then="close")
        with pytest.raises(MailRefused):
            one.send(mail())
        with pytest.raises(MailServerFailure, match="is not connected"):
            one.send(mail())
        one.close()


@pytest.mark.parametrize("answer", ["530 5.7.0 Authentication required", "538 5.7.11 Encryption required"])
def test_what_no_message_can_help_is_no_refusal_of_one(folder: Path, answer: str) -> None:
    with MailHost(folder) as host, opened(host.server()) as one:
        host.fail("MAIL", answer)
        with pytest.raises(MailServerFailure, match="wants a login, or encryption") as raised:
            one.send(mail())
        assert "mail.receipts.username" in raised.value.hint
        assert (one.is_open, one.uncertain) == (False, False)


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
def test_an_answer_that_has_no_meaning_there(folder: Path, command: str) -> None:
    with MailHost(folder) as host, opened(host.server()) as one:
        host.fail(command, "334 grete@home.example")
        with pytest.raises(MailServerFailure, match="answered 334") as raised:
            one.send(mail())
        assert "grete" not in str(raised.value)
        assert (one.is_open, one.uncertain) == (False, False)


def test_a_server_that_cannot_forget(folder: Path) -> None:
    with MailHost(folder) as host, opened(host.server()) as one:
        host.fail("RCPT", "550 no")
        host.fail("RSET", "502 what")
        with pytest.raises(MailRefused):
            one.send(mail())
        with pytest.raises(MailServerFailure, match="does not forget"):
            one.send(mail())


# What is uncertain


@pytest.mark.parametrize("keep", [True, False])
def test_closed_before_the_answer_to_the_message(folder: Path, *, keep: bool) -> None:
    with MailHost(folder) as host, opened(host.server()) as one:
        host.fail("MESSAGE", None, then="close", keep=keep)
        with pytest.raises(MailServerFailure, match="ended the connection"):
            one.send(mail())
        assert (one.uncertain, one.is_open) == (True, False)
        assert len(host.messages) == keep


def test_nonsense_in_place_of_the_answer_to_the_message(folder: Path) -> None:
    for nonsense in ("354 go on", "hello"):
        with MailHost(folder) as host, opened(host.server()) as one:
            host.fail("MESSAGE", nonsense, keep=True)
            with pytest.raises(MailServerFailure):
                one.send(mail())
            assert one.uncertain


def test_closed_after_the_answer_to_the_message(folder: Path) -> None:
    with MailHost(folder) as host, opened(host.server()) as one:
        host.fail("MESSAGE", "250 2.0.0 taken", then="close", keep=True)
        assert one.send(mail()) == "250 2.0.0 taken"
        assert not one.uncertain
        host.wait_until(lambda: host.open == 0, "the end")
        with pytest.raises(MailServerFailure, match=r"ended the connection|cannot be used"):
            one.send(mail())
        assert not one.uncertain


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA", "RSET"])
def test_closed_before_there_is_a_message(folder: Path, command: str) -> None:
    with MailHost(folder) as host, opened(host.server()) as one:
        if command == "RSET":
            host.fail("MAIL", "451 later")
            with pytest.raises(MailRefused):
                one.send(mail())
        host.fail(command, None, then="close")
        with pytest.raises(MailServerFailure, match="ended the connection"):
            one.send(mail())
        assert (one.uncertain, one.is_open, host.messages) == (False, False, [])


def test_uncertain_is_told_anew_for_each_message(folder: Path) -> None:
    with MailHost(folder) as host, opened(host.server()) as one:
        host.fail("MESSAGE", None, then="close")
        with pytest.raises(MailServerFailure):
            one.send(mail())
        assert one.uncertain
        with pytest.raises(MailServerFailure, match="is not connected"):
            one.send(mail())
        assert not one.uncertain


# Who the server is


def test_a_certificate_for_another_name(folder: Path) -> None:
    with MailHost(folder, issued=authority(folder).server("elsewhere.example")) as host:
        fails(host.server(), "has a certificate that is for another name; nothing was sent", "mail.receipts.host")
        fails(host.server(host="127.0.0.1"), "is for another address", "mail.receipts.host")
        host.wait_until(lambda: host.open == 0, "the end")
        assert (host.heard("AUTH"), host.heard("MAIL")) == ([], [])


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize(("start", "end", "what"), [(-60, -1, "has expired"), (1, 60, "is not valid yet")])
def test_a_certificate_out_of_its_time(folder: Path, security: Any, start: int, end: int, what: str) -> None:
    issued = authority(folder).server(start=start * DAY, end=end * DAY)
    with MailHost(folder, security=security, issued=issued) as host:
        fails(host.server(), f"has a certificate that {what}", "this machine's clock")


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_of_nobody_we_trust(folder: Path, security: Any) -> None:
    with MailHost(folder, security=security, issued=CertificateAuthority("another").server()) as host:
        fails(host.server(), "is of an authority that is not trusted", "mail.receipts.ca_file")
    with MailHost(folder, security=security) as host:
        fails(host.server(ca_file=None), "not trusted", "mail.receipts.ca_file")  # this machine's authorities


def test_only_the_names_of_a_certificate_count(folder: Path) -> None:
    with MailHost(folder) as host:
        opened(host.server(host="127.0.0.1")).close()
    other = folder.parent / "other"
    other.mkdir()
    with MailHost(folder) as host:
        authority(other)
        fails(host.server(ca_file=str(other / "ca.crt")), "is of an authority that is not trusted")


def test_keys_of_tls_are_not_logged(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    with MailHost(folder) as host, opened(host.server()):
        assert not log.exists()


def test_old_tls_is_not_spoken(folder: Path) -> None:
    assert smtp.context_for(ReceiptsServer(host="x"), SECTION).minimum_version is ssl.TLSVersion.TLSv1_2

    def old(line: RawLine) -> None:
        """A record with the alert protocol_version, as a server without TLS 1.2 answers."""
        assert line.sock.recv(5)[:1] == b"\x16"
        line.say(bytes.fromhex("15030100020246"))
        line.wait_for_end()

    with RawHost(old) as host:
        fails(host.server(security="tls"), "offers no TLS of version 1.2 or newer", "updated")


# STARTTLS


def test_starttls_that_is_not_offered(folder: Path) -> None:
    with MailHost(folder, offers_starttls=False) as host:
        fails(host.server(), "does not offer STARTTLS; nothing was sent", "strips it")
        assert [host.heard(one) for one in ("AUTH", "MAIL", "STARTTLS")] == [[], [], []]


def test_starttls_that_is_refused(folder: Path) -> None:
    with MailHost(folder) as host:
        host.fail("STARTTLS", "454 4.7.0 TLS is not available")
        fails(host.server(), "offers STARTTLS and refuses it; nothing was sent: 454 4.7.0 TLS is not available")
        assert [host.heard(one) for one in ("AUTH", "MAIL")] == [[], []]


def test_what_is_injected_behind_starttls_is_not_believed(folder: Path) -> None:
    with MailHost(folder, injected=b"250-INJECTED\r\n250 AUTH PLAIN\r\n") as host:
        fails(host.server(), "said more in clear behind STARTTLS; nothing was sent", "between")
        assert [host.heard(one) for one in ("AUTH", "MAIL")] == [[], []]


def test_what_was_offered_in_clear_is_forgotten(folder: Path) -> None:
    folder.mkdir()
    context = server_context(folder)
    heard: list[bytes] = []

    def script(line: RawLine) -> None:
        line.greet(b"STARTTLS", b"AUTH PLAIN", b"SMTPUTF8", b"8BITMIME", b"SIZE 1000")
        assert line.hear() == b"STARTTLS"
        line.say(b"220 go on\r\n")
        line.begin_tls(context)
        heard.append(line.hear())
        line.offer(b"HELP")
        heard.append(line.hear())
        line.say(b"250 ok\r\n")
        line.wait_for_end()

    with RawHost(script, folder=folder) as host:
        server = host.server(security="starttls", ca_file=str(folder / "ca.crt"))
        with opened(server) as one:
            with pytest.raises(Undeliverable):
                one.send(mail(to="jürgen@home.example"))
            one.abort()
        fails(replace(server, username="shop", password="rhubarb"), "offers no login that this program knows")
    assert heard[0].upper() == b"EHLO SHOP.EXAMPLE"


def test_garbage_behind_starttls(folder: Path) -> None:
    def script(line: RawLine) -> None:
        line.greet(b"STARTTLS")
        line.hear()
        line.say(b"220 go on\r\n")
        line.sock.recv(1)
        line.say(b"this is no TLS, whatever it is")
        line.wait_for_end()

    with RawHost(script) as host:
        fails(host.server(security="starttls"), "cannot agree on TLS", "mail.receipts.port")


def test_the_end_in_the_midst_of_the_handshake(folder: Path) -> None:
    def script(line: RawLine) -> None:
        line.greet(b"STARTTLS")
        line.hear()
        line.say(b"220 go on\r\n")
        line.sock.recv(5)

    with RawHost(script) as host:
        fails(host.server(security="starttls"), "ended the connection")


# The wrong port


def test_in_clear_where_tls_is_expected(folder: Path) -> None:
    with MailHost(folder, security="starttls") as host:
        fails(
            host.server(security="tls"),
            "does not begin with TLS: it answers in clear",
            'set mail.receipts.security = "starttls"',
        )


def test_tls_where_a_greeting_is_expected(folder: Path) -> None:
    with MailHost(folder, security="tls") as host:
        for security in ("starttls", "none"):
            fails(host.server(security=security), "said nothing within 0.3 seconds", 'security = "tls"', SHORT)


def test_something_else_than_mail(folder: Path) -> None:
    with RawHost(no_smtp) as host:
        fails(host.server(), "does not speak SMTP", "mail.receipts.port")


@pytest.mark.parametrize(
    ("greeting", "what"),
    [
        (b"554 5.3.2 no service here\r\n", "does not greet: 554 5.3.2 no service here"),
        (b"421-too busy\r\n421 come again\r\n", "does not greet: 421 too busy come again"),
        (b"", "ended the connection"),
        (b"220", "ended the connection"),
        (b"199 x\r\n", "does not speak SMTP"),
        (b"600 x\r\n", "does not speak SMTP"),
        (b"22\r\n", "does not speak SMTP"),
        (b"220x\r\n", "does not speak SMTP"),
        ("٢٢٠ x\r\n".encode(), "does not speak SMTP"),
    ],
)
def test_a_server_that_does_not_greet(greeting: bytes, what: str) -> None:
    with RawHost(lambda line: line.say(greeting)) as host:
        fails(host.server(), what)


@pytest.mark.parametrize("ehlo", [b"502 what\r\n", b"421 no\r\n"])
def test_a_server_that_does_not_know_ehlo(ehlo: bytes) -> None:
    def script(line: RawLine) -> None:
        line.say(b"220\r\n")  # no text is no fault
        line.hear()
        line.say(ehlo)
        line.wait_for_end()

    with RawHost(script) as host:
        fails(host.server(), f"does not take EHLO: {ehlo.decode().strip()}")


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server = ReceiptsServer(host="127.0.0.1", port=port, sender="orders@shop.example")
    fails(server, "cannot be reached: Connection refused", "mail.receipts.host")
    fails(replace(server, host="no-such-host.invalid"), "has no address", "mail.receipts.host")
    fails(replace(server, host="a\0b"), "has no address", "mail.receipts.host")
    fails(replace(server, host="a" * 80 + ".example"), "has no address", "mail.receipts.host")


def test_a_name_that_tls_does_not_take(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """.localhost is asked of no name server, but is no name for a certificate."""
    with MailHost(folder, security="tls") as host:
        port = host.port
        found = socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: found)
        fails(host.server(host=".localhost"), "cannot be used: UnicodeError", "mail.receipts.host")


def test_the_next_address_is_tried(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = listener.getsockname()
    with MailHost(folder) as host:
        there = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", host.port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: [(*there[:4], nobody), there])
        opened(host.server()).close()


def full_listener() -> tuple[socket.socket, list[socket.socket]]:
    """Its queue is full, so that the kernel lets further connections wait."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(3):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
        waiting.append(one)
    return listener, waiting


def test_a_network_that_swallows_what_is_sent() -> None:
    listener, waiting = full_listener()
    server = ReceiptsServer(host="127.0.0.1", port=listener.getsockname()[1], sender="orders@shop.example")
    fails(server, "cannot be reached within 0.3 seconds", "firewall", SHORT)
    for one in (listener, *waiting):
        one.close()


def test_no_time_left_is_not_a_timeout_of_0() -> None:
    with pytest.raises(TimeoutError):
        line_module._left(time.monotonic() - 1)


def test_in_clear_goes_to_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the name means to the one who answers for it."""

    def script(line: RawLine) -> None:
        assert line.wait_for_end() == b""

    monkeypatch.setattr(line_module.Line, "peer", "192.0.2.1")
    with RawHost(script) as host:
        fails(host.server(), "is not on this machine, and nothing is sent in clear", "mail.receipts.security")


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True), ("::1", True), ("127.9.9.9", True), ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False), ("fe80::1%eth0", False), ("::ffff:192.0.2.1", False),
    ],
)  # fmt: skip
def test_what_is_this_machine(address: str, *, local: bool) -> None:
    assert smtp._is_loopback(address) is local


# The login


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_a_login_that_is_refused(folder: Path, mechanism: str) -> None:
    with MailHost(folder, mechanisms=(mechanism,)) as host:
        failure = fails(
            host.server(password="rhubarb crumble"),
            "refused the login: 535 5.7.8",
            "check mail.receipts.username and the password",
        )
        assert "rhubarb" not in str(failure) + failure.hint
        assert host.logins == 0


def test_a_login_that_cannot_be_looked_at_now(folder: Path) -> None:
    with MailHost(folder) as host:
        host.fail("AUTH", "454 4.7.0 the directory is down")
        fails(host.server(), "does not take the login now: 454 4.7.0 the directory is down", "later")


@pytest.mark.parametrize("mechanism", [b"PLAIN", b"LOGIN"])
@pytest.mark.parametrize("repeated", ["rhubarb  crumble", "ladle@shop.example", "what was told"])
def test_a_server_that_repeats_what_it_was_told(mechanism: bytes, repeated: str) -> None:
    def script(line: RawLine) -> None:
        line.greet(b"AUTH " + mechanism)
        told = [line.hear()]
        if mechanism == b"LOGIN":
            for _ in range(2):
                line.say(b"334 VXNlciBOYW1lAA==\r\n")
                told.append(line.hear())
        words = told[-1] if repeated == "what was told" else repeated.encode()
        line.say(b"535-5.7.8 " + b"x" * 480 + b"\r\n535 not " + words + b"\r\n")
        line.wait_for_end()

    with RawHost(script) as host:
        server = host.server(username="ladle@shop.example", password="rhubarb  crumble")
        failure = fails(server, "refused the login: 535, and repeats what it was told")
    whole = f"{failure!r} {failure.hint} {failure.__cause__!r} {failure.__context__!r}"
    for secret in ("rhu", "lad", "AGxh", "bGFk", "cmh1"):
        assert secret not in whole


def test_a_username_that_is_refused_at_once() -> None:
    def script(line: RawLine) -> None:
        line.greet(b"AUTH LOGIN")
        line.hear()
        line.say(b"535 5.7.8 nobody may\r\n")
        assert line.wait_for_end() == b""  # no password

    with RawHost(script) as host:
        fails(host.server(username="ladle", password="rhubarb"), "refused the login: 535 5.7.8 nobody may")


def test_a_server_without_logins(folder: Path) -> None:
    with MailHost(folder, users={}) as host:
        fails(host.server(username="shop", password="rhubarb"), "offers no login that this program knows", "username")
        assert host.heard("AUTH") == []


def test_a_session_shows_no_password(folder: Path) -> None:
    server = ReceiptsServer(host="mail.example", username="ladle", password="rhubarb", sender="orders@shop.example")
    assert repr(session(server)) == "Session(ReceiptsServer(mail.example:587))"


def test_nothing_is_printed_of_what_is_said(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with MailHost(folder) as host, opened(host.server()) as one:
        one.send(mail())
    assert capfd.readouterr() == ("", "")


# The files


def with_password(tmp_path: Path, content: bytes, mode: int = 0o600) -> ReceiptsServer:
    file = tmp_path / "password"
    file.write_bytes(content)
    file.chmod(mode)
    return ReceiptsServer(host="localhost", username="ladle", password_file=str(file), sender="orders@shop.example")


def cannot_load(server: ReceiptsServer, key: str, what: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(server, SECTION)
    assert raised.value.key == key
    assert what in str(raised.value)
    assert hint in raised.value.hint
    read = smtp.context_for if key.endswith("ca_file") else smtp.password_of
    with session(server) as one, pytest.raises(MailServerFailure) as failed:
        one._read(read)
    assert (str(failed.value), failed.value.hint) == (str(raised.value), raised.value.hint)


@pytest.mark.parametrize("content", [b"rhubarb", b"rhubarb\n", b"rhubarb\r\nmore\n", b"rhubarb\n\xff\xff"])
def test_the_first_line_is_the_password(tmp_path: Path, content: bytes) -> None:
    assert smtp.password_of(with_password(tmp_path, content), SECTION) == "rhubarb"
    assert smtp.password_of(with_password(tmp_path, b" rhubarb \n", 0o400), SECTION) == " rhubarb "
    (tmp_path / "password").chmod(0o600)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o611])
def test_a_password_that_others_can_read(tmp_path: Path, mode: int) -> None:
    server = with_password(tmp_path, b"rhubarb\n", mode)
    cannot_load(server, "mail.receipts.password_file", "can be read by others", f"chmod 600 {server.password_file}")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty, too long"),
        (b"\nrhubarb\n", "is empty, too long"),
        (b"a\0b\n", "holds U+0000"),
        (b"x" * 1_025 + b"\n", "too long"),
        (b"\xff\n", "is not UTF-8"),
    ],
)
def test_a_file_that_holds_no_password(tmp_path: Path, content: bytes, what: str) -> None:
    cannot_load(with_password(tmp_path, content), "mail.receipts.password_file", what, "write the password there")
    assert len(str(smtp.password_of(with_password(tmp_path, b"x" * 1_024), SECTION))) == 1_024


def test_no_file_or_none_that_can_be_read(tmp_path: Path) -> None:
    server = with_password(tmp_path, b"rhubarb")
    key = "mail.receipts.password_file"
    cannot_load(replace(server, password_file=None), key, "there is a username, but no password", "0600")
    cannot_load(replace(server, password_file=str(tmp_path)), key, "Is a directory", "0600")
    cannot_load(replace(server, password_file=str(tmp_path / "none")), key, "No such file", "0600")
    cannot_load(replace(server, password_file="a\0b"), key, "cannot be read", "0600")
    os.mkfifo(tmp_path / "pipe", 0o600)
    cannot_load(replace(server, password_file=str(tmp_path / "pipe")), key, "is not a file", "name the file")


def test_a_password_of_the_environment(tmp_path: Path) -> None:
    server = ReceiptsServer(host="localhost", username="ladle", password="rhubarb", sender="orders@shop.example")
    load(server, SECTION)
    for password in ("", "a\0b", "x" * 1_025, "\udcff"):
        cannot_load(replace(server, password=password), "mail.receipts.password", "no text", "set another")


def test_authorities_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    server = ReceiptsServer(host="localhost", sender="orders@shop.example")
    for path, what in (("ca.crt", "cannot be used"), ("none.crt", "No such file")):
        cannot_load(replace(server, ca_file=str(tmp_path / path)), "mail.receipts.ca_file", what, "PEM")


def test_what_is_read_at_open_is_read_anew(folder: Path, tmp_path: Path) -> None:
    with MailHost(folder) as host:
        server = with_password(tmp_path, b"wrong\n")
        server = replace(host.server(), username="shop", password=None, password_file=server.password_file)
        fails(server, "refused the login")
        (tmp_path / "password").write_text(host.server().password or "")
        opened(server).close()
        (tmp_path / "password").unlink()
        with session(server) as one, pytest.raises(MailServerFailure, match=r"password_file: .*No such file"):
            one.open()


# Time


@pytest.mark.parametrize("command", ["CONNECT", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "MESSAGE"])
def test_a_server_that_hangs_is_given_up(folder: Path, command: str) -> None:
    with MailHost(folder) as host, session(host.server(), SHORT) as one:
        host.fail(command, None, then="hang")
        begun = time.monotonic()
        seconds = SHORT * smtp.PATIENT if command == "MESSAGE" else SHORT  # or it would come twice
        with pytest.raises(MailServerFailure, match=rf"(did not answer|said nothing) within {seconds:g} seconds"):
            send_one(one)
        assert time.monotonic() - begun < 10
        assert one.uncertain is (command == "MESSAGE")
        assert not one.is_open
        host.mend()


def send_one(one: Session) -> None:
    one.open()
    one.send(mail())


def test_a_server_that_says_a_byte_now_and_then_is_given_up(folder: Path) -> None:
    """The timeout is one for the answer, not for a byte of it."""
    with MailHost(folder) as host, session(host.server(), SHORT) as one:
        host.fail("EHLO", "250 " + "x" * 2_000, pace_seconds=0.02)
        with pytest.raises(MailServerFailure, match=r"within 0\.3 seconds"):
            one.open()


def test_a_slow_server_is_no_fault(folder: Path) -> None:
    with MailHost(folder) as host, opened(host.server()) as one:
        host.fail("MAIL", "451 4.7.1 slowly", pace_seconds=0.01)
        with pytest.raises(MailRefused, match="slowly"):
            one.send(mail())


@pytest.mark.parametrize("command", ["CONNECT", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "MESSAGE", "RSET"])
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_abort_ends_what_hangs_at_once(folder: Path, command: str, security: Any) -> None:
    if (security, command) == ("tls", "STARTTLS"):
        return
    with MailHost(folder, security=security) as host, session(host.server()) as one:
        if command == "RSET":
            host.fail("RCPT", "550 no")
            with pytest.raises(MailRefused):
                send_one(one)
        host.fail(command, None, then="hang")

        def work() -> None:
            if not one.is_open:
                one.open()
            one.send(mail())

        seconds, failure = aborted(one, work, lambda: host.wait_for(command))
        assert seconds < 5
        assert "took too long, or was in the way of the end" in str(failure)
        assert not one.is_open
        assert one.uncertain is (command == "MESSAGE")


def aborted(one: Session, work: Callable[[], None], reached: Callable[[], None]) -> tuple[float, BaseException]:
    """Runs work in a thread, aborts when it has reached what it hangs at: how long that took, and its failure."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 -- it is looked at
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    reached()
    begun = time.monotonic()
    one.abort()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert isinstance(failures[0], MailServerFailure)
    return time.monotonic() - begun, failures[0]


def test_abort_ends_a_connection_that_does_not_come_about() -> None:
    listener, waiting = full_listener()
    server = ReceiptsServer(host="127.0.0.1", port=listener.getsockname()[1], sender="orders@shop.example")
    one = session(server)
    begun = threading.Event()
    connect = socket.socket.connect

    class Watched(socket.socket):
        def connect(self, address: Any) -> None:
            begun.set()
            connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_module.socket, "socket", Watched)
        seconds, failure = aborted(one, one.open, lambda: _assert(begun.wait(PATIENCE_SECONDS)))
    assert seconds < 5
    assert "took too long" in str(failure)
    for sock in (listener, *waiting):
        sock.close()


def _assert(so: object) -> None:
    assert so


def test_abort_in_a_handshake() -> None:
    reached = threading.Event()

    def script(line: RawLine) -> None:
        line.sock.recv(5)
        reached.set()
        line.wait_for_end()

    with RawHost(script) as host:
        one = session(host.server(security="tls"))
        seconds, _ = aborted(one, one.open, lambda: _assert(reached.wait(PATIENCE_SECONDS)))
        assert seconds < 5


def test_after_abort_nothing_begins(folder: Path) -> None:
    with MailHost(folder) as host, session(host.server()) as one:
        one.abort()
        with pytest.raises(MailServerFailure, match="took too long"):
            one.open()
        one.abort()
        one.close()
        assert host.heard("EHLO") == []
        with opened(host.server()) as other:
            other.abort()
            assert not other.is_open
            with pytest.raises(MailServerFailure, match="is not connected"):
                other.send(mail())
            other.close()
        assert host.heard("QUIT") == []


def test_close_waits_no_longer_than_a_moment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "GOODBYE_SECONDS", 0.2)
    with MailHost(folder) as host, opened(host.server()) as one:
        host.fail("QUIT", None, then="hang")
        begun = time.monotonic()
        one.close()
        assert time.monotonic() - begun < 10
        one.close()
        assert len(host.heard("QUIT")) == 1


def test_a_server_that_is_gone(folder: Path) -> None:
    with MailHost(folder) as host, opened(host.server()) as one:
        host.drop()
        with pytest.raises(MailServerFailure):
            one.send(mail())
        assert (one.uncertain, one.is_open) == (False, False)
        other = opened(host.server())
        host.drop()
        other.close()


# Answers


@pytest.mark.parametrize("script", [endless_line, endless_answer])
def test_answers_without_an_end(script: Callable[[RawLine], None]) -> None:
    with RawHost(script) as host:
        fails(host.server(), "does not speak SMTP: what it said is no answer", "mail.receipts.port")


def test_silence() -> None:
    with RawHost(never_answers) as host:
        fails(host.server(), "said nothing within 0.3 seconds", 'set security = "tls"', SHORT)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"550-5.1.1 no such user\r\n550-\r\n550 5.1.1  here\r\n", "550 5.1.1 no such user 5.1.1 here"),
        (b"550 \x1b[31mred\x07 \xff\xfe and \xe2\x80\xae turned\r\n", "550 [31mred �� and turned"),
        (b"550\r\n", "550"),
        (b"550-\r\n550\r\n", "550"),
        (b"550 a\nx\r\n", "550 a"),
        (b"550 " + b"long " * 300 + b"\r\n", ("550 " + "long " * 100)[:MAX_ANSWER]),
        (b"550-line\r\n" * 199 + b"550 last\r\n", ("550 " + "line " * 100)[:MAX_ANSWER]),
        ("550 kein Briefkasten für Sie\r\n".encode(), "550 kein Briefkasten für Sie"),
    ],
)
def test_an_answer_becomes_one_clean_line(raw: bytes, words: str) -> None:
    def script(line: RawLine) -> None:
        line.greet()
        line.hear()
        for at in range(0, len(raw), 97):
            line.say(raw[at : at + 97])
        line.wait_for_end()

    with RawHost(script) as host, opened(host.server()) as one:
        with pytest.raises(MailRefused) as raised:
            one.send(mail())
        one.abort()
    assert raised.value.answer == words.rstrip()
    assert len(words) <= MAX_ANSWER


def test_answers_that_come_in_one_packet_are_told_apart() -> None:
    def script(line: RawLine) -> None:
        line.say(b"220 hello\r\n250 raw.test\r\n250 sender\r\n250 recipient\r\n354 go on\r\n250 2.0.0 taken\r\n")
        assert line.wait_for_end().endswith(b"\r\n.\r\n")

    with RawHost(script) as host:
        one = opened(host.server())
        assert one.send(mail()) == "250 2.0.0 taken"
        one.abort()
        one.close()


def test_a_line_to_nobody() -> None:
    with pytest.raises(line_module.Ended):
        line_module.Line("shop.example", SHORT).ask("NOOP")


def test_what_people_read_of_an_answer() -> None:
    assert clean(b"") == ""
    assert Answer.of(250, b"a\nb") == (250, "a b")
    assert [Answer(code, "").is_good for code in (199, 200, 299, 300)] == [False, True, True, False]
    assert [Answer(code, "").is_refusal for code in (399, 400, 599, 600)] == [False, True, True, False]
