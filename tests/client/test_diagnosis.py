"""Every way not to get a connection: first it works, then one thing is broken, and the error names it and a remedy."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from certificate_authority import DAY, CertificateAuthority, Issued
from client.scripted_server import Customer, Listener, TlsFailure, customer_script, load_security

from securedelivery.client import Client, Profile
from securedelivery.client.deadline import Deadline
from securedelivery.client.handshake import open_line
from securedelivery.errors import (
    ConfigurationError,
    ConnectionFailure,
    PeerClosed,
    RemoteProtocolError,
    SecureDeliveryError,
)
from securedelivery.protocol.certificates import Trust
from securedelivery.transport.channel import reason_of

SECONDS = 5.0


def alice(server: str, folder: Path, *, crl: bool = True) -> Profile:
    crl_path = folder / "crl.pem" if crl else None
    return Profile(server, folder / "ca.crt", folder / "alice.crt", folder / "alice.key", crl_path)


def accept(customer: Customer) -> None:
    """As a server does; what goes wrong on its side is none of the test's business."""
    with contextlib.suppress(TlsFailure, RemoteProtocolError, OSError):
        try:
            customer.greet()
            customer.serve()
        except RemoteProtocolError as error:
            customer.say(customer.core.send_close(error.reason))
            customer.hang_up()
        except TlsFailure:
            customer.flush()  # the alert
            raise
        finally:
            customer.sock.shutdown(socket.SHUT_WR)
            customer.wait_for_end()


@contextlib.contextmanager
def server(folder: Path, *, required: bool = True) -> Iterator[str]:
    with Listener(customer_script(load_security(folder, required=required), accept)) as listener:
        yield listener.server


def works(profile: Profile) -> None:
    with Client(profile, timeout_seconds=SECONDS) as client:
        client.ping()


def failure(profile: Profile, seconds: float = SECONDS) -> ConnectionFailure:
    with pytest.raises(ConnectionFailure) as caught:
        open_line(profile, Deadline(seconds))
    assert caught.value.hint
    return caught.value


def renamed(profile: Profile, **changes: object) -> Profile:
    return msgspec.structs.replace(profile, **changes)


# The client's certificate


def client_pair(issued: Issued, folder: Path, name: str) -> dict[str, Path]:
    issued.write(folder / f"{name}.crt", folder / f"{name}.key")
    return {"certificate": folder / f"{name}.crt", "key": folder / f"{name}.key"}


def test_without_a_certificate(folder: Path) -> None:
    with server(folder) as address:
        good = alice(address, folder)
        works(good)
        error = failure(renamed(good, certificate=None, key=None))
    assert isinstance(error, PeerClosed)
    assert error.reason == "certificate_required"
    assert "wants a certificate" in str(error)
    assert "securedelivery profile set --certificate" in error.hint
    assert not error.temporary


@pytest.mark.parametrize(
    ("broken", "reason", "words"),
    [
        ("another CA's", "certificate_untrusted", "does not accept this certificate"),
        ("expired", "certificate_expired", "has expired"),
        ("revoked", "certificate_revoked", "has been revoked"),
        ("a server's", "certificate_untrusted", "does not accept this certificate"),
        ("not for a customer", "certificate_untrusted", "does not accept this certificate"),
    ],
)
def test_a_certificate_that_the_server_refuses(folder: Path, broken: str, reason: str, words: str) -> None:
    ca = CertificateAuthority()
    bad = {
        "another CA's": lambda: CertificateAuthority().client(),
        "expired": lambda: ca.client(end=timedelta(seconds=-60)),
        "revoked": ca.client,
        "a server's": ca.server,
        "not for a customer": ca.proxy,  # only the inner check can tell: CLOSE instead of an alert
    }[broken]()
    if broken == "revoked":
        ca.revoke(bad)
    ca.write(folder)
    ca.client().write(folder / "alice.crt", folder / "alice.key")
    with server(folder) as address:
        good = alice(address, folder)
        works(good)
        error = failure(renamed(good, **client_pair(bad, folder, "bad")))
    assert isinstance(error, PeerClosed)
    assert error.reason == reason
    assert words in str(error)
    assert not error.temporary


