"""Who is not let in, one wrong thing at a time: refused, noted in the log, and unnoticed by the customer beside."""

import contextlib
import random
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from certificate_authority import DAY, CertificateAuthority, Issued
from end_to_end.customers import Witness, log_in
from end_to_end.server_process import ServerProcess, write_catalog
from wire_client import PATIENCE_SECONDS, ConnectionEnded, Keyring, WireClient

HANDSHAKE_SECONDS = 3.0
BAD_ADDRESS = "127.0.0.66"  # so that the log tells the bad peer from the good customer


@dataclass(frozen=True)
class Scene:
    server: ServerProcess
    authority: CertificateAuthority
    folder: Path
    revoked: Issued

    def ring(self, issued: Issued | None) -> Keyring:
        return Keyring.of(self.authority, issued, self.folder)

    def dial(self) -> socket.socket:
        return socket.create_connection(self.server.address, PATIENCE_SECONDS, (BAD_ADDRESS, 0))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    authority = CertificateAuthority()
    revoked = authority.client("revoked")
    authority.revoke(revoked)
    certs = authority.write(tmp_path_factory.mktemp("certs"))
    settings = {"limits": {"handshake_seconds": HANDSHAKE_SECONDS}}
    folder = tmp_path_factory.mktemp("server")
    catalog = write_catalog(folder / "catalog.csv", {"CPU-1": 1_000_000})
    with ServerProcess(folder, certs, settings, catalog=catalog) as server:
        yield Scene(server, authority, tmp_path_factory.mktemp("clients"), revoked)


@pytest.fixture
def witness(scene: Scene) -> Iterator[Witness]:
    with log_in(scene.server, "good", scene.ring(scene.authority.client("good"))) as client, Witness(client) as one:
        yield one


def refused_line(scene: Scene, since: int) -> str:
    """What the log says of the bad peer: one line, from the position on."""
    pattern = rf"refused.*remote={BAD_ADDRESS}\b|remote={BAD_ADDRESS}\b.*refused"
    scene.server.log.wait_for(pattern, since=since)
    lines = [line for line in scene.server.log.since(since) if f"remote={BAD_ADDRESS} " in f"{line.strip()} "]
    assert len(lines) == 1, lines
    return lines[0]


WRONG_CERTIFICATES: dict[str, tuple[Callable[[Scene], Issued | None], str]] = {
    "no certificate": (lambda _: None, "peer did not return a certificate"),
    "unknown CA": (lambda _: CertificateAuthority().client("good"), "certificate verify failed"),
    "unknown CA of the same name": (
        lambda scene: CertificateAuthority(scene.authority.common_name).client("good"),
        "certificate verify failed",
    ),
    "expired": (lambda scene: scene.authority.client("good", start=-30 * DAY, end=-DAY), "certificate has expired"),
    "expired a moment ago": (
        lambda scene: scene.authority.client("good", start=-30 * DAY, end=timedelta(seconds=-1)),
        "certificate has expired",
    ),
    "not yet valid": (lambda scene: scene.authority.client("good", start=DAY, end=30 * DAY), "not yet valid"),
    "revoked": (lambda scene: scene.revoked, "certificate revoked"),
    "a server's": (lambda scene: scene.authority.server(), "purpose"),
}


@pytest.mark.parametrize("what", WRONG_CERTIFICATES)
def test_a_wrong_certificate_is_refused(scene: Scene, witness: Witness, what: str) -> None:
    make, words = WRONG_CERTIFICATES[what]
    before = scene.server.log.position

    with pytest.raises(ConnectionEnded) as ended:
        WireClient.connect(scene.server.address, scene.ring(make(scene)), source=BAD_ADDRESS)

    assert "alert" in ended.value.why, "TLS itself is to refuse, before a byte of the protocol"
    assert words in refused_line(scene, before)


def test_a_certificate_of_another_kind_of_identity_is_refused(scene: Scene, witness: Witness) -> None:
    """TLS cannot know: the chain is sound, but a proxy is no customer."""
    before = scene.server.log.position
    with pytest.raises(ConnectionEnded) as ended:
        WireClient.connect(scene.server.address, scene.ring(scene.authority.proxy()), source=BAD_ADDRESS)
    assert ended.value.reason == "certificate_untrusted"
    assert "certificate_untrusted" in refused_line(scene, before)


