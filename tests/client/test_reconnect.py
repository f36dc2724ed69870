"""What is repeated on a new connection, and what is not."""

import socket
import threading
from collections.abc import Callable

import pytest
from client.conftest import Connect
from client.scripted_server import Customer, Listener
from client.test_connection import ORDER

from securedelivery.client import Client, Gap, Notification, Profile
from securedelivery.errors import ConnectionFailure, PeerClosed, Reason, Refusal

Scripted = Callable[..., Listener]
SECONDS = 10.0

ACCOUNT = {
    "username": "alice", "role": "customer", "name": None, "email": None, "address": None, "certificate": None,
    "has_password": True, "mail": {}, "order_count": 0, "points": 0, "tier": "bronze", "created_at": "",
}  # fmt: skip


def test_an_order_is_repeated_with_its_key_after_a_truncation(scripted: Scripted, connect: Connect) -> None:
    asked: list[dict[str, object]] = []

    def truncating(customer: Customer) -> None:
        customer.greet()
        asked.append(customer.request("order.place")[1])

    def answering(customer: Customer) -> None:
        customer.greet()
        request_id, params = customer.request("order.place")
        asked.append(params)
        customer.answer(request_id, ORDER)
        customer.serve()

    listener = scripted(truncating, answering)
    order = connect(listener.server).place_order([("A", 1)], address="here")
    assert order.order == 7
    assert listener.accepted == 2
    assert asked[0] == asked[1]
    assert asked[0]["idempotency_key"]


@pytest.mark.parametrize("reason", ["draining", "session_expired", "idle", "internal", "bye"])
def test_reads_are_repeated_after_a_close(scripted: Scripted, connect: Connect, reason: str) -> None:
    def closing(customer: Customer) -> None:
        customer.greet()
        customer.request("order.get")
        customer.close(reason)

    def answering(customer: Customer) -> None:
        customer.greet()
        customer.serve(order_get=ORDER)

    assert connect(scripted(closing, closing, answering).server).order(7).order == 7


@pytest.mark.parametrize("reason", ["certificate_revoked", "account_deleted", "credentials_changed", "protocol_error"])
def test_nothing_is_repeated_where_it_would_not_help(scripted: Scripted, connect: Connect, reason: str) -> None:
    def closing(customer: Customer) -> None:
        customer.greet()
        customer.request("order.get")
        customer.close(reason)

    listener = scripted(closing)
    with pytest.raises(PeerClosed) as caught:
        connect(listener.server).order(7)
    assert caught.value.reason == reason
    assert listener.accepted == 1


def test_an_account_is_not_created_twice(scripted: Scripted, connect: Connect) -> None:
    heard: list[str] = []

    def truncating(customer: Customer) -> None:
        customer.greet()
        heard.append(customer.request("account.create")[1]["username"])

    def answering(customer: Customer) -> None:
        customer.greet()
        customer.serve()

    listener = scripted(truncating, answering)
    client = connect(listener.server)
    with pytest.raises(PeerClosed):
        client.create_account("alice")
    client.ping()  # the next call begins on a new connection
    assert heard == ["alice"]
    assert listener.accepted == 2


def test_a_lost_connection_is_replaced_before_a_call_that_is_not_repeated(scripted: Scripted, connect: Connect) -> None:
    def closing(customer: Customer) -> None:
        customer.greet()
        customer.close("idle")

    def answering(customer: Customer) -> None:
        customer.greet()
        customer.serve(account_create=ACCOUNT)

    listener = scripted(closing, answering)
    client = connect(listener.server)
    client.connect()
    assert isinstance(next(client.notifications(SECONDS)), Gap)  # it has noticed
    assert client.create_account("alice").username == "alice"


