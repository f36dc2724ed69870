"""What is stored of an account: all of it shown to its owner, and after the deletion nothing that names the person."""

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from service.chat_room import Room
from service.shop import Shop, check_books

from securedelivery.api.messages import UpdateAccount
from securedelivery.errors import Reason, Refusal
from securedelivery.model import AccountId, Message, Order, OrderStatus, PointsEntry, PointsReason, Role
from securedelivery.service import chat, privacy
from securedelivery.service.events import AccountChanged
from securedelivery.service.privacy import Exported
from securedelivery.service.profiles import UpdateCommand
from securedelivery.service.session import Session
from securedelivery.store import accounts, audit, orders
from securedelivery.store.engine import Transaction

HOME = "192.0.2.1"
PASSWORD = "correct horse"
ALICE = "spiffe://example.org/account/alice"
MARKER = "PLANTED"


def exported(shop: Shop, session: Session) -> list[Exported]:
    """All pages."""
    found: list[Exported] = []
    after = None
    while True:
        items, after = shop.privacy.export(session, after)
        found += items
        if after is None:
            return found
        assert after == items[-1].cursor


def reason(call: object, *arguments: object, **named: object) -> Reason:
    with pytest.raises(Refusal) as caught:
        call(*arguments, **named)  # type: ignore[operator]
    assert caught.value.message
    return caught.value.reason


def create(shop: Shop, name: str = "alice") -> Session:
    return shop.accounts.create(
        name, PASSWORD, f"{MARKER} name", f"{MARKER}@example.org", f"{MARKER} Road", identity=None, remote=HOME
    )


def a_life(shop: Shop) -> tuple[Session, Room]:
    """Alice's: orders, one of them cancelled and one delivered, points, a conversation. Nothing is on its way."""
    shop.stock(("A", 10_000, 100))
    room = Room(shop)
    alice, root = create(shop), shop.customer("root", Role.ADMIN)
    shop.customer("carl", Role.COURIER)
    agnes = shop.customer("agnes", Role.AGENT)
    first = shop.place(alice, ("A", 1))
    shop.edit(alice, first.order, 1, address=f"{MARKER} Street")
    second = shop.place(alice, ("A", 2), redeem=10)
    shop.cancel(alice, second.order, f"{MARKER} reason")
    shop.bring_to("delivered", first.order, root, "carl", note=f"{MARKER} note")
    room.say(alice, f"{MARKER} question")
    room.say(agnes, f"{MARKER} answer", 1)
    room.say(alice, f"{MARKER} thanks")
    shop.orders.get(root, first.order)
    shop.audits.list(root, account="alice")
    return alice, room


def stored(shop: Shop, kind: str, table: str, where: str) -> int:
    ((count,),) = shop.sql(f"SELECT count(*) FROM {table} WHERE {where}")  # noqa: S608 -- the test's own
    assert isinstance(count, int)
    return count


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_an_export_holds_everything_in_order(shop: Shop, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "PAGE", size)
    alice, room = a_life(shop)
    for other in ("bob", "carol"):
        session = create(shop, other)
        shop.place(session, ("A", 1))
        room.say(session, "Not hers.")
    items = exported(shop, alice)
    by_kind: dict[str, list[Any]] = {}
    for kind, payload, _ in items:
        by_kind.setdefault(kind, []).append(payload)
    assert list(by_kind) == ["account", "order", "points", "message", "event"]
    assert by_kind["account"] == [shop.accounts.get(alice)]
    assert by_kind["order"] == [shop.orders.get(alice, 1), shop.orders.get(alice, 2)]
    assert all(len(order.delivery_code) == 6 for order in by_kind["order"])
    newest_first, _ = shop.rewards.history(alice)
    assert by_kind["points"] == newest_first[::-1]
    assert len(by_kind["points"]) == stored(shop, "points", "points_ledger", "account_id = 1") > 3
    assert by_kind["message"] == room.everything(alice)
    assert len(by_kind["message"]) == 3
    with shop.database.read() as tx:
        rows = [row for row in audit.everything(tx) if row.entry.actor == 1 or row.entry.subject == "account:1"]
    assert [(event["at"], event["action"]) for event in by_kind["event"]] == [
        (row.entry.at, row.entry.action) for row in rows
    ]
    assert by_kind["event"][-1] == {"at": room.now(), "action": "account.exported", "detail": {}}
    assert len(items) == 1 + 2 + len(newest_first) + 3 + len(rows)
    assert len({item.cursor for item in items}) == len(items)