def bad_context(scene: Scene, *, alpn: list[str] | None, newest: ssl.TLSVersion) -> ssl.SSLContext:
    """A customer's context with everything right but what is named."""
    ring = scene.ring(scene.authority.client("good"))
    assert ring.credentials is not None
    serial = f"{ring.credentials.certificates[0].serial_number:x}"
    context = ssl.create_default_context(cafile=scene.folder / "trusted.crt")
    context.load_cert_chain(scene.folder / f"{serial}.crt", scene.folder / f"{serial}.key")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = newest
    if alpn is not None:
        context.set_alpn_protocols(alpn)
    return context


def test_tls_1_2_is_refused(scene: Scene, witness: Witness) -> None:
    before = scene.server.log.position
    context = bad_context(scene, alpn=["securedelivery/1"], newest=ssl.TLSVersion.TLSv1_2)
    with scene.dial() as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(plain, server_hostname="localhost")
    assert "unsupported protocol" in refused_line(scene, before)


@pytest.mark.parametrize("alpn", [None, ["http/1.1"], ["securedelivery/2"]], ids=["none", "http", "another version"])
def test_without_the_protocols_alpn_nothing_is_served(scene: Scene, witness: Witness, alpn: list[str] | None) -> None:
    before = scene.server.log.position
    context = bad_context(scene, alpn=alpn, newest=ssl.TLSVersion.TLSv1_3)
    with (
        scene.dial() as plain,
        contextlib.suppress(ssl.SSLError, ConnectionError),
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(b"\x01\x00\x04\xc0")
        assert secure.recv(1) == b""
    assert "ALPN" in refused_line(scene, before)


NO_TLS = {
    "plain HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a proxy's CONNECT": b"CONNECT localhost:443 HTTP/1.1\r\n\r\n",
    **{f"random bytes, seed {seed}": random.Random(seed).randbytes(4_096) for seed in range(5)},
}


@pytest.mark.parametrize("what", NO_TLS)
def test_what_is_no_tls_is_refused(scene: Scene, witness: Witness, what: str) -> None:
    before = scene.server.log.position
    with scene.dial() as plain:
        plain.sendall(NO_TLS[what])
        assert len(read_to_the_end(plain)) <= 7  # at most a TLS alert: nothing of ours
    refused_line(scene, before)


def test_silence_is_refused_when_its_time_is_over(scene: Scene, witness: Witness) -> None:
    before = scene.server.log.position
    with scene.dial() as plain:
        assert read_to_the_end(plain) == b""
    assert "too_slow" in refused_line(scene, before)


def test_a_hello_and_then_silence_is_refused_when_its_time_is_over(scene: Scene, witness: Witness) -> None:
    before = scene.server.log.position
    client = WireClient(scene.server.address, scene.ring(scene.authority.client("good")), source=BAD_ADDRESS)
    client.hello()
    read_to_the_end(client.socket)
    assert "too_slow" in refused_line(scene, before)


def test_silence_behind_tls_is_refused_when_the_same_time_is_over(scene: Scene, witness: Witness) -> None:
    before = scene.server.log.position
    client = WireClient(scene.server.address, scene.ring(scene.authority.client("good")), source=BAD_ADDRESS)
    client.start_tls()
    read_to_the_end(client.socket)
    assert "too_slow" in refused_line(scene, before)


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_inside_tls_are_refused(scene: Scene, witness: Witness, seed: int) -> None:
    before = scene.server.log.position
    client = WireClient(scene.server.address, scene.ring(scene.authority.client("good")), source=BAD_ADDRESS)
    client.start_tls()
    client.channel.write(random.Random(seed).randbytes(2_000))
    client.socket.sendall(client.channel.take_raw())
    read_to_the_end(client.socket)
    assert "protocol_error" in refused_line(scene, before)


def read_to_the_end(plain: socket.socket) -> bytes:
    """All that comes until the server hangs up, which it has to do by itself."""
    received = b""
    plain.settimeout(HANDSHAKE_SECONDS + PATIENCE_SECONDS)
    try:
        while data := plain.recv(65_536):
            received += data
    except ConnectionResetError:
        pass
    return received
