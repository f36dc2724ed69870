"""Which customers are written to about chat that they missed, when, and what such a mail tells."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from service.chat_room import together
from service.post import RECEIPTS, Post
from service.shop import Shop

from securedelivery.errors import DamagedRow
from securedelivery.model import AccountId, MailKind, MailState, Role
from securedelivery.service import missed_chat
from securedelivery.service.missed_chat import LEAST_PAUSE, NEWS, QUIET, SHOWN, MissedChat, missed
from securedelivery.service.outbox import Failed, Later, Withdrawn

MOMENT = timedelta.resolution


@pytest.fixture
def post(shop: Shop) -> Post:
    return Post(shop)


# When


def test_an_answer_that_was_not_read_for_five_minutes_is_mailed_once(post: Post) -> None:
    up_to = post.answer()
    assert post.later(QUIET - MOMENT) == 0
    assert post.later(MOMENT) == 1
    (row,) = post.waiting()
    assert (row.kind, row.account_id, row.up_to) == (MailKind.MISSED_CHAT, post.carol.account_id, up_to)
    assert (row.attempts, row.created_at, row.due_at) == (0, post.now(), post.now())
    assert post.later() == 0
    assert post.send() == ["it does"]
    assert post.later(LEAST_PAUSE * 3) == 0
    assert post.mails() == [(up_to, MailState.SENT)]


def test_nothing_is_due_where_nothing_was_said_or_only_by_the_customer(post: Post) -> None:
    post.customer("mute")
    assert post.later() == 0
    assert post.later(LEAST_PAUSE) == 0


def test_who_is_or_was_just_connected_gets_none(post: Post) -> None:
    post.answer()
    post.shop.clock.forward(hours=1)
    post.seen[post.carol.account_id] = post.shop.clock()
    assert post.later(QUIET - MOMENT) == 0
    assert post.later(MOMENT) == 1


def test_before_the_start_nobody_knows_who_was_connected(post: Post) -> None:
    post.answer()
    post.shop.clock.forward(hours=1)
    post.missed_chat = MissedChat(post.shop.database, post.shop.clock, post.seen.get)
    assert post.later(QUIET - MOMENT) == 0
    assert post.later(MOMENT) == 1


def test_what_was_read_is_not_missed(post: Post) -> None:
    first = post.answer()
    post.answer("and with 32 GB")
    post.read(post.carol, first)
    assert post.later() == 1
    assert post.send() == ["and with 32 GB"]
    post.read(post.carol, post.answer("anything else?"))
    assert post.later(LEAST_PAUSE) == 0


def test_the_oldest_message_decides_and_takes_the_younger_ones_along(post: Post) -> None:
    post.answer("one")
    post.shop.clock.now += QUIET - MOMENT
    post.answer("two")
    assert post.later(MOMENT) == 1
    assert post.send() == ["one", "two"]
    assert post.later(LEAST_PAUSE) == 0


def test_at_most_one_an_hour_and_none_tells_what_another_told(post: Post) -> None:
    post.answer("one")
    assert post.later() == 1
    assert post.send() == ["one"]
    post.answer("two")
    assert post.later(LEAST_PAUSE - MOMENT) == 0
    post.answer("three")
    assert post.later(MOMENT) == 1
    assert post.send() == ["two", "three"]


def test_the_hour_begins_when_the_mail_has_left(post: Post) -> None:
    post.answer("one")
    post.later()
    post.answer("two")
    assert post.later(timedelta(hours=3)) == 0, "one waits: with it the second would come at once"
    assert post.send() == ["one"], "it tells what it was made for"
    assert post.later(LEAST_PAUSE - MOMENT) == 0
    assert post.later(MOMENT) == 1
    assert post.send() == ["two"]


@pytest.mark.parametrize("settle", [False, True], ids=["sending", "to be tried again"])
def test_no_second_mail_while_one_is_on_its_way(post: Post, *, settle: bool) -> None:
    post.answer("one")
    post.later()
    row = post.take()
    if settle:
        post.outbox.settle("node", row, Later("451 later", timedelta(days=1)))
    post.answer("two")
    assert post.later(timedelta(hours=3)) == 0


def test_one_that_failed_counts_as_one_that_left(post: Post) -> None:
    post.answer("one")
    post.later()
    post.outbox.settle("node", post.take(), Failed("550 no such user"))
    post.answer("two")
    assert post.later(LEAST_PAUSE - MOMENT) == 0
    assert post.later(MOMENT) == 1
    row = post.take()
    assert post.texts(row) == ["two"]
    # Tried again, the first one still tells its own.
    failed = post.outbox.page([MailState.FAILED])[0][0]
    assert post.texts(failed) == ["one"]


def test_one_that_was_withdrawn_does_not_hold_up_the_next(post: Post) -> None:
    first = post.answer("one")
    post.later()
    post.read(post.carol, first)
    row = post.take()
    assert post.refused(row) == "its customer has read the messages meanwhile"
    post.outbox.settle("node", row, Withdrawn("read"))
    post.answer("two")
    assert post.later() == 1
    assert post.send() == ["two"]


# To whom


@pytest.mark.parametrize(
    "columns",
    [{"email": None}, {"mail_missed_chat": False}, {"disabled": True}, {"deleted_at": "2026-03-01T12:00:00.000000Z"}],
    ids=["no address", "wants none", "disabled", "deleted"],
)
def test_who_cannot_be_written_to_gets_none_until_that_changes(post: Post, columns: dict[str, object]) -> None:
    before = {"email": "carol@post.example", "mail_missed_chat": True, "disabled": False, "deleted_at": None}
    post.answer()
    post.change(post.carol, **columns)
    assert post.later() == 0
    post.change(post.carol, **before)
    assert post.later() == 1


def test_who_is_disabled_meanwhile_gets_none(post: Post) -> None:
    post.answer()
    post.later()
    post.change(post.carol, disabled=True)
    assert post.refused(post.take()) == "the account is disabled"


def test_who_deletes_the_account_gets_none(post: Post) -> None:
    post.answer()
    post.later()
    (row,) = post.waiting()
    post.erase(post.carol.account_id)
    assert post.refused(row) == "its customer has read the messages meanwhile"
    post.change(post.carol, deleted_at=post.now())
    assert post.later(timedelta(days=1)) == 0


def test_a_row_of_somebody_without_a_conversation(post: Post) -> None:
    post.answer()
    post.later()
    (row,) = post.waiting()
    stranger = row._replace(account_id=post.agnes.account_id)
    assert post.refused(stranger) == "the conversation has no such message"


def test_an_agents_own_conversation_is_a_customers(post: Post) -> None:
    """His own words are not missed, a colleague's are; and what customers say to him is not."""
    bert = post.customer("bert", Role.AGENT)
    own = post.say(bert, "where is my order?").conversation
    post.answer("I take over", bert)
    post.say(post.carol, "thanks")
    assert post.later() == 1, "carol's, whom bert has answered"
    assert [row.account_id for row in post.waiting()] == [post.carol.account_id]
    post.answer("on its way", post.agnes, own)
    assert post.later() == 1
    assert [row.account_id for row in post.waiting()] == [post.carol.account_id, bert.account_id]
    assert post.texts(post.waiting()[1]) == ["on its way"]


