"""From a mail to the web page and back: a real server process, a real mail server, and a mail provider's POST."""

import re
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from end_to_end.customers import ProfileOf, StartServer
from end_to_end.mailing import MOVABLE_CLOCK, SHORTER, body, queue, section, with_start_code
from end_to_end.server_process import ServerProcess
from mail.smtp_server import MailHost, Received

from securedelivery.client import Client

PUBLIC = "https://parts.example.org"
STOCK = {"CPU-1": 10_000}
LINK = re.compile(rf"{PUBLIC}(/mail/off\?token=[A-Za-z0-9_-]{{32}})")

Months = Callable[[int], None]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[MailHost]:
    with MailHost(tmp_path / "mail") as host:
        yield host


@pytest.fixture
def months(tmp_path: Path) -> Months:
    """Call it with how many months the server's clock is to be ahead, on the first of which summaries are due."""
    path = tmp_path / "ahead"
    path.write_text("0")
    began = datetime.now(UTC)

    def go(count: int) -> None:
        first = began
        for _ in range(count):
            first = (first.replace(day=28) + timedelta(days=5)).replace(day=1, hour=9)
        beside = path.with_suffix(".new")
        beside.write_text(str((first - began).total_seconds()))
        beside.rename(path)

    return go


@pytest.fixture
def server(start_server: StartServer, host: MailHost, months: Months, tmp_path: Path) -> ServerProcess:
    months(0)
    settings = {
        "shop": {"name": "Parts & Co"},
        "web": {"listen": "127.0.0.1:0", "public_url": PUBLIC},
        "mail.receipts": section(host.server(), tmp_path),
        "mail.summaries": section(host.server(), tmp_path),
    }
    code = MOVABLE_CLOCK.format(path=str(tmp_path / "ahead")) + SHORTER
    return start_server(settings, stock=STOCK, variables=with_start_code(tmp_path, code))


@pytest.fixture
def web(server: ServerProcess, certs: Path) -> Iterator[httpx.Client]:
    """A mail provider's program: no cookies, no certificate. It has the address of the machine from its own DNS."""
    line = server.process.stdout.readline()
    found = re.fullmatch(r"web on https://127\.0\.0\.1:(\d+)\n", line)
    assert found is not None, line
    context = ssl.create_default_context(cafile=certs / "ca.crt")
    with httpx.Client(base_url=f"https://localhost:{found[1]}", verify=context, timeout=20, trust_env=False) as client:
        yield client


@pytest.fixture
def customers(server: ServerProcess, profile_of: ProfileOf) -> Iterator[tuple[Client, Client]]:
    """Nora, who is going to want less, and Otto, who gets all of it."""
    clients = [Client(profile_of(server.address, name)) for name in ("nora", "otto")]
    for client, name in zip(clients, ("nora", "otto"), strict=True):
        client.create_account(name, address="1 Quay", name=f"{name.title()} <b>&</b>", email=f"{name}@post.example")
    yield clients[0], clients[1]
    for client in clients:
        client.close()


def to(host: MailHost, name: str, subject: str) -> list[Received]:
    return [
        mail
        for mail in host.messages
        if mail.recipients == [f"{name}@post.example"] and subject in str(mail.message["Subject"])
    ]


def test_the_next_month_is_not_told_to_whoever_has_clicked_once(
    server: ServerProcess,
    host: MailHost,
    months: Months,
    web: httpx.Client,
    customers: tuple[Client, Client],
) -> None:
    nora, otto = customers
    for one in customers:
        one.place_order([("CPU-1", 1)])
    host.wait(2)
    months(1)
    host.wait(4)
    (told,) = to(host, "nora", "Your ")[1:]
    assert told.message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    first, second = str(told.message["List-Unsubscribe"]).split(", ")
    assert second.startswith("<mailto:")
    link = LINK.fullmatch(first[1:-1])
    assert link is not None, first
    for kind in ("plain", "html"):
        assert first[1:-1] in body(told.message, kind)
        assert f"{PUBLIC}/orders" in body(told.message, kind)
        assert f"{PUBLIC}/account" in body(told.message, kind)
    assert "Nora <b>" not in body(told.message, "html")
    assert web.get(link[1]).status_code == 200  # a program that looks the mail through
    assert nora.account().mail.summaries
    answer = web.post(link[1], data={"List-Unsubscribe": "One-Click"})
    assert answer.status_code == 200
    assert (nora.account().mail.summaries, otto.account().mail.summaries) == (False, True)

    for one in customers:
        one.place_order([("CPU-1", 2)])
    host.wait(6)  # receipts go on
    months(2)
    host.wait(7)
    server.stop()  # so that nothing is on its way any more
    assert len(to(host, "otto", "Your ")) == 4
    assert len(to(host, "nora", "Your ")) == 3
    assert len(host.messages) == 7
    assert [row for row in queue(server, "waiting", "sending", "failed") if row] == []


def test_receipts_lead_to_their_orders_and_out(
    server: ServerProcess, host: MailHost, web: httpx.Client, customers: tuple[Client, Client]
) -> None:
    nora, otto = customers
    order = nora.place_order([("CPU-1", 1)])
    (receipt,) = host.wait(1)
    assert receipt.message["List-Unsubscribe"] is None
    for kind in ("plain", "html"):
        assert f"{PUBLIC}/orders/{order.order}" in body(receipt.message, kind)
    assert web.get(f"/orders/{order.order}").status_code == 303  # there is that page, for whoever logs in
    links = set(LINK.findall(body(receipt.message)) + LINK.findall(body(receipt.message, "html")))
    assert len(links) == 1
    assert web.post(links.pop()).status_code == 200
    assert not nora.account().mail.receipts
    nora.cancel_order(order.order)
    nora.place_order([("CPU-1", 1)])
    otto.place_order([("CPU-1", 1)])
    host.wait(2)
    server.stop()
    assert [mail.recipients for mail in host.messages] == [["nora@post.example"], ["otto@post.example"]]
