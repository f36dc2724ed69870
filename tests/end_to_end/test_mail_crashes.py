"""SIGKILL at random moments, of the shop and of its mail server: no receipt is lost, what came twice can be seen."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from end_to_end.bookkeeping import Books
from end_to_end.customers import Record, RingOf, StartServer, log_in, order
from end_to_end.mailing import SHORTER, queue, section, with_start_code
from end_to_end.server_process import ServerProcess
from mail.smtp_server import MailHost, MailProcess, Received
from wire_client import ConnectionEnded, WireClient

KILLS = 7  # each of the five ways at least once
CUSTOMERS = ("greta", "hanno")
CONNECTIONS_EACH = 2
PIPELINED = 2
ORDERS_EACH = 20  # of a connection: orders are faster than mail
STOCK = {"CPU-1": 1_000_000}
DELIVERY_SECONDS = 30.0


class Load(threading.Thread):
    """One connection that orders ORDERS_EACH times or until it ends under it. answered: counts over all of them."""

    def __init__(self, client: WireClient, chance: random.Random, answered: threading.Semaphore) -> None:
        super().__init__()
        self.acknowledged: list[int] = []
        self._client = client
        self._chance = chance
        self._answered = answered
        self.surprise: Exception | None = None

    def run(self) -> None:
        try:
            for _ in range(ORDERS_EACH // PIPELINED):
                wanted = [order(f"{self._chance.getrandbits(64):016x}", CPU_1=1) for _ in range(PIPELINED)]
                for number in self._client.send_all(*[("order.place", one) for one in wanted]):
                    self.acknowledged.append(self._client.answer(number)["order"])
                    self._answered.release()
        except ConnectionEnded:
            pass  # as planned
        except Exception as error:  # noqa: BLE001 -- raised again on the test's thread
            self.surprise = error


class Shop:
    """A server with customers who have addresses. acknowledged: the orders' numbers."""

    def __init__(self, server: ServerProcess, ring: RingOf, chance: random.Random) -> None:
        self.server = server
        self.books = Books(server.database)
        self.acknowledged: list[int] = []
        self._ring = ring
        self._chance = chance
        self._loads: list[Load] = []
        for name in CUSTOMERS:
            with log_in(server, name, ring(name)) as client:
                client.call("account.update", email=f"{name}@post.example")

    def work(self, answers: int) -> None:
        """Returns after so many answers, while it goes on."""
        answered = threading.Semaphore(0)
        for name in CUSTOMERS * CONNECTIONS_EACH:
            client = log_in(self.server, name, self._ring(name))
            self._loads.append(Load(client, random.Random(self._chance.getrandbits(64)), answered))
            self._loads[-1].start()
        for _ in range(answers):
            assert answered.acquire(timeout=30)

    def kill(self) -> None:
        """The server, and with it the work."""
        self.server.kill()
        for load in self._loads:
            load.join()
            if load.surprise is not None:
                raise load.surprise
            self.acknowledged += load.acknowledged
        self._loads.clear()
        self.server.check_log()

    def wait_for_delivery(self) -> None:
        """Until nothing waits any more."""
        until = time.monotonic() + DELIVERY_SECONDS
        while left := self.books.rows("SELECT state, count(*) FROM outbox WHERE state <> 'sent' GROUP BY state"):
            assert time.monotonic() < until, f"{left}\n{self.server.log.text[-3000:]}"
            threading.Event().wait(0.05)  # the database tells nobody

    def check(self, mails: list[Received]) -> Counter[str]:
        """Each order of the database has its receipt; by Message-ID, how often it came."""
        numbers = sorted(self.books.orders().values())
        assert set(self.acknowledged) <= set(numbers)
        assert [row[0] for row in self.books.rows("SELECT order_id FROM outbox ORDER BY order_id")] == numbers
        told: dict[str, Received] = {}
        times: Counter[str] = Counter()
        by_subject: dict[str, str] = {}
        for mail in mails:
            message = mail.message
            identity = str(message["Message-ID"])
            times[identity] += 1
            assert told.setdefault(identity, mail).raw == mail.raw, "what came twice is the same"
            assert by_subject.setdefault(str(message["Subject"]), identity) == identity
        assert by_subject.keys() == {f"Your order {number} at securedelivery" for number in numbers}
        rows = {f"<order-placed.{row['number']}.": row for row in self._queue()}
        for identity, count in times.items():
            row = rows[identity[: identity.rindex(".", 0, identity.index("@")) + 1]]
            assert row["interrupted"] >= count - 1, (identity, count, row)
        assert self.books.faults(STOCK) == []
        return times

    def _queue(self) -> list[dict[str, Any]]:
        return queue(self.server, "sent")


