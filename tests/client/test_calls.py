"""Every call: what it asks, what it makes of the answer, and whether it asks again when the answer got lost."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from client.conftest import Connect
from client.scripted_server import Customer, Listener
from client.test_connection import ORDER
from client.test_reconnect import ACCOUNT

from securedelivery.api import messages as m
from securedelivery.client import Client, Notification
from securedelivery.errors import PeerClosed, Reason, Refusal, RemoteProtocolError
from securedelivery.model import (
    Account,
    AuditRecord,
    Cents,
    Conversation,
    ConversationStatus,
    Figures,
    Message,
    Order,
    OrderStatus,
    PointsEntry,
    Product,
    Rewards,
    Role,
)

Scripted = Callable[..., Listener]
Call = Callable[[Client], Any]
SECONDS = 10.0
AT = "2026-11-22T09:00:00.000000Z"

PRODUCT = {"sku": "A", "name": "a", "description": "", "price": 1, "currency": "EUR", "stock": 1, "active": True}
REWARDS = {"points": 5, "tier": "bronze", "order_count": 1, "next_tier": {"name": "silver", "orders_needed": 4}}
POINTS = {"entry": 1, "points": 5, "reason": "earned", "order": 7, "at": AT, "expires_at": AT}
MESSAGE = {
    "conversation": 3, "sequence": 1, "sender": "alice", "role": "customer", "text": "hello", "at": AT,
    "message_key": "k",
}  # fmt: skip
CONVERSATION = {
    "conversation": 3, "customer": "alice", "status": "waiting", "agent": None, "unread": 1, "last_sequence": 1,
    "waiting_since": AT,
}  # fmt: skip
RECORD = {
    "entry": 1, "at": AT, "actor": None, "action": "login", "subject": "account:alice", "detail": {}, "hash": "00",
}  # fmt: skip
FIGURES: dict[str, Any] = {
    "orders": 0, "turnover": 0, "by_status": {}, "by_day": [], "best_sellers": [], "low_stock": [], "tiers": {},
    "waiting": 0,
}  # fmt: skip
INFO = {"name": "s", "version": "1", "currency": "EUR", "time": AT, "limits": {}}


def page(item: object) -> dict[str, object]:
    return {"items": [item], "next": None}


class Row(msgspec.Struct):
    """params: those that are not null; kind: of the result, or of a page's items; repeat: after a lost answer."""

    call: Call
    params: dict[str, Any]
    answer: Any
    kind: type
    repeat: bool = True


