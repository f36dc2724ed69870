"""Mail through a real Postfix into a Maildir: first by Python's own smtplib, so that what fails then is ours."""

import json
import re
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from end_to_end.customers import ProfileOf, StartServer
from end_to_end.mailing import SHORTER, body, operate, queue, section, with_start_code
from end_to_end.server_process import ServerProcess, environment
from mail.postfix import DOMAIN, Postfix

from securedelivery.client import Client
from securedelivery.mail.settings import MailServer


@pytest.fixture(scope="module")
def running() -> Iterator[Postfix]:
    with Postfix.start() as postfix:
        yield postfix


@pytest.fixture
def postfix(running: Postfix) -> Postfix:
    """With an empty Maildir."""
    running.empty()
    return running


def note(to: str, text: str = "hello") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "orders@shop.example", to, text
    message.set_content(text)
    return message


# That it is the mail server which it is meant to be


def test_postfix_delivers_what_came_by_either_way(postfix: Postfix) -> None:
    context = ssl.create_default_context(cafile=postfix.ca_file)
    with smtplib.SMTP("localhost", postfix.submission) as session:
        session.starttls(context=context)
        session.send_message(note(f"jörg@{DOMAIN}", "by STARTTLS"))
    with smtplib.SMTP_SSL("localhost", postfix.tls, context=context) as session:
        session.send_message(note(f"ada@{DOMAIN}", "by TLS"))
    mails = postfix.wait(2)
    assert {(mail["Delivered-To"], mail["Subject"]) for mail in mails} == {
        (f"jörg@{DOMAIN}", "by STARTTLS"),
        (f"ada@{DOMAIN}", "by TLS"),
    }
    assert all("using TLSv1.3" in mail["Received"] for mail in mails)


def test_postfix_takes_nothing_in_clear_and_nothing_for_others(postfix: Postfix) -> None:
    with smtplib.SMTP("localhost", postfix.submission) as session:
        session.ehlo()
        assert session.mail("orders@shop.example")[0] == 530
        session.starttls(context=ssl.create_default_context(cafile=postfix.ca_file))
        for to, code, status in ((f"nobody@{DOMAIN}", 550, b"5.1.1"), ("ada@elsewhere.example", 554, b"5.7.1")):
            with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
                session.send_message(note(to))
            answer = caught.value.recipients[to]
            assert answer[0] == code
            assert answer[1].startswith(status)


def test_postfix_is_not_trusted_by_chance(postfix: Postfix) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        smtplib.SMTP_SSL("localhost", postfix.tls, context=ssl.create_default_context())


# The product


