"""Mail of a real server process to real mail servers over real TLS: receipts, summaries, and servers that misbehave."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from end_to_end.customers import ProfileOf, StartServer
from end_to_end.mailing import MOVABLE_CLOCK, SHORTER, body, operate, queue, section, with_start_code
from end_to_end.server_process import ServerProcess
from mail.smtp_server import MailHost, Received

from securedelivery.client import Client

STOCK = {"CPU-1": 10_000, "GPU-1": 10_000}  # 19.99 each
HOME = "7 Ærø Lane\n5970 Ærøskøbing"

Enter = Callable[..., Client]
Serve = Callable[..., ServerProcess]


@pytest.fixture
def receipts(tmp_path: Path) -> Iterator[MailHost]:
    with MailHost(tmp_path / "receipts") as host:
        yield host


@pytest.fixture
def summaries(tmp_path: Path) -> Iterator[MailHost]:
    with MailHost(tmp_path / "summaries", security="tls", users={"months": "another password"}) as host:
        yield host


@pytest.fixture
def serve(start_server: StartServer, receipts: MailHost, tmp_path: Path) -> Serve:
    """Call it with sections of settings beside that of the receipts; code: what its process runs first."""

    def start(sections: dict[str, dict[str, Any]] | None = None, *, code: str = SHORTER) -> ServerProcess:
        settings = {"shop": {"name": "Parts & Co"}, "mail.receipts": section(receipts.server(), tmp_path)}
        return start_server(settings | (sections or {}), stock=STOCK, variables=with_start_code(tmp_path, code))

    return start


@pytest.fixture
def enter(profile_of: ProfileOf) -> Iterator[Enter]:
    """Call it with a server, a username and what the new account has."""
    clients: list[Client] = []

    def customer(server: ServerProcess, who: str, **known: str) -> Client:
        clients.append(Client(profile_of(server.address, who)))
        clients[-1].create_account(who, address=HOME, **known)
        return clients[-1]

    yield customer
    for client in clients:
        client.close()


def subjects(mails: list[Received]) -> list[str]:
    return [str(mail.message["Subject"]) for mail in mails]


def test_every_step_of_an_order_is_told(serve: Serve, enter: Enter, receipts: MailHost) -> None:
    server = serve()
    began = datetime.now(UTC).replace(microsecond=0)
    jorg = enter(server, "jorg", name="Jörg Ærø, <jun.>", email="jörg@post.example")
    placed = jorg.place_order([("GPU-1", 2), ("CPU-1", 1)])

    (mail,) = receipts.wait(1)
    assert (mail.sender, mail.recipients, mail.login) == ("orders@shop.example", ["jörg@post.example"], "shop")
    assert mail.tls is not None
    assert "SMTPUTF8" in mail.options
    message = mail.message
    assert str(message["Subject"]) == f"Your order {placed.order} at Parts & Co"
    assert str(message["From"]) == "Parts & Co <orders@shop.example>"
    assert message["Reply-To"].addresses == message["From"].addresses
    (to,) = message["To"].addresses
    assert to.display_name == "Jörg Ærø, <jun.>"
    assert "<jörg@post.example>\r\n".encode() in mail.raw  # which Python's parser does not read as UTF-8
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["List-Unsubscribe"] is None
    assert began <= parsedate_to_datetime(str(message["Date"])) <= datetime.now(UTC)
    assert re.fullmatch(r"<order-placed\.\d+\.[0-9a-f]{16}@shop\.example>", str(message["Message-ID"]))
    assert message.get_content_type() == "multipart/alternative"
    code = jorg.order(placed.order).delivery_code
    assert code is not None
    for kind in ("plain", "html"):
        text = re.sub("<[^<>]*>", "", body(message, kind)) if kind == "html" else body(message, kind)
        for told in ("Part GPU-1", "part CPU-1", "39.98", "19.99", "59.97", "Ærø Lane", f"order show {placed.order}"):
            assert told.lower() in text.lower(), (kind, told)
        assert str(placed.points_earned) in text
        assert code not in text
    assert "<jun.>" in body(message)
    assert "&lt;jun.&gt;" in body(message, "html")

    # By an operator's command, which has been told nothing of mail.
    number = str(placed.order)
    operate(server, "account", "create", "kim", "--role", "courier", "--certs", str(server.certs))
    for status in ("confirmed", "packed"):
        operate(server, "order", "advance", number, status)
    operate(server, "order", "advance", number, "out_for_delivery", "--courier", "kim")
    operate(server, "order", "advance", number, "delivered", "--note", "left with a neighbour")
    _, delivered = receipts.wait(2)
    assert str(delivered.message["Subject"]) == f"Your order {number} at Parts & Co is delivered"
    operate(server, "order", "advance", number, "returned", "--note", "Unopened & whole.")
    *_, returned = receipts.wait(3)
    assert str(returned.message["Subject"]) == f"Your order {number} at Parts & Co has come back"
    assert "59.97" in body(returned.message)
    assert "Unopened & whole." in body(returned.message)

    second = jorg.place_order([("CPU-1", 1)])
    jorg.cancel_order(second.order, "changed my mind")
    *_, one, other = receipts.wait(5)
    assert subjects([one, other]) == [
        f"Your order {second.order} at Parts & Co",
        f"Your order {second.order} at Parts & Co is cancelled",
    ]
    server.stop()
    assert len({str(mail.message["Message-ID"]) for mail in receipts.messages}) == len(receipts.messages) == 5
    assert all(mail.recipients == ["jörg@post.example"] for mail in receipts.messages)
    for secret in ("post.example", "Jörg", "a password of the tests", code):
        assert secret not in server.log.text


def test_nobody_gets_mail_who_wants_none_or_gave_no_address(serve: Serve, enter: Enter, receipts: MailHost) -> None:
    server = serve()
    nowhere = enter(server, "nora")
    silent = enter(server, "silas", email="silas@post.example")
    silent.update_account(receipts=False)
    late = enter(server, "lara", email="lara@post.example")
    wanted = enter(server, "walt", email="walt@post.example")
    nowhere.place_order([("CPU-1", 1)])
    silent.cancel_order(silent.place_order([("CPU-1", 1)]).order)
    receipts.fail("RCPT", "451 4.3.0 later", only="lara@")
    late.place_order([("CPU-1", 1)])
    server.log.wait_for("mail waits")
    late.update_account(receipts=False)
    server.log.wait_for("mail withdrawn")
    placed = wanted.place_order([("CPU-1", 1)])
    receipts.wait(1)
    silent.update_account(receipts=True)
    again = silent.place_order([("CPU-1", 1)])
    receipts.wait(2)
    server.stop()
    assert [(mail.recipients, str(mail.message["Subject"])) for mail in receipts.messages] == [
        (["walt@post.example"], f"Your order {placed.order} at Parts & Co"),
        (["silas@post.example"], f"Your order {again.order} at Parts & Co"),
    ]
    assert [row["state"] for row in queue(server, "withdrawn")] == ["withdrawn"]


def set_ahead(path: Path, seconds: float) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(str(seconds))
    beside.rename(path)


def test_the_month_is_told_over_the_other_server(
    serve: Serve, enter: Enter, receipts: MailHost, summaries: MailHost, tmp_path: Path
) -> None:
    ahead = tmp_path / "ahead"
    set_ahead(ahead, 0)
    server = serve(
        {
            "mail": {"operator": "Olga <olga@shop.example>", "time_zone": "Europe/Berlin", "hour": 6},
            "mail.summaries": section(summaries.server(sender="months@shop.example"), tmp_path),
        },
        code=MOVABLE_CLOCK.format(path=str(ahead)) + SHORTER,
    )
    mona = enter(server, "mona", name="Mona Ünal", email="mona@post.example")
    idle = enter(server, "ida", email="ida@post.example")
    unwilling = enter(server, "ulf", email="ulf@post.example")
    unwilling.update_account(summaries=False)
    for customer in (mona, unwilling):
        customer.place_order([("GPU-1", 3)])
    receipts.wait(2)
    month = datetime.now(UTC)
    due = (month.replace(day=28, hour=0) + timedelta(days=5)).replace(day=1, hour=7)
    set_ahead(ahead, (due - month).total_seconds())

    mails = summaries.wait(2)
    by_recipient = {mail.recipients[0]: mail for mail in mails}
    assert by_recipient.keys() == {"mona@post.example", "olga@shop.example"}
    hers, olgas = by_recipient["mona@post.example"], by_recipient["olga@shop.example"]
    assert (hers.sender, hers.login) == ("months@shop.example", "months")
    assert hers.tls is not None
    assert not summaries.heard("STARTTLS")
    link = str(hers.message["List-Unsubscribe"])
    assert link == "<mailto:months@shop.example?subject=unsubscribe%20mona>"
    assert olgas.message["List-Unsubscribe"] is None
    for mail, told in ((hers, "59.97"), (olgas, "119.94")):
        assert f"{month:%Y}" in str(mail.message["Subject"])
        assert told in body(mail.message)
        assert told in body(mail.message, "html")

    # By hand, for a month before the route came into use, and that the housekeeper does not tell of.
    before = (month.replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
    server.admin("report", "monthly", "--month", before, "--account", "ida", "--send")
    *_, by_hand = summaries.wait(3)
    assert by_hand.recipients == ["ida@post.example"]
    assert idle.account().username == "ida"
    server.stop()  # not killed, or the last mail might come twice
    server.start(port=server.address[1])  # which looks what is due at once, and finds nothing
    last = mona.place_order([("CPU-1", 1)])
    *_, receipt = receipts.wait(3)
    assert subjects([receipt]) == [f"Your order {last.order} at Parts & Co"]
    server.stop()
    assert len(summaries.messages) == 3
    assert len(receipts.messages) == 3


def test_without_starttls_nothing_is_said_and_all_waits(serve: Serve, enter: Enter, receipts: MailHost) -> None:
    receipts.offers_starttls = False
    server = serve()
    customer = enter(server, "tess", email="tess@post.example")
    placed = customer.place_order([("CPU-1", 1)])
    said = server.log.wait_for("mail does not leave")
    assert "STARTTLS" in said
    receipts.wait_until(lambda: receipts.connections >= 3, "tries")
    assert not receipts.logins
    for command in ("AUTH", "MAIL", "RCPT", "DATA"):
        assert not receipts.heard(command)
    (row,) = queue(server, "waiting", "sending")
    assert (row["kind"], row["order"], row["interrupted"]) == ("order_placed", placed.order, 0)
    receipts.offers_starttls = True
    (mail,) = receipts.wait(1)
    assert mail.tls is not None
    assert subjects([mail]) == [f"Your order {placed.order} at Parts & Co"]


def test_while_the_mail_server_is_down_orders_go_on_and_mail_waits(
    serve: Serve, enter: Enter, receipts: MailHost
) -> None:
    receipts.stop()
    server = serve()
    customer = enter(server, "dora", email="dora@post.example")
    placed = [customer.place_order([("CPU-1", 1)]).order for _ in range(20)]
    server.log.wait_for("mail does not leave")
    server.kill()
    server.start(port=server.address[1])
    customer.place_order([("CPU-1", 1)])
    receipts.start()
    mails = receipts.wait(21)
    assert sorted(subjects(mails)) == sorted(f"Your order {one} at Parts & Co" for one in (*placed, placed[-1] + 1))
    assert receipts.connections == 1, "one session for all of them"
    assert server.log.text.count("mail does not leave") <= 1


def test_an_address_that_the_mail_server_cannot_take(serve: Serve, enter: Enter, receipts: MailHost) -> None:
    receipts.utf8 = False
    server = serve()
    abroad = enter(server, "anna", name="Анна", email="анна@почта.example")
    lost = abroad.place_order([("CPU-1", 1)])
    failed = server.log.wait_for("mail failed")
    assert "почта" not in failed
    home = enter(server, "bert", name="Бэрт", email="bert@почта.example")
    placed = home.place_order([("CPU-1", 1)])
    (mail,) = receipts.wait(1)
    assert mail.recipients == ["bert@xn--80a1acny.example"]
    assert mail.message["To"].addresses[0].display_name == "Бэрт"
    assert mail.raw.isascii()
    assert subjects([mail]) == [f"Your order {placed.order} at Parts & Co"]
    (row,) = queue(server, "failed")
    assert row["order"] == lost.order
    assert "SMTPUTF8" in row["answer"]
    receipts.utf8 = True
    receipts.wait_until(lambda: not receipts.open, "the session's end")  # at its beginning it said what it offers
    operate(server, "mail", "retry", str(row["number"]))
    *_, mail = receipts.wait(2)
    assert mail.recipients == ["анна@почта.example".replace("почта", "xn--80a1acny")]


def test_a_slow_mail_server_delays_no_order_and_no_end(serve: Serve, enter: Enter, receipts: MailHost) -> None:
    receipts.fail("MESSAGE", "250 2.0.0 Ok", then="hang", keep=True)
    server = serve()
    customer = enter(server, "hugo", email="hugo@post.example")
    first = customer.place_order([("CPU-1", 1)])
    receipts.wait(1)
    placed = [customer.place_order([("CPU-1", 1)]).order for _ in range(10)]
    customer.close()
    code, seconds = server.stop()
    assert code == 0
    assert seconds < 10
    receipts.mend()
    server.start()
    mails = receipts.wait(12)
    assert sorted(subjects(mails)) == sorted(
        f"Your order {one} at Parts & Co" for one in (first.order, first.order, *placed)
    )
    twice = [mail.raw for mail in mails if subjects([mail]) == subjects(mails[:1])]
    assert twice == [mails[0].raw] * 2, "nobody knows what became of the first: the same once more"
    server.log.wait_for("maybe not for the first time")
    server.stop()
    rows = queue(server, "sent")
    assert [row["interrupted"] for row in rows] == [1] + [0] * 10