ROWS = {
    "system.info": Row(lambda c: c.info(), {}, INFO, m.Info),
    "system.ping": Row(lambda c: c.ping(), {}, {}, type(None)),
    "rpc.discover": Row(lambda c: c.discover("order"), {"section": "order"}, {"openrpc": "1"}, dict),
    "account.create": Row(
        lambda c: c.create_account("alice", "a password", email="a@b", name="A", address="here"),
        {"username": "alice", "password": "a password", "email": "a@b", "name": "A", "address": "here"},
        ACCOUNT, Account, repeat=False,
    ),
    "account.login": Row(
        lambda c: c.login("alice", "a password"), {"username": "alice", "password": "a password"}, ACCOUNT, Account
    ),
    "account.login_certificate": Row(lambda c: c.login_certificate(), {}, ACCOUNT, Account),
    "account.bind_certificate": Row(lambda c: c.bind_certificate(), {}, ACCOUNT, Account),
    "account.logout": Row(lambda c: c.logout(), {}, {}, type(None)),
    "account.get": Row(lambda c: c.account(), {}, ACCOUNT, Account),
    "account.update": Row(
        lambda c: c.update_account(name="A", email=None, receipts=False),
        {"name": "A", "email": None, "mail": {"receipts": False}}, ACCOUNT, Account,
    ),
    "account.change_password": Row(
        lambda c: c.change_password("a new one", "an old one"),
        {"new_password": "a new one", "old_password": "an old one"}, {}, type(None), repeat=False,
    ),
    "account.export": Row(
        lambda c: next(c.export_account()), {}, page({"kind": "account", "account": ACCOUNT}), m.ExportedProfile
    ),
    "account.delete": Row(lambda c: c.delete_account("word"), {"password": "word"}, {}, type(None), repeat=False),
    "account.list": Row(
        lambda c: c.accounts("al", after="x", limit=3), {"query": "al", "after": "x", "limit": 3}, page(ACCOUNT),
        Account,
    ),
    "account.set_role": Row(
        lambda c: c.set_role("sam", Role.AGENT), {"username": "sam", "role": "agent"}, ACCOUNT, Account
    ),
    "account.disable": Row(
        lambda c: c.disable_account("bob"), {"username": "bob", "disabled": True}, ACCOUNT, Account
    ),
    "audit.list": Row(
        lambda c: c.audit(account="bob", action="login", after="x", limit=3),
        {"account": "bob", "action": "login", "after": "x", "limit": 3}, page(RECORD), AuditRecord,
    ),
    "report.figures": Row(
        lambda c: c.figures("2026-11-01", "2026-11-30"), {"from": "2026-11-01", "to": "2026-11-30"}, FIGURES, Figures
    ),
    "catalog.list": Row(
        lambda c: c.catalog("gpu", after="x", limit=3), {"query": "gpu", "after": "x", "limit": 3}, page(PRODUCT),
        Product,
    ),
    "catalog.get": Row(lambda c: c.product("A"), {"sku": "A"}, PRODUCT, Product),
    "catalog.put": Row(
        lambda c: c.put_product("A", name="a", price=Cents(5), stock=2),
        {"sku": "A", "name": "a", "description": "", "price": 5, "stock": 2, "active": True}, PRODUCT, Product,
        repeat=False,
    ),
    "order.place": Row(
        lambda c: c.place_order([("A", 2)], address="here", redeem_points=5, idempotency_key="k"),
        {
            "idempotency_key": "k", "lines": [{"sku": "A", "quantity": 2}], "address": "here", "redeem_points": 5,
        }, ORDER, Order,
    ),
    "order.get": Row(lambda c: c.order(7), {"order": 7}, ORDER, Order),
    "order.list": Row(
        lambda c: c.orders(after="x", limit=3, status=OrderStatus.PLACED, account="bob", changed_since=AT),
        {"after": "x", "limit": 3, "status": "placed", "account": "bob", "changed_since": AT}, page(ORDER), Order,
    ),
    "order.update": Row(
        lambda c: c.update_order(7, 1, lines=[("A", 2)], address="there"),
        {"order": 7, "version": 1, "lines": [{"sku": "A", "quantity": 2}], "address": "there"}, ORDER, Order,
    ),
    "order.cancel": Row(lambda c: c.cancel_order(7, "no"), {"order": 7, "reason": "no"}, ORDER, Order),
    "order.advance": Row(
        lambda c: c.advance_order(7, OrderStatus.PACKED, courier="kim", note="!"),
        {"order": 7, "status": "packed", "courier": "kim", "note": "!"}, ORDER, Order,
    ),
    "delivery.list": Row(
        lambda c: c.deliveries(after="x", limit=3), {"after": "x", "limit": 3}, page(ORDER), Order
    ),
    "delivery.confirm": Row(
        lambda c: c.confirm_delivery(7, "012345"), {"order": 7, "code": "012345"}, ORDER, Order
    ),
    "rewards.get": Row(lambda c: c.rewards(), {}, REWARDS, Rewards),
    "rewards.history": Row(
        lambda c: c.rewards_history(after="x", limit=3), {"after": "x", "limit": 3}, page(POINTS), PointsEntry
    ),
    "chat.send": Row(
        lambda c: c.send_message("hello", conversation=3, message_key="k"),
        {"text": "hello", "conversation": 3, "message_key": "k"}, MESSAGE, Message,
    ),
    "chat.history": Row(
        lambda c: c.chat_history(3, after=4, limit=5), {"conversation": 3, "after": 4, "limit": 5},
        {**page(MESSAGE), "last": 1}, Message,
    ),
    "chat.mark_read": Row(lambda c: c.mark_read(4, 3), {"up_to": 4, "conversation": 3}, {}, type(None)),
    "chat.typing": Row(lambda c: c.typing(3), {"conversation": 3}, {}, type(None), repeat=False),
    "chat.queue": Row(
        lambda c: c.chat_queue(status=ConversationStatus.RESOLVED, after="x", limit=3),
        {"status": "resolved", "after": "x", "limit": 3}, page(CONVERSATION), Conversation,
    ),
    "chat.claim": Row(lambda c: c.claim(3), {"conversation": 3}, CONVERSATION, Conversation),
    "chat.release": Row(lambda c: c.release(3), {"conversation": 3}, CONVERSATION, Conversation),
    "chat.resolve": Row(lambda c: c.resolve(3), {"conversation": 3}, CONVERSATION, Conversation),
    "chat.transfer": Row(
        lambda c: c.transfer(3, "kim"), {"conversation": 3, "agent": "kim"}, CONVERSATION, Conversation, repeat=False
    ),
}  # fmt: skip


