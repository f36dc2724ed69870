"""The library against the service: the four roles, what they tell each other, and what is remembered of them."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificate_authority import CertificateAuthority
from end_to_end.server_process import ServerProcess, write_catalog

from securedelivery.api import messages as m
from securedelivery.client import Client, Notification, Profile
from securedelivery.errors import Reason, Refusal
from securedelivery.model import Cents, ConversationStatus, OrderStatus, PointsReason, Role

SECONDS = 20.0
WORD, NEW = "correct horse battery", "another staple of mine"


@pytest.fixture(scope="module")
def certs(ca: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ca.write(tmp_path_factory.mktemp("shop-certs"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certs: Path) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("shop")
    catalog = write_catalog(folder / "catalog.csv", {"CPU-1": 1_000, "GPU-1": 1_000})
    settings = {"server": {"client_certificates": "optional"}}
    with ServerProcess(folder, certs, settings, catalog=catalog) as running:
        yield running


Enter = Callable[..., Client]


@pytest.fixture
def enter(server: ServerProcess, certs: Path, ca: CertificateAuthority) -> Iterator[Enter]:
    """A client that is logged in by certificate; with role=None (or "") nobody has an account or logs in yet."""
    clients: list[Client] = []

    def make(name: str | None, role: str | None = "customer") -> Client:
        host, port = server.address
        pair: tuple[Path, ...] = ()
        if name is not None:
            pair = (certs / f"{name}.crt", certs / f"{name}.key")
            if not pair[0].exists():
                ca.client(name).write(*pair)
        client = Client(Profile(f"{host}:{port}", certs / "ca.crt", *pair))
        clients.append(client)
        if name is not None and role is not None:
            server.admin("account", "create", name, "--role", role, "--if-missing")
            client.login_certificate()
        return client

    yield make
    for client in clients:
        client.close()


def hear(client: Client, *methods: str) -> list[Any]:
    """The params of the next notifications of those methods, in this order; others are passed over."""
    found: list[Any] = []
    for one in client.notifications(SECONDS):
        if isinstance(one, Notification) and one.method == methods[len(found)]:
            found.append(one.params)
            if len(found) == len(methods):
                return found
    raise AssertionError(f"{methods[len(found)]} did not come")


def cut(client: Client) -> None:
    """The connection breaks, as when a cable is pulled."""
    connection = client._link._connection
    assert connection is not None
    with contextlib.suppress(OSError):  # it has ended already
        connection._sock.shutdown(socket.SHUT_RDWR)


def test_from_an_order_to_its_delivery(enter: Enter) -> None:
    alice, agent, courier = enter("alice"), enter("sam", "agent"), enter("kim", "courier")
    placed = alice.place_order([("CPU-1", 1)], address="1 Main Street")
    assert hear(alice, "order.changed")[0] == placed
    edited = alice.update_order(placed.order, placed.version, lines=[("CPU-1", 3), ("GPU-1", 1), ("CPU-1", 1)])
    assert (edited.version, [(line.sku, line.quantity) for line in edited.lines]) == (2, [("CPU-1", 4), ("GPU-1", 1)])
    with pytest.raises(Refusal) as conflict:
        alice.update_order(placed.order, placed.version, address="elsewhere")
    assert (conflict.value.reason, conflict.value.data["version"]) == (Reason.VERSION_CONFLICT, 2)
    agent.advance_order(placed.order, OrderStatus.CONFIRMED)
    with pytest.raises(Refusal) as illegal:
        alice.update_order(placed.order, 3, address="elsewhere")
    assert illegal.value.data == {"status": "confirmed", "allowed": ["cancelled"]}
    agent.advance_order(placed.order, OrderStatus.PACKED, courier="kim", note="fragile")
    assert [order.order for order in courier.deliveries().items] == [placed.order]
    out = courier.advance_order(placed.order, OrderStatus.OUT_FOR_DELIVERY)
    assert not isinstance(out.delivery_code, str)
    code = alice.order(placed.order).delivery_code
    assert isinstance(code, str)
    with pytest.raises(Refusal) as wrong:
        courier.confirm_delivery(placed.order, "x")
    assert wrong.value.data == {"tries_left": 4}
    delivered = courier.confirm_delivery(placed.order, code)
    assert delivered == courier.confirm_delivery(placed.order, code)
    assert delivered.status is OrderStatus.DELIVERED
    assert courier.deliveries().items == []
    seen = hear(alice, *["order.changed"] * 5)
    assert [order.status.value for order in seen] == ["placed", "confirmed", "packed", "out_for_delivery", "delivered"]
    assert [order.order for order in alice.all_orders(status=OrderStatus.DELIVERED)] == [placed.order]
    assert [order.order for order in agent.all_orders(account="alice")] == [placed.order]
    assert list(alice.all_orders(changed_since=delivered.changed_at)) == [alice.order(placed.order)]
    assert {product.sku for product in alice.all_products()} == {"CPU-1", "GPU-1"}


def test_no_edit_is_lost_or_made_twice_when_connections_break(enter: Enter) -> None:
    client = enter("cutter")
    placed = client.place_order([("CPU-1", 1)], address="here")
    begun = threading.Semaphore(0)
    ended = threading.Event()

    def break_connections() -> None:
        while begun.acquire(timeout=SECONDS) and not ended.is_set():
            cut(client)  # sometimes before the request is sent, sometimes before its answer is there

    cutter = threading.Thread(target=break_connections)
    cutter.start()
    try:
        for number in range(40):
            begun.release()
            edited = client.update_order(placed.order, placed.version + number, address=f"Main Street {number}")
            assert (edited.version, edited.address) == (placed.version + number + 1, f"Main Street {number}")
    finally:
        ended.set()
        begun.release()
        cutter.join(SECONDS)
    assert not cutter.is_alive()
    assert len(client.order(placed.order).history) == 41


def test_points(enter: Enter) -> None:
    client = enter("polly")
    first = client.place_order([("CPU-1", 5)], address="here")
    rewards = client.rewards()
    assert (rewards.points, rewards.tier, rewards.order_count) == (first.points_earned, "bronze", 1)
    assert rewards.next_tier is not None
    assert hear(client, "rewards.changed") == [rewards]
    client.cancel_order(first.order, "no")
    assert client.cancel_order(first.order).history[-1].note == "no"
    history = list(client.all_rewards_history())
    assert [(one.reason, one.points) for one in history] == [
        (PointsReason.REVERSED, -first.points_earned),
        (PointsReason.EARNED, first.points_earned),
    ]
    assert client.rewards().points == 0


def test_chat(enter: Enter) -> None:
    alice, agent, other = enter("carl"), enter("amy", "agent"), enter("abe", "agent")
    assert (alice.chat_history().items, alice.chat_history().last) == ([], 0)
    first = alice.send_message("Is it there?", message_key="k")
    assert alice.send_message("Is it there?", message_key="k") == first
    (conversation,) = hear(agent, "chat.conversation")
    assert (conversation.customer, conversation.status) == ("carl", ConversationStatus.WAITING)
    number = conversation.conversation
    assert number in [one.conversation for one in agent.chat_queue().items]
    assert agent.claim(number).agent == "amy"
    with pytest.raises(Refusal) as taken:
        other.claim(number)
    assert (taken.value.reason, taken.value.data) == (Reason.CONVERSATION_TAKEN, {"agent": "amy"})
    alice.typing()
    assert hear(agent, "chat.typing") == [m.Typing(number, "carl")]
    answer = agent.send_message("It is.", conversation=number)
    assert hear(alice, "chat.message", "chat.message") == [first, answer]
    assert list(alice.all_messages()) == list(agent.all_messages(number)) == [first, answer]
    assert list(alice.all_messages(after=1)) == [answer]
    agent.mark_read(1, number)
    alice.mark_read(2)
    assert [one.unread for one in agent.chat_queue(status=ConversationStatus.ASSIGNED).items] == [0]
    assert agent.transfer(number, "abe").agent == "abe"
    assert other.release(number).status is ConversationStatus.WAITING
    assert other.claim(number).agent == "abe"
    assert other.resolve(number) == other.resolve(number)
    assert number in [one.conversation for one in agent.chat_queue(status=ConversationStatus.RESOLVED).items]


def test_update_and_export(enter: Enter) -> None:
    client = enter("ulla")
    account = client.update_account(name="Ulla", email="u@example.org", address="here", summaries=False)
    assert (account.name, account.email, account.address) == ("Ulla", "u@example.org", "here")
    assert (account.mail.receipts, account.mail.summaries) == (True, False)
    account = client.update_account(email=None, summaries=None)
    assert (account.name, account.email, account.mail.summaries) == ("Ulla", None, True)
    client.place_order([("CPU-1", 1)])
    client.send_message("Hello?")
    kinds = {type(one) for one in client.export_account()}
    assert kinds == {m.ExportedProfile, m.ExportedOrder, m.ExportedPoints, m.ExportedMessage, m.ExportedEvent}


def test_a_changed_password_logs_in_again(enter: Enter) -> None:
    client, other = enter(None), enter(None)
    client.create_account("pete", WORD)
    other.login("pete", WORD)
    client.change_password(NEW, WORD)
    with pytest.raises(Refusal) as caught:  # its connection was closed, and it knows the old one alone
        list(other.notifications(SECONDS))
    assert caught.value.reason is Reason.BAD_CREDENTIALS
    cut(client)
    assert client.account().username == "pete"
    with pytest.raises(Refusal) as caught:
        client.change_password(WORD, "a wrong one")
    assert caught.value.reason is Reason.BAD_CREDENTIALS


def test_a_certificate_logs_in_again(enter: Enter) -> None:
    client = enter("rudi", None)
    assert client.create_account("rudi").certificate is not None
    cut(client)
    assert client.account().username == "rudi"


def test_binding(enter: Enter) -> None:
    outside = enter(None)
    outside.create_account("bodo", WORD)
    with pytest.raises(Refusal) as caught:
        outside.bind_certificate()
    assert caught.value.reason is Reason.FORBIDDEN
    client = enter("bodo", None)
    client.login("bodo", WORD)
    bound = client.bind_certificate()
    assert bound == client.bind_certificate()
    assert client.login_certificate().certificate == bound.certificate


def test_deletion(enter: Enter) -> None:
    client = enter(None)
    client.create_account("dora", WORD)
    with pytest.raises(Refusal):
        client.delete_account()
    client.delete_account(WORD)
    with pytest.raises(Refusal) as caught:
        client.account()
    assert caught.value.reason is Reason.NOT_LOGGED_IN
    with pytest.raises(Refusal) as caught:
        client.login("dora", WORD)
    assert caught.value.reason is Reason.BAD_CREDENTIALS


def test_what_an_admin_does(enter: Enter) -> None:
    admin, client = enter("ines", "admin"), enter("theo")
    assert [account.username for account in admin.accounts("theo").items] == ["theo"]
    assert admin.set_role("theo", Role.COURIER).role is Role.COURIER
    product = admin.put_product("RAM-1", name="Memory", price=Cents(999), stock=5)
    assert admin.product("RAM-1") == product
    order = admin.place_order([("RAM-1", 5)], address="here")
    day = order.placed_at[:10]
    figures = admin.figures(day, day)
    assert "RAM-1" in {sold.sku for sold in figures.best_sellers}
    assert [record.action for record in admin.audit(account="theo", action="account.role_changed").items] == [
        "account.role_changed"
    ]
    assert admin.disable_account("theo").username == "theo"
    with pytest.raises(Refusal) as caught:  # its connection is closed, and the next is not logged in
        list(client.notifications(SECONDS))
    assert caught.value.reason is Reason.DISABLED
    admin.disable_account("theo", disabled=False)
    assert client.account().role is Role.COURIER
