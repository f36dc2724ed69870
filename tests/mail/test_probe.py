"""What is said about a mail server that is tried: a sound one first, then one thing wrong at a time."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from certificate_authority import DAY, CertificateAuthority
from mail.smtp_server import MailHost, RawHost, RawLine, authority, never_answers

from securedelivery.mail.probe import Fact, examine
from securedelivery.mail.settings import ReceiptsServer

SECTION = "mail.receipts"
TO = "owner@elsewhere.example"
SHORT = 0.5


def facts(server: ReceiptsServer, to: str | None = TO, seconds: float = 10.0, **more: Any) -> list[Fact]:
    return list(examine(server, SECTION, to, timeout_seconds=seconds, **more))


def last(server: ReceiptsServer, state: str, what: str, remedy: str = "", seconds: float = 10.0) -> list[Fact]:
    """All is well up to the last one."""
    *before, found = facts(server, seconds=seconds)
    assert {one.state for one in before} <= {"ok"}
    assert found.state == state
    assert what in found.what
    assert remedy in found.remedy
    return before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mail"


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_sound_server(folder: Path, security: Any) -> None:
    with MailHost(folder, security=security) as host:
        found = facts(host.server())
        day = f"{host.ca.now + 89 * DAY:%Y-%m-%d}"
        assert found == [
            Fact("ok", f"mail.receipts: localhost:{host.port} can be reached"),
            Fact("ok", f"mail.receipts: TLSv1.3; its certificate is for localhost, 127.0.0.1, until {day}"),
            Fact("ok", "mail.receipts: logged in as shop"),
            Fact("ok", "mail.receipts: takes mail from orders@shop.example to owner@elsewhere.example"),
        ]
        assert (host.messages, host.heard("DATA")) == ([], [])
        assert host.heard("RSET") == ["RSET"]
        assert host.heard("QUIT") == ["QUIT"]


def test_within_this_machine_without_a_login(folder: Path) -> None:
    with MailHost(folder, security="none", users={}) as host:
        assert [one.what for one in facts(host.server(), to=None)][1:] == [
            "mail.receipts: in clear, within this machine",
            "mail.receipts: no login is asked for by the settings",
        ]
        assert host.heard("MAIL") == []


def test_an_address_beyond_ascii(folder: Path) -> None:
    with MailHost(folder) as host:
        assert facts(host.server(), to="jürgen@elsewhere.example")[-1].state == "ok"
        assert host.heard("MAIL") == ["MAIL FROM:<orders@shop.example> SMTPUTF8"]
        found = facts(host.server(), to="nobody")[-1]
        assert (found.state, found.what) == ("wrong", "'nobody' is not an address")


def test_a_certificate_near_its_end(folder: Path) -> None:
    with MailHost(folder, issued=authority(folder).server(end=13 * DAY)) as host:
        assert [one.state for one in facts(host.server())] == ["ok", "note", "ok", "ok"]
        assert "needs a new one" in facts(host.server())[1].remedy
        earlier = datetime.now(UTC) - timedelta(days=2)
        assert facts(host.server(), now=earlier)[1].state == "ok"


@pytest.mark.parametrize(
    ("certificate", "what"),
    [("name", "is for another name"), ("expired", "has expired"), ("unknown", "authority that is not trusted")],
)
def test_a_certificate_that_is_not_good(folder: Path, certificate: str, what: str) -> None:
    issued = {
        "name": lambda: authority(folder).server("elsewhere.example"),
        "expired": lambda: authority(folder).server(start=-60 * DAY, end=-DAY),
        "unknown": lambda: CertificateAuthority("another").server(),
    }[certificate]()
    with MailHost(folder, issued=issued) as host:
        assert len(last(host.server(), "wrong", what)) == 1


def test_nobody_there(folder: Path) -> None:
    with MailHost(folder) as host:
        server = host.server()
    assert last(server, "wrong", "cannot be reached: Connection refused", "mail.receipts.host") == []


def test_in_clear_where_tls_is_expected(folder: Path) -> None:
    with MailHost(folder) as host:
        last(host.server(security="tls"), "wrong", "does not begin with TLS", 'mail.receipts.security = "starttls"')


@pytest.mark.parametrize("security", ["starttls", "none"])
@pytest.mark.parametrize("known", [True, False])
def test_tls_where_a_greeting_is_expected(folder: Path, security: Any, *, known: bool) -> None:
    """Told for certain, whether the certificate is good or not."""
    issued = None if known else CertificateAuthority("another").server("elsewhere.example")
    with MailHost(folder, security="tls", issued=issued) as host:
        last(
            host.server(security=security),
            "wrong",
            f"begins with TLS, which {security!r} does not",
            'mail.receipts.security = "tls"',
            SHORT,
        )


def test_silence_is_not_taken_for_tls() -> None:
    with RawHost(never_answers) as host:
        last(host.server(), "wrong", "said nothing within 0.5 seconds", "mail.receipts.port", SHORT)


def test_starttls_that_is_not_offered(folder: Path) -> None:
    with MailHost(folder, offers_starttls=False) as host:
        last(host.server(), "wrong", "does not offer STARTTLS; nothing was sent", "strips it")


def test_a_login_that_is_refused(folder: Path) -> None:
    with MailHost(folder) as host:
        before = last(host.server(password="rhubarb"), "wrong", "refused the login: 535", "the password")
        assert len(before) == 2


def test_a_password_that_cannot_be_read(folder: Path) -> None:
    with MailHost(folder) as host:
        server = host.server(password=None, password_file=str(folder / "none"))
        last(server, "wrong", "mail.receipts.password_file: ", "0600")


def test_relaying_that_is_refused(folder: Path) -> None:
    with MailHost(folder, relays={"shop.example"}) as host:
        server = host.server(username=None, password=None)
        last(server, "wrong", "it refuses to relay mail to owner@elsewhere.example: 554 5.7.1 Relay", "log in (mail.")
        assert facts(server, to="orders@shop.example")[-1].state == "ok"
        assert facts(host.server())[-1].state == "ok"  # with a login


@pytest.mark.parametrize(
    ("command", "answer", "state", "what", "remedy"),
    [
        ("MAIL", "530 5.7.0 Authentication required", "wrong", "wants a login before it takes mail", "username"),
        ("MAIL", "553 5.7.1 not yours", "wrong", "does not let us write as orders@shop.example: 553", "sender"),
        ("MAIL", "451 4.7.1 later", "note", "takes no mail to owner@elsewhere.example now: 451", "later"),
        ("RCPT", "450 4.2.0 greylisted", "note", "takes no mail to owner@elsewhere.example now: 450", "later"),
        ("RCPT", "354 what", "note", "now: 354 what", "later"),
        ("RCPT", "550 5.1.1 no such user", "wrong", "refuses mail to owner@elsewhere.example: 550", "another"),
        ("RCPT", "550 5.7.1 denied", "wrong", "refuses to relay", "submission"),
        ("RCPT", "550 we do not relay", "wrong", "refuses to relay", "submission"),
        ("RSET", "502 what", "wrong", "does not forget", ""),
    ],
)
def test_mail_that_is_not_taken(folder: Path, *, command: str, answer: str, state: str, what: str, remedy: str) -> None:
    with MailHost(folder) as host:
        host.fail(command, answer)
        last(host.server(), state, what, remedy)
        assert host.messages == []


def test_a_server_that_ends_in_the_midst(folder: Path) -> None:
    def script(line: RawLine) -> None:
        line.greet()
        assert line.hear().startswith(b"MAIL")

    with RawHost(script) as host:
        assert len(last(host.server(), "wrong", "ended the connection")) == 3
