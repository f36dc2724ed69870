"""What the acts stand on: waiting for the log and for the end of connections, addresses, the raw client."""

from collections.abc import Iterator

import pytest
import structlog

from securedelivery.api import messages as m
from securedelivery.client.calls import Client
from securedelivery.errors import ConfigurationError, LocalProtocolError, RemoteProtocolError
from securedelivery.protocol.authentication import Credentials
from securedelivery.transport.keylog import KeyLogs
from securedelivery.wireshark import stage as module
from securedelivery.wireshark.stage import ADDRESSES, Log, Recording, Stage
from securedelivery.wireshark.tcp import Endpoint

CLIENT, SERVER = Endpoint("192.0.2.10", 50_000), Endpoint("192.0.2.1", 5_555)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


def _log(log: Log, level: str, event: str, **members: object) -> None:
    with pytest.raises(structlog.DropEvent):
        log(None, level, {"event": event, **members})


def test_the_log_gives_what_was_refused_as_it_would_be_printed() -> None:
    log = Log()
    _log(log, "info", "= closed", reason="bye")
    _log(log, "info", "= truncated", remote="127.0.0.1", account=None)
    _log(log, "warning", "! the keys of this connection are logged", remote="127.0.0.1")
    _log(log, "warning", "! refused", why="the certificate is old", reason="tls", more="")
    assert log.take(2) == [
        "= truncated account=None remote=127.0.0.1",
        "! refused more='' reason=tls why='the certificate is old'",
    ]
    assert log.take() == []


def test_waiting_for_a_refusal_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.01)
    log = Log()
    _log(log, "info", "= closed", reason="bye")
    with pytest.raises(TimeoutError, match="has not refused"):
        log.take(1)


def test_waiting_for_the_end_of_a_connection_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.01)
    recording = Recording()
    flow = recording.capture.flow(CLIENT, SERVER)
    flow.finished(True)
    with pytest.raises(TimeoutError, match="connection 0"):
        recording.wait_ended(0)
    flow.finished(False)
    recording.wait_ended(0)
    recording.capture.flow(CLIENT, SERVER).reset(False)
    recording.wait_ended(1)


def test_packets_are_found_by_what_they_carry() -> None:
    recording = Recording()
    first, second = recording.capture.flow(CLIENT, SERVER), recording.capture.flow(CLIENT, SERVER)
    first.sent(True, b"hello ")
    second.sent(True, b"needle")
    numbers = [*first.sent(True, b"a nee"), *first.sent(True, b"dle"), *first.sent(False, b"needle")]
    first.sent(True, b" and more")
    assert recording.stream(0, from_client=True) == b"hello a needle and more"
    assert recording.packets_with(0, b"needle", from_client=True) == tuple(numbers[:2])
    assert recording.packets_with(0, b"dle", from_client=True) == (numbers[1],)
    assert recording.packets_with(0, b"needle", from_client=False) == (numbers[2],)
    with pytest.raises(ValueError, match="not found"):
        recording.packets_with(1, b"needles", from_client=True)


def test_a_port_that_was_used_before_is_not_used_again(stage: Stage) -> None:
    shop = Endpoint(ADDRESSES["shop"], 5_555)
    taken = [stage._ends("alice", "shop", port) for port in (65_535, 65_535, 65_535, 1)]
    assert taken == [(Endpoint(ADDRESSES["alice"], port), shop) for port in (65_535, 1, 2, 3)]
    assert stage._ends("bob", "shop", 65_535)[0].port == 65_535
    assert stage._ends("alice", "gateway", 65_535)[0].port == 65_535


def test_private_keys_and_key_logs_are_the_owners_alone(stage: Stage) -> None:
    """Each by its own mode, whatever those of the folders around it are."""
    folders = {one for one in stage.folder.rglob("*") if one.is_dir()}
    secret = [*stage.folder.rglob("*.key"), stage.folder / "tls-keys.log", stage.folder / "frame-keys.log"]
    assert {one.name for one in secret} >= {"server.key", "alice.key", "gateway.key", "revoked.key"}
    assert {one.name for one in folders} >= {"gateway-ca"}
    modes = {f"{one.relative_to(stage.folder)}": one.stat().st_mode & 0o777 for one in secret}
    assert modes == dict.fromkeys(modes, 0o600)
    assert {one.stat().st_mode & 0o777 for one in {stage.folder, *folders}} == {0o700}


def test_everything_is_taken_down_where_the_shop_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    configured, configuration = structlog.is_configured(), structlog.get_config()
    closed: list[KeyLogs] = []
    close = KeyLogs.close

    def fail(*_: object) -> None:
        raise ConfigurationError("server.listen", "no address")

    monkeypatch.setattr(module, "Running", fail)
    monkeypatch.setattr(KeyLogs, "close", lambda logs: closed.append(logs) or close(logs))
    stage = Stage()
    with pytest.raises(ConfigurationError):
        stage.__enter__()
    assert not stage.folder.exists()
    assert closed == [stage.key_logs]
    assert (structlog.is_configured(), structlog.get_config()) == (configured, configuration)


# The raw client


def test_a_raw_client_is_an_honest_one_where_it_is_not_asked_to_be_else(stage: Stage) -> None:
    with Client(stage.profile("alice", stage.port)) as alice:
        alice.create_account("alice")
    client, core = stage.raw_client("alice", stage.port)
    with client:
        client.greet()
        client.authenticate()
        client.ask("account.login_certificate", m.Nothing())
        assert b'"username":"alice"' in bytes(client.ask("account.get", m.Nothing()).result)
    assert stage.log.take() == []
    assert core.sent[:32] == core.private_key.public_key().public_bytes_raw()
    assert (len(core.sent), len(core.received)) == (32 + 1_184, 32 + 1_088 + 16 + 16)
    assert [frame[0] for frame in core.sealed] == [2, 3, 3, 4]


def test_a_raw_client_that_hears_something_else(stage: Stage) -> None:
    mallory = stage.people["mallory"]
    credentials = Credentials([stage.people["alice"].certificate], mallory.key)
    client, _ = stage.raw_client("mallory", stage.port, credentials=credentials)
    with client:
        client.greet()
        client.authenticate()
        with pytest.raises(LocalProtocolError, match=r"CloseReceived.* came, and no Response"):
            client.ask("system.ping", m.Nothing())
    assert "does not verify" in stage.log.take(1)[0]


def test_a_credulous_client_still_looks_at_the_certificate(stage: Stage) -> None:
    """It leaves out one check, and that alone."""
    client, core = stage.raw_client("alice", stage.port, credulous=True)
    core._server_name = "elsewhere.example"
    with client, pytest.raises(RemoteProtocolError) as caught:
        client.greet()
    assert caught.value.reason == "identity_mismatch"
    assert "the client sent CLOSE bye" in stage.log.take(1)[0]