def test_the_first_connection_is_tried_once(profile: Callable[[str], Profile]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = Client(profile(f"localhost:{port}"), timeout_seconds=SECONDS)
    with pytest.raises(ConnectionFailure, match="refused"):
        client.ping()
    client.close()


def test_a_server_that_comes_back_is_waited_for(scripted: Scripted, connect: Connect) -> None:
    """Refused again and again, until the deadline."""

    def truncating(customer: Customer) -> None:
        customer.greet()
        customer.request()
        listener._listener.shutdown(socket.SHUT_RDWR)
        listener._listener.close()

    listener = scripted(truncating)
    client = connect(listener.server, timeout_seconds=0.6)
    with pytest.raises(ConnectionFailure, match="refused"):
        client.ping()


@pytest.mark.parametrize("with_callable", [False, True])
def test_the_login_is_done_again(scripted: Scripted, connect: Connect, with_callable: bool) -> None:
    heard: list[tuple[str, object]] = []

    def script(customer: Customer) -> None:
        customer.greet()
        request_id, params = customer.request("account.login")
        heard.append((params["username"], params["password"]))
        customer.answer(request_id, ACCOUNT)
        request_id, _ = customer.request("order.get")
        if len(heard) == 2:
            customer.answer(request_id, ORDER)
            customer.serve()

    words = iter(("first", "second"))
    client = connect(scripted(script).server)
    client.login("alice", (lambda: next(words)) if with_callable else "first")
    assert client.order(7).order == 7
    assert heard == [("alice", "first"), ("alice", "second" if with_callable else "first")]


def test_the_certificate_login_is_done_again_until_logout(scripted: Scripted, connect: Connect) -> None:
    heard: list[list[str]] = []

    def script(customer: Customer) -> None:
        heard.append(customer.heard)
        customer.greet()
        customer.answer(customer.request("account.login_certificate")[0], ACCOUNT)
        if len(heard) == 2:
            customer.answer(customer.request("system.ping")[0], {})
            customer.answer(customer.request("account.logout")[0], {})
            customer.request("system.ping")

    def last(customer: Customer) -> None:
        heard.append(customer.heard)
        customer.greet()
        customer.serve()

    client = connect(scripted(script, script, last).server)
    client.login_certificate()
    client.ping()
    client.logout()
    client.ping()
    assert heard[1] == ["account.login_certificate", "system.ping", "account.logout", "system.ping"]
    assert heard[2] == ["system.ping"]


def test_a_login_that_is_refused_later_says_so(scripted: Scripted, connect: Connect) -> None:
    def first(customer: Customer) -> None:
        customer.greet()
        customer.answer(customer.request("account.login")[0], ACCOUNT)

    def second(customer: Customer) -> None:
        customer.greet()
        request_id, _ = customer.request("account.login")
        customer.say(customer.core.send_error(request_id, Reason.BAD_CREDENTIALS, "no", {}))
        customer.serve()

    client = connect(scripted(first, second).server)
    client.login("alice", "a password")
    with pytest.raises(Refusal) as caught:
        client.order(7)
    assert caught.value.reason is Reason.BAD_CREDENTIALS


def test_a_failed_login_leaves_the_former(scripted: Scripted, connect: Connect) -> None:
    heard: list[str] = []

    def first(customer: Customer) -> None:
        customer.greet()
        customer.answer(customer.request("account.login")[0], ACCOUNT)
        request_id, _ = customer.request("account.login")
        customer.say(customer.core.send_error(request_id, Reason.BAD_CREDENTIALS, "no", {}))

    def second(customer: Customer) -> None:
        customer.greet()
        request_id, params = customer.request("account.login")
        heard.append(params["username"])
        customer.answer(request_id, ACCOUNT)
        customer.serve()

    client = connect(scripted(first, second).server)
    client.login("alice", "a password")
    with pytest.raises(Refusal):
        client.login("bob", "another")
    client.ping()
    assert heard == ["alice"]


def test_many_threads_make_one_new_connection(scripted: Scripted, connect: Connect) -> None:
    def first(customer: Customer) -> None:
        customer.greet()
        for _ in range(8):
            customer.request()

    def second(customer: Customer) -> None:
        customer.greet()
        customer.serve()

    listener = scripted(first, second)
    client = connect(listener.server)
    done: list[int] = []
    threads = [threading.Thread(target=lambda: (client.ping(), done.append(1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert len(done) == 8
    assert listener.accepted == 2


def test_notifications_go_on_behind_a_gap(scripted: Scripted, connect: Connect) -> None:
    def first(customer: Customer) -> None:
        customer.greet()
        customer.notify("order.changed", ORDER)
        customer.request()

    def second(customer: Customer) -> None:
        customer.greet()
        customer.notify("order.changed", ORDER)
        customer.serve()

    client = connect(scripted(first, second).server)
    client.connect()
    notifications = client.notifications(SECONDS)
    assert isinstance(next(notifications), Notification)
    with pytest.raises(ConnectionFailure):
        client.call("account.create", {}, dict, repeat=False)
    assert isinstance(next(notifications), Gap)
    assert isinstance(next(notifications), Notification)
    client.close()
    assert list(notifications) == []


def test_a_callback_hears_of_the_gap(scripted: Scripted, connect: Connect) -> None:
    def first(customer: Customer) -> None:
        customer.greet()
        customer.request()

    def second(customer: Customer) -> None:
        customer.greet()
        customer.notify("chat.typing", {})
        customer.serve()

    heard: list[object] = []
    client = connect(scripted(first, second).server, on_notification=heard.append)
    client.ping()
    assert [type(one) for one in heard] == [Gap, Notification]


def test_who_does_not_iterate_keeps_the_newest(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        for number in range(2_000):
            customer.notify("chat.typing", {"conversation": number, "sender": "sam"})
        customer.serve()

    client = connect(scripted(script).server)
    client.ping()  # answered behind them all
    heard = list(client.notifications(0))
    assert len(heard) == 1_024
    assert isinstance(heard[0], Gap)
    assert [one.params.conversation for one in heard[1:]] == list(range(2_000 - 1_023, 2_000))


def test_pages_are_followed(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        for following in ("a", "b", None):
            request_id, params = customer.request("order.list")
            asked.append(params["after"])
            customer.answer(request_id, {"items": [ORDER], "next": following})
        customer.serve()

    asked: list[str | None] = []
    assert len(list(connect(scripted(script).server).all_orders())) == 3
    assert asked == [None, "a", "b"]