@pytest.mark.parametrize("broken", ["missing", "outdated"])
def test_a_server_without_a_current_list_refuses_everyone(folder: Path, broken: str) -> None:
    ca = CertificateAuthority()
    ca.write(folder)
    ca.client().write(folder / "alice.crt", folder / "alice.key")
    with server(folder) as address:
        works(alice(address, folder))
    if broken == "missing":
        (folder / "crl.pem").unlink()
    else:
        ca.write_crl(folder, start=-2 * DAY, end=-DAY)
    with server(folder) as address:
        error = failure(alice(address, folder, crl=False))
    assert isinstance(error, PeerClosed)
    assert "revocation list" in error.hint
    assert "operator" in error.hint


# The server's certificate


@pytest.mark.parametrize(
    ("broken", "words", "remedy"),
    [
        ("another CA's", "not from the CA that is trusted here", "profile set --ca"),
        ("expired", "has expired", "renew server"),
        ("not yet valid", "not valid yet", "clock"),
        ("of another name", "for another name than localhost", "gen_certs.sh server --dns"),
        ("revoked", "has been revoked", "do not go on"),
        ("a customer's", "is not a server's", "do not go on"),
    ],
)
def test_a_server_that_is_not_to_be_trusted(
    folder: Path, broken: str, words: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trust, "verify_own_server", lambda *_: ())  # our own server would not start with some of them
    ca = CertificateAuthority()
    ca.write(folder)
    ca.client().write(folder / "alice.crt", folder / "alice.key")
    with server(folder) as address:
        works(alice(address, folder))
    bad = {
        "another CA's": lambda: CertificateAuthority().server(),
        "expired": lambda: ca.server(end=timedelta(seconds=-60)),
        "not yet valid": lambda: ca.server(start=timedelta(seconds=600)),
        "of another name": lambda: ca.server("shop.example.org"),
        "revoked": ca.server,
        "a customer's": ca.client,
    }[broken]()
    if broken == "revoked":
        ca.revoke(bad)
        ca.write_crl(folder)
    bad.write(folder / "server.crt", folder / "server.key")
    with server(folder) as address:
        error = failure(alice(address, folder))
    assert words in str(error)
    assert remedy in error.hint
    assert not error.temporary


def test_an_address_that_the_certificate_does_not_have(folder: Path, ca: CertificateAuthority) -> None:
    ca.server("localhost", "127.0.0.1").write(folder / "server.crt", folder / "server.key")
    with server(folder) as address:
        by_address = address.replace("localhost", "127.0.0.1")
        works(alice(by_address, folder))
    ca.server("localhost").write(folder / "server.crt", folder / "server.key")
    with server(folder) as address:
        works(alice(address, folder))
        error = failure(alice(address.replace("localhost", "127.0.0.1"), folder))
    assert "for another name than 127.0.0.1" in str(error)


def test_the_clients_list_is_outdated(folder: Path) -> None:
    ca = CertificateAuthority()
    ca.write(folder)
    ca.client().write(folder / "alice.crt", folder / "alice.key")
    with server(folder) as address:
        works(alice(address, folder))
        works(alice(address, folder, crl=False))
        ca.write_crl(folder, start=-2 * DAY, end=-DAY)
        error = failure(alice(address, folder))
    assert "revocation list given here" in str(error)
    assert "profile set --crl" in error.hint


# Not the service


def raw(script: Callable[[socket.socket], None]) -> Listener:
    return Listener(script)


def test_nothing_listens(folder: Path) -> None:
    with server(folder) as address:
        works(alice(address, folder))
    error = failure(alice(address, folder))
    assert "connection refused" in str(error)
    assert "profile set --server" in error.hint
    assert error.temporary


def test_an_unknown_name(folder: Path) -> None:
    error = failure(alice("no-such-host.invalid:5555", folder))
    assert "no-such-host.invalid" in str(error)
    assert "is not known" in str(error)


def test_plain_http(folder: Path) -> None:
    def http(sock: socket.socket) -> None:
        sock.recv(65_536)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with raw(http) as listener:
        error = failure(alice(listener.server, folder))
    assert "does not speak TLS" in str(error)
    assert "not the service's port" in error.hint


