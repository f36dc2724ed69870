"""Certificates and revocation lists that change, run out or are missing while the server serves."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from certificate_authority import DAY, CertificateAuthority, Issued
from cryptography import x509
from transport.driver import Client, Ended
from transport.stage import Log, Stage

from securedelivery.errors import ConfigurationError
from securedelivery.protocol.connection import PeerAuthenticated
from securedelivery.transport import reload
from securedelivery.transport.handshake import Handshake
from securedelivery.transport.reload import SecurityWatcher
from securedelivery.transport.tls import ServerFiles


@pytest.fixture
def watch(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], SecurityWatcher]]:
    """Start a server with a watcher of its files that looks often."""
    monkeypatch.setattr(reload, "LOOK_SECONDS", 0.02)
    watchers: list[SecurityWatcher] = []

    def start() -> SecurityWatcher:
        security = stage.load()
        server = stage.serve(security=security)
        watcher = SecurityWatcher(ServerFiles.in_directory(stage.certs), stage.load, server.use)
        watchers.append(watcher)
        watcher.watch(security)
        return watcher

    yield start
    for watcher in watchers:
        watcher.stop()


def server_serial(client: Client) -> int:
    certificate = client.channel.peer_certificate()
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate).serial_number


def refused(client: Client) -> bool:
    client.tls()
    with pytest.raises(Ended):
        client.hello()
    return True


def replace(stage: Stage, issued: Issued) -> None:
    """As gen_certs.sh does: each file written beside and renamed."""
    certificate, key = stage.certs / "server.crt.new", stage.certs / "server.key.new"
    issued.write(certificate, key)
    key.rename(stage.certs / "server.key")
    certificate.rename(stage.certs / "server.crt")


def test_a_missing_revocation_list_refuses_every_certificate_and_says_so(
    stage: Stage, watch: Callable[[], SecurityWatcher], log: Log
) -> None:
    (stage.certs / "crl.pem").unlink()
    watch()
    assert "gen_certs.sh crl" in log.wait_for("! no revocation list", level="error")["hint"]
    assert refused(stage.client())
    assert "CRL" in log.wait_for("! refused", reason="tls")["why"]
    stage.ca.write_crl(stage.certs)
    log.wait_for("= files reloaded")
    assert stage.connect().is_served()


def test_an_outdated_revocation_list_refuses_every_certificate_and_says_so(
    stage: Stage, watch: Callable[[], SecurityWatcher], log: Log
) -> None:
    stage.ca.write_crl(stage.certs, start=-2 * DAY, end=-DAY)
    watch()
    log.wait_for("! the revocation list is outdated:", level="error")
    assert refused(stage.client())
    assert "CRL has expired" in log.wait_for("! refused", reason="tls")["why"]


def test_a_revocation_list_is_warned_about_a_week_before_it_runs_out(
    stage: Stage, watch: Callable[[], SecurityWatcher], log: Log
) -> None:
    stage.ca.write_crl(stage.certs, end=6 * DAY)
    watch()
    log.wait_for("! the revocation list is outdated soon", level="warning")
    assert stage.connect().is_served()


def test_a_sound_revocation_list_is_not_warned_about(
    stage: Stage, watch: Callable[[], SecurityWatcher], log: Log
) -> None:
    watch()
    assert stage.connect().is_served()
    assert not log.lines


def test_a_revocation_list_that_runs_out_is_told_at_once_and_closes_nobody(
    stage: Stage, watch: Callable[[], SecurityWatcher], log: Log
) -> None:
    stage.ca.write_crl(stage.certs, end=datetime.now(UTC) - stage.ca.now + timedelta(seconds=1))
    watch()
    client = stage.connect()
    log.wait_for("! the revocation list is outdated:", level="error")
    assert client.is_served()
    assert refused(stage.client())


def test_a_warning_is_repeated_each_day(
    stage: Stage, watch: Callable[[], SecurityWatcher], log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "WARN_AGAIN", timedelta(seconds=0.05))
    stage.ca.write_crl(stage.certs, end=6 * DAY)
    watch()
    log.wait_for("! the revocation list is outdated soon", count=3)


def test_a_new_certificate_is_for_new_connections(stage: Stage, watch: Callable[[], SecurityWatcher], log: Log) -> None:
    watch()
    before = stage.connect()
    renewed = stage.ca.server()
    replace(stage, renewed)
    log.wait_for("= files reloaded")
    after = stage.connect()
    assert server_serial(after) == renewed.certificate.serial_number != server_serial(before)
    assert before.is_served()


def test_a_key_that_was_renamed_before_its_certificate_is_waited_for(
    stage: Stage, watch: Callable[[], SecurityWatcher], log: Log
) -> None:
    watch()
    renewed = stage.ca.server()
    certificate = stage.certs / "server.crt.new"
    renewed.write(certificate, stage.certs / "server.key")
    assert "does not belong to" in log.wait_for("! files not reloaded, the old ones stay", level="error")["error"]
    assert stage.connect().is_served()
    certificate.rename(stage.certs / "server.crt")
    log.wait_for("= files reloaded")
    assert server_serial(stage.connect()) == renewed.certificate.serial_number


def test_files_that_still_change_are_not_loaded(stage: Stage, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two looks in a row have to agree. Time is run by hand here."""
    loaded: list[str] = []
    watcher = SecurityWatcher(ServerFiles.in_directory(stage.certs), stage.load, lambda _: loaded.append("used"))
    looks = iter(["a", "a", "b", "c", "d", "d", "d", "end"])
    state = "a"

    def next_look() -> str:
        nonlocal state
        state = next(looks)
        watcher._stopping = state == "end"
        loaded.append(state)
        return state

    monkeypatch.setattr(reload, "LOOK_SECONDS", 0)
    monkeypatch.setattr(watcher, "_state", next_look)
    watcher.watch(stage.load())
    watcher.join()
    assert loaded == ["a", "a", "b", "c", "d", "d", "used", "d", "end"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("server.crt", b"no certificate"), ("server.key", b""), ("crl.pem", b"half a li"), ("ca.crt", b"\0")],
)
def test_a_broken_new_file_keeps_the_old_in_force(
    stage: Stage, watch: Callable[[], SecurityWatcher], log: Log, name: str, content: bytes
) -> None:
    watch()
    (stage.certs / name).write_bytes(content)
    line = log.wait_for("! files not reloaded, the old ones stay", level="error")
    assert name in line["error"]
    assert line["hint"]
    assert stage.connect().is_served()
    assert len(log.find("not reloaded")) == 1


