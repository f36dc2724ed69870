"""A conversation that is followed: each message once and in order, whatever breaks."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from client.conftest import Connect
from client.scripted_server import Customer, Listener
from client.test_reconnect import ACCOUNT

from securedelivery.api.messages import Typing
from securedelivery.client import Client
from securedelivery.client.conversation import Event, Live, LiveConversation, Lost
from securedelivery.client.following import Following
from securedelivery.errors import ConnectionFailure, PeerClosed, Reason, Refusal, RemoteProtocolError
from securedelivery.model import Conversation, Message

Scripted = Callable[..., Listener]
SECONDS = 10.0


def message(sequence: int, *, conversation: int = 3, text: str = "hello") -> dict[str, Any]:
    return {
        "conversation": conversation, "sequence": sequence, "sender": "bob", "role": "agent", "text": text,
        "at": "2026-11-22T09:00:00.000000Z", "message_key": str(sequence),
    }  # fmt: skip


def conversation(number: int = 3, status: str = "waiting") -> dict[str, Any]:
    return {
        "conversation": number, "customer": "alice", "status": status, "agent": None, "unread": 0,
        "last_sequence": 1, "waiting_since": None,
    }  # fmt: skip


def tell_history(customer: Customer, *sequences: int, after: int, following: int | None = None) -> dict[str, Any]:
    """Answer the next request, which is for the history after that; its parameters."""
    request_id, params = customer.request("chat.history")
    assert params["after"] == after
    items = [message(sequence) for sequence in sequences]
    customer.answer(request_id, {"items": items, "next": following, "last": 99})
    return params


def refuse(customer: Customer, method: str, reason: Reason, **data: Any) -> None:
    request_id, _ = customer.request(method)
    customer.say(customer.core.send_error(request_id, reason, "no", data))


def brief(event: Event) -> object:
    match event:
        case Message():
            return event.sequence
        case Typing():
            return f"{event.sender} types"
        case Conversation():
            return event.status.value
    return type(event)


def take(events: Iterator[Event], number: int) -> list[object]:
    return [brief(next(events)) for _ in range(number)]


def then_serve(customer: Customer) -> None:
    customer.serve(chat_history={"items": [], "next": None, "last": 0})


def test_history_first_then_what_is_said(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        assert tell_history(customer, 1, 2, after=0, following=2)["limit"] == 200
        assert tell_history(customer, 3, after=2)["conversation"] == 3
        for sequence in (4, 5):
            customer.notify("chat.message", message(sequence))
        customer.notify("chat.typing", {"conversation": 3, "sender": "bob"})
        customer.notify("chat.conversation", conversation(status="resolved"))
        then_serve(customer)

    talk = LiveConversation(connect(scripted(script).server), 3)
    assert take(talk.events(), 8) == [1, 2, 3, Live, 4, 5, "bob types", "resolved"]
    assert talk.last == 5


def test_repetitions_and_others_are_left_out_and_gaps_are_filled(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        tell_history(customer, 1, 2, after=0)
        customer.notify("chat.message", message(2))
        customer.notify("chat.message", message(1, conversation=4))
        customer.notify("chat.typing", {"conversation": 4, "sender": "eve"})
        customer.notify("chat.message", message(5))
        tell_history(customer, 3, 4, 5, 6, after=2)
        customer.notify("chat.message", message(6))
        customer.notify("rewards.changed", {"points": 1, "tier": "bronze", "order_count": 0, "next_tier": None})
        customer.notify("chat.message", message(7))
        then_serve(customer)

    talk = LiveConversation(connect(scripted(script).server), 3)
    assert take(talk.events(), 9) == [1, 2, Live, 3, 4, 5, 6, Live, 7]


def test_what_makes_no_sense_has_the_history_asked_again(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        tell_history(customer, after=0)
        customer.notify("chat.message", {"sequence": "one"})
        tell_history(customer, 1, after=0)
        then_serve(customer)

    talk = LiveConversation(connect(scripted(script).server), 3)
    assert take(talk.events(), 3) == [Live, 1, Live]


def test_only_what_follows_what_is_known(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        tell_history(customer, 8, after=7)
        customer.notify("chat.message", message(9))
        then_serve(customer)

    talk = LiveConversation(connect(scripted(script).server), 3, after=7)
    assert take(talk.events(), 3) == [8, Live, 9]


def test_an_own_conversation_that_begins(scripted: Scripted, connect: Connect) -> None:
    """Its number is not known before, and an agent's own one is not among those of others."""

    def script(customer: Customer) -> None:
        customer.greet()
        assert tell_history(customer, after=0).get("conversation") is None
        customer.notify("chat.message", message(9, conversation=4))
        tell_history(customer, after=0)
        customer.notify("chat.conversation", conversation(4))
        tell_history(customer, after=0)
        customer.notify("chat.conversation", conversation(3))
        tell_history(customer, 1, after=0)
        customer.notify("chat.message", message(1))
        customer.notify("chat.message", message(1, conversation=4))
        customer.notify("chat.message", message(2))
        then_serve(customer)

    talk = LiveConversation(connect(scripted(script).server))
    assert take(talk.events(), 7) == [Live, Live, Live, 1, "waiting", Live, 2]


