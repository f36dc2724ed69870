"""review(): an account has changed, and the connections that it is logged in on change with it, or end."""

import msgspec
import pytest
from transport.driver import Client
from transport.stage import Stage

from securedelivery.protocol.jsonrpc import Response
from securedelivery.transport.dispatch import Ending, SessionChange


@pytest.fixture
def clients(stage: Stage) -> list[Client]:
    """Two of account 1, one of account 2, one of nobody."""
    stage.serve()
    made = [stage.connect() for _ in range(4)]
    for client, account in zip(made, (1, 1, 2), strict=False):
        client.call("session.login", account=account)
        assert client.is_served()  # so the look at what happened during the login is over
    return made


def test_a_login_is_looked_at_once_more(stage: Stage, clients: list[Client]) -> None:
    """What changed between the login's transaction and its entry in the directory reached nobody."""
    assert stage.application.effects.count("review") == 3
    stage.application.standing[5] = Ending("credentials_changed", "disabled meanwhile")
    clients[3].call("session.login", account=5)
    assert clients[3].close_reason() == "credentials_changed"


def test_every_connection_of_the_account_changes_and_no_other(stage: Stage, clients: list[Client]) -> None:
    stage.application.standing[1] = SessionChange(None, 10, 10)
    stage.server.review(1)
    stage.server.notify([1, 10], "system.mark", {})  # who has got this has been told to look before it
    assert clients[0].notified() == clients[1].notified() == "system.mark"
    for client, session in zip(clients, (10, 10, 2, None), strict=True):
        assert msgspec.json.decode(client.call("read.who").result)["session"] == session
    stage.server.notify([10], "order.changed", {})
    assert clients[0].notified() == "order.changed"


def test_every_connection_of_the_account_ends_and_no_other(stage: Stage, clients: list[Client]) -> None:
    stage.application.standing[1] = Ending("account_deleted", "gone")
    stage.server.review(1)
    assert clients[0].close_reason() == clients[1].close_reason() == "account_deleted"
    assert clients[2].is_served()
    assert clients[3].is_served()


def test_it_comes_in_its_turn_and_nothing_behind_it_is_done(stage: Stage, clients: list[Client]) -> None:
    first = clients[0]
    first.transmit(first.request(1, "write.wait"), first.request(2, "read.ping"))
    stage.application.wait_begun("write.wait")
    stage.application.standing[1] = Ending("account_deleted", "gone")
    stage.server.review(1)
    assert clients[1].close_reason() == "account_deleted"  # so the review is queued on the first as well
    first.transmit(first.request(3, "read.who"))
    stage.application.commit()
    answers = [first.event() for _ in range(2)]
    assert [answer.id for answer in answers if isinstance(answer, Response)] == [1, 2]
    assert first.close_reason() == "account_deleted"
    assert "read.who" not in stage.application.effects


def test_an_account_that_cannot_be_looked_at_is_let_out(stage: Stage, clients: list[Client]) -> None:
    stage.expected_incidents = 1
    stage.application.standing[2] = RuntimeError("no database")
    stage.server.review(2)
    assert clients[2].close_reason() == "internal"
    assert "no database" in stage.application.incidents[0]


def test_nobody_is_looked_at_after_a_logout(stage: Stage, clients: list[Client]) -> None:
    before = stage.application.effects.count("review")
    clients[0].call("session.logout")
    stage.server.review(2)
    stage.wait_idle()  # what is posted may come behind what a socket has brought
    assert clients[2].is_served()
    assert stage.application.effects.count("review") == before + 1


def test_nobody_is_looked_at_who_logs_out_right_behind_the_login(stage: Stage, clients: list[Client]) -> None:
    last = clients[3]
    last.transmit(
        last.request(1, "session.login", account=7), last.request(2, "session.logout"), last.request(3, "read.who")
    )
    answers = [last.event() for _ in range(3)]
    assert [answer.id for answer in answers if isinstance(answer, Response)] == [1, 2, 3]
    assert last.is_served()


def test_what_is_for_one_account_does_not_reach_the_next(stage: Stage, clients: list[Client]) -> None:
    """A notification that was on its way when somebody else logged in."""
    first, second, *_ = clients
    peers = [peer for peer in stage.peers() if peer.account == 1]
    stage.server.moved(peers[0], 2)
    for peer in peers:
        stage.post(peer.tell, 1, "order.changed", {"order": 7})
    assert second.notified() == "order.changed"
    assert first.is_served()
    assert not first.notifications
