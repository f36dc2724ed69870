"""last_connected(): when an account was last logged in on a connection."""

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from transport.driver import Client
from transport.stage import Stage

from securedelivery.transport import departures
from securedelivery.transport import server as module

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clocks:
    """That of the wall, and the one that only ever goes on."""

    def __init__(self) -> None:
        self.wall = START
        self.steady = 1_000.0

    def forward(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.steady += seconds

    def now(self, zone: object) -> datetime:
        assert zone is UTC
        return self.wall


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(departures, "time", SimpleNamespace(monotonic=lambda: clocks.steady))
    for part in (departures, module):
        monkeypatch.setattr(part, "datetime", clocks)
    return clocks


@pytest.fixture
def clients(clocks: Clocks, stage: Stage) -> list[Client]:
    """Two, of account 1."""
    stage.serve()
    made = [stage.connect() for _ in range(2)]
    for client in made:
        client.call("session.login", account=1)
    return made


def wait_until_away(stage: Stage, account: int) -> None:
    while account in stage.server._accounts:
        stage.wait_idle()


def test_nobody_was_here_before_the_start(stage: Stage) -> None:
    server = stage.serve()
    assert server.last_connected(1) is None
    client = stage.connect()
    assert server.last_connected(1) is None, "a connection is nobody's before the login"
    client.call("session.login", account=2)
    assert server.last_connected(1) is None


def test_who_is_here_was_here_now(stage: Stage, clocks: Clocks, clients: list[Client]) -> None:
    assert stage.server.last_connected(1) == START
    clocks.forward(3600)
    assert stage.server.last_connected(1) == clocks.wall == START + timedelta(hours=1)
    assert all(client.is_served() for client in clients)


def test_the_last_connection_counts(stage: Stage, clocks: Clocks, clients: list[Client]) -> None:
    first, second = clients
    clocks.forward(10)
    first.call("session.logout")
    clocks.forward(10)
    assert stage.server.last_connected(1) == clocks.wall
    second.call("session.logout")
    clocks.forward(300)
    assert stage.server.last_connected(1) == START + timedelta(seconds=20)
    second.call("session.login", account=1)
    assert stage.server.last_connected(1) == clocks.wall
    second.call("session.logout")
    clocks.forward(7)
    assert stage.server.last_connected(1) == START + timedelta(seconds=320)


def test_who_logs_in_as_another_has_gone(stage: Stage, clocks: Clocks, clients: list[Client]) -> None:
    for client in clients:
        client.call("session.login", account=2)
    clocks.forward(5)
    assert stage.server.last_connected(1) == START
    assert stage.server.last_connected(2) == clocks.wall


def test_who_is_looked_at_again_has_not_left(stage: Stage, clients: list[Client]) -> None:
    client, _ = clients
    client.call("session.login", account=2)
    stage.server.review(2)
    assert client.is_served()
    stage.wait_idle()
    assert stage.application.effects.count("review") == 4, "behind three logins, and now"
    assert not stage.server._departures._left


@pytest.mark.parametrize("end", ["bye", "cut"])
def test_a_connection_that_has_ended(stage: Stage, clocks: Clocks, clients: list[Client], end: str) -> None:
    for client in clients:
        if end == "bye":
            client.say_bye()
            assert client.close_reason() == "bye"
        client.hang_up()
    wait_until_away(stage, 1)
    clocks.forward(5)
    assert stage.server.last_connected(1) == START


def test_a_clock_that_is_set_changes_nothing(stage: Stage, clocks: Clocks, clients: list[Client]) -> None:
    for client in clients:
        client.call("session.logout")
    for days in (1000, -3000):
        clocks.wall += timedelta(days=days)
        clocks.steady += 5
        seen = stage.server.last_connected(1)
        assert seen is not None
        assert clocks.wall - seen == timedelta(seconds=clocks.steady - 1_000)


def test_the_first_to_have_left_is_forgotten_first(
    stage: Stage, clocks: Clocks, clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(departures, "REMEMBERED", 3)
    client, other = clients
    other.call("session.logout")
    for account in (2, 3, 2, 4, 5):  # leaves the one before
        clocks.forward(1)
        client.call("session.login", account=account)
    seen = [stage.server.last_connected(account) for account in range(1, 6)]
    assert seen == [None, *(START + timedelta(seconds=seconds) for seconds in (4, 3, 5, 5))]
    assert len(stage.server._departures._left) == 3


def test_it_can_be_asked_from_any_thread_while_connections_come_and_go(stage: Stage, clients: list[Client]) -> None:
    client, other = clients
    other.call("session.logout")
    over = threading.Event()
    wrong: list[object] = []

    def ask() -> None:
        while not over.is_set():
            if stage.server.last_connected(1) is None:
                wrong.append("forgotten")

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(100):
        client.call("session.logout")
        client.call("session.login", account=1)
    over.set()
    asking.join()
    assert not wrong