OpenShop = Callable[[MailHost | MailProcess], Shop]


@pytest.fixture
def chance() -> random.Random:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # noqa: T201 -- pytest shows it with a failure
    return random.Random(seed)


@pytest.fixture
def mail_host(tmp_path: Path) -> Iterator[MailHost]:
    with MailHost(tmp_path / "mail") as host:
        yield host


@pytest.fixture
def mail_process(tmp_path: Path) -> Iterator[MailProcess]:
    with MailProcess(tmp_path / "mail", faults=[("MESSAGE", "451 4.3.0 later", 1)]) as process:
        yield process


@pytest.fixture
def open_shop(start_server: StartServer, ring: RingOf, chance: random.Random, tmp_path: Path) -> OpenShop:
    """Call it with the mail server."""

    def start(mail: MailHost | MailProcess) -> Shop:
        settings = {"mail.receipts": section(mail.server(), tmp_path)}
        server = start_server(settings, stock=STOCK, variables=with_start_code(tmp_path, SHORTER))
        return Shop(server, ring, chance)

    return start


@pytest.mark.timeout(180)
def test_no_receipt_is_lost_when_the_shop_is_killed(
    open_shop: OpenShop, mail_host: MailHost, chance: random.Random, record_property: Record
) -> None:
    shop = open_shop(mail_host)
    accepted_unheard = 0
    for kill in range(KILLS):
        hung = None
        match kill % 5:
            case 0:  # killed when the mail was accepted, and the shop has not heard of it
                hung = "MESSAGE"
                mail_host.fail("MESSAGE", "250 2.0.0 Ok", then="hang", keep=True)
            case 1:  # killed before the mail's text
                hung = "DATA"
                mail_host.fail("DATA", "354 go on", then="hang")
            case 2:  # killed while the server takes its time with every answer
                mail_host.fail("MESSAGE", "250 2.0.0 Ok", times=None, keep=True, pace_seconds=0.002)
        before = len(mail_host.heard(hung)) if hung else 0
        shop.work(chance.randint(1, 60))
        if hung is not None:
            mail_host.wait_for(hung, before + 1)
            accepted_unheard += hung == "MESSAGE"
        threading.Event().wait(chance.uniform(0, 0.05))  # or it would always be the same moment behind a commit
        shop.kill()
        mail_host.mend()
        shop.server.start()
    shop.wait_for_delivery()
    times = shop.check(mail_host.messages)
    twice = sum(count - 1 for count in times.values())
    assert twice >= accepted_unheard > 0
    assert twice <= KILLS, "of one mail at a time nobody knows"
    record_property("receipts", len(times))
    record_property("came_twice", twice)


@pytest.mark.timeout(180)
def test_no_receipt_is_lost_when_the_mail_server_is_killed(
    open_shop: OpenShop, mail_process: MailProcess, chance: random.Random, record_property: Record
) -> None:
    """Each time that it comes up it refuses one mail for now. Every third time the shop goes with it."""
    shop = open_shop(mail_process)
    for kill in range(KILLS):
        there = len(mail_process.stored())
        shop.work(chance.randint(1, 40))
        mail_process.wait(there + chance.randint(1, 20))
        threading.Event().wait(chance.uniform(0, 0.01))  # or it would always be the same moment behind an answer
        mail_process.kill()
        if kill % 3 == 2:
            shop.kill()
            shop.server.start()
        mail_process.start()
    shop.work(1)
    shop.wait_for_delivery()
    shop.kill()
    shop.server.start()
    shop.wait_for_delivery()
    times = shop.check(mail_process.stored())
    record_property("receipts", len(times))
    record_property("came_twice", sum(count - 1 for count in times.values()))
