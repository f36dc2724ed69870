"""Word from an operator's process to the server: written with the change, told once, forgotten after an hour."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from service.chat_room import Room
from service.shop import Clock, Shop

from securedelivery.errors import Refusal
from securedelivery.model import Role
from securedelivery.service import announcements
from securedelivery.service.chat_events import ConversationChanged, MessageSent
from securedelivery.service.events import AccountChanged, OrderChanged, RewardsChanged
from securedelivery.service.rewards import RewardRules
from securedelivery.store.announcements import Announcement
from securedelivery.store.engine import Database

HOME = "192.0.2.1"


@dataclass
class Both:
    """Two processes over one database. heard: what the server makes of the announcements, in turn."""

    server: Shop
    operator: Shop
    last: int = 0

    def heard(self) -> list[object]:
        self.server.events.clear()
        self.last = self.server.announcements.hear(self.last)
        events = self.server.events.copy()
        self.server.events.clear()
        return events

    def stored(self) -> list[tuple[object, ...]]:
        connection = sqlite3.connect(self.server.database.path)
        rows = connection.execute("SELECT kind, subject FROM announcements ORDER BY id").fetchall()
        connection.close()
        return rows


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    url = f"sqlite:///{tmp_path}/shop.db"
    names = tmp_path / "names.txt"
    with Database.open(url) as one, Database.open(url) as other:
        server = Shop(one, Clock(), RewardRules(), names)
        operator = Shop(other, server.clock, RewardRules(), names)
        other.writer.before_commit = operator.announcements.write
        server.stock(("A", 1000, 10))
        yield Both(server, operator)


def test_an_account(both: Both) -> None:
    alice = both.server.accounts.create("alice", "correct horse", identity=None, remote=HOME)
    changes: list[Callable[[], object]] = [
        lambda: both.operator.accounts.set_role(None, "alice", Role.AGENT),
        lambda: both.operator.accounts.disable(None, "alice", disabled=True),
        lambda: both.operator.accounts.require_certificate("alice", required=True),
        lambda: both.operator.accounts.reset_password("alice", "another horse"),
    ]
    for change in changes:
        assert both.heard() == []
        change()
        assert both.heard() == [AccountChanged(alice.account_id)]
    both.operator.accounts.list(None)
    both.operator.accounts.named("alice")
    assert both.heard() == []


def test_what_was_refused_is_not_announced(both: Both) -> None:
    both.server.customer("alice")
    with pytest.raises(Refusal):
        both.operator.accounts.set_role(None, "nobody", Role.AGENT)
    both.operator.accounts.set_role(None, "alice", Role.CUSTOMER)
    assert both.stored() == []


def test_the_server_announces_nothing_to_itself(both: Both) -> None:
    alice = both.server.customer("alice")
    both.server.place(alice, ("A", 1))
    assert both.stored() == []


def test_an_order_as_it_is_when_it_is_told(both: Both) -> None:
    alice = both.server.customer("alice")
    order = both.server.place(alice, ("A", 1))
    both.operator.advance(None, order.order, "confirmed")
    both.operator.cancel(None, order.order, "sold out")
    assert sorted(both.stored()) == [("order", 1), ("order", 1), ("rewards", 1)]
    shown = both.server.orders.get(alice, order.order)
    assert shown.status == "cancelled"
    assert both.heard() == [
        OrderChanged(alice.account_id, None, shown),
        RewardsChanged(alice.account_id, both.server.rewards.get(alice)),
    ]
    assert both.heard() == []


def test_a_courier_hears_of_an_order(both: Both) -> None:
    alice, carl = both.server.customer("alice"), both.server.customer("carl", Role.COURIER)
    order = both.server.place(alice, ("A", 1))
    both.operator.advance(None, order.order, "confirmed", "carl")
    (event,) = both.heard()
    assert isinstance(event, OrderChanged)
    assert (event.customer, event.courier) == (alice.account_id, carl.account_id)


def test_a_conversation_that_waits_again(both: Both) -> None:
    room = Room(both.server)
    agnes, adam, alice = room.person("agnes", Role.AGENT), room.person("adam", Role.ADMIN), room.person("alice")
    room.say(alice, "Hello?")
    room.say(agnes, "Yes?", 1)
    both.operator.accounts.set_role(None, "agnes", Role.COURIER)
    conversation, account = both.heard()
    assert isinstance(conversation, ConversationChanged)
    assert (conversation.customer, conversation.agents) == (alice.account_id, (adam.account_id,))
    assert (conversation.for_staff.status, conversation.for_staff.agent) == ("waiting", None)
    assert account == AccountChanged(agnes.account_id)  # behind what it may still hear


def test_each_event_has_a_row_and_equal_ones_have_one(both: Both) -> None:
    room = Room(both.server)
    alice = room.person("alice")
    both.server.place(alice, ("A", 1))
    room.say(alice, "Hello?")
    kinds = {type(event) for event in both.server.events}
    assert kinds == {OrderChanged, RewardsChanged, MessageSent, ConversationChanged}
    assert announcements.rows([*both.server.events, *both.server.events, AccountChanged(alice.account_id)]) == [
        Announcement("order", 1),
        Announcement("rewards", 1),
        Announcement("conversation", 1),
        Announcement("account", 1),
    ]


def test_a_server_begins_with_what_comes_after_it(both: Both) -> None:
    assert both.server.announcements.latest() == 0
    both.server.customer("alice")
    both.operator.accounts.set_role(None, "alice", Role.AGENT)
    both.last = both.server.announcements.latest()
    assert both.last == 1
    assert both.heard() == []
    both.operator.accounts.set_role(None, "alice", Role.COURIER)
    assert len(both.heard()) == 1


def test_more_than_one_look_takes(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements, "AT_ONCE", 2)
    for name in ("alice", "bob", "carol"):
        both.server.customer(name)
        both.operator.accounts.set_role(None, name, Role.AGENT)
    assert [len(both.heard()) for _ in range(3)] == [2, 1, 0]


def test_they_are_forgotten_after_an_hour_and_no_number_comes_again(both: Both) -> None:
    both.server.customer("alice")
    both.operator.accounts.set_role(None, "alice", Role.AGENT)
    both.server.clock.forward(minutes=59)
    both.operator.accounts.set_role(None, "alice", Role.COURIER)
    assert len(both.heard()) == 1
    both.server.clock.forward(minutes=1, seconds=1)
    both.server.announcements.forget()
    assert both.stored() == [("account", 1)]
    both.server.clock.forward(hours=1)
    both.server.announcements.forget()
    assert both.stored() == []
    assert both.server.announcements.latest() == 0
    both.operator.accounts.set_role(None, "alice", Role.AGENT)
    assert both.heard() == [AccountChanged(1)]  # type: ignore[arg-type]
    assert both.last == 3


def test_damage_in_an_order_holds_up_nothing_else(both: Both, caplog: pytest.LogCaptureFixture) -> None:
    alice = both.server.customer("alice")
    order = both.server.place(alice, ("A", 1))
    both.operator.cancel(None, order.order)
    both.operator.accounts.disable(None, "alice", disabled=True)
    both.server.sql("UPDATE orders SET address = zeroblob(40)")
    assert both.heard() == [
        RewardsChanged(alice.account_id, both.server.rewards.get(alice)),
        AccountChanged(alice.account_id),
    ]
    assert "orders.address:1" in caplog.text


def test_what_only_a_newer_program_knows_is_passed_over(both: Both) -> None:
    both.server.sql("INSERT INTO announcements (at, kind, subject) VALUES ('2026-03-01T12:00:00.000000Z', 'drone', 7)")
    assert both.heard() == []
    assert both.last == 1
