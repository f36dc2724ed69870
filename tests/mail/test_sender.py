"""The sender's thread, with real mail servers; the clock of the outbox stands still until it is moved."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.message import EmailMessage
from functools import partial
from pathlib import Path

import pytest
from mail.smtp_server import PATIENCE_SECONDS, MailHost, RawHost, never_answers, no_smtp
from service.shop import Clock, Shop
from structlog.testing import capture_logs

from securedelivery.errors import ConfigurationError, DamagedRow, NotYet, StoreError, Undeliverable, Unwanted
from securedelivery.mail import sender as module
from securedelivery.mail.sender import Sender, _doubled
from securedelivery.mail.settings import MailServer
from securedelivery.mail.smtp import Session
from securedelivery.model import MailRoute, MailState
from securedelivery.service.outbox import LEASE
from securedelivery.service.rewards import RewardRules
from securedelivery.store.engine import Database
from securedelivery.store.outbox import OutboxRow

RECEIPTS = MailRoute.RECEIPTS


class Queue:
    """A shop whose only customer wants receipts, and the words of its mail."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.shop = Shop(database, Clock(), RewardRules(), folder / "names.txt", receipts=True)
        self.shop.stock(("A", 1000, 100_000))
        self.customer = self.shop.customer("grete")
        self.shop.alter(self.customer, email="grete@home.example")
        self.outbox = self.shop.outbox

    def add(self, count: int = 1) -> None:
        self.shop.place_batch([self.shop.command(self.customer, ("A", 1)) for _ in range(count)])

    def compose(self, row: OutboxRow) -> EmailMessage:
        message = EmailMessage()
        message["From"] = "orders@shop.example"
        message["To"] = "grete@home.example"
        message["Subject"] = f"mail {row.id}"
        message["Message-ID"] = f"<{row.id}@shop.example>"
        message.set_content("hello")
        return message

    def sender(
        self, server: MailServer, node: str = "n1", compose: Callable[[OutboxRow], EmailMessage] | None = None
    ) -> Sender:
        session = partial(Session, server, section="mail.receipts")
        return Sender(RECEIPTS, self.outbox, compose or self.compose, session, node, dice=lambda: 0.5)

    def row(self, number: int = 1) -> OutboxRow:
        return {row.id: row for row in self.outbox.page(MailState, limit=1000)[0]}[number]

    def states(self) -> list[MailState]:
        return [row.state for row in self.outbox.page(MailState, limit=1000)[0]]


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with Database.open(f"sqlite:///{tmp_path}/shop.db") as database:
        yield Queue(database, tmp_path)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[MailHost]:
    with MailHost(tmp_path / "mail") as host:
        yield host


@contextmanager
def running(*senders: Sender) -> Iterator[None]:
    for one in senders:
        one.start()
    try:
        yield
    finally:
        for one in senders:
            one.stop()


def until(so: Callable[[], bool], what: str) -> None:
    """What happens behind a mail server's back: the database is asked again and again, for a bounded time."""
    ticking = threading.Event()
    for _ in range(int(PATIENCE_SECONDS / 0.01)):
        if so():
            return
        ticking.wait(0.01)
    pytest.fail(f"{what}: not within {PATIENCE_SECONDS} s")


def test_what_was_waiting_goes_out_over_one_session(queue: Queue, host: MailHost) -> None:
    queue.add(5)
    with running(queue.sender(host.server())):
        got = host.wait(5)
    assert [each.message["Subject"] for each in got] == [f"mail {number}" for number in range(1, 6)]
    assert (host.connections, host.logins) == (1, 1)
    assert host.heard("QUIT")
    assert queue.states() == [MailState.SENT] * 5
    assert str(queue.row().answer).startswith("250 ")


def test_wake_and_the_same_session_again(queue: Queue, host: MailHost) -> None:
    sender = queue.sender(host.server())
    with running(sender):
        for number in range(1, 4):
            queue.add()
            sender.wake()
            host.wait(number)
    assert host.connections == 1