def seen_by_the_doctor(server: ServerProcess) -> list[tuple[str, str]]:
    """State and words of what `securedelivery doctor` finds about mail."""
    done = subprocess.run(
        [sys.executable, "-m", "securedelivery", "doctor", "--json", "--certs", str(server.certs), *server.admin_flags],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    findings = json.loads(done.stdout)["findings"]
    return [(one["state"], one["what"]) for one in findings if one["check"].startswith("mail")]


def mail_settings(postfix: Postfix, folder: Path) -> dict[str, dict[str, Any]]:
    def server(port: int, sender: str) -> dict[str, Any]:
        known = MailServer(host="localhost", port=port, sender=sender, ca_file=str(postfix.ca_file))
        return section(known, folder)

    return {
        "shop": {"name": "Parts & Co"},
        "mail": {"operator": f"Olga Owner <olga@{DOMAIN}>"},
        "mail.receipts": server(postfix.submission, "Parts & Co, München <orders@shop.example>"),
        "mail.summaries": server(postfix.tls, "months@shop.example"),
    }


def test_receipts_and_summaries_reach_the_mailbox(
    postfix: Postfix, start_server: StartServer, profile_of: ProfileOf, tmp_path: Path
) -> None:
    server = start_server(
        mail_settings(postfix, tmp_path), stock={"CPU-1": 100}, variables=with_start_code(tmp_path, SHORTER)
    )
    with Client(profile_of(server.address, "jorg")) as jorg, Client(profile_of(server.address, "nina")) as nina:
        jorg.create_account("jorg", name="Jörg Ærø", email=f"jörg@{DOMAIN}", address="7 Ærø Lane")
        nina.create_account("nina", name="Nina Nord", email=f"nobody@{DOMAIN}", address="8 Nord Lane")
        gone = nina.place_order([("CPU-1", 1)])
        server.log.wait_for("mail failed")
        kept = jorg.place_order([("CPU-1", 2)])
        cancelled = jorg.place_order([("CPU-1", 1)])
        jorg.cancel_order(cancelled.order)
        postfix.wait(3)
        month = (datetime.now(UTC).replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
        server.admin("report", "monthly", "--month", month, "--send")
        server.admin("report", "monthly", "--month", month, "--account", "jorg", "--send")
        mails = postfix.wait(5)

        # What Postfix has not taken while it was down, it gets when it is up.
        postfix.stop()
        last = jorg.place_order([("CPU-1", 1)])
        server.log.wait_for("mail does not leave")
        postfix.run()
        *_, late = postfix.wait(6)
    assert late["Subject"] == f"Your order {last.order} at Parts & Co"

    subjects = [f"Your order {number} at Parts & Co" for number in (kept.order, cancelled.order)]
    subjects.append(f"{subjects[-1]} is cancelled")
    orders = {mail["Subject"]: mail for mail in mails if "order" in mail["Message-ID"]}
    assert sorted(orders) == sorted(subjects)
    receipt = orders[subjects[0]]
    assert receipt["Delivered-To"] == f"jörg@{DOMAIN}"
    assert receipt["Return-Path"] == "<orders@shop.example>"
    assert str(receipt["From"]) == '"Parts & Co, München" <orders@shop.example>'
    assert receipt["To"].addresses[0].display_name == "Jörg Ærø"
    assert "UTF8SMTPS" in receipt["Received"]
    assert "using TLSv1.3" in receipt["Received"]
    assert not receipt.defects
    for kind in ("plain", "html"):
        assert "39.98" in body(receipt, kind)
        assert "Ærø Lane" in body(receipt, kind)
    monthly = {str(mail["Delivered-To"]): mail for mail in mails if "summary" in mail["Message-ID"]}
    assert monthly.keys() == {f"jörg@{DOMAIN}", f"olga@{DOMAIN}"}
    assert monthly[f"olga@{DOMAIN}"]["Return-Path"] == "<months@shop.example>"
    assert "unsubscribe%20jorg" in monthly[f"jörg@{DOMAIN}"]["List-Unsubscribe"]
    assert len({mail["Message-ID"] for mail in postfix.mails()}) == 6

    (failed,) = queue(server, "failed")
    assert failed["order"] == gone.order
    assert re.search(r"550 5\.1\.1 .*User unknown", failed["answer"])
    sent = queue(server, "sent")
    assert len(sent) == 6
    assert all(re.search(r"250 2\.0\.0 Ok: queued as \w+", row["answer"]) for row in sent)


def test_the_trial_mail_and_the_doctor_agree(postfix: Postfix, start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(mail_settings(postfix, tmp_path))
    assert server.admin("mail", "test", f"trial@{DOMAIN}").count("has taken it") == 2
    assert {mail["Delivered-To"] for mail in postfix.wait(2)} == {f"trial@{DOMAIN}"}
    assert operate(server, "mail", "queue").count("waiting") == 0
    seen = seen_by_the_doctor(server)
    assert [state for state, _ in seen if state == "wrong"] == [], seen
    assert len(postfix.mails()) == 2, "looking sends nothing"

    server.settings["mail"]["operator"] = f"nobody@{DOMAIN}"
    assert any(state == "wrong" and "550 5.1.1" in what for state, what in seen_by_the_doctor(server))
    server.settings["mail.receipts"]["port"] = postfix.tls
    assert any(state == "wrong" and "TLS" in what for state, what in seen_by_the_doctor(server))