def test_an_export_goes_on_behind_any_item(shop: Shop) -> None:
    """For the api cuts a page where a frame is full."""
    alice, _ = a_life(shop)
    items, following = shop.privacy.export(alice)
    assert following is None
    for number, item in enumerate(items):
        rest, _ = shop.privacy.export(alice, item.cursor)
        assert rest == items[number + 1 :]
        assert len(item.cursor) < 100
    assert shop.sql("SELECT count(*) FROM audit WHERE action = 'account.exported'") == [(1,)]


def test_what_comes_meanwhile_changes_nothing_before_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "PAGE", 4)
    alice, room = a_life(shop)
    first, after = shop.privacy.export(alice)
    shop.place(alice, ("A", 1))
    room.say(alice, "One more.")
    rest: list[Exported] = []
    while after is not None:
        items, after = shop.privacy.export(alice, after)
        rest += items
    everything = [*first, *rest]
    assert len({item.cursor for item in everything}) == len(everything)
    assert [item.payload.text for item in everything if item.kind == "message"][-1] == "One more."


def test_an_export_tells_of_nobody_else(shop: Shop) -> None:
    """Who else was concerned is not the account's: neither an admin's nor an agent's name, nor a customer's number."""
    alice, room = a_life(shop)
    room.transfer(Session(AccountId(4), "agnes", Role.AGENT), 1, "root")
    root = Session(AccountId(2), "root", Role.ADMIN)
    shop.orders.list(root, account="alice")
    for session, action in ((root, "orders.listed"), (root, "audit.listed"), (alice, "chat.transferred")):
        events = [item.payload for item in exported(shop, session) if item.kind == "event"]
        assert action in {event["action"] for event in events}
        text = msgspec.json.encode(events).decode()
        assert not re.search("root|agnes", text)
        for event in events:
            assert not event["detail"].keys() & {"account", "courier", "agent"}


def test_an_agents_answers_are_the_agents_and_the_questions_are_not(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy, "PAGE", 2)
    room = Room(shop)
    agnes, alice, bob = room.person("agnes", Role.AGENT), room.person("alice"), room.person("bob")
    for customer, conversation in ((alice, 1), (bob, 2)):
        room.say(customer, "A question.")
        room.say(agnes, f"Answer to {customer.username}.", conversation)
        room.say(agnes, f"Another to {customer.username}.", conversation)
    room.say(agnes, "And a question of my own.")
    said = [item.payload for item in exported(shop, agnes) if item.kind == "message"]
    assert [(each.conversation, each.sequence, each.text, each.role) for each in said] == [
        (3, 1, "And a question of my own.", Role.CUSTOMER),
        (1, 2, "Answer to alice.", Role.AGENT),
        (1, 3, "Another to alice.", Role.AGENT),
        (2, 2, "Answer to bob.", Role.AGENT),
        (2, 3, "Another to bob.", Role.AGENT),
    ]
    assert [each.sender for each in said] == ["agnes"] * 5


@pytest.mark.parametrize("plain", ["order:1", "order:1/", "order:/1", "drone:1/0", "order:1/0/0", "order:-1/0", ""])
def test_cursors_of_nobody(shop: Shop, plain: str) -> None:
    from securedelivery.service import cursors

    alice = shop.customer("alice")
    for cursor in (cursors.encode("x", plain), "nonsense", cursors.encode("o", "1")):
        with pytest.raises(Refusal) as caught:
            shop.privacy.export(alice, cursor)
        assert caught.value.data == {"path": "/after"}


