"""The client's key logs: every connection is logged and told of, the ones made anew too."""

from collections.abc import Callable
from pathlib import Path

import pytest
from client.conftest import Connect
from client.scripted_server import Customer, Listener
from client.test_connection import ORDER

from securedelivery.client import Client, Profile
from securedelivery.errors import ConnectionFailure
from securedelivery.transport.keylog import KeyLogs

Scripted = Callable[..., Listener]


def test_each_connection_is_logged_and_told_of(scripted: Scripted, connect: Connect, tmp_path: Path) -> None:
    shaken: list[str] = []

    def closing(customer: Customer) -> None:
        customer.greet()
        shaken.append(customer.core.session.hex())
        customer.request("order.get")
        customer.close("draining")

    def answering(customer: Customer) -> None:
        customer.greet()
        shaken.append(customer.core.session.hex())
        customer.serve(order_get=ORDER)

    said: list[str] = []
    tls, frames = tmp_path / "tls.log", tmp_path / "frames.log"
    listener = scripted(closing, closing, answering)
    client = connect(listener.server, key_logs=KeyLogs(tls, frames, warn=said.append))
    assert client.order(7).order == 7

    assert said == 3 * [f"the keys of this connection to {listener.server} are logged in {tls} and {frames}"]
    randoms = [line.split()[1] for line in tls.read_text().splitlines()]
    assert len(randoms) == 3 * 5
    assert len(set(randoms)) == 3
    initiators = [line.split()[1] for line in frames.read_text().splitlines()]
    assert len(initiators) == 6
    assert len(set(initiators)) == len(set(shaken)) == 3


def test_without_key_logs_the_environment_is_not_heeded(
    scripted: Scripted, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "tls.log"))
    monkeypatch.setenv("SECUREDELIVERY_FRAME_KEYLOG", str(tmp_path / "frames.log"))

    def answering(customer: Customer) -> None:
        customer.greet()
        customer.serve()

    connect(scripted(answering).server).ping()
    assert list(tmp_path.glob("*.log")) == []


def test_where_there_is_no_connection_there_is_nothing_to_tell(
    profile: Callable[[str], Profile], tmp_path: Path
) -> None:
    said: list[str] = []
    listener = Listener()
    listener._listener.close()
    logs = KeyLogs(None, tmp_path / "frames.log", warn=said.append)
    with pytest.raises(ConnectionFailure):
        Client(profile(listener.server), key_logs=logs).connect()
    assert said == []
