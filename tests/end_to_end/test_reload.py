"""Certificates and revocation lists that change under a running server, and lists that are missing or old."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certificate_authority import DAY, CertificateAuthority, Issued
from cryptography import x509
from end_to_end.customers import StartServer
from end_to_end.server_process import ServerProcess
from wire_client import ConnectionEnded, Keyring, WireClient


@dataclass
class Town:
    """A server with an authority of the test's own."""

    authority: CertificateAuthority
    certs: Path
    server: ServerProcess
    folder: Path

    def connect(self, issued: Issued) -> WireClient:
        return WireClient.connect(self.server.address, Keyring.of(self.authority, issued, self.folder))

    def is_refused(self, issued: Issued) -> bool:
        try:
            self.connect(issued).close()
        except ConnectionEnded:
            return True
        return False

    def put(self, name: str, content: bytes) -> None:
        beside = self.certs / f"{name}.new"
        beside.write_bytes(content)
        beside.rename(self.certs / name)

    def install(self, server: Issued) -> None:
        """As gen_certs.sh does it: each file beside the old one, then renamed."""
        server.write(self.certs / "crt.new", self.certs / "key.new")
        (self.certs / "crt.new").rename(self.certs / "server.crt")
        (self.certs / "key.new").rename(self.certs / "server.key")

    def reload(self, expected: str) -> None:
        """SIGHUP, and wait for what the log says of it."""
        position = self.server.log.position
        self.server.signal(signal.SIGHUP)
        self.server.log.wait_for(expected, since=position)


@pytest.fixture
def make_town(tmp_path: Path, start_server: StartServer) -> Callable[..., Town]:
    def make(*, real: bool = False, **crl: timedelta) -> Town:
        authority = CertificateAuthority()
        certs = authority.write(tmp_path / "certs")
        if crl:
            authority.write_crl(certs, **crl)
        folder = tmp_path / "clients"
        folder.mkdir()
        return Town(authority, certs, start_server(certs=certs, real=real), folder)

    return make


def shown(client: WireClient) -> int:
    """The serial of the server's certificate as TLS saw it."""
    return x509.load_der_x509_certificate(client.channel.peer_certificate()).serial_number


def test_a_revoked_customer_is_out_and_the_others_stay(make_town: Callable[..., Town]) -> None:
    town = make_town()
    alice, bob = town.authority.client("alice"), town.authority.client("bob")
    first, second, other = town.connect(alice), town.connect(alice), town.connect(bob)
    first.call("account.create", username="alice")

    town.authority.revoke(alice)
    town.authority.write_crl(town.certs)
    town.reload("files reloaded")

    assert first.wait_for_end().reason == "certificate_revoked"
    assert second.wait_for_end().reason == "certificate_revoked"
    assert other.call("system.ping") == {}
    assert town.is_refused(alice)
    assert town.connect(bob).call("system.ping") == {}
    assert town.connect(town.authority.client("alice")).call("account.login_certificate")["username"] == "alice"


def test_a_signal_is_heeded_whichever_thread_the_kernel_hands_it_to(make_town: Callable[..., Town]) -> None:
    """A signal goes to any thread that does not block it, most often but not always to the main one.

    When a stopped process goes on, they all compete for what came meanwhile.
    """
    server = make_town(real=True).server  # a child, whose stop shows
    for _ in range(5):
        position = server.log.position
        server.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, server.pid, os.WSTOPPED)
        server.signal(signal.SIGHUP)
        server.signal(signal.SIGCONT)
        server.log.wait_for("files reloaded", since=position)


def test_a_changed_list_is_noticed_without_a_signal(make_town: Callable[..., Town]) -> None:
    town = make_town()
    alice, bob = town.authority.client("alice"), town.authority.client("bob")
    gone, stays = town.connect(alice), town.connect(bob)
    town.authority.revoke(alice)
    town.authority.write_crl(town.certs)
    assert gone.wait_for_end().reason == "certificate_revoked"
    assert stays.call("system.ping") == {}


def test_a_renewed_certificate_serves_new_connections_and_disturbs_no_open_one(make_town: Callable[..., Town]) -> None:
    town = make_town()
    alice = town.authority.client("alice")
    before = town.connect(alice)
    renewed = town.authority.server()
    town.install(renewed)
    town.reload("files reloaded")

    after = town.connect(alice)

    assert shown(after) == renewed.certificate.serial_number != shown(before)
    assert before.call("system.ping") == after.call("system.ping") == {}