def test_several_agents_stand_in_their_turn(post: Post) -> None:
    adam = post.person("adam", Role.ADMIN)
    post.answer("one")
    post.release(post.agnes, post.conversation)
    post.answer("two", adam)
    post.release(adam, post.conversation)
    last = post.answer("three")
    post.later()
    with post.shop.database.read() as tx:
        found = missed(tx, post.waiting()[0])
    assert (found.customer, found.senders, found.total) == ("carol", ["agnes", "adam"], 3)
    assert [message.sender for message in found.messages] == ["agnes", "adam", "agnes"]
    assert {message.role for message in found.messages} == {Role.AGENT}
    assert found.messages[-1] == post.everything(post.carol)[last - 1]


def test_a_conversation_that_is_resolved_meanwhile_was_missed_all_the_same(post: Post) -> None:
    post.answer()
    post.resolve(post.agnes, post.conversation)
    assert post.later() == 1
    assert post.send() == ["it does"]


# What


def test_what_is_read_while_the_mail_waits_is_left_out(post: Post) -> None:
    first = post.answer("one")
    post.answer("two")
    post.later()
    post.answer("three")
    post.read(post.carol, first)
    assert post.send() == ["two"]
    assert post.later(LEAST_PAUSE) == 1
    assert post.send() == ["three"]


def test_a_mail_shows_the_first_and_counts_the_rest(post: Post) -> None:
    for number in range(SHOWN + 3):
        post.answer(f"number {number}")
    post.later()
    with post.shop.database.read() as tx:
        found = missed(tx, post.waiting()[0])
    assert found.total == SHOWN + 3
    assert [message.text for message in found.messages] == [f"number {number}" for number in range(SHOWN)]


