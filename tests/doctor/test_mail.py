"""What the doctor finds of the mail servers."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mail.smtp_server import MailHost
from msgspec.structs import replace

from securedelivery.config import Settings
from securedelivery.doctor import CHECKS, Finding, State
from securedelivery.mail.settings import MailSettings, ReceiptsServer, SummariesServer

NOTHING = "no server is set, so none of these mails are sent"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[MailHost]:
    with MailHost(tmp_path / "mail", relays={"shop.example"}) as host:
        yield host


def found(check: str, **mail: Any) -> list[Finding]:
    now = datetime.now(UTC)
    return [Finding(check, *one) for one in CHECKS[check](Settings(mail=MailSettings(**mail)), now)]


def test_no_server_is_nothing_wrong() -> None:
    assert found("mail_receipts") == [Finding("mail_receipts", State.OK, f"mail.receipts: {NOTHING}")]
    assert found("mail_summaries") == [Finding("mail_summaries", State.OK, f"mail.summaries: {NOTHING}")]


def test_each_has_its_own_server(host: MailHost, tmp_path: Path) -> None:
    with MailHost(tmp_path / "other", security="tls") as other:
        summaries = SummariesServer(
            host="localhost",
            port=other.port,
            sender="orders@shop.example",
            ca_file=str(other.ca_file),
            username="shop",
            password="rhubarb",
        )
        receipts = host.server()
        first = found("mail_receipts", receipts=receipts, summaries=summaries)
        second = found("mail_summaries", receipts=receipts, summaries=summaries)
    assert [(one.check, one.state) for one in first] == [("mail_receipts", State.OK)] * 4
    assert [one.state for one in second] == [State.OK, State.OK, State.WRONG]
    assert "refused the login" in second[-1].what
    assert second[-1].remedy == "check mail.summaries.username and the password"
    assert "rhubarb" not in repr(second)


def test_mail_to_the_operator_shows_whether_it_relays(host: MailHost) -> None:
    stranger = host.server(username=None, password=None)
    assert isinstance(stranger, ReceiptsServer)
    assert found("mail_receipts", receipts=stranger)[-1].what.endswith("to orders@shop.example")
    told = found("mail_receipts", receipts=stranger, operator="The Owner <owner@elsewhere.example>")[-1]
    assert told.state is State.WRONG
    assert "refuses to relay mail to owner@elsewhere.example: 554 5.7.1 Relay access denied" in told.what
    assert "mail.receipts.username" in told.remedy
    assert host.messages == []


def test_without_any_address_the_rest_is_looked_at(host: MailHost) -> None:
    receipts = replace(host.server(), sender=None)
    assert len(found("mail_receipts", receipts=receipts)) == 3
    assert host.heard("EHLO")[0] == "EHLO localhost"