def test_an_export_is_for_a_session_that_stands(shop: Shop) -> None:
    alice = shop.customer("alice")
    _, _ = shop.privacy.export(alice)
    shop.accounts.disable(None, "alice", disabled=True)
    assert reason(shop.privacy.export, alice) is Reason.DISABLED
    cursor = exported(shop, shop.customer("bob"))[0].cursor
    assert reason(shop.privacy.export, alice, cursor) is Reason.DISABLED


# Deletion


def everything_shown(shop: Shop, room: Room, root: Session, agnes: Session, numbers: Sequence[int]) -> str:
    """Whatever any service tells anybody who is left."""
    shown: list[Any] = [shop.accounts.list(None), shop.accounts.list(root), shop.orders.list(root)]
    shown += [shop.orders.get(root, number) for number in numbers]
    shown += [shop.orders.list(None), shop.audits.list(root, limit=200), list(shop.audits.export())]
    shown += [shop.chat.history(agnes, 1), shop.chat.history(root, 1), shop.catalog.list()]
    shown += [room.all_queued(agnes, status) for status in chat.ConversationStatus]
    shown += [exported(shop, root), exported(shop, agnes), shop.figures.get(root, "2026-01-01", "2026-12-31")]
    with shop.database.read() as tx:
        shown += [orders.load(tx, numbers), accounts.by_id(tx, AccountId(1)), accounts.buyers(tx, [AccountId(1)])]
    return json.dumps([msgspec.to_builtins(each, enc_hook=str) for each in shown], default=str)


def test_deletion_leaves_nothing_of_the_person(shop: Shop) -> None:
    alice, room = a_life(shop)
    shop.accounts.bind_certificate(alice, ALICE)
    update = UpdateCommand(alice, UpdateAccount(name=f"{MARKER} again"))
    shop.database.writer.call(shop.accounts.update, update)
    root, agnes = Session(AccountId(2), "root", Role.ADMIN), Session(AccountId(4), "agnes", Role.AGENT)
    before = everything_shown(shop, room, root, agnes, [1, 2])
    assert MARKER in before  # so that the search below finds what there is
    assert "alice" in before
    shop.events.clear()
    shop.clock.forward(days=1)
    assert shop.privacy.delete(alice, PASSWORD, remote=HOME) is None
    assert AccountChanged(alice.account_id) in shop.events
    after = everything_shown(shop, room, root, agnes, [1, 2])
    assert MARKER not in after
    assert "alice" not in after
    ((pseudonym,),) = shop.sql("SELECT username FROM accounts WHERE id = 1")
    assert re.fullmatch("deleted~[0-9a-f]{8}", str(pseudonym))
    assert str(pseudonym) in after
    # The events of the deletion itself tell nobody the name once more.
    assert "alice" not in json.dumps([msgspec.to_builtins(event) for event in shop.events])


def test_deletion_keeps_the_books(shop: Shop) -> None:
    alice, _ = a_life(shop)
    ledger = shop.sql("SELECT * FROM points_ledger")
    (before, _), (row,) = shop.orders.list(None), shop.sql("SELECT points, order_count FROM accounts WHERE id = 1")
    shop.privacy.delete(alice, PASSWORD, remote=HOME)
    after, _ = shop.orders.list(None)
    assert [(o.order, o.total, o.status, o.lines) for o in after] == [
        (o.order, o.total, o.status, o.lines) for o in before
    ]
    assert {order.account for order in after} == {shop.sql("SELECT username FROM accounts WHERE id = 1")[0][0]}
    assert {order.address for order in after} == {""}
    assert [entry.note for order in after for entry in order.history if entry.note] == []
    assert shop.sql("SELECT * FROM points_ledger") == ledger
    assert shop.sql("SELECT points, order_count FROM accounts WHERE id = 1") == [row]
    assert shop.sql("SELECT actor_id, subject, detail FROM audit WHERE action = 'account.deleted'") == [
        (1, "account:1", None)
    ]
    check_books(shop)