def test_a_damaged_text_is_told_as_such(post: Post) -> None:
    post.answer()
    post.later()
    post.shop.sql("UPDATE messages SET text = x'00112233445566778899aabbccddeeff00112233445566778899' WHERE staff = 1")
    with post.shop.database.read() as tx, pytest.raises(DamagedRow):
        missed(tx, post.waiting()[0])


# News


def test_what_was_said_before_mail_was_in_use_is_no_news(post: Post) -> None:
    post.outbox.use(())
    post.answer("before")
    assert post.later() == 0, "no way to send it"
    post.outbox.use({RECEIPTS})
    assert post.later(LEAST_PAUSE) == 0
    post.answer("since")
    assert post.later() == 1


def test_what_was_said_long_ago_is_no_news(post: Post) -> None:
    post.change(post.carol, email=None)
    post.answer("long ago")
    post.shop.clock.now += NEWS
    post.change(post.carol, email="carol@post.example")
    assert post.later(MOMENT) == 0
    post.answer("just now")
    assert post.later() == 1
    assert post.send() == ["just now"]


def test_news_goes_by_its_day_to_the_moment(post: Post) -> None:
    post.change(post.carol, email=None)
    post.answer()
    post.shop.clock.now += NEWS
    post.change(post.carol, email="carol@post.example")
    assert post.later(timedelta()) == 1
    assert post.send() == ["it does"]


def test_what_was_mailed_stays_so_when_the_outbox_forgets(post: Post) -> None:
    post.answer()
    post.later()
    post.send()
    post.shop.clock.forward(days=401)
    post.outbox.tidy()
    assert post.mails() == []
    assert post.later() == 0


# Clocks


def test_a_clock_that_was_ahead_holds_up_nothing(post: Post) -> None:
    """All that it has written lies in a future that is far away."""
    right = post.shop.clock.now
    post.shop.clock.forward(days=1000)
    post.outbox.use(())
    post.outbox.use({RECEIPTS})
    post.missed_chat = MissedChat(post.shop.database, post.shop.clock, post.seen.get)
    post.answer("one")
    assert post.later() == 1
    assert post.send() == ["one"]
    post.answer("two")
    post.shop.clock.now = right
    assert post.later(timedelta()) == 0, "since when carol is away is not known any more"
    assert post.later() == 1
    assert post.send() == ["two"]
    post.answer("three")
    assert post.later(LEAST_PAUSE) == 1


def test_a_clock_that_was_a_little_ahead_is_waited_for(post: Post) -> None:
    post.answer()
    post.shop.clock.now -= QUIET - MOMENT
    assert post.later(timedelta()) == 0


# All of them


def test_many_are_looked_at_in_portions(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missed_chat, "AT_ONCE", 3)
    customers = [post.customer(f"customer{number}") for number in range(9)]
    for customer in customers:
        post.answer("hello", conversation=post.say(customer, "hello?").conversation)
    here = customers[3:6]  # a whole portion
    post.shop.clock.now += QUIET
    post.seen.update({one.account_id: post.shop.clock() for one in here})
    assert post.missed_chat.queue_due() == 6
    assert [row.account_id for row in post.waiting()] == [one.account_id for one in customers if one not in here]
    assert post.later() == 3


def test_two_nodes_queue_each_mail_once(post: Post) -> None:
    customers = [post.customer(f"customer{number}") for number in range(20)]
    for customer in customers:
        post.answer("hello", conversation=post.say(customer, "hello?").conversation)
    post.shop.clock.now += QUIET
    assert sum(together(lambda _: post.missed_chat.queue_due(), 4)) == len(customers)
    assert len(post.waiting()) == len(customers)


@pytest.mark.parametrize(
    ("meanwhile", "queued"),
    [
        (lambda _post: None, 1),
        (lambda post: post.read(post.carol, 99), 0),
        (lambda post: post.outbox.use(()), 0),
        (lambda post: post.change(post.carol, mail_missed_chat=False), 0),
        (lambda post: post.erase(post.carol.account_id), 0),
    ],
    ids=["nothing", "read", "mail out of use", "opted out", "deleted"],
)
def test_what_happens_between_the_looks_counts(post: Post, meanwhile: Callable[[Post], object], queued: int) -> None:
    post.answer()
    looked: list[AccountId] = []

    def last_connected(account: AccountId) -> None:
        """Asked between the two."""
        looked.append(account)
        meanwhile(post)

    post.missed_chat = MissedChat(post.shop.database, post.shop.clock, last_connected)
    assert post.later() == queued
    assert looked == [post.carol.account_id]
    assert len(post.waiting()) == queued
