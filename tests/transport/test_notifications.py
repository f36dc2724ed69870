"""notify(): to every logged-in connection of an account, and to the one that caused it after its answer."""

import pytest
from transport.driver import Client
from transport.stage import Stage

from securedelivery.protocol.jsonrpc import Request, Response


@pytest.fixture(params=[1, 3], ids=["one I/O thread", "three"])
def clients(stage: Stage, request: pytest.FixtureRequest) -> list[Client]:
    """Two of account 1, one of account 2, one of nobody."""
    stage.serve(io_threads=request.param)
    made = [stage.connect() for _ in range(4)]
    for client, account in zip(made, (1, 1, 2), strict=False):
        client.call("session.login", account=account)
    return made


def test_every_connection_of_the_accounts_gets_it_and_nobody_else(stage: Stage, clients: list[Client]) -> None:
    stage.server.notify([1, 3], "order.changed", {"order": 7})
    for client in clients[:2]:
        event = client.event()
        assert isinstance(event, Request)
        assert (event.id, event.method, bytes(event.params)) == (None, "order.changed", b'{"order":7}')
    for client in clients:
        assert client.is_served()
    assert not any(client.notifications for client in clients)


def test_the_one_that_caused_it_gets_it_after_the_answer(stage: Stage, clients: list[Client]) -> None:
    first, second, *_ = clients
    first.transmit(first.request(1, "write.wait"), first.request(2, "inline.ping"))
    stage.application.wait_begun("write.wait")
    stage.application.commit()  # as the store's writer does: first the answers of a commit, then its notifications
    stage.server.notify([1], "order.changed", {})
    events = [first.event() for _ in range(3)]
    answer, *_ = events
    assert isinstance(answer, Response)
    assert answer.id == 1
    assert sum(isinstance(event, Request) for event in events) == 1
    assert second.notified() == "order.changed"


def test_what_is_posted_together_arrives_in_its_order(stage: Stage, clients: list[Client]) -> None:
    with stage.server.together():
        stage.server.notify([1, 2], "order.changed", {"order": 7})
        stage.server.notify([1, 2], "rewards.changed", {})
    for client in clients[:3]:
        assert [client.notified(), client.notified()] == ["order.changed", "rewards.changed"]


def test_a_login_moves_the_connection_to_the_account(stage: Stage, clients: list[Client]) -> None:
    first, second, *_ = clients
    first.call("session.login", account=2)
    stage.server.notify([1], "chat.typing", {})
    assert second.notified() == "chat.typing"
    assert first.is_served()
    assert not first.notifications
    stage.server.notify([2], "chat.typing", {})
    assert first.notified() == "chat.typing"


def test_a_logout_takes_the_connection_out(stage: Stage, clients: list[Client]) -> None:
    first, second, *_ = clients
    first.call("session.logout")
    stage.server.notify([1], "chat.typing", {})
    assert second.notified() == "chat.typing"
    assert first.is_served()
    assert not first.notifications
    second.call("session.logout")
    assert 1 not in stage.server._accounts


@pytest.mark.parametrize("end", ["bye", "cut"])
def test_a_connection_that_has_ended_is_forgotten(stage: Stage, clients: list[Client], end: str) -> None:
    first, second, *_ = clients
    if end == "bye":
        first.say_bye()
        assert first.close_reason() == "bye"
    first.hang_up()
    stage.wait_idle()
    while len(stage.server._accounts[1]) == 2:
        stage.wait_idle()
    stage.server.notify([1], "chat.typing", {})
    assert second.notified() == "chat.typing"


def test_a_login_that_ends_after_its_connection_leaves_no_trace(stage: Stage, clients: list[Client]) -> None:
    nobody = clients[3]
    nobody.transmit(nobody.request(1, "session.wait"), nobody.request(2, "session.login", account=9))
    stage.application.wait_begun("session.wait")
    nobody.say_bye()
    stage.wait_idle()
    stage.application.go()
    assert nobody.answers(2) == [1, 2]
    assert nobody.close_reason() == "bye"
    assert 9 not in stage.server._accounts


def test_a_notification_goes_to_nobody_whose_connection_is_ending(stage: Stage, clients: list[Client]) -> None:
    first, second, *_ = clients
    first.transmit(first.request(1, "write.wait"), first.core.send_close("bye"))
    stage.application.wait_begun("write.wait")
    stage.wait_idle()
    stage.server.notify([1], "chat.typing", {})
    assert second.notified() == "chat.typing"
    stage.application.commit()
    assert first.answers(1) == [1]
    assert not first.notifications
    assert first.close_reason() == "bye"


def test_one_that_does_not_fit_a_frame_is_an_incident_and_the_connection_goes_on(
    stage: Stage, clients: list[Client]
) -> None:
    stage.expected_incidents = 2
    stage.server.notify([1], "order.changed", {"note": "x" * 70_000})
    assert clients[0].is_served()
    assert not clients[0].notifications
    assert clients[1].is_served()
    assert len(stage.application.incidents) == 2