def test_every_method_has_a_call() -> None:
    from securedelivery.api.methods import METHODS

    assert set(ROWS) == set(METHODS)


@pytest.mark.parametrize("method", ROWS)
def test_what_a_call_asks_and_answers(scripted: Scripted, connect: Connect, method: str) -> None:
    row = ROWS[method]
    asked: list[dict[str, Any]] = []

    def script(customer: Customer) -> None:
        customer.greet()
        request_id, params = customer.request(method)
        asked.append(params)
        customer.answer(request_id, row.answer)
        customer.serve()

    result = row.call(connect(scripted(script).server))
    if isinstance(result, m.Page | m.History):
        (result,) = result.items
    assert type(result) is row.kind
    cleared = {"email"} if method == "account.update" else set()  # null means something there
    assert {name: value for name, value in asked[0].items() if value is not None or name in cleared} == row.params


@pytest.mark.parametrize("method", ROWS)
def test_whether_a_call_is_made_again_when_its_answer_got_lost(
    scripted: Scripted, connect: Connect, method: str
) -> None:
    row = ROWS[method]
    asked: list[dict[str, Any]] = []

    def losing(customer: Customer) -> None:
        customer.greet()
        asked.append(customer.request(method)[1])

    def answering(customer: Customer) -> None:
        customer.greet()
        for _ in range(row.repeat):
            request_id, params = customer.request(method)
            asked.append(params)
            customer.answer(request_id, row.answer)
        customer.serve()

    client = connect(scripted(losing, answering).server)
    if row.repeat:
        row.call(client)
        assert asked == [asked[0]] * 2
    else:
        with pytest.raises(PeerClosed):
            row.call(client)
        client.ping()
        assert len(asked) == 1


# Keys of one's own, and those that are made


def test_each_message_has_a_key_of_its_own(scripted: Scripted, connect: Connect) -> None:
    keys: list[str] = []

    def script(customer: Customer) -> None:
        customer.greet()
        for _ in range(2):
            request_id, params = customer.request("chat.send")
            keys.append(params["message_key"])
            customer.answer(request_id, MESSAGE)
        customer.serve()

    client = connect(scripted(script).server)
    client.send_message("hello")
    client.send_message("hello")
    assert all(keys)
    assert keys[0] != keys[1]


def test_what_is_left_out_of_an_update_stays(scripted: Scripted, connect: Connect) -> None:
    asked: list[dict[str, Any]] = []

    def script(customer: Customer) -> None:
        customer.greet()
        for _ in range(3):
            request_id, params = customer.request("account.update")
            asked.append(params)
            customer.answer(request_id, ACCOUNT)
        customer.serve()

    client = connect(scripted(script).server)
    client.update_account()
    client.update_account(missed_chat=None)
    client.update_account(summaries=True, name=None)
    assert asked == [{}, {"mail": {"missed_chat": None}}, {"name": None, "mail": {"summaries": True}}]


# Parts of something long