def test_what_came_before_anybody_followed_is_no_news(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        customer.notify("chat.typing", {"conversation": 3, "sender": "bob"})
        customer.answer(customer.request("system.ping")[0], {})
        tell_history(customer, 1, after=0)
        customer.notify("chat.message", message(2))
        then_serve(customer)

    client = connect(scripted(script).server)
    client.ping()  # its answer comes behind the notification
    assert take(LiveConversation(client, 3).events(), 3) == [1, Live, 2]


@pytest.mark.parametrize("reason", ["draining", "session_expired", None])
def test_a_lost_connection_is_told_and_made_good(scripted: Scripted, connect: Connect, reason: str | None) -> None:
    def first(customer: Customer) -> None:
        customer.greet()
        tell_history(customer, 1, after=0)
        if reason is not None:
            customer.close(reason)

    def second(customer: Customer) -> None:
        customer.greet()
        tell_history(customer, 2, 3, after=1)
        customer.notify("chat.message", message(3))
        customer.notify("chat.message", message(4))
        then_serve(customer)

    talk = LiveConversation(connect(scripted(first, second).server), 3)
    assert take(talk.events(), 7) == [1, Live, Lost, 2, 3, Live, 4]


def test_a_connection_that_breaks_amid_the_history(scripted: Scripted, connect: Connect) -> None:
    def first(customer: Customer) -> None:
        customer.greet()
        tell_history(customer, 1, 2, after=0, following=2)
        customer.request("chat.history")

    def second(customer: Customer) -> None:
        customer.greet()
        customer.request("chat.history")

    def third(customer: Customer) -> None:
        customer.greet()
        tell_history(customer, 3, after=2)
        then_serve(customer)

    talk = LiveConversation(connect(scripted(first, second, third).server), 3)
    assert take(talk.events(), 5) == [1, 2, Lost, 3, Live]


def test_a_server_that_is_away_for_a_while(scripted: Scripted, connect: Connect) -> None:
    def first(customer: Customer) -> None:
        customer.greet()
        tell_history(customer, 1, after=0)

    def away(customer: Customer) -> None:
        """Not even a handshake."""

    def busy(customer: Customer) -> None:
        customer.greet()
        refuse(customer, "chat.history", Reason.UNAVAILABLE)
        tell_history(customer, 2, after=1)
        then_serve(customer)

    talk = LiveConversation(connect(scripted(first, away, away, busy).server), 3)
    assert take(talk.events(), 5) == [1, Live, Lost, 2, Live]


def test_a_login_that_must_wait(scripted: Scripted, connect: Connect) -> None:
    def first(customer: Customer) -> None:
        customer.greet()
        customer.answer(customer.request("account.login")[0], ACCOUNT)
        tell_history(customer, 1, after=0)

    def strict(customer: Customer) -> None:
        customer.greet()
        refuse(customer, "account.login", Reason.RATE_LIMITED, retry_after=0)
        customer.serve()

    def second(customer: Customer) -> None:
        customer.greet()
        customer.answer(customer.request("account.login")[0], ACCOUNT)
        tell_history(customer, 2, after=1)
        then_serve(customer)

    client = connect(scripted(first, strict, second).server)
    client.login("alice", "a word of hers")
    assert take(LiveConversation(client).events(), 5) == [1, Live, Lost, 2, Live]


def test_a_login_that_is_refused_ends_it(scripted: Scripted, connect: Connect) -> None:
    def first(customer: Customer) -> None:
        customer.greet()
        customer.answer(customer.request("account.login")[0], ACCOUNT)
        tell_history(customer, 1, after=0)
        customer.close("credentials_changed")

    def second(customer: Customer) -> None:
        customer.greet()
        refuse(customer, "account.login", Reason.BAD_CREDENTIALS)
        customer.serve()

    client = connect(scripted(first, second).server)
    client.login("alice", "a word of hers")
    events = LiveConversation(client).events()
    assert take(events, 3) == [1, Live, Lost]
    with pytest.raises(Refusal) as caught:
        next(events)
    assert caught.value.reason is Reason.BAD_CREDENTIALS


def test_a_certificate_that_was_revoked_ends_it(scripted: Scripted, connect: Connect) -> None:
    def first(customer: Customer) -> None:
        customer.greet()
        tell_history(customer, 1, after=0)

    def second(customer: Customer) -> None:
        customer.shake_hands()
        customer.close("certificate_revoked")

    events = LiveConversation(connect(scripted(first, second).server), 3).events()
    assert take(events, 3) == [1, Live, Lost]
    with pytest.raises(PeerClosed, match="revoked"):
        next(events)


def test_a_conversation_that_is_not_there(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        refuse(customer, "chat.history", Reason.NOT_FOUND)
        customer.serve()

    with pytest.raises(Refusal) as caught:
        next(LiveConversation(connect(scripted(script).server), 4).events())
    assert caught.value.reason is Reason.NOT_FOUND


def test_a_history_with_a_gap_is_not_believed(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        tell_history(customer, 1, 3, after=0)
        customer.serve()

    events = LiveConversation(connect(scripted(script).server), 3).events()
    assert take(events, 1) == [1]
    with pytest.raises(RemoteProtocolError, match="after 1 goes on with 3"):
        next(events)


def test_a_silent_server_is_asked_again(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        customer.request("chat.history")  # and no answer
        tell_history(customer, 1, after=0)
        then_serve(customer)

    talk = LiveConversation(connect(scripted(script).server, timeout_seconds=0.3), 3)
    assert take(talk.events(), 3) == [Lost, 1, Live]


@pytest.mark.parametrize("how", ["stop", "close"])
def test_it_ends_when_it_is_told_to(scripted: Scripted, connect: Connect, how: str) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        tell_history(customer, 1, after=0)
        customer.serve()

    client = connect(scripted(script).server)
    talk = LiveConversation(client, 3)
    events = talk.events()
    assert take(events, 2) == [1, Live]
    threading.Timer(0.05, talk.stop if how == "stop" else client.close).start()
    assert list(events) == []


@pytest.mark.parametrize("how", ["stop", "close"])
def test_it_ends_while_the_server_is_away(scripted: Scripted, connect: Connect, how: str) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        tell_history(customer, 1, after=0)
        listener._listener.shutdown(socket.SHUT_RDWR)
        listener._listener.close()

    listener = scripted(script)
    client = connect(listener.server)
    talk = LiveConversation(client, 3)
    events = talk.events()
    assert take(events, 3) == [1, Live, Lost]
    threading.Timer(0.05, talk.stop if how == "stop" else client.close).start()
    assert list(events) == []


def test_it_ends_amid_a_handshake(scripted: Scripted, connect: Connect) -> None:
    dialled, stopped = threading.Event(), threading.Event()

    def first(customer: Customer) -> None:
        customer.greet()
        tell_history(customer, 1, after=0)

    def second(_customer: Customer) -> None:
        dialled.set()
        assert stopped.wait(SECONDS)

    talk = LiveConversation(connect(scripted(first, second).server), 3)
    events = talk.events()
    assert take(events, 3) == [1, Live, Lost]

    def stop() -> None:
        assert dialled.wait(SECONDS)
        talk.stop()
        stopped.set()

    thread = threading.Thread(target=stop)
    thread.start()
    assert list(events) == []
    thread.join()


def test_it_ends_amid_a_question(scripted: Scripted, connect: Connect) -> None:
    asked = threading.Event()

    def script(customer: Customer) -> None:
        customer.greet()
        customer.request("chat.history")
        asked.set()
        customer.serve()

    client = connect(scripted(script).server)
    talk = LiveConversation(client, 3)
    seen: list[Event] = []
    thread = threading.Thread(target=lambda: seen.extend(talk.events()))
    thread.start()
    assert asked.wait(SECONDS)
    client.close()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert seen == []


# Saying something


def test_what_is_said_is_repeated_under_its_key(scripted: Scripted, connect: Connect) -> None:
    asked: list[dict[str, Any]] = []

    def truncating(customer: Customer) -> None:
        customer.greet()
        asked.append(customer.request("chat.send")[1])

    def busy(customer: Customer) -> None:
        customer.greet()
        request_id, params = customer.request("chat.send")
        asked.append(params)
        customer.say(customer.core.send_error(request_id, Reason.UNAVAILABLE, "busy", {}))
        asked.append(customer.request("chat.send")[1])  # too slow for this client
        request_id, params = customer.request("chat.send")
        asked.append(params)
        customer.answer(request_id, message(1))
        customer.serve()

    talk = LiveConversation(connect(scripted(truncating, busy).server, timeout_seconds=1.0), 3)
    assert talk.send("hello").sequence == 1
    assert len(asked) == 4
    assert asked == [asked[0]] * 4
    assert (asked[0]["text"], asked[0]["conversation"]) == ("hello", 3)
    assert asked[0]["message_key"]


def test_an_own_key(scripted: Scripted, connect: Connect) -> None:
    asked: list[dict[str, Any]] = []

    def script(customer: Customer) -> None:
        customer.greet()
        request_id, params = customer.request("chat.send")
        asked.append(params)
        customer.answer(request_id, message(1))
        customer.serve()

    LiveConversation(connect(scripted(script).server)).send("hello", message_key="mine")
    assert asked[0]["message_key"] == "mine"
    assert asked[0].get("conversation") is None


def test_a_refusal_is_not_repeated(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        refuse(customer, "chat.send", Reason.CONVERSATION_TAKEN, agent="kim")
        customer.serve()

    with pytest.raises(Refusal) as caught:
        LiveConversation(connect(scripted(script).server), 3).send("hello")
    assert caught.value.data == {"agent": "kim"}


def test_patience_that_ends(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        customer.request("chat.send")
        customer.request("chat.send")
        customer.serve()

    patience = [True, False]
    talk = LiveConversation(connect(scripted(script).server, timeout_seconds=0.2), 3)
    with pytest.raises(ConnectionFailure, match=r"did not answer chat\.send"):
        talk.send("hello", patient=lambda: patience.pop(0))
    assert patience == []


def test_nothing_is_sent_behind_the_end(scripted: Scripted, connect: Connect) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        customer.serve()

    client = connect(scripted(script).server)
    talk = LiveConversation(client, 3)
    client.connect()
    client.close()
    with pytest.raises(ConnectionFailure, match="closed"):
        talk.send("hello")


def test_many_disconnects(scripted: Scripted, connect: Connect) -> None:
    """Every connection tells two messages, live or in the history, and breaks."""
    connections = 40

    def one(customer: Customer) -> None:
        customer.greet()
        while True:
            request_id, params = customer.request("chat.history")
            known = params["after"]
            if known >= 2 * connections:
                then_serve_answered(customer, request_id)
                return
            customer.answer(request_id, {"items": [message(known + 1)], "next": None, "last": 99})
            customer.notify("chat.message", message(known + 2))
            return

    def then_serve_answered(customer: Customer, request_id: int) -> None:
        customer.answer(request_id, {"items": [], "next": None, "last": 99})
        customer.serve()

    told: list[int] = []
    for event in LiveConversation(connect(scripted(one).server), 3).events():
        if isinstance(event, Message):
            told.append(event.sequence)
        if len(told) == 2 * connections:
            break
    assert told == list(range(1, 2 * connections + 1))


def test_anything_can_be_followed(scripted: Scripted, connect: Connect) -> None:
    """An event that is no news, and one from a queue that ran over."""

    class Number(msgspec.Struct, frozen=True):
        value: int

    def script(customer: Customer) -> None:
        customer.greet()
        customer.answer(customer.request("system.ping")[0], {})
        for value in range(1_500):  # more than the inbox holds
            customer.notify("test.number", {"value": value})
        customer.answer(customer.request("system.info")[0], 0)
        customer.answer(customer.request("system.ping")[0], {})
        customer.serve()

    client: Client = connect(scripted(script).server)
    asked = 0

    def ask() -> Iterator[Number]:
        nonlocal asked
        asked += 1
        client.call("system.ping", {}, dict, repeat=False)
        if asked == 1:
            client.call("system.info", {}, int, repeat=False)  # its answer comes behind all notifications
        yield Number(-asked)

    following = Following(client, ask, lambda news: [Number(news.params["value"])])
    events = following.events()
    assert [next(events) for _ in range(4)] == [Number(-1), Live(), Number(-2), Live()]
    assert next(events) == Number(1_500 - 1_023)