def test_the_name_is_never_given_again(shop: Shop) -> None:
    alice = create(shop)
    shop.privacy.delete(alice, PASSWORD, remote=HOME)
    taken = Reason.USERNAME_TAKEN
    assert reason(shop.accounts.create, "alice", PASSWORD, identity=None, remote=HOME) is taken
    assert reason(shop.accounts.create, "alice", identity=ALICE, remote=HOME) is taken
    assert reason(shop.accounts.create_by_operator, "alice", Role.ADMIN, identity=ALICE) is taken
    # Nor between the first look and the transaction.
    from securedelivery.service.accounts import _NewAccount

    row = shop.accounts._row("alice", Role.CUSTOMER, None)
    assert reason(shop.database.writer.call, shop.accounts._add, _NewAccount(row, "customer")) is taken
    assert shop.accounts.create("alicea", PASSWORD, identity=None, remote=HOME)
    assert reason(shop.accounts.login, "alice", PASSWORD, identity=None, remote=HOME) is Reason.BAD_CREDENTIALS
    # It is not kept itself.
    ((digest,),) = shop.sql("SELECT digest FROM retired_names")
    assert isinstance(digest, bytes)
    assert len(digest) == 32


def test_nobody_logs_in_to_a_deleted_account(shop: Shop) -> None:
    alice = shop.accounts.create("alice", PASSWORD, identity=ALICE, remote=HOME)
    shop.privacy.delete(alice, PASSWORD, remote=HOME)
    ((pseudonym,),) = shop.sql("SELECT username FROM accounts")
    bad = Reason.BAD_CREDENTIALS
    for name in ("alice", str(pseudonym)):
        assert reason(shop.accounts.login, name, PASSWORD, identity=None, remote=HOME) is bad
    assert reason(shop.accounts.login_certificate, identity=ALICE, remote=HOME) is bad
    assert reason(shop.privacy.export, alice) is Reason.NOT_LOGGED_IN
    assert reason(shop.privacy.delete, alice, remote=HOME) is Reason.NOT_LOGGED_IN
    assert reason(shop.accounts.change_password, alice, PASSWORD, remote=HOME) is Reason.NOT_LOGGED_IN