def test_parts_are_followed(scripted: Scripted, connect: Connect) -> None:
    asked: list[tuple[str, object]] = []

    def script(customer: Customer) -> None:
        customer.greet()
        exported = ({"kind": "order", "order": ORDER}, {"kind": "points", "points": POINTS})
        for following, item in zip(("x", None), exported, strict=True):
            request_id, params = customer.request("account.export")
            asked.append(("account.export", params["after"]))
            customer.answer(request_id, {"items": [item], "next": following})
        for following in ("x", None):
            request_id, params = customer.request("rewards.history")
            asked.append(("rewards.history", params["after"]))
            customer.answer(request_id, {"items": [POINTS], "next": following})
        for following in (6, None):
            request_id, params = customer.request("chat.history")
            asked.append(("chat.history", params["after"]))
            customer.answer(request_id, {"items": [MESSAGE], "next": following, "last": 7})
        customer.serve()

    client = connect(scripted(script).server)
    assert [type(one) for one in client.export_account()] == [m.ExportedOrder, m.ExportedPoints]
    assert len(list(client.all_rewards_history())) == 2
    assert len(list(client.all_messages(after=5))) == 2
    assert asked == [
        ("account.export", None), ("account.export", "x"),
        ("rewards.history", None), ("rewards.history", "x"),
        ("chat.history", 5), ("chat.history", 6),
    ]  # fmt: skip


# An edit whose answer got lost

LINES = [("A", 2), ("B", 1), ("A", 1)]
EDITED = {
    **ORDER, "version": 2, "address": "there",
    "lines": [
        {"sku": "B", "name": "b", "quantity": 1, "unit_price": 1, "total": 1},
        {"sku": "A", "name": "a", "quantity": 3, "unit_price": 1, "total": 3},
    ],
}  # fmt: skip


def edit_with_a_lost_answer(
    scripted: Scripted,
    connect: Connect,
    now: dict[str, Any],
    *,
    lines: list[tuple[str, int]] | None = None,
    address: str | None = None,
    reason: Reason = Reason.VERSION_CONFLICT,
    lost: bool = True,
) -> Order:
    """now: what the order is when it is looked at after the refusal."""

    def losing(customer: Customer) -> None:
        customer.greet()
        customer.request("order.update")

    def refusing(customer: Customer) -> None:
        customer.greet()
        request_id, _ = customer.request("order.update")
        customer.say(customer.core.send_error(request_id, reason, "it is another version", {"version": now["version"]}))
        customer.serve(order_get=now)

    client = connect(scripted(*([losing] if lost else []), refusing).server)
    return client.update_order(7, 1, lines=lines, address=address)


@pytest.mark.parametrize("reason", [Reason.VERSION_CONFLICT, Reason.ILLEGAL_TRANSITION])
@pytest.mark.parametrize(
    "edit",
    [{"lines": LINES, "address": "there"}, {"lines": LINES}, {"address": "there"}],
    ids="+".join,
)
@pytest.mark.parametrize("later", [{}, {"version": 4, "status": "packed"}])
def test_an_edit_that_took_effect_before_its_answer_got_lost(
    scripted: Scripted, connect: Connect, reason: Reason, edit: dict[str, Any], later: dict[str, Any]
) -> None:
    now = {**EDITED, **later}
    assert edit_with_a_lost_answer(scripted, connect, now, reason=reason, **edit) == msgspec.convert(now, Order)


@pytest.mark.parametrize(
    ("edit", "now"),
    [
        ({"lines": LINES, "address": "there"}, {**EDITED, "address": "elsewhere"}),
        ({"lines": [("A", 2), ("B", 1)], "address": "there"}, EDITED),
        ({"lines": [("A", 3)]}, EDITED),
        ({"address": "here"}, EDITED),
        ({"address": "there"}, {**EDITED, "version": 1}),
    ],
)
def test_an_edit_that_another_came_before(
    scripted: Scripted, connect: Connect, edit: dict[str, Any], now: dict[str, Any]
) -> None:
    with pytest.raises(Refusal, match="another version") as caught:
        edit_with_a_lost_answer(scripted, connect, now, **edit)
    assert caught.value.reason is Reason.VERSION_CONFLICT


def test_an_edit_that_is_refused_at_once(scripted: Scripted, connect: Connect) -> None:
    with pytest.raises(Refusal, match="another version"):
        edit_with_a_lost_answer(scripted, connect, EDITED, lines=LINES, address="there", lost=False)


def test_an_edit_that_is_refused_for_another_reason(scripted: Scripted, connect: Connect) -> None:
    with pytest.raises(Refusal) as caught:
        edit_with_a_lost_answer(scripted, connect, EDITED, address="there", reason=Reason.NOT_FOUND)
    assert caught.value.reason is Reason.NOT_FOUND


