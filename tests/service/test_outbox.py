"""The life of a mail."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from service.shop import Clock, Shop

from securedelivery.errors import Reason, Refusal
from securedelivery.model import MailRoute, MailState, timestamp
from securedelivery.service import outbox as module
from securedelivery.service.events import MailRetried
from securedelivery.service.outbox import KEPT, LEASE, MOST_UNCERTAIN, PATIENCE, Failed, Later, Outbox, Sent, Withdrawn
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session
from securedelivery.store import backup
from securedelivery.store import outbox as rows
from securedelivery.store.engine import Database, key_file
from securedelivery.store.outbox import OutboxRow
from securedelivery.store.vault import KeySource

RECEIPTS, SUMMARIES = MailRoute.RECEIPTS, MailRoute.SUMMARIES
MINUTE = timedelta(minutes=1)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Database.open(f"sqlite:///{tmp_path}/shop.db") as database:
        shop = Shop(database, Clock(), RewardRules(), tmp_path / "names.txt", receipts=True)
        shop.stock(("A", 1000, 10_000))
        yield shop


@pytest.fixture
def grete(shop: Shop) -> Session:
    session = shop.customer("grete")
    shop.alter(session, email="grete@home.example")
    return session


def one(shop: Shop, number: int = 1) -> OutboxRow:
    (row,) = [each for each in shop.outbox.page(MailState, limit=1000)[0] if each.id == number]
    return row


def claimed(shop: Shop, node: str = "n1", route: MailRoute = RECEIPTS) -> OutboxRow:
    row = shop.outbox.next(route, node)
    assert row is not None
    return row


def test_claimed_and_sent(shop: Shop, grete: Session) -> None:
    shop.place(grete, ("A", 1))
    row = claimed(shop)
    assert (row.state, row.attempts, row.interrupted) == (MailState.SENDING, 1, 0)
    assert row == one(shop)
    assert row.due_at == timestamp(shop.clock.now + LEASE)
    assert shop.outbox.next(RECEIPTS, "n1") is None
    assert shop.outbox.next(RECEIPTS, "n1", (row, Sent("250 2.0.0 Ok"))) is None
    sent = one(shop)
    assert (sent.state, sent.answer, sent.due_at) == (MailState.SENT, "250 2.0.0 Ok", timestamp(shop.clock.now))


def test_the_answer_is_sealed(shop: Shop, grete: Session) -> None:
    shop.place(grete, ("A", 1))
    shop.outbox.settle("n1", claimed(shop), Failed("550 <grete@home.example>: unknown"))
    assert one(shop).answer == "550 <grete@home.example>: unknown"
    ((cell,),) = shop.sql("SELECT answer FROM outbox")
    assert b"grete" not in bytes(cell)  # type: ignore[call-overload]


def test_settling_brings_the_next_in_one_transaction(shop: Shop, grete: Session) -> None:
    shop.place(grete, ("A", 1))
    shop.clock.forward(seconds=1)
    shop.place(grete, ("A", 1))
    first = claimed(shop)
    second = shop.outbox.next(RECEIPTS, "n1", (first, Sent("250 Ok")))
    assert second is not None
    assert [first.id, second.id] == [1, 2]
    assert [one(shop, number).state for number in (1, 2)] == [MailState.SENT, MailState.SENDING]


def test_the_routes_do_not_meet(shop: Shop, grete: Session) -> None:
    shop.place(grete, ("A", 1))
    assert shop.outbox.next(SUMMARIES, "n1") is None
    assert shop.outbox.seconds_to_next(SUMMARIES) is None
    assert shop.outbox.seconds_to_next(RECEIPTS) == 0


def test_later_is_due_after_its_pause(shop: Shop, grete: Session) -> None:
    shop.place(grete, ("A", 1))
    shop.outbox.settle("n1", claimed(shop), Later("451 later", MINUTE))
    assert shop.outbox.next(RECEIPTS, "n1") is None
    assert shop.outbox.seconds_to_next(RECEIPTS) == 60
    assert (one(shop).state, one(shop).answer, one(shop).interrupted) == (MailState.WAITING, "451 later", 0)
    shop.clock.forward(seconds=60)
    assert claimed(shop).attempts == 2


def test_a_loss_behind_data_is_marked(shop: Shop, grete: Session) -> None:
    shop.place(grete, ("A", 1))
    shop.outbox.settle("n1", claimed(shop), Later("lost", MINUTE, uncertain=True))
    assert one(shop).interrupted == 1


def test_withdrawn(shop: Shop, grete: Session) -> None:
    shop.place(grete, ("A", 1))
    shop.outbox.settle("n1", claimed(shop), Withdrawn("wants none"))
    assert (one(shop).state, one(shop).answer) == (MailState.WITHDRAWN, "wants none")


def test_another_node_gets_what_was_left_when_the_lease_is_over(shop: Shop, grete: Session) -> None:
    shop.place(grete, ("A", 1))
    old = claimed(shop, "n1")
    shop.clock.forward(seconds=LEASE.total_seconds() - 1)
    assert shop.outbox.next(RECEIPTS, "n2") is None
    assert shop.outbox.seconds_to_next(RECEIPTS) == 1
    shop.clock.forward(seconds=1)
    new = claimed(shop, "n2")
    assert (new.id, new.attempts, new.interrupted) == (old.id, 2, 1)
    # Who comes late changes nothing.
    shop.outbox.settle("n1", old, Failed("550 no"))
    assert one(shop).state is MailState.SENDING
    shop.outbox.settle("n2", new, Sent("250 Ok"))
    assert one(shop).state is MailState.SENT
    shop.outbox.settle("n1", old, Failed("550 no"))
    assert one(shop).state is MailState.SENT


def test_the_server_recovers_what_its_forerunner_was_sending(shop: Shop, grete: Session) -> None:
    for _ in range(3):
        shop.place(grete, ("A", 1))
    claimed(shop)
    sent = claimed(shop)
    shop.outbox.settle("n1", sent, Sent("250 Ok"))
    assert shop.outbox.recover() == 1
    assert [(one(shop, n).state, one(shop, n).interrupted) for n in (1, 2, 3)] == [
        (MailState.WAITING, 1), (MailState.SENT, 0), (MailState.WAITING, 0),
    ]  # fmt: skip
    assert shop.outbox.recover() == 0


def test_given_up_after_five_days_of_trying(shop: Shop, grete: Session) -> None:
    shop.place(grete, ("A", 1))
    shop.clock.forward(days=3)  # the server was down: these do not count
    shop.outbox.settle("n1", claimed(shop), Later("451 later", MINUTE))
    shop.clock.forward(seconds=PATIENCE.total_seconds() - 1)
    shop.outbox.settle("n1", claimed(shop), Later("451 later", MINUTE))
    assert one(shop).state is MailState.WAITING
    shop.clock.forward(minutes=1)
    shop.outbox.settle("n1", claimed(shop), Later("451 later", MINUTE, uncertain=True))
    row = one(shop)
    assert (row.state, row.answer, row.interrupted) == (MailState.FAILED, "given up after 5 days: 451 later", 1)
    assert shop.outbox.retry() == [1]  # from here on they count anew
    shop.outbox.settle("n1", claimed(shop), Later("450 greylisted", MINUTE))
    assert one(shop).state is MailState.WAITING


def test_what_may_have_arrived_is_not_sent_for_ever(shop: Shop, grete: Session) -> None:
    shop.place(grete, ("A", 1))
    for _ in range(MOST_UNCERTAIN - 1):
        shop.outbox.settle("n1", claimed(shop), Later("lost", timedelta(0), uncertain=True))
    assert one(shop).state is MailState.WAITING
    shop.outbox.settle("n1", claimed(shop), Later("lost", timedelta(0)))  # this one has certainly not
    assert one(shop).state is MailState.WAITING
    shop.outbox.settle("n1", claimed(shop), Later("lost", timedelta(0), uncertain=True))
    row = one(shop)
    assert (row.state, row.answer) == (MailState.FAILED, "given up, for it may have arrived 5 times: lost")


def test_a_clock_that_was_ahead_holds_nothing_up(shop: Shop, grete: Session) -> None:
    right = shop.clock.now
    shop.clock.forward(days=3650)
    shop.outbox.use([RECEIPTS])
    shop.place(grete, ("A", 1))
    shop.clock.now = right
    assert shop.outbox.next(RECEIPTS, "n1") is None
    shop.outbox.tidy()
    assert claimed(shop).id == 1
    shop.outbox.use([RECEIPTS])
    assert shop.outbox.uses() == {RECEIPTS: timestamp(right)}


def test_so_does_a_start(shop: Shop, grete: Session) -> None:
    right = shop.clock.now
    shop.clock.forward(days=3650)
    shop.place(grete, ("A", 1))
    shop.clock.now = right
    assert shop.outbox.recover() == 0
    assert claimed(shop).id == 1


def test_a_route_that_comes_back_after_long_holds_what_is_no_news(shop: Shop, grete: Session) -> None:
    shop.outbox.use([RECEIPTS])
    shop.place(grete, ("A", 1))
    shop.outbox.use([])
    shop.clock.now += PATIENCE
    shop.place(grete, ("A", 1))
    shop.clock.forward(seconds=1)
    shop.outbox.use([RECEIPTS])
    assert [(one(shop, n).state, one(shop, n).answer) for n in (1, 2)] == [
        (MailState.FAILED, module.STALE), (MailState.WAITING, None),
    ]  # fmt: skip
    assert shop.outbox.retry() == [1]
    assert claimed(shop).id == 2
    assert claimed(shop).id == 1


def test_retry(shop: Shop, grete: Session) -> None:
    outcomes = [Failed("550"), Sent("250"), Later("451", MINUTE), Withdrawn("no")]
    for _ in (*outcomes, None):
        shop.place(grete, ("A", 1))
    for outcome in outcomes:
        shop.outbox.settle("n1", claimed(shop), outcome)
    assert shop.outbox.retry() == [1]
    assert shop.outbox.retry() == []
    assert shop.outbox.retry([3, 4, 3]) == [3, 4]
    assert [one(shop, n).state for n in range(1, 6)] == [MailState.WAITING, MailState.SENT, *[MailState.WAITING] * 3]
    assert one(shop, 3).due_at == timestamp(shop.clock.now)
    claimed(shop)
    for number, what in ((2, "mail 2 is sent"), (1, "mail 1 is being sent"), (99, "there is no mail 99")):
        with pytest.raises(Refusal, match=what) as caught:
            shop.outbox.retry([3, number])
        assert caught.value.reason in (Reason.NOT_FOUND, Reason.ILLEGAL_TRANSITION)


def test_pages_counts_and_names(shop: Shop, grete: Session) -> None:
    for _ in range(5):
        shop.place(grete, ("A", 1))
    shop.outbox.settle("n1", claimed(shop), Failed("550"))
    page, following = shop.outbox.page([MailState.WAITING], limit=2)
    assert ([row.id for row in page], following) == ([2, 3], 3)
    page, following = shop.outbox.page([MailState.WAITING], after=3, limit=2)
    assert ([row.id for row in page], following) == ([4, 5], None)
    assert [row.id for row in shop.outbox.page([MailState.FAILED])[0]] == [1]
    assert shop.outbox.counts() == {(RECEIPTS, MailState.WAITING): 4, (RECEIPTS, MailState.FAILED): 1}
    assert shop.outbox.names(page) == {grete.account_id: "grete"}
    assert shop.outbox.names([page[0]._replace(account_id=None)]) == {}


def test_what_the_operator_looks_at_and_has_tried_again_is_written_down(shop: Shop, grete: Session) -> None:
    shop.place(grete, ("A", 1))
    shop.outbox.settle("n1", claimed(shop), Failed("550"))
    assert [row.id for row in shop.outbox.view([MailState.FAILED], 0, 50)[0]] == [1]
    shop.events.clear()
    shop.outbox.retry()
    assert shop.events == [MailRetried()]  # for the server: it waits no longer for its mail server
    assert shop.outbox.retry() == []
    assert len(shop.events) == 1
    written = shop.sql("SELECT action, actor_id, detail FROM audit WHERE action LIKE 'mail.%' ORDER BY id")
    assert written == [
        ("mail.listed", None, '{"states":["failed"],"by":"operator"}'),
        ("mail.retried", None, '{"mail":[1],"by":"operator"}'),
        ("mail.retried", None, '{"mail":[],"by":"operator"}'),
    ]


def test_use_leaves_word_for_other_processes(shop: Shop) -> None:
    assert shop.outbox.uses() == {}
    began = timestamp(shop.clock.now)
    shop.outbox.use([RECEIPTS])
    shop.clock.forward(days=1)
    shop.outbox.use([RECEIPTS, SUMMARIES])
    assert shop.outbox.uses() == {RECEIPTS: began, SUMMARIES: timestamp(shop.clock.now)}
    later = timestamp(shop.clock.now)
    shop.clock.forward(days=1)
    shop.outbox.use([SUMMARIES])
    shop.outbox.use([SUMMARIES])
    assert shop.outbox.uses() == {SUMMARIES: later}
    shop.outbox.use([])
    assert Outbox(shop.database, shop.clock).uses() == {}


def test_old_mail_is_forgotten_but_not_what_is_open(shop: Shop, grete: Session) -> None:
    for _ in range(3):
        shop.place(grete, ("A", 1))
    shop.outbox.settle("n1", claimed(shop), Sent("250"))
    shop.clock.forward(seconds=1)
    shop.outbox.settle("n1", claimed(shop), Failed("550"))
    shop.clock.now += KEPT
    shop.outbox.tidy()
    assert [row.id for row in shop.outbox.page(MailState)[0]] == [2, 3]


def test_however_much_that_is(shop: Shop, grete: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    for _ in range(5):
        shop.place(grete, ("A", 1))
        shop.outbox.settle("n1", claimed(shop), Sent("250"))
    shop.clock.now += KEPT + MINUTE
    shop.place(grete, ("A", 1))
    shop.outbox.tidy(lambda: True)
    assert [row.id for row in shop.outbox.page(MailState)[0]] == [3, 4, 5, 6]
    shop.outbox.tidy()
    assert [row.id for row in shop.outbox.page(MailState)[0]] == [6]


def test_what_stays_does_not_hide_what_may_go(shop: Shop, grete: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    for _ in range(5):
        shop.place(grete, ("A", 1))
    rows = [claimed(shop) for _ in range(5)]
    for row in rows[:4]:
        shop.outbox.settle("n1", row, Later("451", MINUTE))
    shop.outbox.settle("n1", rows[4], Sent("250"))
    shop.clock.now += KEPT + MINUTE
    shop.outbox.tidy()
    assert [row.id for row in shop.outbox.page(MailState)[0]] == [1, 2, 3, 4]


def test_a_deleted_account_gets_nothing_and_no_answer_about_it_stays(shop: Shop, grete: Session) -> None:
    other = shop.customer("ole")
    shop.alter(other, email="ole@home.example")
    shop.place(grete, ("A", 1))
    shop.place(other, ("A", 1))
    shop.outbox.settle("n1", claimed(shop), Failed("550 <grete@home.example>"))
    shop.outbox.settle("n1", claimed(shop), Failed("550 <ole@home.example>"))
    shop.cancel(grete, 1)
    shop.privacy.delete(grete, remote="127.0.0.1")
    assert (one(shop, 1).state, one(shop, 1).answer) == (MailState.FAILED, None)
    assert one(shop, 2).answer == "550 <ole@home.example>"
    assert (one(shop, 3).state, one(shop, 3).due_at) == (MailState.WITHDRAWN, timestamp(shop.clock.now))


def test_what_was_being_sent_to_a_deleted_account_leaves_no_answer(shop: Shop, grete: Session) -> None:
    order = shop.place(grete, ("A", 1))
    shop.cancel(grete, order.order)
    row = claimed(shop)
    shop.privacy.delete(grete, remote="127.0.0.1")
    shop.outbox.settle("n1", row, Failed("550 <grete@home.example>"))
    assert (one(shop, 1).state, one(shop, 1).answer) == (MailState.WITHDRAWN, None)


def test_the_next_is_found_by_its_index_among_many_that_were_sent(shop: Shop, grete: Session) -> None:
    shop.place(grete, ("A", 1))
    for name in ("_NEXT", "_NEXT_DUE", "_RELEASE", "_SENDING", "_WITHDRAW"):
        rendered = getattr(rows, name).render("sqlite")
        with shop.database.read() as tx:
            plan = tx.connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {rendered.sql}", tuple("x" for _ in rendered.names)
            )
            details = " ".join(row[-1] for row in plan)
        assert "ix_outbox_due" in details, (name, details)
        assert "TEMP B-TREE" not in details, (name, details)


def test_due_times_are_read_as_the_clock_has_them() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    row = OutboxRow(1, *[None] * 12)._replace(created_at=timestamp(now))  # type: ignore[arg-type]
    assert module.settlement(row, Later("x", MINUTE), now).due_at == timestamp(now + MINUTE)


def test_a_restored_backup_holds_what_waited(shop: Shop, grete: Session, tmp_path: Path) -> None:
    """It has probably left since. So have the months and the chat of that time, which are not told again."""
    shop.outbox.use([RECEIPTS])
    for _ in range(3):
        shop.place(grete, ("A", 1))
    shop.outbox.settle("n1", claimed(shop), Sent("250 Ok"))
    claimed(shop)
    backup.backup(shop.database.path, tmp_path / "monday.db")
    keys = KeySource(key_file(shop.database.path))
    restored = backup.restore(tmp_path / "monday.db", tmp_path / "again.db", keys, replace=False)
    assert restored.mail == 2
    with Database.open(f"sqlite:///{tmp_path}/again.db", keys=keys) as database:
        again = Outbox(database, lambda: datetime.now(UTC) + MINUTE)
        assert again.uses()[RECEIPTS] > timestamp(shop.clock.now)
        assert again.recover() == 0
        assert again.next(RECEIPTS, "n1") is None
        rows = again.page(MailState)[0]
        assert [(row.state, row.interrupted, row.answer) for row in rows] == [
            (MailState.SENT, 0, "250 Ok"), (MailState.FAILED, 1, backup.HELD), (MailState.FAILED, 1, backup.HELD),
        ]  # fmt: skip
        assert again.retry() == [2, 3]
        assert again.next(RECEIPTS, "n1") is not None
