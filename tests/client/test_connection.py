"""One connection: calls side by side, notifications, and every way in which it ends."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from client.conftest import Connect
from client.scripted_server import Customer, Listener, TlsFailure

from securedelivery.api.messages import Typing
from securedelivery.client import Client, Notification
from securedelivery.client import connection as connection_module
from securedelivery.errors import (
    ConnectionFailure,
    LocalProtocolError,
    PeerClosed,
    Reason,
    Refusal,
    RemoteProtocolError,
    UnknownRefusal,
)
from securedelivery.model import ConversationId, Order
from securedelivery.protocol.connection import CloseReceived, Truncated
from securedelivery.protocol.frames import FrameKind, pad

Scripted = Callable[..., Listener]
SECONDS = 10.0

ORDER: dict[str, Any] = {
    "order": 7, "version": 1, "account": "alice", "status": "placed", "subtotal": 100, "discount": 0, "total": 100,
    "lines": [{"sku": "A", "name": "a", "quantity": 1, "unit_price": 100, "total": 100}], "currency": "EUR",
    "address": "here", "points_earned": 1, "points_redeemed": 0, "courier": None, "history": [],
    "placed_at": "2026-11-22T09:00:00.000000Z", "changed_at": "2026-11-22T09:00:00.000000Z",
}  # fmt: skip


def greet_and(script: Callable[[Customer], None]) -> Callable[[Customer], None]:
    def run(customer: Customer) -> None:
        customer.greet()
        script(customer)

    return run


# Calls


def test_answers_find_their_calls_in_any_order(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        asked = [customer.request("order.get") for _ in range(3)]
        for request_id, params in sorted(asked, key=lambda one: -one[1]["order"]):
            customer.answer(request_id, {**ORDER, "order": params["order"]})
        customer.serve()

    client = connect(scripted(greet_and(script)).server)
    found: dict[int, Order] = {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: client.order(n)})) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert {number: order.order for number, order in found.items()} == {1: 1, 2: 2, 3: 3}


def test_a_known_reason(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        request_id, _ = customer.request()
        customer.say(customer.core.send_error(request_id, Reason.OUT_OF_STOCK, "gone", {"sku": "A", "available": 0}))
        customer.serve()

    client = connect(scripted(greet_and(script)).server)
    with pytest.raises(Refusal, match="gone") as caught:
        client.place_order([("A", 1)])
    assert caught.value.reason is Reason.OUT_OF_STOCK
    assert caught.value.data == {"sku": "A", "available": 0}
    client.ping()


def say_message(customer: Customer, message: bytes) -> None:
    customer.say(customer.core._seal(FrameKind.MESSAGE, pad(message)))


@pytest.mark.parametrize(
    "error",
    [
        b'{"code": 1418, "message": "no", "data": {"reason": "teapot", "self": 1, "message": 2, "code": 3, "slug": 4}}',
        b'{"code": 1418, "message": "no", "data": {"reason": 7}}',
        b'{"code": 1418, "message": "no"}',
    ],
)
def test_a_reason_of_another_time(scripted: Scripted, connect: Connect, error: bytes) -> None:
    def script(customer: Customer) -> None:
        request_id, _ = customer.request()
        say_message(customer, b'{"jsonrpc": "2.0", "id": %d, "error": %b}' % (request_id, error))
        customer.serve()

    client = connect(scripted(greet_and(script)).server)
    with pytest.raises(UnknownRefusal, match="no") as caught:
        client.ping()
    assert caught.value.code == 1418
    client.ping()


def test_an_answer_of_another_shape(scripted: Scripted, connect: Connect) -> None:
    client = connect(scripted(greet_and(lambda customer: customer.serve(order_get={"order": "seven"}))).server)
    with pytest.raises(RemoteProtocolError, match=r"order\.get"):
        client.order(7)
    client.ping()


def test_more_members_than_this_client_knows(scripted: Scripted, connect: Connect) -> None:
    client = connect(scripted(greet_and(lambda customer: customer.serve(order_get={**ORDER, "new": 1}))).server)
    assert client.order(7).order == 7


def test_a_request_that_fits_no_frame(scripted: Scripted, connect: Connect) -> None:
    client = connect(scripted(greet_and(lambda customer: customer.serve())).server)
    with pytest.raises(Refusal, match="does not fit") as caught:
        client.place_order([("A", 1)], address="x" * 70_000)
    assert caught.value.reason is Reason.INVALID_PARAMS
    client.ping()


def test_text_that_is_no_unicode(scripted: Scripted, connect: Connect) -> None:
    client = connect(scripted(greet_and(lambda customer: customer.serve())).server)
    with pytest.raises(Refusal, match="Unicode"):
        client.product("CPU\udcff")
    client.ping()


def test_no_answer(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        late, _ = customer.request("system.ping")
        request_id, _ = customer.request("system.info")
        customer.answer(late, {})  # nobody waits for it any more
        info = {"name": "s", "version": "1", "currency": "EUR", "time": "", "limits": {}}
        customer.answer(request_id, info)
        customer.serve()

    client = connect(scripted(greet_and(script)).server)
    with pytest.raises(ConnectionFailure, match=r"did not answer system\.ping within 0\.1 s"):
        client.call("system.ping", {}, dict, repeat=True, timeout_seconds=0.1)
    assert client.info().name == "s"


def test_more_calls_than_the_server_takes_at_once(scripted: Scripted, connect: Connect) -> None:
    """The 33rd waits until one of 32 is answered."""
    full = threading.Event()

    def script(customer: Customer) -> None:
        asked = [customer.request()[0] for _ in range(32)]
        full.set()
        for request_id in asked:
            customer.answer(request_id, {})
        customer.serve()

    client = connect(scripted(greet_and(script)).server)
    threads = [threading.Thread(target=client.ping) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert full.is_set()


def test_neither_side_waits_for_the_other_to_read(scripted: Scripted, connect: Connect) -> None:
    """Both send more than the sockets hold before they read: the client's reader must not wait for its writers."""
    text = "x" * 60_000

    def script(customer: Customer) -> None:
        first, _ = customer.request()
        for _ in range(400):  # 24 MB
            customer.notify("chat.message", {"text": text})
        customer.answer(first, {})
        for _ in range(31):
            customer.answer(customer.request()[0], {})
        customer.serve()

    arrived: list[object] = []
    client = connect(scripted(greet_and(script)).server, on_notification=arrived.append)
    threads = [
        threading.Thread(target=lambda: client.call("chat.send", {"text": text}, dict, repeat=False))
        for _ in range(32)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert len(arrived) == 400


# Notifications


def test_notifications_in_the_order_of_arrival(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        customer.notify("order.changed", ORDER)
        customer.notify("system.draining", {"seconds": 5})
        customer.notify("chat.typing", {"conversation": 1, "sender": "sam"})
        customer.notify("order.changed", {"order": "no order"})
        customer.serve()

    client = connect(scripted(greet_and(script)).server)
    client.connect()
    notifications = client.notifications(SECONDS)
    first, second, third, fourth = (next(notifications) for _ in range(4))
    assert isinstance(first, Notification)
    assert isinstance(first.params, Order)
    assert second.params.seconds == 5
    assert third.params == Typing(ConversationId(1), "sam")
    assert fourth.params is None


def test_notifications_end_when_nothing_comes(scripted: Scripted, connect: Connect) -> None:
    client = connect(scripted(greet_and(lambda customer: customer.serve())).server)
    client.connect()
    assert list(client.notifications(0.05)) == []
    client.ping()


def test_a_callback_cannot_call(scripted: Scripted, connect: Connect) -> None:
    outcome: list[BaseException] = []
    done = threading.Event()

    def callback(_notification: object) -> None:
        try:
            client.ping()
        except LocalProtocolError as error:
            outcome.append(error)
        done.set()

    def script(customer: Customer) -> None:
        customer.notify("chat.typing", {})
        customer.serve()

    client = connect(scripted(greet_and(script)).server, on_notification=callback)
    client.connect()
    assert done.wait(SECONDS)
    assert len(outcome) == 1
    client.ping()


def test_a_callbacks_bug_does_not_end_the_connection(
    scripted: Scripted, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)

    def script(customer: Customer) -> None:
        customer.notify("chat.typing", {})
        customer.serve()

    def callback(_notification: object) -> None:
        raise KeyError("a bug")

    client = connect(scripted(greet_and(script)).server, on_notification=callback)
    client.ping()
    assert [one.exc_type for one in shown] == [KeyError]


def test_a_callback_may_close(scripted: Scripted, connect: Connect) -> None:
    closed = threading.Event()

    def callback(_notification: object) -> None:
        client.close()
        closed.set()

    def script(customer: Customer) -> None:
        customer.notify("chat.typing", {})
        customer.serve()

    client = connect(scripted(greet_and(script)).server, on_notification=callback)
    client.connect()
    assert closed.wait(SECONDS)


# Pings


def test_a_quiet_client_pings(scripted: Scripted, connect: Connect) -> None:
    pinged = threading.Event()

    def script(customer: Customer) -> None:
        for _ in range(3):
            customer.answer(customer.request("system.ping")[0], {})
        pinged.set()
        customer.serve()

    client = connect(scripted(greet_and(script)).server, ping_seconds=0.02)
    client.connect()
    assert pinged.wait(SECONDS)


def test_a_server_that_does_not_answer_the_ping_is_gone(
    scripted: Scripted, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "PONG_SECONDS", 0.05)

    def script(customer: Customer) -> None:
        customer.request("system.ping")
        assert isinstance(customer.event(), CloseReceived | Truncated)

    client = connect(
        scripted(greet_and(script), greet_and(lambda customer: customer.serve())).server, ping_seconds=0.02
    )
    client.connect()
    item = next(client.notifications(SECONDS))  # a Gap: there is a new connection
    assert not isinstance(item, Notification)


# Ends


def test_close_says_bye(scripted: Scripted, connect: Connect) -> None:
    seen: list[object] = []

    def script(customer: Customer) -> None:
        seen.append(customer.event())
        customer.close()
        customer.channel.feed(customer.sock.recv(65_536))
        seen.append(customer.channel.read())  # close_notify
        seen.append(customer.sock.recv(1))  # and only then the end

    client = connect(scripted(greet_and(script)).server)
    client.connect()
    client.close()
    client.close()
    assert seen == [CloseReceived("bye", ""), b"", b""]
    with pytest.raises(ConnectionFailure, match="has been closed"):
        client.ping()
    assert not [thread for thread in threading.enumerate() if thread.name == "securedelivery-reader"]


def test_close_does_not_wait_for_ever(scripted: Scripted, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_SECONDS", 0.1)
    client = connect(scripted(greet_and(lambda customer: customer.wait_for_end())).server)
    client.connect()
    client.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "securedelivery-reader"]


def test_close_while_a_call_waits(scripted: Scripted, connect: Connect) -> None:
    asked = threading.Event()

    def script(customer: Customer) -> None:
        customer.request()
        asked.set()
        assert isinstance(customer.event(), CloseReceived)
        customer.close()

    client = connect(scripted(greet_and(script)).server)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            client.create_account("alice")
        except ConnectionFailure as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert asked.wait(SECONDS)
    client.close()
    thread.join(SECONDS)
    assert "closed by this program" in str(errors[0])


def ends(scripted: Scripted, connect: Connect, end: Callable[[Customer], None]) -> ConnectionFailure:
    """What a call that is not repeated says when the connection ends before its answer."""

    def script(customer: Customer) -> None:
        customer.request("account.create")
        end(customer)

    client = connect(scripted(greet_and(script)).server)
    with pytest.raises(ConnectionFailure) as caught:
        client.create_account("alice")
    assert caught.value.hint
    return caught.value


def test_the_server_closes_amid_a_call(scripted: Scripted, connect: Connect) -> None:
    """Its CLOSE is answered with ours: Customer.close() waits for that."""
    error = ends(scripted, connect, lambda customer: customer.close("credentials_changed"))
    assert isinstance(error, PeerClosed)
    assert error.reason == "credentials_changed"


def test_what_was_answered_before_the_close_counts(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        request_id, _ = customer.request()
        customer.channel.write(customer.core.send_result(request_id, {}) + customer.core.send_close("draining"))
        customer.hang_up()
        assert isinstance(customer.event(), CloseReceived)

    client = connect(scripted(greet_and(script)).server)
    client.ping()


@pytest.mark.parametrize("how", ["close_notify", "end", "reset"])
def test_truncation_amid_a_call(scripted: Scripted, connect: Connect, how: str) -> None:
    def end(customer: Customer) -> None:
        if how == "close_notify":
            customer.hang_up()
        elif how == "reset":
            import socket

            customer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    error = ends(scripted, connect, end)
    assert isinstance(error, PeerClosed)
    assert error.reason is None
    assert error.temporary


@pytest.mark.parametrize(
    "broken",
    [
        lambda customer: customer.say(b"\x03\x00\x00\x50" + bytes(80)),
        lambda customer: say_message(customer, b"[1, 2]"),
        lambda customer: say_message(customer, b'{"jsonrpc": "2.0", "id": 1}'),
        lambda customer: say_message(
            customer, b'{"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "no"}}'
        ),
        lambda customer: customer.say(b"\x01\x00\x04\x80" + bytes(1152)),
    ],
    ids=["a bad tag", "no object", "no answer", "no id", "a second handshake"],
)
def test_a_server_that_breaks_the_protocol(
    scripted: Scripted, connect: Connect, broken: Callable[[Customer], None]
) -> None:
    def end(customer: Customer) -> None:
        broken(customer)
        event = customer.event()
        assert isinstance(event, CloseReceived)
        assert event.reason == "protocol_error"

    error = ends(scripted, connect, end)
    assert "is not the securedelivery protocol" in str(error)
    assert not error.temporary


def test_a_bug_of_the_reader_leaves_nobody_waiting(
    scripted: Scripted, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: object, _event: object, _notifications: object) -> None:
        raise ZeroDivisionError

    shown: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    client = connect(scripted(greet_and(lambda customer: customer.serve())).server)
    client.connect()
    monkeypatch.setattr(connection_module.Connection, "_handle", broken)
    with pytest.raises(ConnectionFailure, match="reader failed"):
        client.call("account.create", {}, dict, repeat=False)
    client.close()
    assert [one.exc_type for one in shown] == [ZeroDivisionError]


def test_a_forgotten_client_does_not_keep_the_program(scripted: Scripted, connect: Connect) -> None:
    client = connect(scripted(greet_and(lambda customer: customer.serve())).server)
    client.connect()
    readers = [thread for thread in threading.enumerate() if thread.name == "securedelivery-reader"]
    assert all(thread.daemon for thread in readers)
    assert isinstance(client, Client)


def test_a_call_interrupted_amid_sending(scripted: Scripted, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C behind the send: the bytes must not go out a second time, nor anything that cannot be decrypted."""
    ends: list[object] = []

    def first(customer: Customer) -> None:
        customer.greet()
        customer.request("system.ping")
        customer.request("system.info")
        try:
            ends.append(customer.event())
        except TlsFailure as failure:
            ends.append(str(failure))

    def second(customer: Customer) -> None:
        customer.greet()
        customer.serve()

    client = connect(scripted(first, second).server)
    client.connect()
    with pytest.raises(ConnectionFailure, match="did not answer"):
        client.call("system.ping", {}, dict, repeat=False, timeout_seconds=0.05)
    flush = connection_module.Connection._flush

    def interrupted(self: connection_module.Connection) -> None:
        unsent, self._unsent = self._unsent, self._unsent.copy()
        flush(self)
        self._unsent = unsent + self._unsent
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(connection_module.Connection, "_flush", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.info()
    client.ping()
    assert ends == ["unexpected eof while reading"]