def test_an_order_that_makes_no_sense_behind_an_edit(scripted: Scripted, connect: Connect) -> None:
    with pytest.raises(RemoteProtocolError, match=r"order\.get"):
        edit_with_a_lost_answer(scripted, connect, {**EDITED, "order": "seven"}, lines=LINES)


# What is remembered for the next connection


def logins(scripted: Scripted, connect: Connect, use: Call) -> list[tuple[str, object]]:
    """What the client does on a new connection: the requests of the second, with their passwords."""
    heard: list[tuple[str, object]] = []

    def first(customer: Customer) -> None:
        customer.greet()
        for event in iter(customer.event, None):
            if event.method == "system.ping":
                return
            customer.answer(event.id, ACCOUNT if event.method.startswith("account.login") else {})

    def second(customer: Customer) -> None:
        customer.greet()
        request_id, params = customer.request()
        while True:
            heard.append((customer.heard[-1], params.get("password")))
            customer.answer(request_id, ACCOUNT if customer.heard[-1].startswith("account.login") else {})
            if customer.heard[-1] == "system.ping":
                break
            request_id, params = customer.request()
        customer.serve()

    client = connect(scripted(first, second).server)
    use(client)
    client.ping()  # unanswered on the first connection
    return heard


def test_a_changed_password_is_remembered(scripted: Scripted, connect: Connect) -> None:
    def use(client: Client) -> None:
        client.login("alice", "the old one")
        client.change_password("the new one", "the old one")

    assert logins(scripted, connect, use) == [("account.login", "the new one"), ("system.ping", None)]


def test_a_certificate_stays_the_login_when_the_password_changes(scripted: Scripted, connect: Connect) -> None:
    def use(client: Client) -> None:
        client.login_certificate()
        client.change_password("the new one")

    assert logins(scripted, connect, use) == [("account.login_certificate", None), ("system.ping", None)]


def test_nothing_is_remembered_of_a_deleted_account(scripted: Scripted, connect: Connect) -> None:
    def first(customer: Customer) -> None:
        customer.greet()
        customer.serve(account_login=ACCOUNT)

    def second(customer: Customer) -> None:
        customer.greet()
        heard.append(customer.heard)
        customer.serve()

    heard: list[list[str]] = []
    client = connect(scripted(first, second).server)
    client.login("alice", "a password")
    client.delete_account("a password")
    client.ping()
    assert heard == [["system.ping"]]


def test_a_password_that_was_not_changed_stays(scripted: Scripted, connect: Connect) -> None:
    def first(customer: Customer) -> None:
        customer.greet()
        customer.answer(customer.request("account.login")[0], ACCOUNT)
        request_id, _ = customer.request("account.change_password")
        customer.say(customer.core.send_error(request_id, Reason.BAD_CREDENTIALS, "no", {}))

    def second(customer: Customer) -> None:
        customer.greet()
        request_id, params = customer.request("account.login")
        words.append(params["password"])
        customer.answer(request_id, ACCOUNT)
        customer.serve()

    words: list[str] = []
    client = connect(scripted(first, second).server)
    client.login("alice", "the old one")
    with pytest.raises(Refusal):
        client.change_password("the new one", "a wrong one")
    client.ping()
    assert words == ["the old one"]


# Notifications


@pytest.mark.parametrize(
    ("method", "params", "kind"),
    [
        ("order.changed", ORDER, Order),
        ("rewards.changed", REWARDS, Rewards),
        ("chat.message", MESSAGE, Message),
        ("chat.conversation", CONVERSATION, Conversation),
        ("chat.typing", {"conversation": 3, "sender": "sam"}, m.Typing),
        ("system.draining", {"seconds": 5}, m.Draining),
        ("weather.changed", {"sunny": True}, dict),
        ("chat.message", {"conversation": 3}, type(None)),
    ],
)
def test_a_notification_is_what_it_is_about(
    scripted: Scripted, connect: Connect, method: str, params: object, kind: type
) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        customer.notify(method, params)
        customer.serve()

    client = connect(scripted(script).server)
    client.connect()
    notifications: Iterator[Any] = client.notifications(SECONDS)
    one = next(notifications)
    assert isinstance(one, Notification)
    assert one.method == method
    assert type(one.params) is kind