def test_plain_tcp_that_hangs_up(folder: Path) -> None:
    with raw(lambda sock: sock.recv(65_536) and None) as listener:
        error = failure(alice(listener.server, folder))
    assert isinstance(error, PeerClosed)
    assert error.reason is None
    assert error.temporary
    assert "hung up" in str(error)


def test_plain_tcp_that_resets(folder: Path) -> None:
    def reset(sock: socket.socket) -> None:
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with raw(reset) as listener:
        error = failure(alice(listener.server, folder))
    assert "hung up" in str(error)


def test_silence(folder: Path) -> None:
    with raw(drain) as listener:
        began = time.monotonic()
        error = failure(alice(listener.server, folder), 0.3)
        assert time.monotonic() - began < SECONDS
    assert "did not answer within 0.3 s" in str(error)
    assert error.temporary


def drain(sock: socket.socket) -> None:
    while sock.recv(65_536):
        pass


def test_silence_after_tls(folder: Path) -> None:
    def mute(customer: Customer) -> None:
        customer.begin_tls()
        customer.wait_for_end()

    with Listener(customer_script(load_security(folder), mute)) as listener:
        error = failure(alice(listener.server, folder), 0.3)
    assert "did not answer" in str(error)


def test_drops_that_never_end_do_not_stretch_the_deadline(folder: Path) -> None:
    """One deadline for the whole exchange: bytes that keep coming do not start it anew."""

    def drip(sock: socket.socket) -> None:
        sock.recv(65_536)
        with contextlib.suppress(OSError):
            sock.sendall(b"\x16\x03\x03\x40\x00")
            while True:
                sock.sendall(b"\x00")
                sock.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    if not sock.recv(1):
                        return

    with raw(drip) as listener:
        began = time.monotonic()
        error = failure(alice(listener.server, folder), 0.4)
        assert time.monotonic() - began < SECONDS
    assert "did not answer" in str(error)


def foreign_tls(folder: Path, alpn: list[str] | None, version: ssl.TLSVersion) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    context.maximum_version = version
    if alpn is not None:
        context.set_alpn_protocols(alpn)

    def script(sock: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
            tls.recv(1)

    return script


@pytest.mark.parametrize(
    ("alpn", "version"),
    [
        (None, ssl.TLSVersion.TLSv1_3),
        (["h2", "http/1.1"], ssl.TLSVersion.TLSv1_3),
        (["securedelivery/1"], ssl.TLSVersion.TLSv1_2),
    ],
)
def test_another_tls_service(folder: Path, alpn: list[str] | None, version: ssl.TLSVersion) -> None:
    with raw(foreign_tls(folder, alpn, version)) as listener:
        error = failure(alice(listener.server, folder))
    assert "does not speak the securedelivery protocol" in str(error)
    assert "is this the service's port?" in error.hint


@contextlib.contextmanager
def openssl_server(folder: Path, *options: str) -> Iterator[str]:
    """Unlike Python's, it refuses a client with whom it shares no protocol (RFC 7301, section 3.2)."""
    process = subprocess.Popen(
        ["openssl", "s_server", "-accept", "localhost:0", "-cert", "server.crt", "-key", "server.key", *options],
        cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        accepting = next(line for line in process.stdout if line.startswith("ACCEPT"))
        yield f"localhost:{accepting.strip().rpartition(':')[2]}"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_tls_service_that_refuses_the_protocol(folder: Path) -> None:
    with openssl_server(folder, "-alpn", "h2") as address:
        error = failure(alice(address, folder))
    assert str(error) == (
        f"what answers at {address} does not speak the securedelivery protocol (tlsv1 alert no application protocol)"
    )
    assert "is this the service's port?" in error.hint
    assert not error.temporary


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("[SSL] tlsv1 alert no application protocol (_ssl.c:1006)", "TLSV1_ALERT_NO_APPLICATION_PROTOCOL"),
        ("[SSL] record layer failure (_ssl.c:2580)", "RECORD_LAYER_FAILURE"),
        ("unknown error (_ssl.c:1006)", "UNKNOWN_ERROR"),
        ("something else", ""),
    ],
)
def test_a_reason_that_python_does_not_know(words: str, reason: str) -> None:
    assert reason_of(ssl.SSLError(1, words)) == reason