def test_what_another_process_has_queued_is_found(
    queue: Queue, host: MailHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    with running(queue.sender(host.server())):
        queue.add()  # nobody wakes the sender
        host.wait(1)


def test_an_idle_session_ends(queue: Queue, host: MailHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.0)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    queue.add()
    with running(queue.sender(host.server())):
        host.wait_for("QUIT")
        assert host.connections == 1
        queue.add()
        host.wait(2)
    assert host.connections == 2


def test_a_session_carries_so_many_messages(queue: Queue, host: MailHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MESSAGES", 2)
    queue.add(5)
    with running(queue.sender(host.server())):
        got = host.wait(5)
    assert [each.connection for each in got] == [1, 1, 2, 2, 3]


def test_refused_for_good_and_the_others_leave(queue: Queue, host: MailHost) -> None:
    host.fail("RCPT", "550 5.1.1 <grete@home.example> no such user", times=1)
    queue.add(2)
    with capture_logs() as logs, running(queue.sender(host.server())):
        host.wait(1)
    assert queue.states() == [MailState.FAILED, MailState.SENT]
    assert queue.row().answer == "550 5.1.1 <grete@home.example> no such user"
    assert [each["event"] for each in logs] == ["! mail failed", "> mail sent"]
    assert "grete@" not in repr(logs)


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA", "MESSAGE"])
def test_refused_for_now_comes_again_with_growing_pauses(queue: Queue, host: MailHost, command: str) -> None:
    host.fail(command, "452 4.3.1 not now", times=3)
    queue.add()
    sender = queue.sender(host.server())
    pauses = []
    with running(sender):
        for tries in range(1, 4):
            until(lambda tries=tries: queue.row().attempts == tries and queue.row().state is MailState.WAITING, "try")
            pauses.append(queue.outbox.seconds_to_next(RECEIPTS))
            queue.shop.clock.forward(seconds=pauses[-1] or 0)
            sender.wake()
        host.wait(1)
    assert pauses == [30, 60, 120]
    assert (queue.row().attempts, queue.row().interrupted, queue.states()) == (4, 0, [MailState.SENT])


def test_the_server_says_goodbye_and_is_called_again(
    queue: Queue, host: MailHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUTE_PAUSE", timedelta(milliseconds=10))
    host.fail("MAIL", "421 4.3.2 going down", times=1, then="close")
    queue.add(2)
    sender = queue.sender(host.server())
    with running(sender):
        host.wait(1)
        queue.shop.clock.forward(seconds=30)
        sender.wake()
        host.wait(2)
    assert queue.states() == [MailState.SENT, MailState.SENT]
    assert host.connections == 2


def test_the_line_is_lost_behind_data(queue: Queue, host: MailHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been taken, and was: the second has the same Message-ID, and the row tells of it."""
    monkeypatch.setattr(module, "ROUTE_PAUSE", timedelta(milliseconds=20))
    host.fail("MESSAGE", None, times=1, then="close", keep=True)
    queue.add()
    sender = queue.sender(host.server())
    with capture_logs() as logs, running(sender):
        until(lambda: queue.row().state is MailState.WAITING and queue.row().attempts == 1, "back in the queue")
        queue.shop.clock.forward(seconds=60)
        sender.wake()
        got = host.wait(2)
    assert len({each.message["Message-ID"] for each in got}) == 1
    assert (queue.row().interrupted, queue.row().state) == (1, MailState.SENT)
    assert [each["event"] for each in logs][-1] == "> mail sent, maybe not for the first time"


def test_no_server_fails_no_mail_and_all_leaves_when_it_is_back(
    queue: Queue, host: MailHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUTE_PAUSE", timedelta(milliseconds=20))
    monkeypatch.setattr(module, "LONGEST_ROUTE_PAUSE", timedelta(milliseconds=40))
    host.stop()
    queue.add(3)
    with capture_logs() as logs, running(queue.sender(host.server())):
        until(lambda: any("refused" in str(row.answer) for row in queue.outbox.page(MailState)[0]), "an answer")
        assert MailState.FAILED not in queue.states()
        host.start()
        queue.shop.clock.forward(minutes=1)
        host.wait(3)
    assert queue.states() == [MailState.SENT] * 3
    complaints = [each for each in logs if each["event"] == "! mail does not leave"]
    assert len(complaints) == 1  # however often it was tried
    assert complaints[0]["hint"]


def test_without_starttls_nothing_is_sent(tmp_path: Path, queue: Queue) -> None:
    queue.add()
    with MailHost(tmp_path / "bare", offers_starttls=False) as host, running(queue.sender(host.server())):
        until(lambda: "STARTTLS" in str(queue.row().answer), "an answer")
        assert not host.heard("MAIL")
    assert queue.states() == [MailState.WAITING]


def test_what_nobody_wants_or_can_be_written(queue: Queue, host: MailHost) -> None:
    errors = {
        1: Unwanted("wants none"),
        2: Undeliverable("no address"),
        3: DamagedRow("orders.address:3"),
        4: ConfigurationError("mail.templates", "broken"),
        5: NotYet("2026-10 is not over"),
    }

    def compose(row: OutboxRow) -> EmailMessage:
        if row.id in errors:
            raise errors[row.id]
        return queue.compose(row)

    queue.add(6)
    with running(queue.sender(host.server(), compose=compose)):
        host.wait(1)
    assert queue.states() == [MailState.WITHDRAWN, *[MailState.FAILED] * 3, MailState.WAITING, MailState.SENT]
    assert [queue.row(number).answer for number in (1, 2)] == ["wants none", "no address"]
    assert "orders.address:3" in str(queue.row(3).answer)
    assert queue.row(4).answer == "mail.templates: broken"
    assert queue.row(5).answer == "2026-10 is not over"


@pytest.mark.parametrize("error", [KeyError("a bug"), StoreError("no descriptors left"), RuntimeError("no new thread")])
def test_a_fault_of_the_moment_fails_nothing(
    queue: Queue, host: MailHost, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "ROUTE_PAUSE", timedelta(milliseconds=10))
    faults = iter([error] * 2)

    def compose(row: OutboxRow) -> EmailMessage:
        if (fault := next(faults, None)) is not None:
            raise fault
        return queue.compose(row)

    queue.add(3)
    sender = queue.sender(host.server(), compose=compose)
    with running(sender):
        host.wait(1)  # the third, while the others wait
        until(lambda: queue.states()[2] is MailState.SENT, "sent")
        assert queue.states()[:2] == [MailState.WAITING] * 2
        assert type(error).__name__ in str(queue.row().answer)
        queue.shop.clock.forward(seconds=60)
        sender.wake()
        host.wait(3)
    assert queue.states() == [MailState.SENT] * 3
    assert str(error) not in caplog.text  # it may quote an address
    assert type(error).__name__ in caplog.text


def test_421_has_the_route_pause(queue: Queue, host: MailHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or each mail that waits would bring a connection and a login."""
    monkeypatch.setattr(module, "ROUTE_PAUSE", timedelta(hours=1))
    host.fail("MAIL", "421 4.7.0 slow down", times=None, then="close")
    queue.add(20)
    with running(queue.sender(host.server())):
        until(lambda: queue.row().state is MailState.WAITING and queue.row().attempts == 1, "back in the queue")
    assert host.connections == 1
    assert [row.attempts for row in queue.outbox.page(MailState)[0]] == [1] + [0] * 19
    assert queue.row().answer == "421 4.7.0 slow down"


def test_what_may_have_arrived_comes_a_few_times_and_more_and_more_slowly(
    queue: Queue, host: MailHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUTE_PAUSE", timedelta(milliseconds=10))
    host.fail("MESSAGE", None, times=None, then="close", keep=True)
    queue.add()
    sender = queue.sender(host.server())
    pauses = []
    with running(sender):
        for tries in range(1, 5):
            until(lambda tries=tries: (queue.row().attempts, queue.row().state) == (tries, MailState.WAITING), "back")
            pauses.append(queue.outbox.seconds_to_next(RECEIPTS) or 0)
            queue.shop.clock.forward(seconds=pauses[-1])
        until(lambda: queue.states() == [MailState.FAILED], "given up")
    assert pauses == [30, 60, 120, 240]
    assert len(host.messages) == queue.row().interrupted == 5


def test_nothing_is_read_while_the_route_pauses(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.add()
    with RawHost(no_smtp) as host:
        sender = queue.sender(host.server())
        with running(sender):
            until(lambda: queue.row().attempts == 1 and queue.row().state is MailState.WAITING, "tried")
            monkeypatch.setattr(queue.outbox, "seconds_to_next", lambda _: pytest.fail("read"))
            for _ in range(100):
                sender.wake()


def test_the_operator_ends_a_pause(queue: Queue, host: MailHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUTE_PAUSE", timedelta(hours=1))
    host.fail("EHLO", "421 4.3.2 not now", times=1, then="close")
    queue.add()
    sender = queue.sender(host.server())
    with running(sender):
        until(lambda: queue.row().attempts == 1 and queue.row().state is MailState.WAITING, "tried")
        queue.outbox.retry([1])
        sender.wake()
        assert not host.messages
        sender.resume()
        host.wait(1)


def no_room_for_outcomes(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """From the first on, what becomes of a mail is not written down with the next claim. The event: that it came up."""
    monkeypatch.setattr(module, "ROUTE_PAUSE", timedelta(hours=1))
    full = threading.Event()
    following = queue.outbox.next

    def failing(route: MailRoute, node: str, ended: object = None) -> OutboxRow | None:
        if ended is not None:
            full.set()
            raise StoreError("nothing was written: disk full")
        return following(route, node)

    monkeypatch.setattr(queue.outbox, "next", failing)
    return full


def test_what_could_not_be_written_down_is_tried_once_more_at_the_end(
    queue: Queue, host: MailHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = no_room_for_outcomes(queue, monkeypatch)
    queue.add()
    with running(queue.sender(host.server())):
        assert full.wait(PATIENCE_SECONDS)
        assert queue.states() == [MailState.SENDING]
    assert queue.states() == [MailState.SENT]


def test_or_the_log_says_that_it_is_not(
    queue: Queue, host: MailHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = no_room_for_outcomes(queue, monkeypatch)

    def never(*_: object) -> None:
        raise StoreError("nothing was written: disk full")

    monkeypatch.setattr(queue.outbox, "settle", never)
    queue.add()
    with running(queue.sender(host.server())):
        assert full.wait(PATIENCE_SECONDS)
    assert "what became of mail 1 is not written down" in caplog.text
    assert queue.outbox.recover() == 1


def test_a_look_up_that_does_not_end_holds_up_no_stop(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.05)
    asked, answered = threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> list[object]:
        asked.set()
        answered.wait(PATIENCE_SECONDS)
        return []

    queue.add()
    sender = queue.sender(MailServer(host="mail.test", sender="orders@shop.example"))
    with monkeypatch.context() as patched:
        patched.setattr("securedelivery.mail.line.socket.getaddrinfo", slow)
        sender.start()
        assert asked.wait(PATIENCE_SECONDS)
        with capture_logs() as logs:
            sender.stop()
        assert "left behind" in logs[-1]["event"]
        answered.set()
        sender._thread.join(PATIENCE_SECONDS)


def test_an_address_that_the_server_cannot_take(tmp_path: Path, queue: Queue) -> None:
    def compose(row: OutboxRow) -> EmailMessage:
        message = queue.compose(row)
        del message["To"]
        message["To"] = "jürgen@home.example"
        return message

    queue.add()
    with MailHost(tmp_path / "old", utf8=False) as host, running(queue.sender(host.server(), compose=compose)):
        until(lambda: queue.states() == [MailState.FAILED], "failed")
    assert "SMTPUTF8" in str(queue.row().answer)


def test_stop_while_the_server_hangs(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.05)
    queue.add()
    with RawHost(never_answers) as host:
        sender = queue.sender(host.server())
        sender.start()
        until(lambda: queue.states() == [MailState.SENDING], "claimed")
        sender.stop()
    assert queue.states() == [MailState.WAITING]


def test_the_watchdog_ends_a_message_that_takes_too_long(
    queue: Queue, host: MailHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MESSAGE_SECONDS", 0.1)
    host.fail("RCPT", None, times=1, then="hang")
    queue.add()
    with running(queue.sender(host.server())):
        until(lambda: queue.row().state is MailState.WAITING and queue.row().attempts == 1, "given up")
    host.mend()
    assert queue.row().interrupted == 0


def test_stop_before_start_and_twice(queue: Queue, host: MailHost) -> None:
    sender = queue.sender(host.server())
    sender.stop()
    other = queue.sender(host.server())
    other.start()
    other.stop()
    other.stop()


def test_a_full_disk_has_nothing_sent_twice(queue: Queue, host: MailHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has become of a mail is kept until it can be written down."""
    monkeypatch.setattr(module, "ROUTE_PAUSE", timedelta(milliseconds=10))
    failures = iter([StoreError("nothing was written: disk full")] * 3)
    settle, following = queue.outbox.settle, queue.outbox.next

    def failing(call: Callable[..., object], *arguments: object) -> object:
        told = arguments[2] if len(arguments) == 3 else None  # what became of a mail
        if told is not None and (error := next(failures, None)):
            raise error
        return call(*arguments)

    monkeypatch.setattr(queue.outbox, "settle", partial(failing, settle))
    monkeypatch.setattr(queue.outbox, "next", partial(failing, following))
    logging.getLogger(module.__name__).addHandler(logging.NullHandler())
    queue.add()
    with running(queue.sender(host.server())):
        until(lambda: queue.states() == [MailState.SENT], "sent")
    assert len(host.messages) == 1
    assert queue.row().attempts == 1


def test_two_nodes_never_send_the_same(tmp_path: Path, queue: Queue, host: MailHost) -> None:
    count = 200
    queue.add(count)
    with Database.open(f"sqlite:///{tmp_path}/shop.db") as other_database:
        other = Queue.__new__(Queue)
        other.outbox = type(queue.outbox)(other_database, queue.shop.clock)
        with running(queue.sender(host.server(), "n1"), other.sender(host.server(), "n2")):
            got = host.wait(count, 60)
    assert sorted(int(str(each.message["Subject"]).split()[1]) for each in got) == list(range(1, count + 1))
    assert {1, 2} <= {each.connection for each in got}  # and a third, where one of them has sent a hundred
    assert all(row.attempts == 1 and not row.interrupted for row in queue.outbox.page(MailState, limit=1000)[0])


def test_pauses_double_up_to_a_limit() -> None:
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    assert [_doubled(minute, times, hour) for times in (0, 1, 5, 6, 1000)] == [
        minute, 2 * minute, 32 * minute, hour, hour,
    ]  # fmt: skip


def test_a_message_ends_well_before_its_lease() -> None:
    assert timedelta(seconds=module.MESSAGE_SECONDS) + 1.25 * module.LONGEST_ROUTE_PAUSE < LEASE


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("550 5.1.1 <otto@shop.test> unknown", {"code": "550 5.1.1"}),
        ("452 try later", {"code": "452"}),
        ("5501 otto@shop.test", {}),
        ("no address", {}),
    ],
)
def test_the_log_has_the_code_of_an_answer_and_no_more(answer: str, code: dict[str, str]) -> None:
    assert module.code_of(answer) == code


def test_the_log_has_where_a_fault_was_and_not_what_it_says() -> None:
    with pytest.raises(ValueError, match="otto") as raised:
        raise ValueError("cannot write to otto@shop.test")
    told = module.place_of(raised.value)
    assert told.startswith("ValueError at test_sender.py:")
    assert "otto" not in told