BROKEN: dict[str, Callable[[Town], None]] = {
    "a certificate that is none": lambda town: town.put("server.crt", b"this is not a certificate\n"),
    "a key of another certificate": lambda town: town.put("server.key", _key_of(town.authority.server(), town.folder)),
    "no key": lambda town: (town.certs / "server.key").unlink(),
    "a list that is none": lambda town: town.put("crl.pem", b"this is not a list\n"),
    "a list of somebody else": lambda town: CertificateAuthority().write_crl(town.certs),
    "a CA that is none": lambda town: town.put("ca.crt", b""),
}


def _key_of(issued: Issued, folder: Path) -> bytes:
    issued.write(folder / "other.crt", folder / "other.key")
    return (folder / "other.key").read_bytes()


@pytest.mark.parametrize("what", BROKEN)
def test_what_does_not_load_leaves_the_old_in_force(make_town: Callable[..., Town], what: str) -> None:
    town = make_town()
    alice = town.authority.client("alice")
    before = town.connect(alice)

    BROKEN[what](town)
    town.reload("not reloaded, the old ones stay")

    after = town.connect(alice)
    assert shown(after) == shown(before)
    assert before.call("system.ping") == after.call("system.ping") == {}
    # Mended, it is taken.
    renewed = town.authority.server()
    town.authority.write(town.certs, renewed)
    town.reload("files reloaded")
    assert shown(town.connect(alice)) == renewed.certificate.serial_number


def test_without_a_list_nobody_gets_in(make_town: Callable[..., Town], start_server: StartServer) -> None:
    town = make_town()
    alice = town.authority.client("alice")
    (town.certs / "crl.pem").unlink()
    fresh = start_server(certs=town.certs)
    fresh.log.wait_for("no revocation list: every client certificate is refused")
    position = fresh.log.position
    with pytest.raises(ConnectionEnded):
        WireClient.connect(fresh.address, Keyring.of(town.authority, alice, town.folder))
    assert "CRL" in fresh.log.wait_for("refused", since=position)
    # And once there is one, without a restart.
    position = fresh.log.position
    town.authority.write_crl(town.certs)
    fresh.log.wait_for("files reloaded", since=position)
    ring = Keyring.of(town.authority, alice, town.folder)
    assert WireClient.connect(fresh.address, ring).call("system.ping") == {}


def test_a_list_that_goes_missing_lets_nobody_else_in(make_town: Callable[..., Town]) -> None:
    town = make_town()
    alice = town.authority.client("alice")
    assert not town.is_refused(alice)
    (town.certs / "crl.pem").unlink()
    town.reload("no revocation list: every client certificate is refused")
    assert town.is_refused(alice)


def test_an_outdated_list_lets_nobody_in(make_town: Callable[..., Town]) -> None:
    town = make_town(start=-30 * DAY, end=timedelta(seconds=-5))
    town.server.log.wait_for("the revocation list is outdated: every client certificate is refused")
    position = town.server.log.position
    assert town.is_refused(town.authority.client("alice"))
    assert "crl has expired" in town.server.log.wait_for("refused", since=position).lower()
    town.authority.write_crl(town.certs)
    town.reload("files reloaded")
    assert not town.is_refused(town.authority.client("alice"))


def test_a_list_that_is_outdated_soon_is_warned_of(make_town: Callable[..., Town]) -> None:
    town = make_town(end=6 * DAY)
    town.server.log.wait_for("the revocation list is outdated soon")
    assert not town.is_refused(town.authority.client("alice"))


def test_a_list_that_is_good_for_long_is_not_warned_of(make_town: Callable[..., Town]) -> None:
    town = make_town(end=8 * DAY)
    town.server.stop()
    assert "revocation list" not in town.server.log.text


def test_an_open_connection_ends_with_its_certificate(make_town: Callable[..., Town]) -> None:
    town = make_town()
    soon = datetime.now(UTC) - town.authority.now + timedelta(seconds=4)
    brief = town.connect(town.authority.client("brief", end=soon))
    lasting = town.connect(town.authority.client("lasting"))
    assert brief.wait_for_end().reason == "certificate_expired"
    assert lasting.call("system.ping") == {}