# Inside


def test_another_server_behind_a_proxy(folder: Path, tmp_path: Path) -> None:
    """TLS is fine; who answers inside is somebody else."""
    stranger = load_security(CertificateAuthority().write(tmp_path / "stranger"))
    with Listener(customer_script(load_security(folder), refused, stranger)) as listener:
        error = failure(alice(listener.server, folder))
    assert f"the server behind {listener.server} cannot be trusted" in str(error)


def refused(customer: Customer) -> None:
    """The client's CLOSE says what it thinks of this server."""
    customer.begin_tls()
    customer.event()
    customer.say(customer.core.send_handshake())
    event = customer.event()
    assert event.reason == "certificate_untrusted"
    customer.wait_for_end()


def test_another_session(folder: Path) -> None:
    def script(customer: Customer) -> None:
        customer.shake_hands()
        customer.welcome(session="00" * 32)
        assert customer.event().reason == "protocol_error"
        customer.wait_for_end()

    with Listener(customer_script(load_security(folder), script)) as listener:
        error = failure(alice(listener.server, folder))
    assert "another session" in str(error)


@pytest.mark.parametrize(
    "script",
    [
        lambda customer: customer.notify("system.draining", {"seconds": 1}),
        lambda customer: customer.notify("system.welcome", {"session": 1}),
        lambda customer: customer.say(customer.core.send_result(1, {})),
        lambda customer: customer.say(b"\x07\x00\x00\x00"),
    ],
    ids=["another notification", "no session", "an answer", "no frame"],
)
def test_something_else_than_a_welcome(folder: Path, script: Callable[[Customer], None]) -> None:
    def run(customer: Customer) -> None:
        customer.shake_hands()
        script(customer)
        assert customer.event().reason == "protocol_error"
        customer.wait_for_end()

    with Listener(customer_script(load_security(folder), run)) as listener:
        error = failure(alice(listener.server, folder))
    assert "is not the securedelivery protocol" in str(error)


@pytest.mark.parametrize(
    ("reason", "temporary"),
    [
        ("certificate_required", False),
        ("certificate_untrusted", False),
        ("certificate_expired", False),
        ("certificate_revoked", False),
        ("identity_mismatch", False),
        ("protocol_error", False),
        ("account_deleted", False),
        ("credentials_changed", False),
        ("draining", True),
        ("too_slow", True),
        ("internal", True),
        ("session_expired", True),
        ("idle", True),
        ("bye", True),
        ("of_another_time", True),
    ],
)
def test_close_in_place_of_the_welcome(folder: Path, reason: str, temporary: bool) -> None:
    def script(customer: Customer) -> None:
        customer.shake_hands()
        customer.close(reason, "so it is")

    with Listener(customer_script(load_security(folder), script)) as listener:
        error = failure(alice(listener.server, folder))
    assert isinstance(error, PeerClosed)
    assert error.reason == reason
    assert error.temporary is temporary


def test_the_end_in_place_of_the_welcome(folder: Path) -> None:
    def script(customer: Customer) -> None:
        customer.shake_hands()
        customer.hang_up()

    with Listener(customer_script(load_security(folder), script)) as listener:
        error = failure(alice(listener.server, folder))
    assert isinstance(error, PeerClosed)
    assert error.reason is None


# Files


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ca": None}, "which CA to trust"),
        ({"key": None}, "go together"),
        ({"ca": Path("/nowhere/ca.crt")}, "no such file"),
        ({"key": Path("/nowhere/alice.key")}, "alice.key: there is no such file"),
    ],
)
def test_files_that_cannot_be_used(folder: Path, changes: dict[str, Path | None], words: str) -> None:
    with server(folder) as address:
        good = alice(address, folder)
        works(good)
        with pytest.raises(ConfigurationError, match=words) as caught:
            open_line(renamed(good, **changes), Deadline(SECONDS))
    assert caught.value.hint


def test_every_failure_is_in_the_tree() -> None:
    assert issubclass(PeerClosed, ConnectionFailure)
    assert issubclass(ConnectionFailure, SecureDeliveryError)