def test_deleted_while_argon2_is_at_work(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = create(shop)
    verify = shop.passwords.verify

    def meanwhile(hashed: str | None, password: str) -> bool:
        monkeypatch.undo()
        shop.privacy.delete(alice, PASSWORD, remote=HOME)
        return verify(hashed, password)

    monkeypatch.setattr(shop.passwords, "verify", meanwhile)
    assert reason(shop.accounts.login, "alice", PASSWORD, identity=None, remote=HOME) is Reason.BAD_CREDENTIALS


@pytest.mark.parametrize("password", [None, "", "wrong horse"])
def test_the_password_has_to_be_right(shop: Shop, password: str | None) -> None:
    alice = create(shop)
    for _ in range(5):
        assert reason(shop.privacy.delete, alice, password, remote=HOME) is Reason.BAD_CREDENTIALS
    assert reason(shop.privacy.delete, alice, PASSWORD, remote=HOME) is Reason.RATE_LIMITED
    assert shop.accounts.get(alice).username == "alice"
    rows = shop.sql("SELECT actor_id, subject, detail FROM audit WHERE action = 'login.failed'")
    assert rows == [(None, "account:1", '{"method":"delete","remote":"192.0.2.1"}')] * 5


@pytest.mark.parametrize("status", list(OrderStatus))
def test_orders_on_their_way_hold_it_up(shop: Shop, status: OrderStatus) -> None:
    shop.stock(("A", 1000, 10))
    alice, root, carl = shop.customer("alice"), shop.customer("root", Role.ADMIN), shop.customer("carl", Role.COURIER)
    order = shop.place(alice, ("A", 1))
    shop.bring_to(status, order.order, root, "carl")
    on_the_way = status in ("placed", "confirmed", "packed", "out_for_delivery")
    if status == "out_for_delivery":
        assert reason(shop.privacy.delete, carl, remote=HOME) is Reason.OPEN_ORDERS
    else:
        shop.privacy.delete(carl, remote=HOME)
    if on_the_way:
        assert reason(shop.privacy.delete, alice, remote=HOME) is Reason.OPEN_ORDERS
        assert shop.orders.get(alice, order.order).address == "1 Road"
    else:
        shop.privacy.delete(alice, remote=HOME)
        assert shop.orders.get(root, order.order).address == ""


def test_two_deletions_in_one_batch(shop: Shop) -> None:
    alice, bob = shop.customer("alice"), shop.customer("bob")
    whole = lambda tx, batches: [shop.privacy._delete(tx, batch) for batch in batches]
    one, again, two = shop.database.writer.call(whole, [alice, alice, bob])
    assert (one, two) == (True, True)
    assert isinstance(again, Refusal)
    assert again.reason is Reason.NOT_LOGGED_IN
    assert shop.sql("SELECT count(DISTINCT username) FROM accounts WHERE deleted_at IS NOT NULL") == [(2,)]


def test_a_pseudonym_that_is_taken_is_not_given(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter(["00000000", "00000000", "11111111"])
    monkeypatch.setattr(privacy.secrets, "token_hex", lambda _size: next(given))
    for name in ("alice", "bob"):
        shop.privacy.delete(shop.customer(name), remote=HOME)
    assert shop.sql("SELECT username FROM accounts ORDER BY id") == [("deleted~00000000",), ("deleted~11111111",)]


def test_no_personal_text_in_any_row_of_the_audit(shop: Shop) -> None:
    """Rows can never be taken back: all of a life with planted markers, and none of them in the audit."""
    alice, room = a_life(shop)
    root = Session(AccountId(2), "root", Role.ADMIN)
    shop.accounts.bind_certificate(alice, ALICE)
    shop.accounts.list(root, query=MARKER)
    shop.audits.list(root, action=MARKER)
    shop.orders.list(root, account="alice")
    shop.chat.history(Session(AccountId(4), "agnes", Role.AGENT), 1)
    shop.accounts.reset_password("alice", f"{MARKER} password")
    for password in (f"{MARKER} guess", f"{MARKER} password"):
        try:
            shop.accounts.login("alice", password, identity=None, remote=HOME)
            shop.accounts.login(MARKER, password, identity=None, remote=HOME)
        except Refusal:
            continue
    shop.accounts.disable(root, "alice", disabled=True)
    assert room.now()
    text = json.dumps([msgspec.to_builtins(row) for row in shop.audits.export()])
    assert MARKER not in text
    names = json.dumps(shop.sql("SELECT at, actor_id, action, subject, detail FROM audit"))
    assert "alice" not in names
    assert names.count('"account:1"') >= 8


def test_export_of_many_things_of_each_kind(shop: Shop) -> None:
    """More than a page of each, whose boundaries fall anywhere."""
    shop.stock(("A", 100, 1000))
    room, alice = Room(shop), shop.customer("alice")
    for _ in range(privacy.PAGE + 3):
        shop.place(alice, ("A", 1))
        room.say(alice, "Hello?")
    items = exported(shop, alice)
    count = privacy.PAGE + 3
    found = {kind: [item.payload for item in items if item.kind == kind] for kind in ("order", "points", "message")}
    assert [order.order for order in found["order"]] == list(range(1, count + 1))
    assert all(isinstance(order, Order) for order in found["order"])
    assert [message.sequence for message in found["message"]] == list(range(1, count + 1))
    assert all(isinstance(message, Message) for message in found["message"])
    assert [entry.entry for entry in found["points"]] == list(range(1, count + 1))
    assert all(isinstance(entry, PointsEntry) and entry.reason is PointsReason.EARNED for entry in found["points"])


def test_a_batch_of_notes_refuses_alone(shop: Shop) -> None:
    alice = shop.customer("alice")
    gone = Session(AccountId(9), "nobody", Role.CUSTOMER)

    def run(tx: Transaction, batches: Sequence[Sequence[Session]]) -> list[list[bool | Refusal]]:
        return [shop.privacy._note(tx, batch) for batch in batches]

    one, other = shop.database.writer.call(run, [gone, alice])
    assert isinstance(one, Refusal)
    assert other is True