def test_a_bug_while_loading_does_not_end_the_watch(
    stage: Stage, watch: Callable[[], SecurityWatcher], log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = watch()
    monkeypatch.setattr(watcher, "_load", lambda: 1 // 0)
    watcher.reload()
    assert log.wait_for("! files not reloaded, the old ones stay")["exc_info"]
    monkeypatch.setattr(watcher, "_load", stage.load)
    watcher.reload()
    log.wait_for("= files reloaded")


def test_a_reload_can_be_asked_for(stage: Stage, watch: Callable[[], SecurityWatcher], log: Log) -> None:
    watcher = watch()
    watcher.reload()
    log.wait_for("= files reloaded")
    assert stage.connect().is_served()


def test_an_open_connection_of_a_revoked_certificate_is_closed_and_others_stay(
    stage: Stage, watch: Callable[[], SecurityWatcher], log: Log
) -> None:
    mallory = stage.ca.client("mallory")
    watch()
    bad, good = stage.connect(mallory), stage.connect()
    stage.ca.revoke(mallory)
    stage.ca.write_crl(stage.certs)
    assert bad.close_reason() == "certificate_revoked"
    log.wait_for("= closed", reason="certificate_revoked", account="spiffe://shop.test/account/mallory")
    assert good.is_served()
    assert refused(stage.client(mallory))


def test_a_revocation_that_is_loaded_during_the_handshake_counts(stage: Stage) -> None:
    mallory = stage.ca.client("mallory")
    server = stage.serve()
    client = stage.client(mallory)
    client.tls()
    client.hello()
    stage.ca.revoke(mallory)
    stage.ca.write_crl(stage.certs)
    server.use(stage.load())
    client.listen()
    assert client.close_reason() == "certificate_revoked"


def test_a_revocation_that_is_loaded_while_a_thread_is_busy_with_the_handshake_counts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    mallory = stage.ca.client("mallory")
    server = stage.serve()
    client = stage.client(mallory)
    client.tls()
    client.hello()
    entered, gate = threading.Event(), threading.Event()
    advance = Handshake.advance

    def held(handshake: Handshake, raw: bytes) -> object:
        outcome = advance(handshake, raw)
        entered.set()
        assert gate.wait(10)
        return outcome

    monkeypatch.setattr(Handshake, "advance", held)
    stage.ca.revoke(mallory)
    stage.ca.write_crl(stage.certs)
    client.transmit(client.core.send_auth(), client.request(1, "write.ping"))
    assert entered.wait(10)
    server.use(stage.load())
    gate.set()
    assert client.close_reason() == "certificate_revoked"
    assert stage.application.effects == []


def test_a_revocation_between_the_snapshot_and_the_welcome_counts(stage: Stage) -> None:
    """The connection was admitted with the old files and missed the round of rechecks."""
    mallory = stage.ca.client("mallory")
    server = stage.serve()
    client = stage.client(mallory)
    client.tls()
    stage.wait_idle()
    stage.ca.revoke(mallory)
    stage.ca.write_crl(stage.certs)
    server.security = stage.load()
    client.hello()
    client.transmit(client.core.send_auth(), client.request(1, "write.ping"))
    assert client.close_reason() == "certificate_revoked"
    assert stage.application.effects == []


def soon(ca: CertificateAuthority) -> timedelta:
    """To an end date one to two seconds from now; dates in certificates are whole seconds."""
    return datetime.now(UTC).replace(microsecond=0) - ca.now + timedelta(seconds=2)


def test_a_certificate_whose_end_date_passes_ends_its_open_connection(stage: Stage, log: Log) -> None:
    passing = stage.ca.client("bob", end=soon(stage.ca))
    stage.serve()
    client, other = stage.connect(passing), stage.connect()
    assert client.is_served()
    client.transmit(client.request(1, "write.wait"))
    log_before = datetime.now(UTC)
    stage.application.wait_begun("write.wait")
    (peer, _) = stage.peers()
    while peer._stage.value == "open":
        stage.wait_idle()
    assert datetime.now(UTC) > max(log_before, passing.certificate.not_valid_after_utc)
    stage.application.commit()
    assert client.answers(1) == [1]
    assert client.close_reason() == "certificate_expired"
    log.wait_for("= closed", reason="certificate_expired")
    assert other.is_served()


def test_what_cannot_be_loaded_names_the_file_and_the_remedy(stage: Stage) -> None:
    other = CertificateAuthority("another CA")
    other.write_crl(stage.certs)
    with pytest.raises(ConfigurationError, match=r"crl\.pem: this revocation list was not made by") as error:
        stage.load()
    assert "beside that ca.crt" in error.value.hint


def test_the_outer_and_the_inner_certificate_are_the_same_before_and_after_a_reload(stage: Stage) -> None:
    server = stage.serve()
    clients = [stage.connect()]
    replace(stage, stage.ca.server())
    server.use(stage.load())
    clients.append(stage.connect())
    for client in clients:
        (inner,) = (event.leaf for event in client.received if isinstance(event, PeerAuthenticated))
        assert inner is not None
        assert inner.serial_number == server_serial(client)
    assert server_serial(clients[0]) != server_serial(clients[1])
